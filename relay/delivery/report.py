"""From outcomes to the reports that the sender gets, as messages for our own queue (OUT-12, PIPE-1, PIPE-2, SMTP-14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.clock import Clock
from relay.delivery.outcome import Delivered, Failed, Outcome, Scope
from relay.mail import dsn
from relay.mail.domain import with_a_labels
from relay.mail.envelope import Recipient
from relay.mail.reply import REASONS
from relay.mail.words import decode_words
from relay.spool.item import Item, encode_id

HOLD_ENDS = ("queue.hold_expired", "queue.hold_refused", "queue.hold_withdrawn")
BY_HAND = "queue.held_by_operator"  # says nothing of the mail itself
EXPIRED = Failed("4.4.7", "delivery time expired", "")
NO_NEXT_HOST = "delivery.no_next_host"
BEFORE_US = Delivered("2.0.0", "", "")  # by a process that has ended: neither the answer nor the time is known


def owed(item: Item) -> dict[int, Outcome]:
    """Deliveries that the sender asked to hear of (NOTIFY=SUCCESS) and no durable report tells of yet."""
    return dict.fromkeys(item.state.get("owed", ()), BEFORE_US)


class Reporter:
    """Makes delivery reports. `next_id` gives queue ids; `host` is the gateway's name, `public_url` leads to its pages."""

    def __init__(
        self,
        host: str,
        next_id: Callable[[], int],
        clock: Clock,
        *,
        public_url: str = "",
        made: Callable[[Item], None] = lambda report: None,
    ) -> None:
        """`made` hears of every report, for the delivery log."""
        self._host = host
        self._public_url = public_url.rstrip("/")
        self._next_id = next_id
        self._made = made
        self._clock = clock

    def __call__(self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, until: float = 0.0) -> list[Item]:
        """Reports for one concluded attempt; empty when nobody is to be told. See relay.delivery.hands.Reporter."""
        fates = []
        recipients = item.recipients
        for index, outcome in outcomes.items():
            fate = self._fate(item, recipients[index], outcome, gave_up=gave_up, until=until)
            if fate is not None:
                fates.append(fate)
        return self._items(item, fates)

    def refused(self, item: Item, refused: Sequence[tuple[Recipient, str]]) -> list[Item]:
        """The report for recipients that a policy refused in partial mode (PIPE-1), or that a hold ended for (PIPE-2)."""
        fates = [self._ours(item, recipient, "5.7.1", reason) for recipient, reason in refused]
        return self._items(item, fates)

    def _fate(
        self, item: Item, recipient: Recipient, outcome: Outcome, *, gave_up: bool, until: float
    ) -> dsn.Fate | None:
        now, said = self._clock.now(), ""
        if isinstance(outcome, Delivered):
            if "SUCCESS" not in recipient.notify or outcome.dsn:
                return None
            action = dsn.Action.RELAYED
            now = 0.0 if outcome is BEFORE_US else now
        elif isinstance(outcome, Failed):
            if outcome.reply in REASONS:
                return self._ours(item, recipient, outcome.status, outcome.reply)
            action = dsn.Action.FAILED
        elif gave_up or until:
            action = dsn.Action.EXPIRED if gave_up else dsn.Action.DELAYED
            if outcome.scope is Scope.HOST:  # it never came as far as somebody who could say something of the recipient
                said = REASONS[NO_NEXT_HOST].sentence(str(item.meta.get("language", "nl"))) + "."
        else:
            return None
        return dsn.Fate(recipient, action, outcome.status, outcome.reply, outcome.code, outcome.host, now, until, said)

    def _ours(self, item: Item, recipient: Recipient, status: str, reason: str) -> dsn.Fate:
        """A refusal of our own: the sender reads its sentence in his language, and where to read more (OPS-5)."""
        rule, english = _words(item, reason, "en")
        sentence = f"{_words(item, reason, str(item.meta.get('language', 'nl')))[1]}. {self._public_url}/why/{rule}"
        return dsn.Fate(recipient, dsn.Action.FAILED, status, f"[{rule}] {english}", said=sentence)

    def _items(self, item: Item, fates: list[dsn.Fate]) -> list[Item]:
        if not fates:
            return []
        message = item.parsed()
        subject = message.get(b"subject")
        original = dsn.Original(
            item.meta["from"],
            message,
            item.meta["at"],
            item.meta.get("ret", ""),
            item.meta.get("envid", ""),
            decode_words(subject) if subject else "",
        )
        number = self._next_id()
        stamp = dsn.Stamp(self._host, self._clock.now(), encode_id(number).lower())
        report = dsn.build(original, fates, stamp, language=str(item.meta.get("language", "nl")))
        if report is None:
            return []
        made = system_item(Stamp(number, stamp.now, self._host), item, report.recipient, report.raw)
        self._made(made)
        return [made]


def _words(item: Item, reason: str, language: str) -> tuple[str, str]:
    """Rule and sentence of a refusal; where a hold ended, of what the mail was held for, and then how it ended."""
    said = REASONS[reason]
    held = item.held if reason in HOLD_ENDS else ""
    if held in ("", BY_HAND):
        return said.rule, said.sentence(language)
    cause = REASONS[held].cause(language, item.meta.get("held_detail", {}).items())
    return REASONS[held].rule, f"{cause}. {said.sentence(language)}"


class Stamp(NamedTuple):
    """Of a message of our own: its queue id, when, and the host whose name it bears."""

    number: int
    now: float
    host: str


def system_item(stamp: Stamp, about: Item, recipient: str, raw: bytes) -> Item:
    """A message of our own for the queue: null return path, no reports about it, the tenant's language kept."""
    recipient = with_a_labels(recipient)
    meta = {
        "tenant_id": about.meta["tenant_id"],
        "tenant": about.meta["tenant"],
        "credential": "",
        "stream": "transactional",
        "class": "system",
        "purpose": "",
        "from": "",
        "rcpt": [[recipient, ("NEVER",), ""]],
        "utf8": not recipient.isascii(),
        "edits": [],
        "domain": stamp.host,
        "language": about.meta.get("language", "nl"),
        "at": stamp.now,
        "about": about.queue_id,
    }
    if about.mailing is not None:
        meta["mailing"] = about.mailing.name  # where the delivery log keeps that somebody was told
    return Item(stamp.number, meta, raw, due=stamp.now)
