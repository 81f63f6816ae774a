"""Mail of the world goes in and comes out byte for byte (MSG-1), and nothing in it upsets a reader of ours."""

from __future__ import annotations

import email
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from email.message import Message as Stdlib
from pathlib import Path

import pytest

from relay.mail.address import parse_list, visible
from relay.mail.message import Malformed, Message, join_head
from relay.mail.mime import Structure, decode_text, structure
from relay.mail.recode import needs_recode, obstacle, to_7bit
from relay.mail.words import decode_words
from tests.mailfiles import crlf, parameters

every_file = pytest.mark.parametrize("path", parameters())


@every_file
def test_a_message_that_is_split_joins_to_the_same_bytes(path: Path) -> None:
    raw = crlf(path.read_bytes())
    message = Message.split(raw)
    if isinstance(message, Malformed):
        assert message.reason.startswith("message.")
        return
    joined = join_head(message.fields) + message.body
    # A message of a head alone has no empty line to join with.
    assert joined == raw or (message.body_start == len(raw) and joined.removesuffix(b"\r\n") in (raw, raw + b"\r\n"))


@every_file
def test_every_reader_answers(path: Path) -> None:
    message = Message.split(crlf(path.read_bytes()))
    if isinstance(message, Malformed):
        return
    found = structure(message)
    assert isinstance(found, Structure), found
    for part in found.parts:
        assert message.body_start <= part.start <= part.end <= len(message.raw)
        assert isinstance(decode_text(part, message.raw, 100_000), str)
        assert isinstance(part.filename, str)
    for name, raw in message.fields:
        value = raw[raw.index(b":") + 1 :]
        decode_words(value)
        if name in (b"to", b"cc", b"from"):
            boxes = parse_list(message.get(name) or b"")
            assert boxes is None or all("@" in box.address for box in boxes)
            visible(value)


def contents(raw: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every leaf, by the standard library."""
    result = []
    for part in email.message_from_bytes(raw).walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(part, Stdlib) and isinstance(payload, bytes)
            result.append((part.get_content_type(), payload.rstrip(b"\r\n")))
    return result


@every_file
def test_the_7_bit_form_decodes_to_the_same_content(path: Path) -> None:
    message = Message.split(crlf(path.read_bytes()))
    if isinstance(message, Malformed):
        return
    defects = tuple(type(defect) for defect in email.message_from_bytes(message.raw).defects)
    if MissingHeaderBodySeparatorDefect in defects or FirstHeaderLineIsContinuationDefect in defects:
        return  # the standard library puts the end of this head elsewhere
    body = bytes(message.body)
    found = to_7bit(message.fields, message.body)
    if needs_recode(body):
        assert obstacle(message) == (found if isinstance(found, Malformed) else None)
    if isinstance(found, Malformed):
        assert needs_recode(body)
        assert found.reason in ("message.signed_needs_recode", "message.mime_needs_recode")
        return
    fields, recoded = found
    assert not needs_recode(recoded)
    if not needs_recode(body):
        assert (fields, recoded) == (message.fields, body)
        return
    assert contents(join_head(fields) + recoded) == contents(message.raw)
