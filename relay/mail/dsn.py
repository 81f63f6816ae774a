"""Delivery reports to the sender (RFC 3464, RFC 6522; internationalised: RFC 6533). Pure: time and ids come in.

Three parts: a text for people, the same for programs, and the message or its header block. Who gets a report at
all is decided here too: never the null return path (OUT-12), and per recipient what NOTIFY says (SMTP-14).
A report goes to the return path only and names only recipients whose fate it tells.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum
from importlib import resources
from quopri import encodestring
from typing import NamedTuple

from relay.mail.domain import with_a_labels
from relay.mail.edits import field
from relay.mail.envelope import Recipient
from relay.mail.message import Message, join_head
from relay.mail.orcpt import in_report
from relay.mail.recode import obstacle

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("dsn.toml").read_text("utf-8"))
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")
_TOO_LARGE = frozenset(("5.2.3", "5.3.4", "5.6.3"))  # what did not get through then will not get through now
FULL_BYTES = 100_000  # a larger original comes back as its header block, whatever RET says
_HIDDEN = frozenset((b"bcc", b"resent-bcc"))


class Action(StrEnum):
    """What became of the copy for one recipient. EXPIRED is reported as failed (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    EXPIRED = "expired"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


class Fate(NamedTuple):
    """One recipient. `code` 0: `reply` is our own reason, no server's. `until`: when a delayed one is given up, epoch."""

    recipient: Recipient
    action: Action
    status: str
    reply: str = ""
    code: int = 0
    host: str = ""
    attempted: float = 0.0
    until: float = 0.0
    said: str = ""  # our own reason in the language of the report, for the person who reads it


class Original(NamedTuple):
    """The message that is reported on, as queued. `subject` is decoded, for the text; `arrived` since the epoch."""

    mail_from: str
    message: Message
    arrived: float
    ret: str = ""
    envid: str = ""
    subject: str = ""


class Stamp(NamedTuple):
    """Who reports and when: `host` as in EHLO, `now` since the epoch, `id` unique, used for Message-ID and boundary."""

    host: str
    now: float
    id: str


class Report(NamedTuple):
    """A message to send with the null return path. `smtputf8`: it cannot go without that extension."""

    recipient: str
    raw: bytes
    smtputf8: bool


def build(original: Original, fates: Sequence[Fate], stamp: Stamp, *, language: str = "nl") -> Report | None:
    """The report, or None when nobody may or wants to get one. `language`: nl or en; anything else is en.

    Raises relay.mail.edits.BadValue if the return path or host holds CR, LF or NUL.
    """
    told = [fate for fate in fates if wanted(fate)]
    if not original.mail_from or not told:
        return None
    texts = _Texts("nl" if language == "nl" else "en")
    wide = not all(fate.recipient.address.isascii() for fate in told) or not original.mail_from.isascii()
    parts = (
        _text_part(original, told, texts),
        _status_part(original, told, stamp, wide=wide),
        _returned_part(original, told, wide=wide),
    )
    boundary = f"zegel-{stamp.id}"
    while any(boundary.encode() in part for part in parts):
        boundary += "-x"
    mark = f"--{boundary}".encode()
    body = b"".join([b"\r\n" + mark + b"\r\n" + part for part in parts])[2:] + b"\r\n" + mark + b"--\r\n"
    return Report(original.mail_from, _head(original, told, stamp, texts=texts, boundary=boundary) + body, wide)


def wanted(fate: Fate) -> bool:
    """NOTIFY asks for, or leaves room for, a report of this fate (RFC 3461 section 4.1). NEVER silences all."""
    notify = fate.recipient.notify
    if "NEVER" in notify:
        return False
    if fate.action in (Action.FAILED, Action.EXPIRED):
        return not notify or "FAILURE" in notify
    if fate.action is Action.DELAYED:
        return not notify or "DELAY" in notify
    return "SUCCESS" in notify


def _head(original: Original, told: Sequence[Fate], stamp: Stamp, *, texts: _Texts, boundary: str) -> bytes:
    actions = {"failed" if fate.action is Action.EXPIRED else str(fate.action) for fate in told}
    foremost = next(name for name in ("failed", "delayed", "relayed", "delivered") if name in actions)
    fields = [
        field("From", f"Mail Delivery System <mailer-daemon@{stamp.host}>"),
        field("To", f"<{with_a_labels(original.mail_from)}>"),
        field("Subject", texts.of("subject", foremost)),
        field("Date", _date(stamp.now)),
        field("Message-ID", f"<{stamp.id}@{stamp.host}>"),
        field("Auto-Submitted", "auto-replied"),
        field("MIME-Version", "1.0"),
        field("Content-Type", f'multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"'),
    ]
    about = original.message.get(b"message-id")
    if about is not None and MESSAGE_ID.fullmatch(about):
        fields.insert(5, field("In-Reply-To", about.decode("ascii")))
    return join_head(fields)


class _Texts:
    """The texts of one language."""

    def __init__(self, language: str) -> None:
        self.language = language

    def of(self, table: str, key: str, *, several: bool = False) -> str:
        text: str = _TEXTS[table][key][f"{self.language}_several" if several else self.language]
        return text

    def reason(self, status: str) -> str:
        """Why, in words, for an enhanced status: a whole detail, or a whole subject ending in a dot."""
        detail = status.partition(".")[2]
        for entry in _TEXTS["reason"]:
            if any(
                detail == known or (known[-1:] in ("", ".") and detail.startswith(known)) for known in entry["status"]
            ):
                text: str = entry[self.language]
                return text
        raise LookupError(status)


def _text_part(original: Original, told: Sequence[Fate], texts: _Texts) -> bytes:
    lines: list[str] = []
    if original.subject:
        lines += [texts.of("label", "subject").replace("{subject}", _one_line(original.subject, 200)), ""]
    for action in Action:
        group = [fate for fate in told if fate.action is action]
        if group:
            lines += [*textwrap.wrap(texts.of("intro", action, several=len(group) > 1), 72), ""]
        for fate in group:
            lines += [*_person_lines(fate, texts), ""]
    lines += textwrap.wrap(texts.of("label", "close"), 72)
    encoded = encodestring("\n".join(lines).encode()).replace(b"\n", b"\r\n")
    head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Language: %b\r\nContent-Transfer-Encoding: quoted-printable\r\n"
    return head % texts.language.encode() + b"\r\n" + encoded + b"\r\n"


def _person_lines(fate: Fate, texts: _Texts) -> list[str]:
    lines = [f"  {_one_line(fate.recipient.address, 320)}"]
    if fate.action in (Action.FAILED, Action.EXPIRED, Action.DELAYED):
        lines += _indent(texts.of("label", "reason") + (fate.said or texts.reason(fate.status)))
        if fate.code and fate.reply:
            key = "answer" if fate.host else "answer_nameless"
            lines += _indent(
                texts.of("label", key).replace("{host}", _one_line(fate.host, 255)) + _one_line(fate.reply, 500)
            )
    if fate.action is Action.DELAYED and fate.until:
        until = f"{datetime.fromtimestamp(fate.until, UTC):%Y-%m-%d %H:%M}"
        lines += _indent(texts.of("label", "until").replace("{until}", until))
    return lines


def _indent(text: str) -> list[str]:
    return textwrap.wrap(text, 72, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _status_part(original: Original, told: Sequence[Fate], stamp: Stamp, *, wide: bool) -> bytes:
    lines = [f"Reporting-MTA: dns; {stamp.host}"]
    if original.envid:
        lines.insert(0, f"Original-Envelope-Id: {_plain(_unxtext(original.envid))}")
    lines.append(f"Arrival-Date: {_date(original.arrived)}")
    for fate in told:
        lines += ["", *_recipient_fields(fate, wide=wide)]
    kind = "message/global-delivery-status" if wide else "message/delivery-status"
    head = [f"Content-Type: {kind}"] + (["Content-Transfer-Encoding: 8bit"] if wide else [])
    return "\r\n".join([*head, "", *lines, ""]).encode()


def _recipient_fields(fate: Fate, *, wide: bool) -> list[str]:
    """The per-recipient group (RFC 3464 section 2.3)."""
    address = _one_line(fate.recipient.address, 320)
    kind = "rfc822" if address.isascii() else "utf-8"
    lines: list[str] = []
    if original := in_report(fate.recipient.orcpt, wide=wide):
        lines.append(f"Original-Recipient: {original}")
    expired = fate.action is Action.EXPIRED
    lines.append(f"Final-Recipient: {kind}; {address}")
    lines.append(f"Action: {Action.FAILED if expired else fate.action}")
    lines.append(f"Status: {'4.4.7' if expired else _plain(fate.status)}")
    if fate.host and fate.code:
        lines.append(f"Remote-MTA: dns; {_plain(fate.host)}")
    if fate.reply:
        reply = _one_line(fate.reply, 500) if wide else _plain(fate.reply)
        lines += _fold(f"Diagnostic-Code: {'smtp' if fate.code else 'x-zegel'}; {reply}")
    if fate.attempted:
        lines.append(f"Last-Attempt-Date: {_date(fate.attempted)}")
    if fate.action is Action.DELAYED and fate.until:
        lines.append(f"Will-Retry-Until: {_date(fate.until)}")
    return lines


def _returned_part(original: Original, told: Sequence[Fate], *, wide: bool) -> bytes:
    """The header block, or all of it if RET=FULL and something failed (RFC 3461 section 4.3). Bcc stays out.

    Never so much of it that the report could be refused where the message was (OUT-12).
    """
    message = original.message
    head = b"".join([raw for name, raw in message.fields if name not in _HIDDEN])
    failed = any(fate.action in (Action.FAILED, Action.EXPIRED) for fate in told)
    full = original.ret == "FULL" and failed and _may_return(message, told)
    content = head + b"\r\n" + message.body if full else head
    ascii_only = content.isascii()
    international = wide and not head.isascii()
    if full:
        kind = "message/global" if international else "message/rfc822"
    else:
        kind = "message/global-headers" if international else "text/rfc822-headers"
    encoding = "7bit" if ascii_only else "8bit"
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + content


def _may_return(message: Message, told: Sequence[Fate]) -> bool:
    if message.size > FULL_BYTES or any(fate.status in _TOO_LARGE for fate in told):
        return False
    return message.is_ascii or obstacle(message) is None


def _fold(line: str) -> list[str]:
    return textwrap.wrap(line, 76, subsequent_indent=" ", break_on_hyphens=False, break_long_words=len(line) > 900)


def _unxtext(text: str) -> str:
    """RFC 3461 section 4: `+` and two hexadecimal digits are one octet."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)


def _one_line(text: str, limit: int) -> str:
    text = text[:limit]
    return text if text.isprintable() else "".join([c if c.isprintable() else " " for c in text])


def _plain(text: str) -> str:
    """ASCII, one line, at most 500 characters."""
    return _one_line(text, 500).encode("ascii", "replace").decode("ascii")


def _date(seconds: float) -> str:
    """RFC 5322 section 3.3, in UTC."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC))
