"""What an operation works with: the open transaction, the keys, the clock, who asks, and the note for the audit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from relay.consent.admit import Admission
from relay.consent.erased import Deleted, Erased
from relay.consent.ledger import Ledger
from relay.consent.record import Rules
from relay.consent.subject import consent_text, person_text
from relay.keyring import Keyring
from relay.mail.address import narrow, wide
from relay.owner.error import OwnerError
from relay.policy.catalogue import Catalogue
from relay.store.schema import audit, purpose, tenant

Result = dict[str, Any] | list[dict[str, Any]]
"""What an operation answers: JSON-able, one object or a list of objects."""

TenantRow = sa.Row[tuple[Any, ...]]


class Person(NamedTuple):
    """Somebody under one tenant: hashes under every live key, current first. `address` is "" where only a token is known.

    `subscriber` is the tenant's own id for him, where the token has one (X-Zegel-Subscriber). `exact` are hashes of the one
    spelling of the address whose reader he was proven to be: only what is held under it is his to end (relay.owner.spelling).
    `until` is when he moved away from the address: what was recorded later is of who reads it since (relay.owner.earlier).
    """

    tenant_id: int
    address: str
    hashes: list[bytes]
    subscriber: str = ""
    exact: tuple[bytes, ...] = ()
    until: float = math.inf

    @property
    def has_left(self) -> bool:
        """Whether he moved away from this address."""
        return self.until < math.inf


class Tools(NamedTuple):
    """What lasts from call to call. `catalogue` are the policies of this gateway; loaded when it is first asked."""

    keyring: Keyring
    ledger: Ledger
    admission: Admission
    catalogue: Callable[[], Catalogue]
    uses: Path  # folder of the use records


class Desk:
    """One call. Lives as long as its transaction."""

    def __init__(self, connection: sa.Connection, tools: Tools, *, now: float, actor: str) -> None:
        self.connection = connection
        self.keyring, self.ledger, self.admission, self.catalogue, self.uses = tools
        self.now = now
        self.actor = actor
        self.tenant_id = 0
        self.gone: list[Erased | Deleted] = []  # for the list that lies outside every backup, after the commit
        self._notes: dict[str, object] = {}

    def note(self, **detail: object) -> None:
        """Say in the audit what this call did. Never an address: its hash (see `Person`)."""
        self._notes.update(detail)

    def tenant(self, name: str, *, gone: bool = False) -> TenantRow:
        """The tenant's row; with `gone` also that of one who was deleted, for what is kept of it (GDPR-18).

        Raises OwnerError where there is none.
        """
        row = self.connection.execute(sa.select(tenant).where(tenant.c.name == name)).first()
        if row is None:
            raise OwnerError("tenant.unknown", "there is no tenant of that name: see `zegel tenant list`")
        if row.deleted_at and not gone:
            raise OwnerError("tenant.deleted", f"tenant {name} was deleted; its proof is kept: see docs/leaving.md")
        self.tenant_id = row.id
        return row

    def purpose(self, owner: TenantRow, name: str) -> TenantRow:
        """A purpose of the tenant. Raises OwnerError where there is none."""
        table = purpose.c
        row = self.connection.execute(sa.select(purpose).where(table.tenant_id == owner.id, table.name == name)).first()
        if row is None:
            raise OwnerError(
                "purpose.unknown", f"tenant {owner.name} has no such purpose: make it with `zegel purpose add`"
            )
        return row

    def rules(self, owner: TenantRow) -> Rules:
        """What the tenant may record (CONSENT-5 to -9); the policy asks the same switches (`relay.directory`)."""
        rows = self.connection.execute(
            sa.select(purpose.c.name, purpose.c.controller).where(purpose.c.tenant_id == owner.id)
        )
        return Rules(
            purposes={name: controller or legal_name(owner) for name, controller in rows},
            kind=owner.kind,
            allow_soft_optin=owner.allow_soft_optin,
            allow_third_party=owner.allow_third_party,
            allow_published=owner.allow_published,
            allow_non_eea=owner.allow_non_eea,
            free_tier_reason=owner.free_tier_reason,
            german_proof=owner.german_proof,
        )

    def person(self, tenant_id: int, address: str) -> Person:
        """Who is behind an address, folded widely (CONSENT-16)."""
        hashes = self.keyring.subject_hashes(person_text(tenant_id, wide(address)))
        self.note(subject=hashes[0].hex())
        return Person(tenant_id, address, hashes)

    def proven(self, tenant_id: int, address: str) -> Person:
        """The same, of whom a code has shown that he reads the mail of this spelling and of no other."""
        exact = self.keyring.subject_hashes(person_text(tenant_id, narrow(address)))
        return self.person(tenant_id, address)._replace(exact=tuple(exact))

    def is_own(self, person: Person, address: str) -> bool:
        """Whether an address is the very one that was proven; any is, where none was."""
        hashes = self.keyring.subject_hashes(person_text(person.tenant_id, narrow(address)))
        return not person.exact or not set(person.exact).isdisjoint(hashes)

    def consent_keys(self, tenant_id: int, purpose_name: str, address: str) -> list[bytes]:
        """Keys of one consent under every live hash key, current first; folded narrowly (CONSENT-16)."""
        return self.keyring.subject_hashes(consent_text(tenant_id, purpose_name, narrow(address)))

    def write_audit(self, op: str) -> None:
        """Who did what, when (GDPR-2)."""
        detail = orjson.dumps(self._notes).decode()
        self.connection.execute(
            audit.insert().values(at=self.now, actor=self.actor, op=op, tenant_id=self.tenant_id, detail=detail)
        )


def legal_name(owner: TenantRow) -> str:
    """The legal entity behind a tenant; its plain name where nobody gave one."""
    return str(owner.legal_name or owner.name)
