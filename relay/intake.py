"""One submission from the end of data to its reply: the heart of the program.

Everything a mail needs to be judged is gathered, the policies decide, the limits are charged last, and only a durable
commit lets the answer be 250 (OUT-1). Replies are whole SMTP replies without CRLF.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from relay.counters.contract import DAY, SUDDEN
from relay.enqueue import House, make_item, message_id
from relay.gather import Counted, Gather
from relay.limits import WHOLE, Who, bite_key, charges, parks, part_of
from relay.mail.envelope import Account, Submission
from relay.mail.leaks.findings import NOTHING, Findings
from relay.mail.message import Malformed, Message
from relay.mail.placeholders import HEAVY_BYTES, has_placeholder
from relay.mail.reply import REASONS, reply_line
from relay.mail.visible import is_heavy, visible_addresses
from relay.observe import events, metrics
from relay.observe.log import log
from relay.owed import Owed
from relay.policy.facts import Allowance, Fact, Facts, Unavailable
from relay.policy.pipeline import Pipeline, unsettled
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action, Note, Stage
from relay.scan import tell
from relay.spool.contract import SpoolUnavailable
from relay.spool.item import Item, encode_id
from relay.spool.segment import LARGE_BYTES
from relay.trace import Trace, parked_by

NOBODY: frozenset[str] = frozenset()


class Queue(Protocol):
    """What intake uses of the spool."""

    def next_id(self) -> int: ...

    def commit(self, item: Item) -> asyncio.Future[None]: ...

    def pressure(self) -> str | None: ...


class Watcher(Protocol):
    """Told of every answer, for the captured mail of the demo and for notices. Must not block."""

    def refused(self, number: int, ruling: Ruling, reply: str) -> None: ...

    def accepted(self, item: Item, ruling: Ruling, notes: Sequence[Note]) -> None: ...

    def reports(self, item: Item, ruling: Ruling) -> list[Item]:
        """The reports to the sender for the recipients that were dropped, as messages for the queue (PIPE-1)."""
        ...


class AtRcpt(NamedTuple):
    """The answer to one RCPT. `settled`: the end of data need not ask again (PIPE-1). `alone`: he takes no company, since only
    the confirmation that he asked for may reach him, and that goes to one (CLASS-7).
    """

    refusal: str | None
    settled: bool = False
    alone: bool = False


class Intake:
    """Judges, commits, answers. One for a process."""

    def __init__(
        self,
        pipeline: Pipeline,
        gather: Gather,
        queue: Queue,
        trace: Trace,
        *,
        house: House,
        watcher: Watcher,
    ) -> None:
        self.pipeline = pipeline
        self.gather = gather
        self.queue = queue
        self.owed = Owed(queue)
        self.trace = trace
        self.house = house
        self.watcher = watcher
        self.is_barred: Callable[[Account], bool] = _nobody_is  # revoked or suspended since its message came

    # -- before the content -----------------------------------------------------------------------------------------

    def sender(self, mail: Submission) -> str | None:
        """The refusal of MAIL, or None."""
        ruling = self.pipeline.sender(mail)
        return None if ruling.passes else self._refusal_at_rcpt(ruling)

    def recipient(self, mail: Submission, *, alone: bool = False) -> AtRcpt:
        """The answer to one RCPT. `alone`: one who takes no company was taken before."""
        if alone:
            reason = "session.confirmation_alone"
            return AtRcpt(self._refusal_at_rcpt(Ruling(mail, action=Action.DEFER, reason=reason)))
        needs = self.pipeline.needs(mail)
        addresses = [recipient.address for recipient in mail.recipients]
        facts = self.gather.facts(needs, mail, addresses)
        ruling = self.pipeline.recipient(mail, facts)
        if ruling.awaits_confirmation:  # few do, so that their requests are read only now
            asked = self.gather.facts(frozenset((Fact.REQUESTS,)), mail, addresses)
            ruling = self.pipeline.recipient(mail, Facts({**facts.values, **asked.values}))
        if ruling.passes:
            return AtRcpt(None, ruling.settled, ruling.awaits_confirmation)
        return AtRcpt(self._refusal_at_rcpt(ruling))

    def _refusal_at_rcpt(self, ruling: Ruling) -> str:
        reply = ruling.reply(ruling.mail.account.tenant.language, self.house.public_url)
        self._count_refusal(ruling)
        self.trace.answered(self.queue.next_id(), ruling, ruling.action.word, reply=reply, message_id="", size=0)
        self.watcher.refused(0, ruling, reply)
        return reply

    # -- end of data ------------------------------------------------------------------------------------------------

    async def submit(self, mail: Submission, raw: bytes, settled: frozenset[str] = NOBODY) -> str:
        """The reply to the end of data; 250 only after the commit."""
        message = Message.split(raw)
        language = mail.account.tenant.language
        if isinstance(message, Malformed):
            return self.malformed(message, language)
        pressure = self.queue.pressure()
        if pressure is not None:
            return reply_line(pressure, (), language, self.house.public_url)
        if is_heavy(message):
            await asyncio.to_thread(visible_addresses, message)
        if message.size > HEAVY_BYTES:
            await asyncio.to_thread(has_placeholder, message)
        counted = Counted(self.queue.next_id(), _with_message(mail, message))
        is_taken = False
        try:
            reply = await self._answer(counted, message, settled)
            is_taken = reply.startswith("250")
        finally:
            if not (is_taken or counted.is_kept):  # refused, put off, or the client has gone: it costs nobody anything
                self.gather.give_back(counted)
        return reply

    async def _answer(self, counted: Counted, message: Message, settled: frozenset[str]) -> str:
        mail, number = counted.mail, counted.number
        language = mail.account.tenant.language
        generation = self.gather.generation()
        ruling, found = await self._ruled(number, mail, settled)
        if ruling.passes:
            ruling = await self._admitted(ruling, found, counted, settled)
        if ruling.passes and self.is_barred(mail.account):  # a scan, or Redis, may have taken its time (THROTTLE-9)
            return reply_line("account.suspended_open", (), language, self.house.public_url)
        message.texts = None  # every policy has read them
        if not ruling.passes:
            return self._refused(number, ruling)
        if ruling.mail.confirm:
            counted.confirmations = self.gather.claim_confirmation(ruling.mail)
        item = make_item(number, ruling, self.house)
        item.generation = generation
        try:
            # A 250 promises the reports too (PIPE-1), and no report leaves without its mail: each try would send it again.
            reports = self.watcher.reports(item, ruling) if ruling.dropped else []
            await self._kept(counted, item, reports)
        except asyncio.CancelledError:  # the client has gone, perhaps in the moment in which it became durable
            if counted.is_kept:
                self._accepted(item, ruling, f"250 2.0.0 queued as {item.queue_id}")
            raise
        except TimeoutError:
            log.error(events.QUEUE_FAILED, queue_id=item.queue_id)
            return reply_line("session.too_slow", (), language, self.house.public_url)
        except SpoolUnavailable:
            log.error(events.QUEUE_FAILED, queue_id=item.queue_id)
            return reply_line("queue.unavailable", (), language, self.house.public_url)
        reply = f"250 2.0.0 queued as {item.queue_id}"
        self._accepted(item, ruling, reply)
        return reply

    async def _admitted(
        self, ruling: Ruling, found: Findings | Unavailable | None, counted: Counted, settled: frozenset[str]
    ) -> Ruling:
        """Charged, and what the limits say of it."""
        mail = counted.mail
        allowance = self.charge(ruling, counted)
        if allowance is not None and not isinstance(allowance, Allowance):
            allowance = await allowance
            if ruling.mail.confirm:  # another may have been taken meanwhile, and there is room for few (CLASS-7)
                ruling = self._judged(*self._shaped(mail, settled), settled, found)
        counted.allowance = allowance
        if allowance is not None and allowance.sudden and mail.stream == "marketing":
            allowance = await self._measured(ruling.mail, allowance)
        return self.admit(ruling, allowance) if ruling.passes else ruling

    async def _kept(self, counted: Counted, item: Item, reports: Sequence[Item]) -> None:
        """The mail and its reports; of one whose body goes apart they are owed where they find no room."""
        apart = reports if len(item.raw or b"") > LARGE_BYTES else ()
        try:
            await self._committed(counted, item, *(() if apart else reports))
        finally:  # its client may have gone in that moment
            tried = self.owed.put(apart) if apart and counted.is_kept else ()
        if tried:
            await asyncio.wait(tried, timeout=self.house.reply_seconds)

    async def _committed(self, counted: Counted, *items: Item) -> None:
        """Durable, all in one transaction where there is one. Raises SpoolUnavailable or TimeoutError, and then none is sent.

        Who gives up waiting takes the message back: a cancelled commit is not sent (PIPE-6). By hand, since asyncio.timeout costs
        as much as a policy.
        """
        commits = [self.queue.commit(item) for item in items]
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            for commit in commits:
                commit.cancel()

        timer = asyncio.get_running_loop().call_later(self.house.reply_seconds, give_up)
        try:
            for commit in commits:
                await commit
            counted.is_kept = True
        except BaseException as error:
            for commit in commits:
                if not commit.cancel() and not commit.cancelled():
                    counted.is_kept = commit.exception() is None or counted.is_kept  # it is told by the first one
            if is_late and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def judge(self, mail: Submission, settled: frozenset[str] = NOBODY) -> Ruling:
        """Shape and judge, without charging or telling anything, in one go."""
        shaped, needs = self._shaped(mail, settled)
        found = self.gather.scan.here(shaped.mail, *self._scanned(shaped.mail)) if Fact.LEAKS in needs else None
        return self._judged(shaped, needs, settled, found)

    async def _ruled(
        self, number: int, mail: Submission, settled: frozenset[str]
    ) -> tuple[Ruling, Findings | Unavailable | None]:
        """The same, with time for a scan that is long (PIPE-6); what it found is written down, and comes with the ruling."""
        shaped, needs = self._shaped(mail, settled)
        if Fact.LEAKS not in needs:
            return self._judged(shaped, needs, settled, None), None
        terms, scan = self._scanned(shaped.mail), self.gather.scan
        if scan.is_quick(mail.message):
            found = scan.here(shaped.mail, *terms)
        else:
            found = await scan.apart(shaped.mail, *terms, self.house.reply_seconds)
        ruling = self._judged(shaped, needs, settled, found)
        if isinstance(found, Unavailable):
            metrics.FACTS_UNAVAILABLE.inc((Fact.LEAKS.value,))
        known = found.so_far if isinstance(found, Unavailable) else found
        if known is not None and known != NOTHING:
            tell(encode_id(number), ruling, known)
        return ruling, found

    def _shaped(self, mail: Submission, settled: frozenset[str]) -> tuple[Ruling, frozenset[Fact]]:
        """What the mail is, and the facts that are needed to judge it."""
        everyone = [recipient.address for recipient in mail.recipients]
        needs = self.pipeline.needs(mail, Stage.SHAPE)
        shaped = self.pipeline.shape(mail, self.gather.facts(needs, mail, everyone))
        if shaped.action is Action.REJECT:
            return shaped, frozenset()
        return shaped, self.pipeline.needs(shaped.mail, Stage.JUDGE, settled)

    def _scanned(self, mail: Submission) -> tuple[object, object]:
        """What the scan goes by: the settings of the policy that asks, and of the one that knows who is an outsider."""
        return self.pipeline.settings_of("leaks", mail), self.pipeline.settings_of("recipients", mail)

    def _judged(
        self, shaped: Ruling, needs: frozenset[Fact], settled: frozenset[str], found: Findings | Unavailable | None
    ) -> Ruling:
        mail = shaped.mail
        asked = [recipient.address for recipient in unsettled(mail, settled)]
        facts = self.gather.facts(needs, mail, asked)
        if found is not None:
            facts = Facts({**facts.values, Fact.LEAKS: found})
        return self.pipeline.judge(shaped, facts, settled)

    def charge(self, ruling: Ruling, counted: Counted) -> Allowance | Awaitable[Allowance] | None:
        """Charge the limits and write down which; None where nobody asks for them. A value where they are this node's, so that it
        costs no wait.
        """
        mail = ruling.mail
        settings = self.pipeline.settings_of("throttle", mail)
        if settings is None or Fact.ALLOWANCE not in self.pipeline.needs(mail, Stage.ADMIT):
            return None
        agreed = self.pipeline.enforces("consent", mail.account.tenant, mail.stream)
        costs = charges(mail, settings, self._percent(mail), consents=agreed, marks=self.gather.marks)
        counted.charges = costs
        park, most = parks(mail, settings)
        return self.gather.shared.take(costs, mail.now, once=counted.number, park=park, max_parked=most)

    async def _measured(self, mail: Submission, allowance: Allowance) -> Allowance:
        """A campaign that is larger than those before, beside the consents that are held for it (THROTTLE-7)."""
        times: int = getattr(self.pipeline.settings_of("throttle", mail), "sudden_times", 0)
        return await self.gather.agreed(mail, allowance, times)

    def _percent(self, mail: Submission) -> int:
        """The part of each limit that is left to a sender who stands as this one does (REP-1, REP-2)."""
        level = self.gather.standing(mail).level
        if not level or not self.pipeline.enforces("reputation", mail.account.tenant, mail.stream):
            return WHOLE
        return part_of(self.pipeline.settings_of("reputation", mail), level)

    def admit(self, ruling: Ruling, allowance: Allowance | None) -> Ruling:
        """The last word: now, later, or not."""
        values: dict[Fact, object] = {Fact.STANDING: self.gather.standing(ruling.mail)}
        if allowance is not None:
            values[Fact.ALLOWANCE] = allowance
        return self.pipeline.admit(ruling, Facts(values))

    def malformed(self, malformed: Malformed, language: str) -> str:
        """The reply to what is no message; counted by its rule."""
        metrics.REFUSALS.inc((REASONS[malformed.reason].rule,))
        log.info(events.MESSAGE_MALFORMED, reason=malformed.reason, detail=malformed.detail)
        return reply_line(malformed.reason, (), language, self.house.public_url)

    def _refused(self, number: int, ruling: Ruling) -> str:
        reply = ruling.reply(ruling.mail.account.tenant.language, self.house.public_url)
        self._count_refusal(ruling)
        message = ruling.mail.message
        self.trace.answered(
            number,
            ruling,
            "refused" if ruling.action is Action.REJECT else "deferred",
            reply=reply,
            message_id=message_id(message),
            size=message.size if message else 0,
        )
        self.watcher.refused(number, ruling, reply)
        return reply

    def _count_refusal(self, ruling: Ruling) -> None:
        rule = REASONS[ruling.reason].rule
        if ruling.mail.message is not None:
            count_message(ruling.mail.account, ruling.action.word)
        metrics.RECIPIENTS.inc(("refused",), max(1, len(ruling.mail.recipients)))
        metrics.REFUSALS.inc((rule,))
        if rule.startswith("THROTTLE"):
            self._bit(ruling.mail, dict(ruling.detail))
        log.info(
            events.POLICY_REJECTED,
            tenant=ruling.mail.account.tenant.name,
            credential=ruling.mail.account.credential.name,
            reason=ruling.reason,
            rule=rule,
            recipient_count=len(ruling.mail.recipients),
        )

    def _accepted(self, item: Item, ruling: Ruling, reply: str) -> None:
        word = "held" if ruling.action is Action.HOLD else "parked" if item.due > ruling.mail.now else "accepted"
        message = ruling.mail.message
        known_as = message_id(message) or next((e.value for e in ruling.edits if e.name == "Message-ID"), "")
        self.trace.answered(item.id, ruling, word, reply=reply, message_id=known_as, size=len(item.raw or b""))
        count_message(ruling.mail.account, "hold" if word == "held" else "accept")
        if word == "parked":
            parked = parked_by(ruling)
            self._bit(ruling.mail, dict(parked.detail) if parked is not None else {})
        elif ruling.reason.startswith("throttle.sudden"):
            self._seen_to_bite(ruling.mail, "credential", SUDDEN)
        metrics.RECIPIENTS.inc(("accepted",), len(ruling.recipients))
        if ruling.dropped:
            metrics.RECIPIENTS.inc(("dropped",), len(ruling.dropped))
        for policy in ruling.bypassed:
            metrics.POLICY_BYPASS.inc((policy,))
        self.watcher.accepted(item, ruling, ruling.notes)

    def _bit(self, mail: Submission, said: dict[str, str]) -> None:
        """A limit made mail wait: counted for the metrics, and for who asks which limit bites whom."""
        scope = said.get("scope", "credential")
        metrics.THROTTLED.inc((scope,))
        self._seen_to_bite(mail, scope, said.get("limit", ""))

    def _seen_to_bite(self, mail: Submission, scope: str, name: str) -> None:
        if not self.gather.dry:
            self.gather.shared.seen([bite_key(scope, name, Who.of(mail))], DAY, mail.now)


def count_message(account: Account, verdict: str) -> None:
    """One message was answered, or ended before it began: at MAIL, or since no recipient of it was taken."""
    metrics.MESSAGES.inc((account.credential.stream.value, verdict))
    metrics.TENANT_MESSAGES.inc((account.tenant.name, verdict))


def _nobody_is(account: Account) -> bool:
    return False


def _with_message(mail: Submission, message: Message) -> Submission:
    return Submission(
        mail.account, mail.envelope, mail.session, mail.now, message, mail.mail_class, purpose=mail.account.purpose
    )
