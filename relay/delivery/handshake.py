"""From greeting to ready for MAIL, as a generator: it yields what to do and is sent the reply. No I/O.

The driver (`connection.py`) does one step at a time and makes sure that nothing came before it was asked for:
bytes that follow the 220 of STARTTLS in clear would otherwise count as spoken inside TLS (RFC 3207 section 4.2,
GHSA-vxj7-4xrp-5vr4). What was learnt in clear is forgotten after the handshake.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

from relay.delivery.job import Features
from relay.delivery.outcome import status_of, text_of
from relay.delivery.replies import Reply

_TELLTALE = 6  # octets in a row of a secret that are too many
HELO_INSTEAD = frozenset((500, 501, 502, 504, 550))  # a peer without EHLO (RFC 5321 section 3.2)


class Say(NamedTuple):
    """Write `line` (nothing when empty) and send back the reply. `stage` names the step, as in SetupFailed."""

    line: bytes
    stage: str


class StartTls(NamedTuple):
    """Do the TLS handshake now; the peer has said 220."""


Step = Say | StartTls
Steps = Generator[Step, Reply | None, Features]


class SetupFailed(Exception):
    """The session cannot be used. `stage` is connect, greeting, ehlo, starttls, tls or auth; the text is safe to show.

    `status` is an enhanced code of class 4: whatever is wrong with the host, the mail waits.
    """

    def __init__(self, stage: str, why: str, status: str = "4.4.0") -> None:
        super().__init__(why)
        self.stage = stage
        self.why = why
        self.status = status


@dataclass(frozen=True, slots=True)
class Manners:
    """How to behave towards one host. `tls` is what must be reached before AUTH and MAIL.

    `starttls`: "required", "offered" (use it if it is there) or "no". `clear_auth`: AUTH without TLS is allowed.
    """

    hello: str
    starttls: str
    user: str = ""
    password: str = ""
    clear_auth: bool = False
    in_tls: bool = False


def handshake(manners: Manners) -> Steps:
    """The steps of one session set-up; returns the features that hold for MAIL. Raises SetupFailed."""
    greeting = yield Say(b"", "greeting")
    _expect(greeting, 220, "greeting")
    features = yield from _hello(manners, in_tls=manners.in_tls)
    if manners.starttls != "no" and not manners.in_tls:
        if features.starttls:
            features = yield from _start_tls(manners)
        elif manners.starttls == "required":
            raise SetupFailed("starttls", "the host does not offer STARTTLS, and TLS is required", "4.7.0")
    if manners.user:
        if not (features.tls or manners.clear_auth):
            raise SetupFailed("auth", "no TLS, so the password is not sent", "4.7.0")
        try:
            yield from _login(manners, features)
        except SetupFailed as failed:
            raise SetupFailed("auth", _without_secrets(failed.why, manners), failed.status) from None
    return features


def features_of(reply: Reply, *, in_tls: bool) -> Features:
    """The extensions that an EHLO reply lists; the first line is the host's own name."""
    words: dict[str, list[str]] = {}
    for line in reply.text.decode("ascii", "replace").split("\n")[1:]:
        keyword, *values = line.upper().replace("AUTH=", "AUTH ").split() or [""]
        words.setdefault(keyword, []).extend(values)
    size = words.get("SIZE")
    return Features(
        pipelining="PIPELINING" in words,
        eightbitmime="8BITMIME" in words,
        smtputf8="SMTPUTF8" in words,
        dsn="DSN" in words,
        size=-1 if size is None else _number(size),
        chunking="CHUNKING" in words,
        starttls="STARTTLS" in words,
        auth=tuple(words.get("AUTH", ())),
        tls=in_tls,
    )


def _number(values: list[str]) -> int:
    digits = values[0] if values else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else 0


def _hello(manners: Manners, *, in_tls: bool) -> Generator[Step, Reply | None, Features]:
    reply = yield Say(f"EHLO {manners.hello}\r\n".encode("ascii"), "ehlo")
    if reply is not None and reply.code in HELO_INSTEAD and not in_tls:
        reply = yield Say(f"HELO {manners.hello}\r\n".encode("ascii"), "ehlo")
        _expect(reply, 250, "ehlo")
        return Features()
    return features_of(_expect(reply, 250, "ehlo"), in_tls=in_tls)


def _start_tls(manners: Manners) -> Generator[Step, Reply | None, Features]:
    reply = yield Say(b"STARTTLS\r\n", "starttls")
    if reply is not None and reply.code != 220 and manners.starttls != "required":
        return (yield from _hello(manners, in_tls=False))
    _expect(reply, 220, "starttls")
    yield StartTls()
    return (yield from _hello(manners, in_tls=True))


def _login(manners: Manners, features: Features) -> Generator[Step, Reply | None, None]:
    """AUTH PLAIN, else LOGIN (RFC 4954, RFC 4616)."""
    if "PLAIN" in features.auth:
        token = base64.b64encode(f"\0{manners.user}\0{manners.password}".encode())
        reply = yield Say(b"AUTH PLAIN " + token + b"\r\n", "auth")
    elif "LOGIN" in features.auth:
        _expect((yield Say(b"AUTH LOGIN\r\n", "auth")), 334, "auth")
        _expect((yield Say(base64.b64encode(manners.user.encode()) + b"\r\n", "auth")), 334, "auth")
        reply = yield Say(base64.b64encode(manners.password.encode()) + b"\r\n", "auth")
    else:
        raise SetupFailed("auth", "the host offers neither AUTH PLAIN nor AUTH LOGIN", "4.7.0")
    _expect(reply, 235, "auth")


def _without_secrets(why: str, manners: Manners) -> str:
    """A host's words without what we said to it: some hosts repeat the line that they refuse, and `why` is for logs."""
    token = f"\0{manners.user}\0{manners.password}"
    plain = [" ".join(text.split()) for text in (manners.user, manners.password) if text]
    why = " ".join(why.split())
    for whole in sorted(plain, key=len, reverse=True):  # a passphrase that begins with the name of its user goes whole
        why = why.replace(whole, "...") if len(whole) >= _TELLTALE else why
    encoded = [base64.b64encode(text.encode()).decode() for text in (token, manners.user, manners.password) if text]
    return _without_pieces(why, [*plain, *encoded])


def _without_pieces(why: str, secrets: list[str]) -> str:
    """Without the words that hold a good part of a secret, blanks and all: a host, or we, may cut the line it repeats."""
    repeated = bytearray(len(why))
    for secret in secrets:
        size = min(len(secret), _TELLTALE)
        for at in range(len(why) - size + 1):
            if why[at : at + size] in secret:
                repeated[at : at + size] = b"\1" * size
    told: list[str] = []
    at = 0
    for word in why.split(" "):
        is_hidden = any(repeated[at : at + len(word)])
        if not (is_hidden and told and told[-1] == "..."):
            told.append("..." if is_hidden else word)
        at += len(word) + 1
    return " ".join(told)


def _expect(reply: Reply | None, code: int, stage: str) -> Reply:
    if reply is None or reply.code != code:
        why = "no reply" if reply is None else text_of(reply)
        status = "4.4.0" if reply is None else "4" + status_of(reply)[1:]
        raise SetupFailed(stage, why, status)
    return reply
