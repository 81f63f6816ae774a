"""One submission session: the verbs of RFC 5321 and their extensions, each answering a reply.

Theory of operation. `_handle_client` takes complete lines from the buffer and calls the verb. A verb answers its
reply, or a coroutine where it has to wait. Replies go out together when no complete line is left, in order (RFC
2920). Whatever the outside may not do twice, out of turn or too often is refused here (SMTP-7, -19, -23); what a
mail may be is not decided here but behind `Front`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from relay.mail.envelope import Account, SessionInfo
from relay.smtp import auth
from relay.smtp.connection import MAX_LINE, Lost
from relay.smtp.front import Front, Gate, InFlight, Transaction
from relay.smtp.proxy import BadProxyHeader, read_header
from relay.smtp.receive import BARE, Receiving
from relay.smtp.syntax import mail_command, rcpt_command

Reply = str | Coroutine[Any, Any, str]

_LAST_IN_GROUP = frozenset((b"EHLO", b"HELO", b"DATA", b"VRFY", b"EXPN", b"NOOP", b"STARTTLS", b"AUTH"))
_HTTP = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"TRACE"))


class Session(Receiving):
    """A submission session. `tls` is None where the listener offers none; `implicit` means TLS from the first octet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        front: Front,
        gate: Gate,
        in_flight: InFlight,
        *,
        tls: ssl.SSLContext | None,
        listener: ListenerKind,
    ) -> None:
        super().__init__(loop, front, in_flight)
        self.gate = gate
        self.tls = tls
        self.listener = listener
        self.account: Account | None = None
        self.ehlo = ""
        self.extended = False
        self._errors = 0
        self._slow: Coroutine[Any, Any, str] | None = None
        self._quit = False
        self._info: SessionInfo | None = None
        self.secure = listener.implicit and not listener.proxy

    # -- life -----------------------------------------------------------------------------------------------------

    def ended(self) -> None:
        self.gate.leave(self, self.peer_address, counted=self.listener.counts(self.peer_address))

    async def finished(self) -> None:
        """Returns when the session's task has ended: a commit must end before the process does."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _handle_client(self) -> None:
        try:
            if self.listener.proxy:
                await self._read_proxy_header()
            if not self.gate.enter(self, self.peer_address, counted=self.listener.counts(self.peer_address)):
                self.front.count("refused_connection")
                self.send_away("421 4.7.0 Too many connections; try again later")
                return
            self.front.count("session")
            if self.listener.implicit and not self.secure and self.tls:
                await self.upgrade(self.tls)
                self.secure = True
            self.reply(f"220 {self.front.hostname} ESMTP Zegel")
            await self._converse()
        except Lost:
            pass
        except Exception as error:  # the session's outer edge: a bug ends this session and no other
            self.front.crashed(error)
            self.send_away("421 4.3.0 Internal error; try again later")
        finally:
            self._give_back()
            if self.transport is not None:
                self.flush()
                self.transport.close()

    async def _read_proxy_header(self) -> None:
        while (header := read_header(self.buffer)) is None:
            await self.more()
        if isinstance(header, BadProxyHeader):
            self.front.count("bad_proxy_header")
            raise Lost
        del self.buffer[: header.length]
        self.peer_address = header.address or self.peer_address

    async def _converse(self) -> None:
        """Commands until QUIT. Those that need no waiting are answered by `pump`, often without this task being woken."""
        while True:
            self.pump()
            while not self._quit and self._slow is None:
                if len(self.buffer) > MAX_LINE:
                    await self._skip_line()
                    self._refuse("500 5.5.2 Line too long")
                    self.pump()
                    continue
                await self.drained()
                self.expect_command()
                self._idle = True
                try:
                    await self.more()
                finally:
                    self._idle = False
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
            self._answer(reply)

    def pump(self) -> None:
        """Answer the complete lines that lie there; stops at a command that has to wait, and wakes the task for it."""
        while not self._quit and self._slow is None:
            line = self.line()
            if line is None:
                if self._replies:
                    self.flush()
                    self.expect_command()
                if len(self.buffer) > MAX_LINE or self.is_clogged:
                    self._wake()
                return
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
        self._refuse(reply) if reply[:2] in ("50", "55", "53") else self.reply(reply)

    def _refuse(self, reply: str) -> None:
        """Say an error, and close after too many (SMTP-23). Refusals of policy are answers, not errors."""
        self.reply(reply)
        if reply[:3] in ("500", "501", "502", "503", "504", "530", "538", "555") or reply == BARE:
            self._errors += 1
            self.front.count(f"protocol_error_{reply[:3]}")
        if reply == BARE:
            self._quit = True
        elif self._errors >= self.front.limits.max_errors:
            self.reply("421 4.7.0 Too many errors; closing")
            self._quit = True

    async def _skip_line(self) -> None:
        while self.line() is None:
            self.buffer.clear()
            await self.more()

    def _command(self, line: bytes) -> Reply:
        if line.endswith(b"\n") or b"\r" in line:
            return BARE
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
        if verb in _LAST_IN_GROUP and self.buffer and verb != b"QUIT":
            self._quit = True
            self.buffer.clear()
            return f"503 5.5.1 {verb.decode()} must be the last command of a group"
        return method(self, argument.strip(b" "))

    # -- greeting and state ---------------------------------------------------------------------------------------

    def _ehlo(self, argument: bytes) -> Reply:
        if not _is_name(argument):
            return "501 5.5.4 Syntax: EHLO hostname"
        self._begin(argument, extended=True)
        lines = [self.front.hostname, f"SIZE {self.front.limits.max_message_bytes}", "8BITMIME", "SMTPUTF8"]
        lines += ["PIPELINING", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES"]
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
        self.ehlo = name.decode("ascii", "replace")[:255]
        self.extended = extended
        self._info = None
        self._reset()

    @property
    def may_log_in(self) -> bool:
        """AUTH is offered only inside TLS, or where the listener says that clear text is safe (SMTP-2)."""
        return self.secure or self.listener.plain_auth

    def _rset(self, argument: bytes) -> Reply:
        self._reset()
        return "250 2.0.0 OK"

    def _noop(self, argument: bytes) -> Reply:
        return "250 2.0.0 OK"

    def _quit_verb(self, argument: bytes) -> Reply:
        self._quit = True
        return "221 2.0.0 Bye"

    def _vrfy(self, argument: bytes) -> Reply:
        return "252 2.5.0 Send mail and see" if argument else "501 5.5.4 Syntax: VRFY address"

    def _expn(self, argument: bytes) -> Reply:
        return "502 5.5.1 EXPN is not offered"

    def _help(self, argument: bytes) -> Reply:
        return "214 2.0.0 Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT"

    # -- TLS and AUTH ---------------------------------------------------------------------------------------------

    def _starttls(self, argument: bytes) -> Reply:
        if argument:
            return "501 5.5.4 STARTTLS takes no argument"
        if self.secure or self.tls is None:
            return "503 5.5.1 TLS is not offered here" if self.tls is None else "503 5.5.1 TLS is already on"
        return self._start_tls(self.tls)

    async def _start_tls(self, context: ssl.SSLContext) -> str:
        self.reply("220 2.0.0 Go ahead")
        await self.upgrade(context)
        self.secure = True
        self.ehlo, self.account, self._info = "", None, None
        self._reset()
        self.front.count("starttls")
        while (line := self.line()) is None:
            await self.more()
        reply = self._command(line)
        return reply if isinstance(reply, str) else await reply

    def _auth(self, argument: bytes) -> Reply:
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.upper().decode("ascii", "replace")
        if not self.may_log_in:
            return "538 5.7.11 Encryption required: say STARTTLS first"
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
            line = await self.next_line()
            if line == b"*":
                return "501 5.7.0 AUTH cancelled"
        else:
            line = initial
        decoded = auth.decode(line)
        return "501 5.5.2 The AUTH response is no base64" if decoded is None else decoded

    # -- transaction ----------------------------------------------------------------------------------------------

    def _mail(self, argument: bytes) -> Reply:
        if not self.ehlo:
            return "503 5.5.1 Say EHLO first"
        if self.account is None:
            return "530 5.7.0 Authentication required" if self.may_log_in else "530 5.7.0 Say STARTTLS first"
        if self.transaction is not None:
            return "503 5.5.1 A transaction is open; say RSET to drop it"
        command = mail_command(argument)
        if isinstance(command, str):
            return command
        if command.size > self.front.limits.max_message_bytes:
            return f"552 5.3.4 Message too big: at most {self.front.limits.max_message_bytes} octets"
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

    def _rcpt(self, argument: bytes) -> Reply:
        transaction = self.transaction
        if transaction is None:
            return "503 5.5.1 Say MAIL first"
        if self._chunks is not None:
            return "503 5.5.1 The message has begun"
        parsed = rcpt_command(argument, smtputf8=transaction.mail.smtputf8)
        if isinstance(parsed, str):
            return parsed
        if len(transaction.recipients) >= self.front.limits.max_recipients:
            return f"452 4.5.3 Too many recipients: at most {self.front.limits.max_recipients} a message"
        refusal = self.front.recipient(transaction, *parsed)
        if refusal is None:
            transaction.recipients.append(parsed[1])
            return "250 2.1.5 Recipient OK"
        if isinstance(refusal, str):
            return refusal
        return self._rcpt_later(transaction, parsed[1], refusal)

    async def _rcpt_later(self, transaction: Transaction, recipient: Any, refusal: Awaitable[str | None]) -> str:
        reply = await refusal
        if reply is None:
            transaction.recipients.append(recipient)
        return reply or "250 2.1.5 Recipient OK"

    def _data(self, argument: bytes) -> Reply:
        if argument:
            return "501 5.5.4 DATA takes no argument"
        if self._chunks is not None:
            return "503 5.5.1 DATA after BDAT"
        if self.transaction is None:
            return "503 5.5.1 Say MAIL first"
        if not self.transaction.recipients:
            return "554 5.5.1 No valid recipients"
        return self._receive(self.transaction)

    def _bdat(self, argument: bytes) -> Reply:
        words = argument.split()
        if not words or not words[0].isdigit() or len(words[0]) > 12 or len(words) > 2:
            self._quit = True  # the octets that follow cannot be told from commands any more
            return "501 5.5.4 Syntax: BDAT length [LAST]"
        last = len(words) == 2
        if last and words[1].upper() != b"LAST":
            self._quit = True
            return "501 5.5.4 Syntax: BDAT length [LAST]"
        return self._chunk(int(words[0]), last=last)


class ListenerKind:
    """What a listener allows: `implicit` TLS, AUTH in clear (loopback and private networks), PROXY headers, capped clients."""

    def __init__(self, *, implicit: bool, plain_auth: bool, proxy: bool, uncounted: Callable[[str], bool]) -> None:
        self.implicit = implicit
        self.plain_auth = plain_auth
        self.proxy = proxy
        self._uncounted = uncounted

    def counts(self, address: str) -> bool:
        """The cap on connections of one client holds for this address."""
        return not self._uncounted(address)


def _is_name(argument: bytes) -> bool:
    """Any printable word: the name is not checked for submission (SMTP-21)."""
    return bool(argument) and len(argument) <= 255 and all(octet >= 33 for octet in argument)


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
