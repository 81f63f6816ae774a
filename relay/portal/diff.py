"""A head as it came in beside the head as it would leave, field by field, each change with the rule that made it (MSG-12).

Pure. A field is shown whole, folds kept; whatever is no text becomes a visible replacement character.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from relay.mail.edits import ANSWERS, VISIBLE, Edit
from relay.mail.message import Field, Malformed, Message

MAX_FIELDS = 300  # shown a side; the matching is quadratic at worst

# Rules behind fields that no edit names: those the gateway writes itself at delivery.
_OWN = {"received": "SMTP-22", "dkim-signature": "DKIM-1", "message-id": "MSG-4", "date": "MSG-4"}
_RESENT = tuple(f"resent-{word}" for word in ("from", "sender", "reply-to", "bcc", "date", "message-id"))
_RECIPIENTS = (*(name.decode() for name in VISIBLE | ANSWERS), *_RESENT)
# Fields that an edit of a kind touches besides the one it names.
_TOUCHES = {
    "to_self": _RECIPIENTS,
    "undisclosed": _RECIPIENTS,
    "unsubscribe": ("list-unsubscribe", "list-unsubscribe-post", "list-id"),
    "rename": (),
}


class Row(NamedTuple):
    """One line of the comparison. `mark` is same, added, removed or changed; `rules` explain it."""

    left: str
    right: str
    mark: str
    rules: tuple[str, ...] = ()


class HeadDiff(NamedTuple):
    rows: tuple[Row, ...]
    cut: bool  # more fields than are shown

    @property
    def changes(self) -> int:
        return sum(row.mark != "same" for row in self.rows)


def compare(incoming: bytes, outgoing: bytes, edits: Sequence[Edit]) -> HeadDiff:
    """The two heads row by row; either may be empty."""
    left, right = fields_of(incoming), fields_of(outgoing)
    cut = len(left) > MAX_FIELDS or len(right) > MAX_FIELDS
    left, right = left[:MAX_FIELDS], right[:MAX_FIELDS]
    if not outgoing:
        return HeadDiff(tuple(Row(shown(raw), "", "same") for _, raw in left), cut)
    rules = _rules_by_field(edits)
    rows: list[Row] = []
    matcher = SequenceMatcher(None, [raw for _, raw in left], [raw for _, raw in right], autojunk=False)
    for tag, from_left, to_left, from_right, to_right in matcher.get_opcodes():
        if tag == "equal":
            rows += [Row(shown(raw), shown(raw), "same") for _, raw in left[from_left:to_left]]
        else:
            rows += _pair(left[from_left:to_left], right[from_right:to_right], rules)
    return HeadDiff(tuple(rows), cut)


def fields_of(raw: bytes) -> list[Field]:
    """The fields of a message, or, where its head is none, its first lines as they are."""
    if not raw:
        return []
    message = Message.split(raw)
    if isinstance(message, Malformed):
        head = raw.partition(b"\r\n\r\n")[0]
        return [(b"", line) for line in head.split(b"\r\n")[: MAX_FIELDS + 1]]
    return message.fields


def shown(raw: bytes) -> str:
    """A raw field as text for people: no final line end, control characters made visible."""
    text = raw.decode("utf-8", "replace").rstrip("\r\n").replace("\r\n", "\n")
    return "".join(char if char >= " " or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _pair(left: list[Field], right: list[Field], rules: dict[str, tuple[str, ...]]) -> list[Row]:
    """Fields of a differing stretch: equal names beside each other as changed, the rest removed or added."""
    rows: list[Row] = []
    waiting = list(left)
    for name, raw in right:
        partner = next((field for field in waiting if field[0] == name), None)
        if partner is None:
            rows.append(Row("", shown(raw), "added", _rules_for(name, rules)))
            continue
        while waiting[0] is not partner:
            rows.append(_removed(waiting.pop(0), rules))
        waiting.pop(0)
        rows.append(Row(shown(partner[1]), shown(raw), "changed", _rules_for(name, rules)))
    return rows + [_removed(field, rules) for field in waiting]


def _removed(field: Field, rules: dict[str, tuple[str, ...]]) -> Row:
    return Row(shown(field[1]), "", "removed", _rules_for(field[0], rules))


def _rules_for(name: bytes, rules: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    key = name.decode("latin-1")
    own = _OWN.get(key)
    return rules.get(key) or ((own,) if own else ())


def _rules_by_field(edits: Sequence[Edit]) -> dict[str, tuple[str, ...]]:
    result: dict[str, tuple[str, ...]] = {}
    for edit in edits:
        names = _TOUCHES.get(edit.kind, ())
        if edit.name:
            names = (*names, edit.name.lower())
        if edit.kind == "rename":
            names = (*names, edit.value.lower())
        for name in names:
            known = result.get(name, ())
            if edit.rule and edit.rule not in known:
                result[name] = (*known, edit.rule)
    return result
