"""Consent and suppression once more, directly before an attempt (CONSENT-12)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from relay.clock import Clock
from relay.consent.lookup import Lookup
from relay.directory import Directory
from relay.mail.envelope import Account, Credential, Envelope, MailClass, SessionInfo, Stream, Submission
from relay.observe import metrics
from relay.policy.facts import Fact, Facts
from relay.policy.pipeline import Pipeline
from relay.policy.verdict import Action
from relay.spool.item import Item
from relay.store.generation import CONSENT, Generation

NO_SESSION = SessionInfo("")


Gone = tuple[int, str]
"""Number of a recipient who may not get the mail any more, and the reason."""


class Recheck:
    """Asks the same policies as RCPT did, over facts of now. Skipped while nothing changed in the store since intake."""

    def __init__(
        self,
        pipeline: Pipeline,
        lookup: Lookup,
        generation: Generation,
        directory: Callable[[], Directory],
        clock: Clock,
    ) -> None:
        self._pipeline = pipeline
        self._lookup = lookup
        self._generation = generation
        self._directory = directory
        self._clock = clock

    def __call__(self, item: Item, waiting: Sequence[int]) -> list[Gone] | None:
        """Who may not get it any more; None where the store cannot be read, and then the mail waits (PIPE-3)."""
        generation = self._generation.read(CONSENT)
        if item.generation == generation or item.meta["class"] == MailClass.SYSTEM:
            return []
        account = self._account(item)
        if account is None:
            return [(index, "account.gone") for index in waiting]
        if account.tenant.suspended:
            return None
        try:
            gone = self._ask(item, account, waiting)
        except (sqlite3.Error, OSError):
            metrics.FACTS_UNAVAILABLE.inc(("consents",))
            return None
        item.generation = generation
        return gone

    def _account(self, item: Item) -> Account | None:
        """The account that sent it, as far as the policies look: a login that was revoked since has sent lawfully."""
        tenant = self._directory().tenant_by_id(item.tenant)
        if tenant is None:
            return None
        name = item.meta["credential"]
        credential = Credential(name, name, tenant.name, Stream(item.meta["stream"]), item.meta["purpose"])
        return Account(tenant, credential, tenant.purposes.get(item.meta["purpose"]))

    def _ask(self, item: Item, account: Account, waiting: Sequence[int]) -> list[Gone] | None:
        everyone = item.recipients
        addresses = [everyone[index].address for index in waiting]
        purpose = account.purpose.name if account.purpose else ""
        tenant = account.tenant.id
        values: dict[Fact, object] = {
            Fact.CONSENTS: self._lookup.consents(tenant, purpose, addresses),
            Fact.SUPPRESSIONS: self._lookup.suppressions(tenant, addresses, purpose=purpose),
            Fact.REQUESTS: self._lookup.requests(tenant, purpose, addresses),
        }
        facts = Facts(values)
        gone: list[Gone] = []
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
                return None
        return gone
