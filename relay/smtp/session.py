"""One submission session: the verbs of RFC 5321 and their extensions, each answering a reply.

Theory of operation. `_handle_client` takes complete lines from the buffer and calls the verb. A verb answers its
reply, or a coroutine where it has to wait. Replies go out together when no complete line is left, in order (RFC
2920). Whatever the outside may not do twice, out of turn or too often is refused here (SMTP-7, -19, -23); what a
mail may be is not decided here but behind `Front`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from relay.mail.address import Address
from relay.mail.envelope import Recipient, SessionInfo
from relay.smtp.connection import MAX_LINE, Lost
from relay.smtp.entrance import Entrance, Reply
from relay.smtp.front import Front, Gate, InFlight, Listens, Transaction
from relay.smtp.proxy import BadProxyHeader, read_header
from relay.smtp.receive import NO_RECIPIENTS
from relay.smtp.syntax import mail_command, rcpt_command

RECIPIENT_OK = "250 2.1.5 Recipient OK"

_BURST = 200  # commands of one client in a turn of the loop; the others come next
_ERRORS = frozenset(("454", "500", "501", "502", "503", "504", "530", "535", "538", "555"))
_LAST_IN_GROUP = frozenset((b"EHLO", b"HELO", b"DATA", b"VRFY", b"EXPN", b"NOOP", b"STARTTLS", b"AUTH"))
_HTTP = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"TRACE"))


class Session(Entrance):
    """A submission session. `tls` is None where the listener offers none; `implicit` means TLS from the first octet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        front: Front,
        gate: Gate,
        in_flight: InFlight,
        *,
        tls: ssl.SSLContext | None,
        listener: Listens,
    ) -> None:
        super().__init__(loop, front, in_flight, tls=tls, listener=listener)
        self.gate = gate
        self._is_mute = listener.implicit
        self._errors = 0
        self._polite = False
        self._must_yield = False
        self._slow: Coroutine[Any, Any, str] | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A place is asked for before anything else is done, so that who says nothing takes one too."""
        if self.listener.proxy and not self.listener.trusts(self.peer_address):
            self.front.count("bad_proxy_header")
            self.part(linger=False)
        elif not self.gate.enter(self) or not (self.listener.proxy or self._is_counted()):
            self._refuse()
        else:
            if self.listener.implicit and not self.listener.proxy:
                self.hold_reading()  # the first octets are for the TLS layer, which is not there yet
            super().begin()

    def _is_counted(self) -> bool:
        """Whether the client's address has a place left; takes it."""
        address = self.peer_address
        return not self.listener.counts(address) or self.gate.count(self, address)

    def _refuse(self) -> None:
        """Over a cap. Nobody waits until this is read: each who lingers would hold a descriptor beyond the cap."""
        self.front.count("refused_connection")
        if not self._is_mute:
            self.reply("421 4.7.0 Too many connections; try again later")
        self.part(linger=False)

    def ended(self) -> None:
        self.gate.leave(self)

    async def finished(self) -> None:
        """Returns when the session's task has ended: a commit must end before the process does."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _handle_client(self) -> None:
        try:
            if self.listener.proxy:
                await self._read_proxy_header()
            if self.transport is None:  # gone before it was let in: `ended` has been and will not come again
                return
            if self.listener.proxy and not self._is_counted():
                self._refuse()
                return
            if self.listener.implicit and self.tls:
                await self.upgrade(self.tls)
                self.secure = True
            self.front.count("session")
            if self.listener.mends(self.peer_address):
                self.mend_line_ends()
            self.reply(f"220 {self.front.hostname} ESMTP Zegel")
            await self._converse()
        except Lost:
            pass
        except Exception as error:  # the session's outer edge: a bug ends this session and no other
            self.front.crashed(error)
            self.send_away("421 4.3.0 Internal error; try again later")
        finally:
            self._reset()
            self.part(linger=not self._polite or bool(self.buffer))

    async def _read_proxy_header(self) -> None:
        try:
            header = read_header(self.buffer)
            if header is None:
                self.expect_soon()
            while header is None:
                await self.more()
                header = read_header(self.buffer)
        except Lost:
            if self._received:  # who only looks whether somebody listens has said nothing wrong
                self.front.count("bad_proxy_header")
            raise
        if isinstance(header, BadProxyHeader):
            self.front.count("bad_proxy_header")
            self.part(linger=False)
            raise Lost
        del self.buffer[: header.length]
        self.peer_address = header.address or self.peer_address
        # A client that the balancer does not name may be anywhere.
        self.is_elsewhere = not (ipaddress.ip_address(header.address).is_loopback if header.address else header.is_own)
        self.balancer_says_tls = header.secure or self.listener.proxy_tls
        self.expect_command()

    async def _converse(self) -> None:
        """Commands until QUIT. Those that need no waiting are answered by `pump`, often without this task being woken."""
        while True:
            self.pump()
            while not self._quit and self._slow is None:
                if self._must_yield or self.is_clogged:
                    await asyncio.sleep(0)
                    await self.drained()
                elif len(self.buffer) > MAX_LINE:
                    await self.skip_line()
                    self._answer("500 5.5.2 Line too long")
                else:
                    await self._idle_until_woken()
                if self._slow is None:
                    self.pump()
            if self._slow is None:
                return
            slow, self._slow = self._slow, None
            try:
                reply = await slow
            except (Lost, asyncio.CancelledError):
                raise
            except Exception as error:
                reply = self._after_crash(error)
            if reply:
                self._answer(reply)

    async def _idle_until_woken(self) -> None:
        self.expect_command()
        self._idle = True
        try:
            await self.more()
        finally:
            self._idle = False

    def pump(self) -> None:
        """Answer the complete lines that lie there; stops at a command that has to wait, and wakes the task for it."""
        left = _BURST
        self._must_yield = False
        while not self._quit and self._slow is None:
            line = self.line() if left else None
            if line is None:
                if self._replies:
                    self.flush()
                    self.expect_command()
                self._must_yield = not left
                if self._must_yield or len(self.buffer) > MAX_LINE or self.is_clogged or self._reading_paused:
                    self._idle = False  # the task goes on from here; until it runs, octets only gather
                    self._wake()
                return
            left -= 1
            try:
                reply = self._command(line)
            except Exception as error:
                reply = self._after_crash(error)
            if isinstance(reply, str):
                self._answer(reply)
            else:
                self._slow = reply
        self._wake()

    def _after_crash(self, error: Exception) -> str:
        """A bug in one command must not cost the client its mail."""
        self.front.crashed(error)
        self._reset()
        return "451 4.3.0 Internal error; try again later"

    def _answer(self, reply: str) -> None:
        """Say a reply; close after a 421, and after too many errors (SMTP-23). Refusals of policy are answers, not errors."""
        self.reply(reply)
        code = reply[:3]
        if code in _ERRORS and not self._quit:
            self._errors += 1
            self.front.count(f"protocol_error_{code}")
            if self._errors >= self.front.limits.max_errors:
                self.reply("421 4.7.0 Too many errors; closing")
                self._quit = True
        elif code == "421":
            self._quit = True

    def _command(self, line: bytes) -> Reply:
        if line.endswith(b"\n") or b"\r" in line:
            return self.bare_line_end(self.account)
        if b"\0" in line:
            return "500 5.5.2 NUL in command"
        word, _, argument = line.partition(b" ")
        verb = word.upper()
        if len(line) > 512 and not _may_be_long(verb, argument):
            return "500 5.5.2 Line too long"
        method = _VERBS.get(verb)
        if method is None:
            if verb in _HTTP:
                self._quit = True
                return "554 5.7.0 This is a mail server; it does not speak HTTP"
            return "500 5.5.2 Command not recognised"
        if verb in _LAST_IN_GROUP and self.buffer:
            self._quit = True
            return f"503 5.5.1 {verb.decode()} must be the last command of a group"
        return method(self, argument.strip(b" "))

    # -- state ----------------------------------------------------------------------------------------------------------

    def _rset(self, argument: bytes) -> Reply:
        self._reset()
        return "250 2.0.0 OK"

    def _noop(self, argument: bytes) -> Reply:
        return "250 2.0.0 OK"

    def _quit_verb(self, argument: bytes) -> Reply:
        self._quit = self._polite = True
        return "221 2.0.0 Bye"

    def _vrfy(self, argument: bytes) -> Reply:
        return "252 2.5.0 Send mail and see" if argument else "501 5.5.4 Syntax: VRFY address"

    def _expn(self, argument: bytes) -> Reply:
        return "502 5.5.1 EXPN is not offered"

    def _help(self, argument: bytes) -> Reply:
        return "214 2.0.0 Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT"

    # -- transaction ----------------------------------------------------------------------------------------------

    def _mail(self, argument: bytes) -> Reply:
        if not self.ehlo:
            return "503 5.5.1 Say EHLO first"
        if self.account is None and self.listener.relays:
            return self.front.say("session.login_required")
        if self.transaction is not None:
            return "503 5.5.1 A transaction is open; say RSET to drop it"
        command = mail_command(argument)
        if isinstance(command, str):
            return self._with_reason(command)
        if self.account is None:
            return "250 2.1.0 Sender OK"  # the port for reports: RCPT says no (SMTP-1)
        if command.size > self.front.limits.max_message_bytes:
            limit = str(self.front.limits.max_message_bytes)
            return self.front.say("session.too_big", self.account, limit=limit)
        transaction = Transaction(self.account, self._session_info(utf8=command.smtputf8), command)
        refusal = self.front.mail(transaction)
        if refusal is not None:
            return refusal
        self.transaction = transaction
        return "250 2.1.0 Sender OK"

    def _session_info(self, *, utf8: bool) -> SessionInfo:
        if self._info is None:
            version, cipher = self.tls_version
            keyword = ("ESMTP" if self.extended else "SMTP") + ("S" if self.secure else "") + "A"
            self._info = SessionInfo(self.peer_address, self.ehlo, version, cipher, keyword)
        return self._info._replace(protocol=f"UTF8{self._info.protocol.removeprefix('E')}") if utf8 else self._info

    def _with_reason(self, reply: str) -> str:
        """Replies of syntax.py that have an entry in reasons.toml."""
        return self.front.say("session.needs_smtputf8", self.account) if reply.startswith("553 5.6.7") else reply

    def _rcpt(self, argument: bytes) -> Reply:
        transaction = self.transaction
        if not self.listener.relays:
            return self.front.say("session.relay_denied")
        if transaction is None:
            return "503 5.5.1 Say MAIL first"
        if self._chunks is not None:
            return "503 5.5.1 The message has begun"
        parsed = rcpt_command(argument, smtputf8=transaction.mail.smtputf8)
        if isinstance(parsed, str):
            return self._with_reason(parsed)
        transaction.is_asked = True
        address, recipient = parsed
        if address.mailbox in transaction.mailboxes:
            return RECIPIENT_OK
        most = transaction.own_limit or self.front.limits.max_recipients
        if len(transaction.recipients) >= most:
            reason = "session.recipients_per_message" if transaction.own_limit else "session.too_many_recipients"
            return self.front.say(reason, self.account, limit=str(most))
        refusal = self.front.recipient(transaction, address, recipient)
        if refusal is None:
            transaction.add(address, recipient)
            return RECIPIENT_OK
        if isinstance(refusal, str):
            return refusal
        return self._rcpt_later(transaction, address, recipient, refusal)

    async def _rcpt_later(
        self, transaction: Transaction, address: Address, recipient: Recipient, refusal: Awaitable[str | None]
    ) -> str:
        reply = await refusal
        if reply is None:
            transaction.add(address, recipient)
        return reply or RECIPIENT_OK

    def _data(self, argument: bytes) -> Reply:
        if argument:
            return "501 5.5.4 DATA takes no argument"
        if self._chunks is not None:
            return "503 5.5.1 DATA after BDAT"
        if self.transaction is None:
            return "503 5.5.1 Say MAIL first"
        if not self.transaction.recipients:
            return NO_RECIPIENTS
        return self._receive(self.transaction)

    def _bdat(self, argument: bytes) -> Reply:
        if self.line_ends is not None:
            self._quit = True  # it counts octets, and those of this client are not as they were sent
            return "502 5.5.1 BDAT is not offered to a client whose line ends are mended"
        words = argument.split()
        if not words or not words[0].isdigit() or len(words[0]) > 12 or len(words) > 2:
            self._quit = True  # the octets that follow cannot be told from commands any more
            return "501 5.5.4 Syntax: BDAT length [LAST]"
        last = len(words) == 2
        if last and words[1].upper() != b"LAST":
            self._quit = True
            return "501 5.5.4 Syntax: BDAT length [LAST]"
        return self._chunk(int(words[0]), last=last)


def _may_be_long(verb: bytes, argument: bytes) -> bool:
    """Extensions raise the limit of the command that they extend (SMTP-9; RFC 1870, 3461, 4954, 6531)."""
    if verb == b"AUTH":
        return len(argument) <= MAX_LINE
    upper = argument.upper()
    if verb == b"MAIL":
        return len(argument) <= 1200 and any(key in upper for key in (b" SIZE=", b" ENVID=", b" AUTH=", b" SMTPUTF8"))
    return verb == b"RCPT" and len(argument) <= 1100 and (b" ORCPT=" in upper or b" NOTIFY=" in upper)


_VERBS: dict[bytes, Callable[[Session, bytes], Reply]] = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._helo,
    b"MAIL": Session._mail,
    b"RCPT": Session._rcpt,
    b"DATA": Session._data,
    b"BDAT": Session._bdat,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"QUIT": Session._quit_verb,
    b"VRFY": Session._vrfy,
    b"EXPN": Session._expn,
    b"HELP": Session._help,
    b"STARTTLS": Session._starttls,
    b"AUTH": Session._auth,
}
