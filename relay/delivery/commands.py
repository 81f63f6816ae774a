"""MAIL and RCPT lines for one job and one peer (RFC 5321, 3461, 1870, 6152, 6531). Pure.

Nothing that could begin a second command reaches the wire: an address or a parameter that is not plainly one
ends here, as a value (GHSA-v3q9-hj7j-63hq is what happens elsewhere).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from relay.delivery.content import Content
from relay.delivery.job import Features, Job
from relay.delivery.outcome import Failed
from relay.mail.domain import with_a_labels
from relay.mail.envelope import Recipient
from relay.mail.orcpt import on_the_wire

MAX_PATH_OCTETS = 320  # local part 64, @, domain 255 (RFC 5321 section 4.5.3.1)

_PLAIN = r"[^\x00-\x20\x7f-\xa0<>\"\\,\u2028\u2029\ud800-\udfff]"
_QUOTED = r"\"(?:[^\x00-\x1f\x7f-\x9f\"\\\u2028\u2029\ud800-\udfff]|\\[ -~])*\""
_ADDRESS = re.compile(rf"(?:{_PLAIN}+|{_QUOTED})@[^\x00-\x20\x7f-\xa0<>\"\\,@\u2028\u2029\ud800-\udfff]+")
_LOCAL_ONLY = re.compile(r"postmaster", re.IGNORECASE)  # RFC 5321 section 4.1.1.3
_PARAMETER = re.compile(r"[!-<>-~]+")  # esmtp-value, RFC 5321 section 4.1.2
_NOTIFY = frozenset(("SUCCESS", "FAILURE", "DELAY"))


class Lines(NamedTuple):
    """What to write for a job. `rcpt[i]` belongs to recipient `asked[i]`; `refused` answers the others here."""

    mail: bytes
    rcpt: list[bytes]
    asked: list[int]
    refused: list[tuple[int, Failed]]


def lines_for(job: Job, content: Content, features: Features, *, host: str) -> Lines | Failed:
    """The lines, or why the whole job cannot go to a peer with these features."""
    if 0 < features.size < content.size:
        return Failed("5.3.4", f"message of {content.size} octets, the next hop takes {features.size}", host)
    if not (content.rendered.is_ascii or features.eightbitmime):
        return Failed("5.6.3", "message has 8-bit content and the next hop takes 7-bit only", host)
    if job.mail_from and not is_address(job.mail_from):
        return Failed("5.1.7", "return path is no address", host)
    sender = path_of(job.mail_from, features)
    if sender is None:
        return Failed("5.6.7", "return path needs SMTPUTF8, which the next hop lacks", host)
    rcpt: list[bytes] = []
    asked: list[int] = []
    refused: list[tuple[int, Failed]] = []
    wide = not sender.isascii()
    for index, recipient in enumerate(job.recipients):
        path = rcpt_path(recipient.address, features, host)
        if isinstance(path, Failed):
            refused.append((index, path))
        else:
            wide = wide or not path.isascii()
            asked.append(index)
            rcpt.append(_rcpt_line(path, recipient, features, smtputf8=job.smtputf8))
    return Lines(_mail_line(job, sender, content, features=features, wide=wide), rcpt, asked, refused)


def rcpt_path(address: str, features: Features, host: str) -> str | Failed:
    """A recipient as this peer takes it, or why no message can go to that address by way of it."""
    if not is_address(address):
        return Failed("5.1.3", "recipient is no address", host)
    path = path_of(address, features)
    return Failed("5.6.7", "recipient needs SMTPUTF8, which the next hop lacks", host) if path is None else path


def is_address(address: str) -> bool:
    """`address` may stand between angle brackets: no control character, bracket or space outside quotes, bounded length."""
    if _ADDRESS.fullmatch(address) is None and _LOCAL_ONLY.fullmatch(address) is None:
        return False
    return len(address) * 4 <= MAX_PATH_OCTETS or len(address.encode()) <= MAX_PATH_OCTETS


def path_of(address: str, features: Features) -> str | None:
    """The address as it goes to this peer; without SMTPUTF8 a domain becomes A-labels and a wide local part has no way (None)."""
    path = address if features.smtputf8 else with_a_labels(address)
    return path if features.smtputf8 or path.isascii() else None


def _mail_line(job: Job, sender: str, content: Content, *, features: Features, wide: bool) -> bytes:
    parts = [f"MAIL FROM:<{sender}>"]
    if features.size >= 0:
        parts.append(f"SIZE={content.size}")
    if not content.rendered.is_ascii:
        parts.append("BODY=8BITMIME")
    if features.smtputf8 and (wide or job.smtputf8):
        parts.append("SMTPUTF8")
    if features.dsn:
        if job.ret in ("FULL", "HDRS"):
            parts.append(f"RET={job.ret}")
        if job.envid and len(job.envid) <= 100 and _PARAMETER.fullmatch(job.envid):
            parts.append(f"ENVID={job.envid}")
    return " ".join(parts).encode() + b"\r\n"


def _rcpt_line(path: str, recipient: Recipient, features: Features, *, smtputf8: bool) -> bytes:
    if not features.dsn or not (recipient.notify or recipient.orcpt):
        return f"RCPT TO:<{path}>\r\n".encode()
    line = f"RCPT TO:<{path}>"
    if "NEVER" in recipient.notify:
        line += " NOTIFY=NEVER"
    elif wanted := [word for word in recipient.notify if word in _NOTIFY]:
        line += " NOTIFY=" + ",".join(wanted)
    if recipient.orcpt and (orcpt := on_the_wire(recipient.orcpt, smtputf8=smtputf8 and features.smtputf8)):
        line += " ORCPT=" + orcpt
    return line.encode() + b"\r\n"
