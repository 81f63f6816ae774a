"""A second opinion on refusals: does what the reply says really hold, by the standard library or by the bare octets?"""

from __future__ import annotations

import email
import re
from collections.abc import Callable
from email.message import Message as Stdlib
from email.utils import getaddresses

from relay.mail.reply import REASONS
from tests.corpus.sources import Specimen, cut, fields_of, name_of

_REPLY = re.compile(r"(\d{3}) (\d\.\d{1,3}\.\d{1,3}) \[([A-Z0-9-]+)\] (.*); see \S+$")
_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")
_SEALED = ("multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")


def reasons_behind(reply: str) -> list[str]:
    """The codes of reasons.toml whose English sentence, with anything in its slots, is this reply."""
    match = _REPLY.match(reply)
    if match is None:
        return []
    basic, enhanced, rule, sentence = match.groups()
    found = []
    for code, reason in REASONS.items():
        if (reason.basic, reason.enhanced, reason.rule) == (basic, enhanced, rule):
            pattern = ".*".join(map(re.escape, re.split(r"\{\w+\}", reason.en)))
            if re.fullmatch(pattern, sentence):
                found.append(code)
    return found


def _no_field(specimen: Specimen) -> bool:
    """A line of the head is neither a field nor the continuation of one."""
    lines = cut(specimen.raw)[0].split(b"\r\n")[:-1]
    return any(not _NAME.match(line) for line in lines if line[:1] not in (b" ", b"\t")) or lines[0][:1] in (
        b" ",
        b"\t",
    )


def _unreadable_recipients(specimen: Specimen) -> bool:
    """A field of recipients in which the standard library finds something that is no address."""
    for field in fields_of(specimen.head):
        if name_of(field) in (b"to", b"cc", b"resent-to", b"resent-cc"):
            value = field.partition(b":")[2].decode("ascii", "replace")
            boxes = getaddresses([value])
            if any("@" not in address for _, address in boxes):
                return True
    return False


def _advertises(specimen: Specimen) -> bool:
    """A head as mailing lists and mailing tools write it."""
    mail = email.message_from_bytes(specimen.raw)
    return any(mail[name] for name in ("List-Unsubscribe", "List-Id", "List-Post", "Precedence", "X-Mailer"))


def _has_long_line(specimen: Specimen) -> bool:
    return max(map(len, specimen.raw.split(b"\r\n"))) > 998


def _sealed_long_line(specimen: Specimen) -> bool:
    parts = email.message_from_bytes(specimen.raw).walk()
    sealed = any(isinstance(part, Stdlib) and part.get_content_type() in _SEALED for part in parts)
    return sealed and _has_long_line(specimen)


HOLDS: dict[str, Callable[[Specimen], bool]] = {
    "content.eight_bit_header": lambda specimen: not specimen.head.isascii() and not specimen.utf8,
    "content.header_not_utf8": lambda specimen: not specimen.head.isascii() and not specimen.utf8,
    "message.mime_needs_recode": _has_long_line,
    "message.signed_needs_recode": _has_long_line,
    "message.head_malformed": _no_field,
    "message.control_in_head": lambda s: re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", s.head) is not None,
    "message.nul": lambda specimen: b"\0" in specimen.raw,
    "recipients.unparsable": _unreadable_recipients,
    "consent.no_purpose": _advertises,
    "content.signed_long_line": _sealed_long_line,
    "content.line_too_long": lambda specimen: max(map(len, specimen.head.split(b"\r\n"))) > 998,
    "content.duplicate_field": lambda s: len(set(map(name_of, fields_of(s.head)))) < len(fields_of(s.head)),
}
"""Reason to whether it holds. A reason that is not here may not be given to any mail of this test."""
