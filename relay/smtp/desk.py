"""The desk between sessions and the rest: logins, MAIL, RCPT and the message, each turned into a submission."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING

from relay.clock import Clock
from relay.counters.once import period_key
from relay.directory import Directory
from relay.intake import Intake, count_message
from relay.limits import client_key
from relay.mail.address import Address
from relay.mail.envelope import Account, Envelope, Recipient, Submission
from relay.mail.reply import reply_line
from relay.observe import events, metrics
from relay.observe.log import log
from relay.observe.scarcity import scarcity
from relay.policy.verdict import STREAM_CLASS
from relay.smtp.auth import Login
from relay.smtp.front import Limits, Transaction

if TYPE_CHECKING:
    from relay.settings import model

LOGIN_WINDOW_SECONDS = 600.0
MAX_LOGIN_DELAY_SECONDS = 8.0
ATTACK_TIMES = 3  # as many wrong passwords for one login, from wherever, as block so many addresses


class Desk:
    """Keeps relay.smtp.front.Front. `directory` answers the snapshot in force now."""

    def __init__(
        self,
        intake: Intake,
        directory: Callable[[], Directory],
        clock: Clock,
        *,
        limits: Limits,
        logins: LoginLimits,
    ) -> None:
        self.hostname = intake.house.hostname
        self.limits = limits
        self._intake = intake
        self._directory = directory
        self._counters = intake.gather.shared
        self._presence = intake.gather.counters
        self._generation = intake.gather.generation
        self._clock = clock
        self._logins = logins
        intake.is_barred = self._is_barred

    # -- who ------------------------------------------------------------------------------------------------------

    async def login(self, login: Login, client_ip: str) -> Account | str:
        """The account, or the reply that refuses it. Wrong passwords are counted per client and per pair (THROTTLE-10)."""
        now = self._clock.now()
        name = login.username.partition("+")[0].lower()
        client = client_key(client_ip)
        keys = (f"login:{client}", f"login:{client}:{name}")
        blocked_until = await self._counters.blocked_until(keys, now) if client_ip else 0.0
        if blocked_until > now:
            metrics.AUTH_FAILURES.inc(("blocked",))
            return self.say("session.login_blocked", minutes=str(ceil((blocked_until - now) / 60)))
        directory = self._directory()
        if not directory.is_known:
            metrics.AUTH_FAILURES.inc(("unavailable",))
            return self.say("session.no_directory")
        account = directory.authenticate(login.username, login.password)
        if account is None:
            metrics.AUTH_FAILURES.inc(("wrong",))
            log.info(events.LOGIN_REFUSED, client=client_ip)
            *failed, everywhere = await self._counters.hit((*keys, f"login:*:{name}"), LOGIN_WINDOW_SECONDS, now)
            if everywhere >= self._logins.failures * ATTACK_TIMES and directory.account(name) is not None:
                await self._note_attack(name, everywhere, now)
            if client_ip:
                most = (self._logins.failures, self._may_fail(directory, name))
                over = [key for key, times, few in zip(keys, failed, most, strict=True) if times >= few]
                await self._block(over, now)
            await asyncio.sleep(min(MAX_LOGIN_DELAY_SECONDS, 0.05 * 2 ** min(max(failed), 8)))
            return self.say("session.bad_login")
        if account.suspended:
            metrics.AUTH_FAILURES.inc(("suspended",))
            return self.say("account.suspended", account)
        if client_ip and self._is_crowded(account, client, now):
            return self.say("session.connections_per_address", account)
        return account

    async def _note_attack(self, name: str, failures: int, now: float) -> None:
        """Ring once in each ten minutes for as long as it lasts. Never a block: strangers could lock a customer out."""
        key = period_key(f"login:*:{name}:attack", LOGIN_WINDOW_SECONDS, now)
        if (await self._counters.hit([key], LOGIN_WINDOW_SECONDS, now))[0] == 1:
            metrics.LOGIN_ATTACKS.inc()
            log.warning(events.LOGIN_ATTACKED, credential=name, failures=failures)

    def _may_fail(self, directory: Directory, name: str) -> int:
        """How often a login may fail from one address."""
        account = directory.account(name)
        return (own_value(account, "failed_logins_per_10_minutes") if account else 0) or self._logins.failures

    def _is_crowded(self, account: Account, client: str, now: float) -> bool:
        """More connections of this client are open than the account may have; this one is among them."""
        own = own_value(account, "connections_per_address")
        return bool(own) and self._presence.present(f"client:{client}", now) > own

    async def _block(self, keys: Sequence[str], now: float) -> None:
        """Each further block within a day is twice as long."""
        for key in keys:
            times = max(await self._counters.hit([f"{key}:blocks"], 86_400.0, now))
            await self._counters.reset(key)  # first: it would lift the block too
            await self._counters.block(key, now + self._logins.block_seconds * 2 ** min(times - 1, 6), now)

    def _current(self, account: Account) -> Account | None:
        """The account as the directory has it now; None when it was revoked or suspended meanwhile."""
        credential, purpose = account.credential, account.purpose
        name = credential.name
        if purpose is not None and purpose.name != credential.purpose:
            name = f"{name}+{purpose.name}"
        fresh = self._directory().account(name)
        return None if fresh is None or fresh.suspended else fresh

    def _is_barred(self, account: Account) -> bool:
        return self._current(account) is None

    # -- envelope -------------------------------------------------------------------------------------------------

    def mail(self, transaction: Transaction) -> str | None:
        account = self._current(transaction.account)
        if account is None:
            return self.say("account.suspended_open", transaction.account)
        transaction.account = account
        transaction.own_limit = own_value(account, "recipients_per_message")
        transaction.generation = self._generation()
        refusal = self._intake.sender(self._submission(transaction, ()))
        if refusal is not None:
            count_message(account, _verdict(refusal))
        return refusal

    def recipient(self, transaction: Transaction, address: Address, recipient: Recipient) -> str | None:
        if self._current(transaction.account) is None:
            return self.say("account.suspended_open", transaction.account)
        mail = self._submission(transaction, (recipient,), in_company=bool(transaction.recipients))
        said = self._intake.recipient(mail, alone=transaction.is_alone)
        if said.settled:
            transaction.settled.add(recipient.address)
        transaction.is_alone = transaction.is_alone or said.alone
        if said.refusal is not None and transaction.refused != "reject":
            transaction.refused = _verdict(said.refusal)
        return said.refusal

    def unsent(self, transaction: Transaction) -> None:
        count_message(transaction.account, transaction.refused)

    def _submission(
        self, transaction: Transaction, recipients: tuple[Recipient, ...], *, in_company: bool = False
    ) -> Submission:
        mail = transaction.mail
        envelope = Envelope(transaction.mail_from, recipients, mail.smtputf8, mail.ret, mail.envid)
        account = transaction.account
        fixed = STREAM_CLASS[account.credential.stream]
        return Submission(
            account,
            envelope,
            transaction.session,
            self._clock.now(),
            mail_class=fixed,
            purpose=account.purpose,
            in_company=in_company,
        )

    # -- message --------------------------------------------------------------------------------------------------

    def message(self, transaction: Transaction, raw: bytes) -> Awaitable[str]:
        if self._current(transaction.account) is None:
            return _now(self.say("account.suspended_open", transaction.account))
        settled = frozenset(transaction.settled)
        if self._generation() != transaction.generation:
            settled = frozenset()  # somebody left or joined since: ask again (CONSENT-12)
        return self._timed(self._submission(transaction, tuple(transaction.recipients)), raw, settled)

    async def _timed(self, mail: Submission, raw: bytes, settled: frozenset[str]) -> str:
        start = self._clock.monotonic()
        reply = await self._intake.submit(mail, raw, settled)
        metrics.ACCEPT_SECONDS.observe(self._clock.monotonic() - start)
        return reply

    # -- what the session says and reports -----------------------------------------------------------------------------------

    def say(self, reason: str, account: Account | None = None, **detail: str) -> str:
        """The reply of reasons.toml, in the language of the account's tenant once there is one."""
        house = self._intake.house
        language = account.tenant.language if account else house.language
        return reply_line(reason, detail.items(), language, house.public_url)

    def count(self, event: str) -> None:
        metrics.SMTP_EVENTS.inc((event,))

    def crashed(self, error: BaseException) -> None:
        if scarcity.met(error):
            return
        metrics.CRASHES.inc(("session",))
        log.error(events.SESSION_CRASHED, kind=type(error).__name__, place=place_of(error))


def _verdict(refusal: str) -> str:
    return "reject" if refusal.startswith("5") else "defer"


def own_value(account: Account, name: str) -> int:
    """What an operator set for this account (`zegel limit set`); 0: nothing."""
    credential = account.credential
    return account.tenant.limits.strictest(name, credential.name, credential.stream.value)


async def _now(reply: str) -> str:
    return reply


class LoginLimits:
    """How many wrong passwords in ten minutes, and how long the first block is."""

    def __init__(self, failures: int, block_seconds: float) -> None:
        self.failures = failures
        self.block_seconds = block_seconds

    @classmethod
    def of(cls, table: model.Limits) -> LoginLimits:
        return cls(table.failed_logins_per_10_minutes, table.login_block_seconds)


def place_of(error: BaseException) -> str:
    """File and line where an error was raised; its text may hold addresses and stays out of the log."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}" if frame else ""
