"""Who the client is: EHLO and HELO, STARTTLS, AUTH."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

from relay.mail.envelope import Account, SessionInfo
from relay.smtp import auth
from relay.smtp.front import Front, InFlight, Listens
from relay.smtp.receive import Receiving

Reply = str | Coroutine[Any, Any, str]


class Entrance(Receiving):
    """What comes before the first MAIL. `tls` is None where the listener offers none."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        front: Front,
        in_flight: InFlight,
        *,
        tls: ssl.SSLContext | None,
        listener: Listens,
    ) -> None:
        super().__init__(loop, front, in_flight)
        self.tls = tls
        self.listener = listener
        self.account: Account | None = None
        self.ehlo = ""
        self.extended = False
        self.secure = False
        self.is_elsewhere = False  # a balancer named a client that is not on this machine
        self.balancer_says_tls = False
        self._info: SessionInfo | None = None

    # -- greeting and state ---------------------------------------------------------------------------------------

    def _ehlo(self, argument: bytes) -> Reply:
        if not _is_name(argument):
            return "501 5.5.4 Syntax: EHLO hostname"
        self._begin(argument, extended=True)
        lines = [self.front.hostname, f"SIZE {self.front.limits.max_message_bytes}", "8BITMIME", "SMTPUTF8"]
        lines += ["PIPELINING", "DSN", "ENHANCEDSTATUSCODES"]
        if self.line_ends is None:
            lines.append("CHUNKING")
        if self.tls is not None and not self.secure:
            lines.append("STARTTLS")
        if self.may_log_in:
            lines.append("AUTH " + " ".join(auth.MECHANISMS))
        return "\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])

    def _helo(self, argument: bytes) -> Reply:
        if not _is_name(argument):
            return "501 5.5.4 Syntax: HELO hostname"
        self._begin(argument, extended=False)
        return f"250 {self.front.hostname}"

    def _begin(self, name: bytes, *, extended: bool) -> None:
        self.ehlo = name.partition(b" ")[0].decode("ascii", "replace")[:255]
        self.extended = extended
        self._info = None
        self._reset()

    @property
    def may_log_in(self) -> bool:
        """AUTH is offered only inside TLS, or where the listener says that clear text is safe (SMTP-2).

        Behind a balancer it is not safe because we listen on loopback: the client may be anywhere.
        """
        is_safe = self.secure or (self.listener.plain_auth and (self.balancer_says_tls or not self.is_elsewhere))
        return is_safe and self.listener.relays

    # -- TLS and AUTH ---------------------------------------------------------------------------------------------

    def _starttls(self, argument: bytes) -> Reply:
        if argument:
            return "501 5.5.4 STARTTLS takes no argument"
        if self.secure or self.tls is None:
            return "503 5.5.1 TLS is not offered here" if self.tls is None else "503 5.5.1 TLS is already on"
        return self._start_tls(self.tls)

    async def _start_tls(self, context: ssl.SSLContext) -> str:
        """No reply after the handshake; nothing that was said or sent in clear counts any more (SMTP-3)."""
        await self.drained()
        if self.buffer:
            self._quit = True
            return "503 5.5.1 STARTTLS must be the last command of a group"
        may_begin_with_line_feed = self.line_ends is not None and self.line_ends.owes_line_feed
        self.line_ends = None  # a handshake has no lines
        self.reply("220 2.0.0 Go ahead")
        if may_begin_with_line_feed:
            await self._without_line_feed()
        await self.upgrade(context)
        if self.listener.mends(self.peer_address):
            self.mend_line_ends()
        self.secure = True
        self.ehlo, self.extended, self.account, self._info = "", False, None, None
        self._reset()
        self.front.count("starttls")
        return ""

    async def _without_line_feed(self) -> None:
        """The CR of STARTTLS is read already; an LF that comes behind it is no part of the handshake."""
        self.flush()
        self.expect_command()
        while not self.buffer:
            await self.more()
        if self.buffer.startswith(b"\n"):
            del self.buffer[:1]

    def _auth(self, argument: bytes) -> Reply:
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.upper().decode("ascii", "replace")
        if not self.listener.relays:
            return "502 5.5.1 Nobody logs in on this port"
        if not self.may_log_in:
            return self.front.say("session.login_needs_tls")
        if not self.extended:
            return "503 5.5.1 Say EHLO first"
        if self.account is not None or self.transaction is not None:
            return "503 5.5.1 Already authenticated" if self.account else "503 5.5.1 Not during a transaction"
        if name not in auth.MECHANISMS:
            return "504 5.5.4 Mechanisms: " + " ".join(auth.MECHANISMS)
        return self._log_in(name, initial.strip() or None)

    async def _log_in(self, mechanism: str, initial: bytes | None) -> str:
        login: auth.Login | None
        if mechanism == "PLAIN":
            response = await self._challenge(b"", initial)
            if isinstance(response, str):
                return response
            login = auth.plain(response)
        else:
            username = await self._challenge(b"VXNlcm5hbWU6", initial)
            if isinstance(username, str):
                return username
            password = await self._challenge(b"UGFzc3dvcmQ6", None)
            if isinstance(password, str):
                return password
            login = auth.login(username, password)
        if login is None:
            return "501 5.5.2 The AUTH response is malformed"
        self.expect_nothing()
        account = await self.front.login(login, self.peer_address)
        if isinstance(account, str):
            return account
        self.account = account
        self._info = None
        return "235 2.7.0 Authenticated"

    async def _challenge(self, prompt: bytes, initial: bytes | None) -> bytes | str:
        if initial is None:
            self.reply("334 " + prompt.decode())
            said = await self.next_line()
            if said is None:
                return "500 5.5.6 The AUTH response is too long"
            if said.endswith(b"\n") or b"\r" in said:
                return self.bare_line_end(None)
            line = said
            if line == b"*":
                return "501 5.7.0 AUTH cancelled"
        else:
            line = initial
        decoded = auth.decode(line)
        return "501 5.5.2 The AUTH response is no base64" if decoded is None else decoded


def _is_name(argument: bytes) -> bool:
    """Anything but nothing: the name is not checked for submission, since clients send what they like (SMTP-21)."""
    return bool(argument)
