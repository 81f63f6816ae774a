"""What a worker refuses and holds, counted for the tenant's contact; and the first refusal of a kind explained to him (OPS-6).

Counting is a dictionary; now and then what has come together goes to the owner, who keeps it for the digest (relay.serve.digest).
The owner says who is told of which rule for the first time, so that of all workers one writes, and once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from relay.clock import Clock
from relay.mail import digest
from relay.mail.envelope import MailClass, Tenant
from relay.mail.reply import REASONS
from relay.observe import events, metrics
from relay.observe.log import log
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action
from relay.portal.explained import rules
from relay.serve.channel import DOWN_CODES, Channel, OpRefused, OpUnavailable
from relay.settings.model import Settings

FLUSH_SECONDS = 5.0
MAX_ROWS = 500  # handed over at once
MAX_KEYS = 20_000  # tenants times rules, while the owner is away
Submit = Callable[[dict[str, Any]], Any]
"""relay.serve.watch.Watch.submit: a mail of our own, durable when it returns. Raises OpRefused."""


class Refusals:
    """One for a worker. `note` may be called for every refusal; it never waits."""

    def __init__(self, settings: Settings, owner: Channel, clock: Clock, submit: Submit) -> None:
        self._settings = settings
        self._owner = owner
        self._clock = clock
        self._submit = submit
        self._counts: dict[tuple[int, str, str], list[float]] = {}  # count, and the time of the first
        self._explained: set[tuple[int, str]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        rules()  # reads a file: not when a session waits

    def note(self, ruling: Ruling) -> list[str]:
        """Count what was refused and held; the rules that its contact may have to hear of for the first time.

        What has no sender's address, as bounces have none, counts and is not explained: nobody learns from it.
        """
        mail, tenant = ruling.mail, ruling.mail.account.tenant
        if mail.mail_class is MailClass.SYSTEM or ruling.action is Action.DEFER:
            return []
        refused = {REASONS[reason].rule for _, reason in ruling.dropped}
        if ruling.action is Action.REJECT:
            refused = {REASONS[ruling.reason].rule}
        elif ruling.action is Action.HOLD:
            self._count(tenant.id, REASONS[ruling.reason].rule, "held")
        for rule in refused:
            self._count(tenant.id, rule, "refused")
        if not mail.envelope.mail_from or not tenant.contact or not tenant.refusal_letters:
            return []
        new = [rule for rule in refused if (tenant.id, rule) not in self._explained and rule in rules()]
        if len(self._explained) < MAX_KEYS:
            self._explained.update((tenant.id, rule) for rule in new)
        return new

    async def explain(self, tenant: Tenant, rule: str) -> None:
        """Write to the contact, unless he has been told of this rule before. What fails is tried with the next refusal."""
        key = {"tenant_id": tenant.id, "rule": rule}
        try:
            if not (await self._owner.call("refusal.first", key))["first"]:
                return
        except (OpRefused, OpUnavailable):
            self._explained.discard((tenant.id, rule))
            return
        now, server = self._clock.now(), self._settings.server
        stamp = digest.Stamp(server.hostname, now, f"first.{tenant.id}.{rule.lower()}.{int(now)}", self._url)
        reader = digest.Reader(tenant.name, tenant.legal_name or tenant.name, tenant.contact, tenant.language)
        raw = digest.first_refusal(reader, rule_for(rule, tenant.language), now, stamp)
        try:
            await self._submit(letter_args(tenant.id, reader, server.hostname, raw))
        except OpRefused:
            self._explained.discard((tenant.id, rule))
            self._owner.tell("refusal.unsaid", key)
            return
        metrics.CONTACT_LETTERS.inc(("first",))
        log.info(events.REFUSAL_EXPLAINED, tenant=tenant.name, rule=rule)

    @property
    def _url(self) -> str:
        return self._settings.web.public_url.rstrip("/")

    def _count(self, tenant: int, rule: str, kind: str) -> None:
        entry = self._counts.get((tenant, rule, kind))
        if entry is not None:
            entry[0] += 1
        elif len(self._counts) < MAX_KEYS:
            self._counts[tenant, rule, kind] = [1, self._clock.now()]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._flushing = asyncio.get_running_loop().create_task(self.flush())

    async def flush(self) -> None:
        """Hand over what was counted; what the owner does not take is kept for the next time."""
        counts, self._counts = self._counts, {}
        waiting = list(counts.items())
        while waiting:
            part, waiting = waiting[:MAX_ROWS], waiting[MAX_ROWS:]
            rows = [
                {"tenant_id": tenant, "rule": rule, "kind": kind, "count": int(count), "at": at}
                for (tenant, rule, kind), (count, at) in part
            ]
            try:
                await self._owner.call("refusals.add", {"rows": rows})
            except (OpRefused, OpUnavailable) as error:
                log.error(events.STORE_FAILED, kind=type(error).__name__)
                is_down = isinstance(error, OpUnavailable) or error.code in DOWN_CODES
                self._give_back([*part, *waiting] if is_down else waiting)
                return

    def _give_back(self, counted: list[tuple[tuple[int, str, str], list[float]]]) -> None:
        for key, (count, at) in counted:
            entry = self._counts.setdefault(key, [0, at])
            entry[0], entry[1] = entry[0] + count, min(entry[1], at)


def rule_for(rule: str, language: str) -> digest.Rule:
    """A rule as its page explains it. Raises KeyError for one that has none."""
    words = rules()[rule].words(language)
    return digest.Rule(rule, words.title, words.what, words.why, words.do)


def letter_args(tenant_id: int, reader: digest.Reader, host: str, raw: bytes) -> dict[str, Any]:
    """Arguments of `worker.submit` for a letter to a contact."""
    return {
        "tenant": {"id": tenant_id, "name": reader.name},
        "recipient": reader.contact,
        "language": reader.language,
        "domain": host,
        "raw": raw.decode(),
    }
