"""A peer's reply, or the lack of one, as Delivered, Deferred or Failed. Pure.

The basic code decides. The enhanced code is kept for reports and never decides alone: providers give the
same number different meanings (rulebook section 2, FB-3).
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import NamedTuple

from relay.delivery.replies import Reply

MAX_REPLY_CHARACTERS = 500

_STATUS = re.compile(rb"([245])\.(\d{1,3})\.(\d{1,3})(?=[ \t\r\n]|$)")
_SUBJECTS = {  # RFC 3463 section 2, the second number
    "1": "address",
    "2": "mailbox",
    "3": "system",
    "4": "network",
    "5": "protocol",
    "6": "content",
    "7": "security",
}
_LATER_STATUS = re.compile(rb"\n[245]\.\d{1,3}\.\d{1,3}(?=[ \t\n]|$)[ \t]*|\n")

OUR_LOGIN = frozenset((530, 534, 535, 538))  # RFC 4954 section 6: the session is wrong, not this message
OUT_OF_STEP = 503


class Stage(IntEnum):
    """The command that a reply answers; DOT is the end of the content."""

    MAIL = 0
    RCPT = 1
    DATA = 2
    DOT = 3
    RSET = 4


class Scope(StrEnum):
    """What a deferral says something about, so that the scheduler knows whether it was a try.

    EXCESS: more recipients than the peer takes in one transaction; these may go in a new one at once.
    HOST: the session failed before this message was looked at; not a try of this message. It may go again as soon as
    the pool asks for work, for the host's own back-off decides when that is.
    """

    RECIPIENT = "recipient"
    EXCESS = "excess"
    MESSAGE = "message"
    HOST = "host"


class Delivered(NamedTuple):
    """The peer took it over. `dsn`: the peer offered DSN, so success reports are its duty now (RFC 3461 section 5.2)."""

    status: str
    reply: str
    host: str
    code: int = 250
    dsn: bool = False


class Deferred(NamedTuple):
    """Try again later. `code` 0: no reply, `reply` says why. `doubt`: cut after the final dot, a retry may duplicate (OUT-10)."""

    status: str
    reply: str
    host: str
    code: int = 0
    scope: Scope = Scope.MESSAGE
    doubt: bool = False


class Failed(NamedTuple):
    """Never try again. `code` 0: decided here, `reply` says why. `of_nobody`: said of none of the recipients."""

    status: str
    reply: str
    host: str
    code: int = 0
    of_nobody: bool = False  # of MAIL, or of a message to several


Outcome = Delivered | Deferred | Failed


def judge(reply: Reply, host: str, stage: Stage, *, dsn: bool = False) -> Outcome:
    """The outcome that `reply` from `host` means for the recipients that it answers; 2xx counts as delivered.

    A 3xx must not get here: it is an answer only to DATA.
    """
    code = reply.code
    status = status_of(reply)
    text = text_of(reply)
    if code < 300:
        return Delivered(status, text, host, code, dsn)
    if code == 421 or code in OUR_LOGIN:
        scope = Scope.MESSAGE if stage is Stage.DOT else Scope.HOST
        return Deferred(_temporary(status), text, host, code, scope)
    if code == OUT_OF_STEP:
        return Deferred(_temporary(status), text, host, code)
    if stage is Stage.RCPT and _too_many(code, status):
        return Deferred(_temporary(status), text, host, code, Scope.EXCESS)
    if code < 500:
        return Deferred(status, text, host, code, Scope.RECIPIENT if stage is Stage.RCPT else Scope.MESSAGE)
    return Failed(status, text, host, code, stage is Stage.MAIL)


def ends_session(reply: Reply) -> bool:
    """The peer closes (421), wants another login, or is out of step with us: no further command makes sense."""
    return reply.code == 421 or reply.code == OUT_OF_STEP or reply.code in OUR_LOGIN


def status_of(reply: Reply) -> str:
    """The enhanced status (RFC 3463) if the reply has one of its own class, else `<class>.0.0`."""
    match = _STATUS.match(reply.text)
    first = reply.code // 100
    if match is None or int(match[1]) != first:
        return f"{first}.0.0"
    return match[0].decode("ascii")


def text_of(reply: Reply) -> str:
    """The reply on one line, code first, without control characters, at most MAX_REPLY_CHARACTERS characters."""
    text = reply.text
    if b"\n" in text:
        text = _LATER_STATUS.sub(b" ", text)
    return clean(f"{reply.code} {text[: 4 * MAX_REPLY_CHARACTERS].decode('utf-8', 'replace')}")


def subject_of(status: str) -> str:
    """What an enhanced status is about, in a word; "other" where it says nothing."""
    return _SUBJECTS.get(status.split(".")[1] if status.count(".") == 2 else "", "other")


def clean(text: str) -> str:
    """`text` fit for logs, pages and reports: bounded, no control, line-breaking or direction-turning character."""
    text = text[:MAX_REPLY_CHARACTERS]
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else " " for c in text])


def _too_many(code: int, status: str) -> bool:
    """RFC 5321 section 4.5.3.1.10: 452 is it, and a 552 to RCPT is to be read as 452 unless it says something else."""
    if code == 452:
        return status in ("4.5.3", "4.0.0")
    return code == 552 and status in ("5.5.3", "5.0.0")


def _temporary(status: str) -> str:
    return "4" + status[1:]
