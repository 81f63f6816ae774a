"""What happens beside the road of a message: the delivery log, captured mail, notices to senders, gauges.

Nothing here may hold up a session or a delivery: writing to the outbox runs in threads, notices are tasks.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from relay.clock import Clock
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind
from relay.consent.token import make as make_token
from relay.counters.cell_rate import warm_up_day
from relay.counters.contract import SharedCounters
from relay.delivery.job import Rendered
from relay.delivery.outcome import Deferred, Delivered, Outcome
from relay.delivery.report import Reporter, Stamp, system_item
from relay.delivery.scheduler import Attempt
from relay.keyring import Keyring
from relay.mail import letters, notice
from relay.mail.address import narrow
from relay.mail.domain import with_a_labels
from relay.mail.envelope import Account, Submission
from relay.mail.message import Message
from relay.mail.notice import is_automatic
from relay.mail.visible import Unreadable, reply_addresses, visible_addresses
from relay.observe import events, metrics
from relay.observe.log import log
from relay.observe.scarcity import scarcity
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action, Note
from relay.serve.channel import Channel, OpRefused
from relay.serve.exposures import Exposures
from relay.serve.held_ops import hold_seconds, offers
from relay.serve.outcomes import Outcomes
from relay.serve.queue_ops import held_since
from relay.serve.refusals import Refusals
from relay.serve.used import Uses
from relay.settings.model import Settings
from relay.smtp.front import Gate, InFlight
from relay.spool.contract import SpoolUnavailable
from relay.spool.files import QueueFiles
from relay.spool.item import Fate, Item, encode_id, time_of
from relay.store.outbox import Entry, Outbox
from relay.store.threads import Threads
from relay.trace import Trace, whose

ONCE_SECONDS = 2 * 86_400.0  # a name of submit is of a day
ASKED = "recipients.ask"  # held until somebody chooses for its sender, not until a person reviews it (CC-10)
HOUR_SECONDS = 3600.0
SUDDEN = frozenset(("throttle.sudden", "throttle.sudden_campaign"))
FEW = 20  # a letter to more is bulk by their number, which shows in it and disguises nothing
ROUTINE = frozenset(("SMTP-22", "MSG-4"))  # what every mail gets; the page names the rule that changed more
HIDES = ("to_self", "undisclosed")  # nobody saw the others, so a reply to all would show them for the first time
RANK_NAMES = ("urgent", "bulk")  # of relay.spool.item.RANKS, for people
THREAD_WORTH = 2  # visible addresses or readers from which a message is remembered (CC-11)


class Watch:
    """Keeps relay.intake.Watcher and relay.delivery.hands.Recorder. One for a worker."""

    queue: QueueFiles
    shared: SharedCounters
    outcomes: Outcomes
    used: Uses

    def __init__(
        self, settings: Settings, keyring: Keyring, trace: Trace, reporter: Reporter, clock: Clock, *, owner: Channel
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._trace = trace
        self._reporter = reporter
        self._clock = clock
        self._owner = owner
        self._threads = Threads(settings.server.data_dir, keyring.subject_hashes, writable=False)
        capture = settings.delivery.mode == "capture"
        self._outbox = Outbox(settings.server.data_dir / "outbox.db", keyring) if capture else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusals = Refusals(settings, owner, clock, self.submit)
        self._exposures = Exposures(settings, owner.call, clock, self._later)

    # -- intake's answers -------------------------------------------------------------------------------------------

    def refused(self, number: int, ruling: Ruling, reply: str) -> None:
        if self._outbox is not None:
            self._keep(self._outbox.record_refusal, self._entry(number, ruling, reply, "data" if number else "rcpt"))
        self._count(ruling)
        mail = ruling.mail
        if ruling.action is Action.REJECT and mail.message is not None:
            self._remember(mail.account.tenant.id, mail.message, [], readers=len(mail.recipients))

    def accepted(self, item: Item, ruling: Ruling, notes: Sequence[Note]) -> None:
        if ruling.action is Action.HOLD or ruling.dropped:
            self._count(ruling)
        waits = ruling.action is Action.HOLD or item.due > ruling.mail.now
        if self._outbox is not None and waits:
            entry = self._entry(item.id, ruling, f"250 2.0.0 queued as {item.queue_id}", "data")
            self._keep(self._outbox.record_waiting, entry)
        if ruling.reason in SUDDEN:
            metrics.SIGNS.inc(("sudden_change",))
            self._later(self._alarm(ruling.mail.account, ruling.reason))
        if ruling.mail.bulk and ruling.mail.stream == "personal" and len(ruling.recipients) < FEW:
            metrics.SIGNS.inc(("bulk",))
            self._later(self._noticed(ruling.mail.account, "classification.bulk"))
        self._exposures.leaked(item, ruling)
        if notes or ruling.mail.confirm or ruling.mail.stream != "marketing":
            self._later(self._after(item, ruling, notes))

    def _count(self, ruling: Ruling) -> None:
        for rule in self._refusals.note(ruling):
            self._later(self._refusals.explain(ruling.mail.account.tenant, rule))

    def reports(self, item: Item, ruling: Ruling) -> list[Item]:
        return self._reporter.refused(item, ruling.dropped)

    async def _after(self, item: Item, ruling: Ruling, notes: Sequence[Note]) -> None:
        for note in notes:
            await self._notice(item, note, ruling.mail)
        if ruling.mail.confirm:
            for recipient in ruling.recipients:
                args = {"tenant": item.meta["tenant"], "purpose": item.meta["purpose"], "address": recipient.address}
                self._owner.tell("confirm.sent", args)
        is_held, hides = ruling.action is Action.HOLD, any(edit.kind in HIDES for edit in ruling.edits)
        message = ruling.mail.message
        if message is not None and (is_held or hides or item.meta["class"] in ("personal", "transactional")):
            everybody = reply_addresses(message) if hides else visible_addresses(message)
            got = {narrow(recipient.address) for recipient in item.recipients}
            shown = [] if is_held or isinstance(everybody, Unreadable) else sorted(everybody & got)
            self._remember(item.tenant, message, shown, readers=len(item.recipients))

    async def _alarm(self, account: Account, reason: str) -> None:
        """The mail of a login is held since it sends far more than ever: say so once a day (THROTTLE-7), and let no day of its
        warm-up in which that happened double (THROTTLE-3): such a day begins when the login was made.
        """
        tenant, name, now = account.tenant, account.credential.name, self._clock.now()
        if await self._noticed(account, reason) and tenant.contact:
            letter = letters.sudden(tenant, name, self._settings.server.hostname, now)
            whose = {"id": tenant.id, "name": tenant.name}
            args = {"recipient": tenant.contact, "language": tenant.language, "domain": letter.domain}
            await self.submit({**args, "tenant": whose, "raw": letter.raw})
        day = warm_up_day(account.credential.created_at, now)
        if await self._owner.call("notice.once", {"key": f"alarm:{name}:{day}"}):
            await self._owner.call("credential.alarm", {"name": name})

    async def _noticed(self, account: Account, reason: str) -> bool:
        """Log a sign of abuse of a login, the first time in each day."""
        name = account.credential.name
        is_first = bool(await self._owner.call("notice.once", {"key": f"{reason}:{name}"}))
        if is_first:
            log.warning(events.SIGN_NOTICED, tenant=account.tenant.name, credential=name, reason=reason)
        return is_first

    def _remember(self, tenant: int, message: Message, shown: Sequence[str], *, readers: int) -> None:
        """Who of the readers of a message saw each other (CC-11): whom it names and who got it as well.

        Whoever is only named has not seen the others; and where nobody got it, a refused mail would pay for the exposure of
        the next one. A mail that showed nobody is remembered too: an unknown parent would double the numbers for its replies.
        """
        reference = message.get(b"message-id")
        if not reference:
            return
        named = visible_addresses(message)
        if isinstance(named, Unreadable) or max(len(named), readers) < THREAD_WORTH:
            return
        key, hashes = self._threads.entry(tenant, reference, shown)
        self._owner.tell("thread.remember", {"key": key, "shown": hashes, "at": self._clock.now(), "tenant": tenant})

    async def _notice(self, item: Item, note: Note, mail: Submission) -> None:
        """Tell the sender: of mail that waits always (CC-10), else once a day (CC-18). Log near misses, incidents (CC-20)."""
        if note.kind in ("near_miss", "incident"):
            log.info(
                events.EXPOSURE, queue_id=item.queue_id, kind=note.kind, reason=note.reason, address_count=note.number
            )
            if note.kind == "incident":
                self._exposures.exposed(item, note, mail)
            return
        sender = item.meta["from"]
        if not sender or (mail.message is not None and is_automatic(mail.message)):
            return
        waits = note.kind == "held"
        key = {"key": f"{item.tenant}:{narrow(sender)}"}
        if waits or await self._owner.call("notice.once", key):
            number = self.queue.next_id()
            stamp = notice.Stamp(self._settings.server.hostname, self._clock.now(), encode_id(number).lower())
            until = item.meta["at"] + hold_seconds(self._settings.limits, item.held) if waits else 0.0
            contact, detail = mail.account.tenant.contact, tuple(item.meta.get("held_detail", {}).items())
            about = notice.About(item.queue_id, item.meta["at"], mail.message, note.number, until, contact, detail)
            if waits:
                about = about._replace(link=self._link(item, sender), offers=offers(item))
            language, url = item.meta["language"], self._settings.web.public_url
            raw = notice.build(note.reason, sender, about, stamp, language=language, url=url)
            own = Stamp(number, stamp.now, self._settings.server.hostname)
            made = system_item(own, item, sender, raw)
            self._trace.made(made)
            await self._commit(made)

    def _link(self, item: Item, sender: str) -> str:
        """Where the sender of a held message may choose what becomes of it, as long as it is held for this (CC-10)."""
        token = make_token(
            self._keyring,
            TokenKind.HELD,
            item.tenant,
            purpose=item.queue_id,
            subject_hash=person_hash(self._keyring, item.tenant, sender),
            subscriber=repr(held_since(item)),
        )
        return f"{self._settings.web.public_url.rstrip('/')}/held/{token}"

    async def submit(self, args: dict[str, Any]) -> dict[str, str]:
        """A mail of our own from the portal or the CLI (confirmation, digest): durable when this returns.

        Where `once` names it, it is queued for the first who asks on any gateway of the same counters; else `id` is "".
        """
        tenant, once, recipient = args["tenant"], args.get("once", ""), with_a_labels(args["recipient"])
        if once and (await self.shared.hit([once], ONCE_SECONDS, self._clock.now()))[0] > 1:
            return {"id": ""}
        number = self.queue.next_id()
        meta = {
            "tenant_id": tenant["id"],
            "tenant": tenant["name"],
            "credential": "",
            "stream": "transactional",
            "class": "system",
            "purpose": args.get("purpose", ""),
            "from": "",
            "rcpt": [[recipient, ["NEVER"], ""]],
            "utf8": not recipient.isascii(),
            "edits": [],
            "domain": args.get("domain", ""),
            "language": args.get("language", "nl"),
            "at": self._clock.now(),
        }
        if args.get("alarm"):
            meta["alarm"] = True  # counted by what becomes of it, and no reason for another alarm
        raw = args["raw"].encode("utf-8")
        item = Item(number, meta, raw, due=0.0)
        try:
            await self.queue.commit(item)
        except SpoolUnavailable:
            raise OpRefused("storage", "the queue cannot be written; try again") from None
        return {"id": item.queue_id}

    async def _commit(self, item: Item) -> None:
        try:
            await self.queue.commit(item)
        except SpoolUnavailable:
            log.error(events.QUEUE_FAILED, queue_id=item.queue_id)

    # -- delivery's outcomes ----------------------------------------------------------------------------------------

    def concluded(
        self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, recoded: Collection[str] = ()
    ) -> None:
        self.outcomes.saw(item, outcomes, gave_up=gave_up)
        now = self._clock.now()
        self.used.saw(item, outcomes, now)
        recipients = item.recipients
        rows = [
            [recipients[index].address, _word(outcome, item.fates[index]), outcome.status, outcome.reply, outcome.host]
            for index, outcome in outcomes.items()
        ]
        word = "held" if item.held else "attempted" if Fate.WAITING in item.fates else "finished"
        said: dict[str, Any] = {"reason": item.held} if item.held else {}
        if recoded:
            said["edits"] = [("recode", "", rule) for rule in sorted(recoded)]
        tries = item.state.get("tries", 0)
        said |= {
            "tenant": item.meta["tenant"],
            "mailing": item.mailing,
            "tries": tries,
            "due": item.due,
            "gave_up": gave_up,
        }
        self._trace.say(item.id, word, now, outcomes=rows, **said)

    def postponed(self, item: Item, why: str) -> None:
        self._trace.say(item.id, "postponed", self._clock.now(), **whose(item), reason=why, due=item.due)

    def keep_copy(self, attempt: Attempt, rendered: Rendered) -> None:
        """One captured copy; in a thread."""
        assert self._outbox is not None
        item = attempt.item
        edits = item.edits
        self._outbox.record_copy(
            Entry(
                queue_id=item.queue_id,
                at=self._clock.now(),
                tenant=item.meta["tenant"],
                credential=item.meta["credential"],
                stream=item.meta["stream"],
                verdict="accept",
                mail_class=item.meta["class"],
                rule=next((edit.rule for edit in edits if edit.rule not in ROUTINE), ""),
                reply=f"250 2.0.0 queued as {item.queue_id}",
                mail_from=item.meta["from"],
                recipients=tuple(recipient.address for recipient in attempt.recipients),
                incoming=item.raw or b"",
                outgoing=rendered.head + bytes(rendered.body),
                edits=tuple(edits),
                stage="delivery",
            )
        )

    def _entry(self, number: int, ruling: Ruling, reply: str, stage: str) -> Entry:
        mail = ruling.mail
        waits = ruling.action is Action.HOLD
        parked = (entry.reason for entry in ruling.trace if ruling.due and entry.policy == "throttle")
        reason = ruling.reason or next(parked, "")
        said = next((entry for entry in ruling.trace if reason and entry.reason == reason), None)
        return Entry(
            queue_id=encode_id(number) if number else "",
            at=mail.now,
            tenant=mail.account.tenant.name,
            credential=mail.account.credential.name,
            stream=mail.stream.value,
            verdict="hold" if waits else "parked" if ruling.passes else ruling.action.word,
            mail_class=mail.mail_class.value,
            rule=said.rule if said else "",
            reason=said.reason if said else "",
            reply=reply,
            mail_from=mail.envelope.mail_from,
            recipients=tuple(recipient.address for recipient in mail.envelope.recipients),
            incoming=mail.message.raw if mail.message else b"",
            edits=ruling.edits,
            trace=tuple(entry.as_json() for entry in ruling.trace),
            due=ruling.due,
            stage=stage,
        )

    def _keep(self, record: Any, entry: Entry) -> None:
        self._later(self._in_thread(record, entry))

    async def _in_thread(self, record: Any, entry: Entry) -> None:
        try:
            await asyncio.to_thread(record, entry)
        except sqlite3.Error:
            metrics.RECORDS_LOST.inc(("outbox",))
            log.error(events.OUTBOX_FAILED, queue_id=entry.queue_id)

    # -- gauges -----------------------------------------------------------------------------------------------------

    async def measure_age(self, queue: QueueFiles) -> None:
        """Set the ages of what waits and of what is held; reads a few queue files, in a thread."""
        now = self._clock.now()
        ages = [_age(oldest, now) for oldest in await queue.shelf.oldest()]
        for rank, age in zip(RANK_NAMES, ages, strict=True):
            metrics.QUEUE_AGE.set(age, (rank,))
        metrics.QUEUE_OLDEST.set(max(ages), ("capture" if self._outbox is not None else "smarthost",))
        metrics.HELD_OLDEST.set(_age(min(queue.held, default=0), now))

    def measure(self, queue: QueueFiles, gate: Gate, in_flight: InFlight) -> None:
        """Set the gauges of this worker."""
        metrics.QUEUE_MESSAGES.set(queue.ready, ("ready",))
        metrics.QUEUE_MESSAGES.set(queue.backlog.later, ("waiting",))
        metrics.QUEUE_MESSAGES.set(len(queue.in_flight), ("in_flight",))
        metrics.QUEUE_MESSAGES.set(queue.backlog.frozen, ("frozen",))
        metrics.HELD_MESSAGES.set(len(queue.held))
        metrics.CORRUPT_ROWS.set(queue.corrupt)
        metrics.QUEUE_STOPPED.set(queue.pressure() is not None)
        metrics.SESSIONS.set(len(gate.sessions))
        metrics.IN_FLIGHT_BYTES.set(in_flight.used)

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not scarcity.met(task.exception()):
            metrics.CRASHES.inc(("watch",))
            log.error(events.WATCH_CRASHED, kind=type(task.exception()).__name__)

    async def drain(self) -> None:
        """Returns when nothing is being written."""
        self._exposures.close()
        await self._refusals.flush()
        while self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)


def _age(number: int, now: float) -> float:
    """Seconds since the message with this id was accepted; 0.0 for none."""
    return max(0.0, now - time_of(number)) if number else 0.0


def _word(outcome: Outcome, fate: Fate) -> str:
    if isinstance(outcome, Delivered):
        return "delivered"
    if isinstance(outcome, Deferred):
        return "expired" if fate is Fate.FAILED else "deferred"
    return "failed"
