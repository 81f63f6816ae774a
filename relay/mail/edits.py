"""Edits of a header block as data: what may change (MSG-12), by which rule, for all copies or per copy.

An edit is kept with the queued message as a JSON list and applied at delivery, before the signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from relay.mail.message import Field


class Edit(NamedTuple):
    """One change. `kind` says which; `name` is a field name as written; `value` as each kind says.

    prepend      add `name: value` on top                    append    add `name: value` at the end of the block
    remove       drop every field `name`                     rename    every field `name` becomes `value`
    replace      every field `name` becomes one `name: value`
    refold       fold the long field `name` at white space (MSG-5)
    to_self      To becomes the copy's own recipient; Cc, Resent-* and whatever else names recipients go (CC-8)
    undisclosed  To becomes an empty group; the same go (CC-9)
    unsubscribe  the copy's own List-Unsubscribe pair; `value` is the List-Id or "" (UNSUB-16)
    placeholders {{zegel_unsubscribe}} and {{zegel_my}} in the body become the copy's own links (UNSUB-16)
    recode       long or 8-bit body lines are re-encoded; `value` is quoted-printable (MSG-5, OUT-9)
    """

    kind: str
    name: str
    value: str
    rule: str


PER_COPY = frozenset(("to_self", "unsubscribe", "placeholders"))
VISIBLE = frozenset((
    *(b"to", b"cc", b"resent-to", b"resent-cc"),  # of every Resent block (MSG-10)
    *(b"apparently-to", b"x-apparently-to", b"mail-followup-to", b"mail-copies-to", b"x-to", b"x-cc", b"x-original-cc"),
    *(b"original-to", b"x-original-to", b"delivered-to", b"x-delivered-to", b"envelope-to", b"x-envelope-to"),
    *(b"x-bcc", b"x-recipients", b"x-envelope-recipients", b"x-original-recipient", b"x-rcptto", b"original-cc"),
    *(b"x-forwarded-to", b"x-forwarded-for", b"x-rcpt-to", b"x-receiver", b"x-failed-recipients", b"original-recipient"),
))  # fmt: skip
"""Fields that show a reader whom a mail went to, by the standard or by the habit of some program."""

ANSWERS = frozenset((
    b"mail-reply-to", b"disposition-notification-to", b"return-receipt-to", b"x-confirm-reading-to",
))  # fmt: skip
"""Fields that say where answers go: they stay where that is the author alone."""

SIGNED = ("DKIM-Signature", "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_AT = re.compile(rb"(?<![^\s<>,;:()\"=?@])[^\s<>,;:()\"=?@]++@[^\s<>,;:()\"=?@]++")


class BadValue(ValueError):
    """A value that may not enter a header: CR, LF, NUL or too long (MSG-7)."""


def field(name: str, value: str) -> Field:
    """One raw field from a name and a value that this program chose.

    Raises BadValue where the value holds CR, LF (outside a fold that this program wrote), NUL or over 998 octets a line.
    """
    if _CONTROL.search(value):
        raise BadValue(name)
    for index, line in enumerate(value.split("\r\n")):
        if "\r" in line or "\n" in line or len(line) > 900 or (index and line[:1] not in (" ", "\t")):
            raise BadValue(name)
    raw_name = name.encode("ascii")
    return (raw_name.lower(), raw_name + b": " + value.encode() + b"\r\n")


def split(fields: list[Field] | None) -> list[Edit]:
    """A copy for each, with its own recipient in To; signatures by others that this breaks are renamed (CC-8, CC-17).

    `fields` None: they are not at hand, so whatever signature there may be.
    """
    present = {name for name, _ in fields or ()}
    broken = [name for name in SIGNED if fields is None or name.lower().encode() in present]
    renames = [Edit("rename", name, f"X-Original-{name}", "CC-17") for name in broken]
    return [Edit("to_self", "To", "", "CC-8"), *renames]


def hide(fields: list[Field] | None) -> list[Edit]:
    """One message for all, with nobody in To (CC-9). `fields` as for `split`."""
    return [Edit("undisclosed", "To", "", "CC-9"), *split(fields)[1:]]


def apply(fields: list[Field], edits: Iterable[Edit]) -> list[Field]:
    """A new header block with the edits that hold for every copy; those of PER_COPY are left to `relay.delivery.render`."""
    result = fields
    for edit in edits:
        change = _APPLY.get(edit.kind)
        if change is not None:
            result = change(result, edit)
    return result


def _prepend(fields: list[Field], edit: Edit) -> list[Field]:
    return [field(edit.name, edit.value), *fields]


def _append(fields: list[Field], edit: Edit) -> list[Field]:
    return [*fields, field(edit.name, edit.value)]


def _remove(fields: list[Field], edit: Edit) -> list[Field]:
    name = edit.name.lower().encode()
    return [pair for pair in fields if pair[0] != name]


def _rename(fields: list[Field], edit: Edit) -> list[Field]:
    old, new = edit.name.lower().encode(), edit.value.encode()
    return [(new.lower(), new + raw[raw.index(b":") :]) if name == old else (name, raw) for name, raw in fields]


def _replace(fields: list[Field], edit: Edit) -> list[Field]:
    name = edit.name.lower().encode()
    result: list[Field] = []
    done = False
    for pair in fields:
        if pair[0] != name:
            result.append(pair)
        elif not done:
            result.append(field(edit.name, edit.value))
            done = True
    return result if done else [*result, field(edit.name, edit.value)]


def _undisclosed(fields: list[Field], edit: Edit) -> list[Field]:
    return show_only(fields, "undisclosed-recipients:;")


def _refold(fields: list[Field], edit: Edit) -> list[Field]:
    name = edit.name.lower().encode()
    return [(n, fold(raw)) if n == name else (n, raw) for n, raw in fields]


def show_only(fields: list[Field], to: str) -> list[Field]:
    """The header block with `To: to` as its only visible recipients (CC-8, CC-9)."""
    result: list[Field] = []
    done = False
    authors: set[bytes] | None = None
    for pair in fields:
        if pair[0] == b"to" and not done:
            result.append(field("To", to))
            done = True
        elif pair[0] in ANSWERS:
            if authors is None:
                authors = {at for name, raw in fields if name in (b"from", b"sender") for at in _addresses(raw)}
            found = _addresses(pair[1])
            # What is not read as a plain address (quoted, with blanks or comments) may name anybody: then it goes.
            if found and found <= authors and pair[1].count(b"@") == len(_AT.findall(pair[1])) and b"=?" not in pair[1]:
                result.append(pair)
        elif not shows_recipients(pair[0]):
            result.append(pair)
    return result if done else [*result, field("To", to)]


def shows_recipients(name: bytes) -> bool:
    """Whether a field of this name (lower case) goes when the recipients are hidden from each other."""
    return name in VISIBLE or name.startswith(b"resent-")


def _addresses(raw: bytes) -> set[bytes]:
    """What looks like an address in a raw field, in lower case."""
    return {found.lower() for found in _AT.findall(raw)}


def fold(raw: bytes, limit: int = 998) -> bytes:
    """The raw field with every line at most `limit` octets, folded at white space that is there (MSG-5).

    A run without white space longer than the limit stays as it is: the session refuses it.
    """
    lines: list[bytes] = []
    for line in raw[:-2].split(b"\r\n"):
        while len(line) > limit:
            cut = max(line.rfind(b" ", 1, limit), line.rfind(b"\t", 1, limit))
            if cut <= 0 or not line[:cut].strip():
                break
            lines.append(line[:cut])
            line = line[cut:]
        lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


_APPLY = {
    "prepend": _prepend,
    "append": _append,
    "remove": _remove,
    "rename": _rename,
    "replace": _replace,
    "undisclosed": _undisclosed,
    "refold": _refold,
}
