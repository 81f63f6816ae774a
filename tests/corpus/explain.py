"""Every octet that differs between what came in and what went out, explained by the trace; nothing of ours is asked.

Only which fields name recipients is taken from `relay.mail.edits`, and the exact form of a re-encoded body from
`relay.mail.recode`; what it says to a reader is compared by the standard library.
"""

from __future__ import annotations

import email
import re
from collections.abc import Sequence
from email.message import Message as Stdlib
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from relay.mail.edits import ANSWERS, VISIBLE
from relay.mail.message import Malformed
from relay.mail.recode import to_7bit
from tests.corpus.sources import cut, fields_of, name_of

OWN_RECEIVED = re.compile(rb"Received: from [^\r\n]*\r\n by gateway\.example \(Zegel\) with \S+ id (\w{13})")
_MESSAGE_ID = re.compile(rb"Message-ID: <[0-9a-f]{32}@sender\.example>\r\n")
_LINK = re.compile(rb"List-Unsubscribe: <https://mail\.gateway\.example/u/[\w.~-]+>\r\n")
_ADDRESS = re.compile(rb"[^\s<>,;:()\"=?]+@[^\s<>,;:()\"=?]+")
_POST = b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


class Change(NamedTuple):
    """One edit as the trace has it."""

    kind: str
    name: str
    rule: str


STAMP = Change("prepend", "Received", "SMTP-22")


class Unexplained(AssertionError):
    """Octets changed that the trace does not speak of."""


def demand(is_so: object, what: str) -> None:
    if not is_so:
        raise Unexplained(what)


def explain(
    came: bytes, changes: Sequence[Change], left: bytes, recipient: str, *, seven_bit: bool, readable: bool = True
) -> None:
    """Raises Unexplained unless `left` is `came` with `changes`, our two trace fields and what a hop must have.

    `seven_bit`: the next hop took no 8BITMIME, so 8-bit content had to be encoded (OUT-9).
    `readable`: the standard library sees head and body where we do, so it may compare the content.
    """
    head, line, body = cut(left)
    fields = fields_of(head)
    demand(len(fields) > 2 and name_of(fields[0]) == b"dkim-signature", "no signature on top")
    demand(OWN_RECEIVED.match(fields[1]), "no Received field of ours under it (SMTP-22)")
    old_head, _, old_body = cut(came)
    if not came.endswith(b"\r\n") and old_body:
        old_body += b"\r\n"  # the end mark of DATA stands on a line of its own
    demand(line, "no empty line after the head")
    recoded = any(change.kind == "recode" for change in changes) or (seven_bit and not old_body.isascii())
    expected = fields_of(old_head)
    demand(changes and changes[-1] == STAMP, "the trace does not speak of the Received field")
    for change in changes[:-1]:
        expected = _apply(expected, change, recipient)
    if recoded:
        _recoded(expected, fields[2:], old_body, body)
        alike = not readable or _contents(expected, old_body) == _contents(fields[2:], body)
        demand(alike, "the content reads differently")
    else:
        _same_fields(expected, fields[2:], changes)
        demand(body == old_body, "the body changed")


def _apply(fields: list[bytes], change: Change, recipient: str) -> list[bytes]:
    """The header block after one change; where the value is chosen by the gateway, a field without a value."""
    name = change.name.lower().encode()
    if change.kind == "remove":
        return [field for field in fields if name_of(field) != name]
    if change.kind == "append":
        return [*fields, change.name.encode() + b": \0\r\n"]
    if change.kind == "rename":
        return [b"X-Original-" + field if name_of(field) == name else field for field in fields]
    if change.kind == "to_self":
        ours = b"".join(field for field in fields if name_of(field) in (b"from", b"sender")).lower()
        shown = [field for field in fields if name_of(field) == b"to" or not _tells_of_others(field, ours)]
        return [b"To: " + recipient.encode() + b"\r\n" if name_of(field) == b"to" else field for field in shown]
    if change.kind == "unsubscribe":
        kept = [field for field in fields if not name_of(field).startswith(b"list-unsubscribe")]
        has_id = any(name_of(field) == b"list-id" for field in kept)
        ours = [b"List-Unsubscribe: \0\r\n", _POST, *([] if has_id else [b"List-Id: \0\r\n"])]
        return [*kept, *ours]
    demand(change.kind in ("recode", "refold"), f"the trace has an edit {change.kind} that this test does not know")
    return fields


def _tells_of_others(field: bytes, authors: bytes) -> bool:
    name = name_of(field)
    if name in ANSWERS:
        return any(address not in authors for address in _ADDRESS.findall(field.lower()))
    return name in VISIBLE or name.startswith(b"resent-")


def _same_fields(expected: list[bytes], found: list[bytes], changes: Sequence[Change]) -> None:
    refolded = {change.name.lower().encode() for change in changes if change.kind == "refold"}
    names = [name_of(field) for field in expected], [name_of(field) for field in found]
    demand(len(expected) == len(found), f"fields {names[1]} in place of {names[0]}")
    for want, got in zip(expected, found, strict=True):
        if b"\0" in want:
            demand(_is_ours(want, got), f"{got!r} is not as the gateway writes {name_of(want)!r}")
        elif name_of(want) in refolded:
            demand(_unfolded(want) == _unfolded(got), f"{name_of(want)!r} says something else after folding")
            demand(max(map(len, got.split(b"\r\n"))) <= 998, f"{name_of(want)!r} is too long after folding")
        else:
            demand(want == got, f"{want!r} became {got!r}")


def _is_ours(want: bytes, got: bytes) -> bool:
    name = name_of(want)
    if name != name_of(got):
        return False
    if name == b"date":
        return parsedate_to_datetime(got.partition(b":")[2].strip().decode()) is not None
    if name == b"message-id":
        return _MESSAGE_ID.fullmatch(got) is not None
    if name == b"list-unsubscribe":
        return _LINK.fullmatch(got) is not None
    return name == b"list-id"


def _unfolded(field: bytes) -> bytes:
    return re.sub(rb"\r\n(?=[ \t])", b"", field)


def _recoded(expected: list[bytes], found: list[bytes], old: bytes, new: bytes) -> None:
    """Head and body of a mail whose content was encoded anew for the way (MSG-5, OUT-9)."""
    demand(new.isascii(), "8-bit octets after encoding")
    demand(max(map(len, new.split(b"\r\n"))) <= 998, "a long line after encoding")
    mine = (b"content-transfer-encoding", b"mime-version", b"content-type")
    plain = [field for field in expected if name_of(field) not in mine]
    _same_fields(plain, [field for field in found if name_of(field) not in mine], ())
    stand_in = [field.replace(b"\0", b"x") for field in expected]
    made = to_7bit([(name_of(field), field) for field in stand_in], old)
    demand(not isinstance(made, Malformed), f"it could not be encoded at all: {made}")
    assert not isinstance(made, Malformed)
    demand(bytes(made[1]) == new, "the body is not the one that re-encoding makes")
    demand([raw for name, raw in made[0] if name in mine] == [raw for raw in found if name_of(raw) in mine], "its head")


def _contents(fields: list[bytes], body: bytes) -> list[tuple[str, str | None, bytes]]:
    """Type, file name and decoded content of every leaf, as the standard library reads them."""
    result = []
    for part in email.message_from_bytes(b"".join(fields) + b"\r\n" + body).walk():
        assert isinstance(part, Stdlib)
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            result.append((part.get_content_type(), part.get_filename(), content.rstrip(b"\r\n")))
    return result
