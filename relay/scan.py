"""The scan for leaks as a fact: at once where a mail is small, in a thread where it is not, and over when its time is (PIPE-6).

Theory of operation. A scan is pure work on bytes in memory. A mail of text alone up to INLINE_BYTES takes well under a
millisecond and is scanned where it stands. All else goes to one of a few threads, in steps of 64 KB, so that the loop gets
the interpreter back between them. The wait for a thread counts too: who does not get one in time is told 451 and comes again.
A thread cannot be ended from outside, so the work itself looks at the clock before each step, and whether anybody still waits.
One login has one thread and one tenant not all of them, however many mails with long files they send: the others' go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from relay.keyring import Keyring
from relay.mail.address import narrow
from relay.mail.documents.budget import Budget, Limits, ReadPdf
from relay.mail.envelope import Account, Submission
from relay.mail.insiders import internal_names
from relay.mail.leaks.findings import DETECTORS, Findings, Terms, plain_hash
from relay.mail.leaks.iban import read_registry
from relay.mail.leaks.inspect import Unfinished, inspect_message, is_plain
from relay.mail.message import Message
from relay.mail.visible import audience
from relay.observe import events, metrics
from relay.observe.log import log
from relay.pdf import find_pdf_reader
from relay.policy.facts import Unavailable
from relay.policy.ruling import Ruling

INLINE_BYTES = 16 * 1024  # of the worst text that takes 5 ms, of any other half of one
THREADS = 3  # for a process; more would only take the interpreter from each other
OF_A_TENANT, OF_A_LOGIN = 2, 1  # at the most
TELL_SECONDS = 1.0  # when its time is over, for a thread to stop and say what it found so far


class Turns:
    """Who gets a thread next: the longest waiting whose tenant and login have not all of theirs. For one loop."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()
        self._waiting: list[tuple[asyncio.Future[None], Account]] = []

    async def take(self, account: Account) -> None:
        """Wait for a thread; `give` it back whatever comes of it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, account))
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(account)
            else:
                self._waiting.remove((turn, account))
            raise

    def give(self, account: Account) -> None:
        """A thread is free."""
        self._busy.subtract(_names(account))
        self._busy = +self._busy  # only those that are busy
        self._next()

    def _next(self) -> None:
        for turn, account in list(self._waiting):
            everybody, tenant, login = (self._busy[name] for name in _names(account))
            if everybody < THREADS and tenant < OF_A_TENANT and login < OF_A_LOGIN:
                self._waiting.remove((turn, account))
                self._busy.update(_names(account))
                turn.set_result(None)


def _names(account: Account) -> tuple[str, str, str]:
    return "", f"t:{account.tenant.name}", f"c:{account.credential.username}"


class Scan:
    """The scanner of one process. `hash_name` makes file names fit for a log; `pdf` reads PDF where there is a reader.

    `settings` are those of the policy leaks, `recipients` those of the policy recipients or None: relay imports no policy.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        hash_name: Callable[[str], str] = plain_hash,
        pdf: ReadPdf | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._hash_name = hash_name
        self._pdf = pdf
        self._threads: ThreadPoolExecutor | None = None
        self._turns = Turns()
        self._stopped = False

    @classmethod
    def of(cls, keyring: Keyring, monotonic: Callable[[], float]) -> Scan:
        """The scanner of a gateway: file names are hashed under its key, PDF is read where this machine has a reader."""
        read_registry()
        return cls(
            monotonic=monotonic,
            hash_name=lambda name: keyring.subject_hash(f"file\0{name}").hex()[:12],
            pdf=find_pdf_reader(),
        )

    @staticmethod
    def is_quick(message: Message | None) -> bool:
        """Whether the scan is no longer than what the loop can bear."""
        return message is None or (message.size <= INLINE_BYTES and is_plain(message))

    def here(self, mail: Submission, settings: Any, recipients: Any) -> Findings | Unavailable:
        """The findings, made by who asks."""
        start = self._monotonic()
        until = start + settings.scan_seconds
        found = self._made(mail, settings, recipients, lambda: self._monotonic() > until)
        metrics.SCAN_SECONDS.observe(self._monotonic() - start)
        return found

    async def apart(self, mail: Submission, settings: Any, recipients: Any, seconds: float) -> Findings | Unavailable:
        """The findings, made in a thread; Unavailable where that took longer than `seconds` or the policy's own limit."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="scan")
        tell = min(TELL_SECONDS, seconds / 4)
        longest = min(seconds - tell, settings.scan_seconds)
        start, waits = self._monotonic(), True
        until = start + longest

        def expired() -> bool:
            return self._stopped or not waits or self._monotonic() > until

        try:
            async with asyncio.timeout(longest + tell):
                await self._turns.take(mail.account)
                work = self._threads.submit(self._made, mail, settings, recipients, expired)
                work.add_done_callback(self._given(mail.account))
                return await asyncio.wrap_future(work)
        except TimeoutError:
            return Unavailable("TimeoutError")
        finally:
            waits = False  # also where the client hung up
            metrics.SCAN_SECONDS.observe(self._monotonic() - start)

    def _given(self, account: Account) -> Callable[[object], None]:
        """Gives the thread back when its work has ended, which may be after everybody stopped waiting for it."""
        loop = asyncio.get_running_loop()

        def give(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._turns.give, account)

        return give

    def stop(self) -> None:
        """No new scan; those under way end at their next step."""
        self._stopped = True
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _made(
        self, mail: Submission, settings: Any, recipients: Any, expired: Callable[[], bool]
    ) -> Findings | Unavailable:
        assert mail.message is not None
        limits = Limits(settings.max_unpacked_bytes, settings.max_unpacked_ratio, settings.max_archive_entries)
        try:
            terms = self._terms(mail, settings, recipients)
            return inspect_message(mail.message, terms, Budget(limits, expired=expired, pdf=self._pdf))
        except Unfinished as late:
            return Unavailable("OutOfTime", late.so_far)

    def _terms(self, mail: Submission, settings: Any, recipients: Any) -> Terms:
        own = frozenset("".join(filter(str.isalnum, number)).upper() for number in settings.own_ibans)
        return Terms(
            bsn_numbers=settings.bsn_numbers,
            iban_numbers=settings.iban_numbers,
            card_numbers=settings.card_numbers,
            text_addresses=settings.text_addresses,
            file_addresses=settings.file_addresses,
            file_rows=settings.file_rows,
            file_columns=settings.file_columns,
            own_ibans=own,
            outsiders=_outsiders(mail, recipients),
            hash_name=self._hash_name,
        )


def _outsiders(mail: Submission, recipients: Any) -> Callable[[frozenset[str]], int]:
    """How many of some addresses the readers should not see: those of neither the tenant nor the readers' own party.

    Where readers are of several parties, what is of one of them is news to the others (CC-5).
    """

    def count(addresses: frozenset[str]) -> int:
        groups = {name: group for group in getattr(recipients, "party_groups", ()) for name in group.split()}
        freemail = getattr(recipients, "freemail", ())
        internal = internal_names(mail.account.tenant)
        readers = audience([narrow(reader.address) for reader in mail.recipients], internal, groups, freemail)
        outside = audience(addresses, internal, groups, freemail)
        if len(readers.parties) > 1:
            return len(outside.addresses)
        return sum(
            1
            for address in outside.addresses
            if not audience([address], (), groups, freemail).parties <= readers.parties
        )

    return count


def tell(queue_id: str, ruling: Ruling, found: Findings) -> None:
    """Write down what was found and what follows: detector, number, hashes of file names; never a value (DLP-10)."""
    for place in found.crashes:
        metrics.CRASHES.inc(("scan",))
        log.error(events.SCAN_CRASHED, queue_id=queue_id, place=place)
    entry = next((entry for entry in ruling.trace if entry.policy == "leaks" and entry.reason), None)
    if entry is None or entry.bypassed:
        return
    account, detail = ruling.mail.account, dict(entry.detail)
    verdict = entry.action.word if entry.mode == "enforce" else f"would-{entry.action.word}"
    for detector in (*DETECTORS, "bomb"):
        if detector not in detail:
            continue
        metrics.LEAKS.inc((detector, verdict))
        log.info(
            events.LEAK_NOTICED,
            queue_id=queue_id,
            tenant=account.tenant.name,
            credential=account.credential.name,
            detector=detector,
            found_count=int(detail[detector]),
            verdict=verdict,
            files=[each.name_hash for each in found.files if detector in each.counts],
            why=sorted(set(found.unreadable)) if detector == "unreadable" else [found.bomb] if found.bomb else [],
        )
