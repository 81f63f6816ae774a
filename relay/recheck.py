"""Consent and suppression once more, directly before an attempt (CONSENT-12, UNSUB-9)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from relay.clock import Clock
from relay.consent.lookup import Lookup
from relay.counters.ring import LASTING_LEVEL
from relay.directory import Directory
from relay.mail.envelope import Account, Credential, Envelope, MailClass, SessionInfo, Stream, Submission, Tenant
from relay.observe import metrics
from relay.policy.facts import Fact, Facts
from relay.policy.pipeline import Pipeline
from relay.policy.verdict import Action
from relay.reputation.book import Book, Sender
from relay.spool.item import Item
from relay.store import restored
from relay.store.generation import CONSENT, Generation

NO_SESSION = SessionInfo("")


class Standing(NamedTuple):
    """The answer: who may not get it any more, by number and reason.

    `held`: why the whole mail must wait for a person; `waits`: why nobody can say now; `frozen`: it waits until its sender is
    released. Codes of reasons.toml.
    """

    gone: Sequence[tuple[int, str]] = ()
    held: str = ""
    waits: str = ""
    frozen: str = ""


GOES = Standing()
FROZEN = Standing(frozen="account.suspended")
PAUSED = Standing(held="reputation.paused")
NO_STORE = Standing(waits="consent.unavailable")
UNRELEASED_NOTE = "restored from a backup: its queue and all marketing wait for `zegel queue release`"
UNRELEASED = Standing(waits="restore.unreleased")


class Terms(NamedTuple):
    """`freeze_hours`: how long mail of a suspended account is kept, from its suspension on (THROTTLE-9). `book` tells how senders
    stand; None: all well.
    """

    freeze_hours: float
    book: Book | None = None


class Recheck:
    """Asks the same policies as RCPT did, over facts of now. Skipped while nothing changed in the store since intake."""

    def __init__(
        self,
        pipeline: Pipeline,
        lookup: Lookup,
        generation: Generation,
        directory: Callable[[], Directory],
        clock: Clock,
        terms: Terms,
    ) -> None:
        self._pipeline = pipeline
        self._lookup = lookup
        self._generation = generation
        self._directory = directory
        self._clock = clock
        self._book, self._freeze_seconds = terms.book, terms.freeze_hours * 3600.0
        self.marketing_waits = False
        """After a restore nobody here knows who left since the backup, until the operator releases what waits."""

    def look(self, data_dir: Path) -> None:
        """Whether a restore waits for its release; a few times a second. Cheap."""
        self.marketing_waits = restored.is_waiting(data_dir)

    @property
    def note(self) -> str:
        """What the operator should know, or ""."""
        return UNRELEASED_NOTE if self.marketing_waits else ""

    def __call__(self, item: Item, waiting: Sequence[int]) -> Standing:
        """What stands in the way now. It waits for a store to be read (PIPE-3), or frozen for a person (THROTTLE-9)."""
        directory = self._directory()
        if not directory.is_known:
            return NO_STORE
        since = self._since(item, directory)
        if since is not None:
            if self._is_kept(since):
                return FROZEN
            return Standing([(index, "account.freeze_ended") for index in waiting])
        if item.meta["class"] == MailClass.SYSTEM:
            return GOES
        if self.marketing_waits and _is_marketing(item):
            return UNRELEASED
        tenant = directory.tenant_by_id(item.tenant)
        if tenant is None:
            return Standing([(index, "account.gone") for index in waiting])
        if self._is_paused(item, tenant):
            return PAUSED
        generation = self._generation.read(CONSENT)
        if item.generation == generation and "tries" not in item.state:  # a later try: time alone ends a consent too
            return GOES
        try:
            standing = self._ask(item, _account(item, tenant), waiting)
        except (sqlite3.Error, OSError):
            metrics.FACTS_UNAVAILABLE.inc(("consents",))
            return NO_STORE
        if not standing.waits:
            item.generation = generation
        return standing

    def is_fresh(self, item: Item) -> bool:
        """What the last call said still holds: for copies that waited for a connection since."""
        directory = self._directory()
        if self._since(item, directory) is not None:
            return False
        if item.meta["class"] == MailClass.SYSTEM:
            return True
        if self.marketing_waits and _is_marketing(item):
            return False
        tenant = directory.tenant_by_id(item.tenant)
        if tenant is None or self._is_paused(item, tenant):
            return False
        return item.generation == self._generation.read(CONSENT)

    def _is_paused(self, item: Item, tenant: Tenant) -> bool:
        """Whether it waits because of how its sender stands; not where a person has let it go all the same."""
        if self._book is None or item.state.get("released") == PAUSED.held:
            return False
        return is_paused(self._book, item) and self._pipeline.enforces(
            "reputation", tenant, Stream(item.meta["stream"])
        )

    def is_frozen(self, tenant_id: int, credential: str) -> bool:
        """Whether what was frozen for this login still is: neither released nor over its time."""
        directory = self._directory()
        since = directory.suspended_since(tenant_id, credential)
        return not directory.is_known or (since is not None and self._is_kept(since))

    def _since(self, item: Item, directory: Directory) -> float | None:
        """When its sender was suspended; None where he is not, and for our own letters to him, which say so."""
        meta = item.meta
        if meta["class"] == MailClass.SYSTEM and not meta["purpose"]:  # a confirmation is his
            return None
        return directory.suspended_since(item.tenant, meta["credential"])

    def _is_kept(self, since: float) -> bool:
        return self._clock.now() < since + self._freeze_seconds

    def _ask(self, item: Item, account: Account, waiting: Sequence[int]) -> Standing:
        everyone = item.recipients
        addresses = [everyone[index].address for index in waiting]
        purpose = account.purpose.name if account.purpose else ""
        tenant = account.tenant.id
        values: dict[Fact, object] = {
            Fact.CONSENTS: self._lookup.consents(
                tenant, purpose, addresses, others=account.tenant.purposes if purpose else ()
            ),
            Fact.SUPPRESSIONS: self._lookup.suppressions(tenant, addresses, purpose=purpose),
            Fact.REQUESTS: self._lookup.requests(tenant, purpose, addresses),
        }
        facts = Facts(values)
        gone: list[tuple[int, str]] = []
        held = ""
        released = item.state.get("released", "")  # a person has seen this reason and let it go
        for index in waiting:
            mail = Submission(
                account,
                Envelope(item.meta["from"], (everyone[index],)),
                NO_SESSION,
                self._clock.now(),
                mail_class=MailClass(item.meta["class"]),
                confirm=bool(item.meta.get("confirm")),
                purpose=account.purpose,
            )
            ruling = self._pipeline.recheck(mail, facts)
            if ruling.action is Action.REJECT:
                gone.append((index, ruling.reason))
            elif ruling.action is Action.DEFER:
                return Standing(waits=ruling.reason)
            elif ruling.action is Action.HOLD and ruling.reason != released:
                held = ruling.reason
        return Standing(gone, held)


def _is_marketing(item: Item) -> bool:
    return bool(item.meta["stream"] == Stream.MARKETING or item.meta["class"] == MailClass.COMMERCIAL)


def is_paused(book: Book, item: Item) -> bool:
    """Whether the sender of a queued message is paused (REP-1, REP-2, THROTTLE-8)."""
    meta = item.meta
    sender = Sender(item.tenant, meta["credential"], meta["stream"], meta["domain"])
    return book.stands(sender).level >= LASTING_LEVEL


def _account(item: Item, tenant: Tenant) -> Account:
    """The account that sent it, as far as the policies look: a login that was revoked since has sent lawfully."""
    name, purpose = item.meta["credential"], item.meta["purpose"]
    credential = Credential(name, name, tenant.name, Stream(item.meta["stream"]), purpose)
    return Account(tenant, credential, tenant.purposes.get(purpose))
