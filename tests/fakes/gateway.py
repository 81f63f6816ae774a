"""An in-memory gateway for the portal: keeps what ops would have changed, answers reads from it, can be told to fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from relay.consent import token as tokens
from relay.consent.subject import consent_text, person_hash
from relay.keyring import Keyring
from relay.mail.address import narrow
from relay.mail.apikey import ApiKey
from relay.mail.envelope import Credential, Purpose, Tenant
from relay.mail.face import NO_FACE, Face
from relay.policy.facts import ConsentState, PendingRequest, SuppressionEntry
from relay.portal.gateway import Mailed, Notice, OpRefused, OpUnavailable, OwnMessage, Told
from relay.store.outbox import Outbox

SHOP = Tenant(
    id=7,
    name="shop",
    legal_name="Tuinhuis BV",
    contact="privacy@shop.example",
    postal_address="Postbus 12\n1234 AB Utrecht",
    purposes={
        "newsletter": Purpose("newsletter", "", "tuin", "Tuinbrief", "Garden letter"),
        "offers": Purpose("offers", "", "tuin", "Aanbiedingen", "Offers"),
    },
)
OTHER = Tenant(id=8, name="other", legal_name="Ander & Co", purposes={"news": Purpose("news", title_nl="Nieuws")})
SHOP_KEY, OTHER_KEY, SUSPENDED_KEY = "zk_shop_0123456789", "zk_other_9876543210", "zk_gone_5555555555"
SUSPENDED = Tenant(id=9, name="gone", suspended=True)


class MemoryDirectory:
    is_known = True

    def __init__(self) -> None:
        self.tenants = {tenant.name: tenant for tenant in (SHOP, OTHER, SUSPENDED)}
        self.keys = {SHOP_KEY: "shop", OTHER_KEY: "other", SUSPENDED_KEY: "gone"}
        self.rights: dict[str, tuple[frozenset[str], float]] = {}  # of keys that may not all, or not for ever
        self.optins = {"k7f3newsletter": ("shop", "newsletter")}
        self.faces: dict[int, Face] = {}

    def tenant(self, name: str) -> Tenant | None:
        return self.tenants.get(name)

    def tenant_by_id(self, tenant_id: int) -> Tenant | None:
        return next((tenant for tenant in self.tenants.values() if tenant.id == tenant_id), None)

    def credentials_of(self, tenant: Tenant) -> Sequence[Credential]:
        return ()

    def optin(self, purpose_key: str) -> tuple[Tenant, Purpose] | None:
        found = self.optins.get(purpose_key)
        return (self.tenants[found[0]], self.tenants[found[0]].purposes[found[1]]) if found else None

    def face(self, tenant_id: int) -> Face:
        return self.faces.get(tenant_id, NO_FACE)

    def with_logo(self, name: str) -> Tenant | None:
        return next((tenant for tenant in self.tenants.values() if self.face(tenant.id).logo == name), None)

    def start_page(self, key: str) -> Tenant | None:
        return self.tenants.get(key.removeprefix("start-"))

    def api_caller(self, secret: str) -> ApiKey | None:
        tenant = self.tenants.get(self.keys.get(secret, ""))
        return None if tenant is None else ApiKey(tenant, "key", *self.rights.get(secret, ()))


class MemoryLookup:
    def __init__(self) -> None:
        self.states: dict[tuple[int, str, str], ConsentState] = {}
        self.pending: dict[tuple[int, str, str], PendingRequest] = {}
        self.stops: dict[tuple[int, str], tuple[SuppressionEntry, ...]] = {}

    def consents(self, tenant_id: int, purpose: str, addresses: Sequence[str]) -> dict[str, ConsentState | None]:
        return {address: self.states.get((tenant_id, purpose, narrow(address))) for address in addresses}

    def requests(self, tenant_id: int, purpose: str, addresses: Sequence[str]) -> dict[str, PendingRequest | None]:
        return {address: self.pending.get((tenant_id, purpose, narrow(address))) for address in addresses}

    def suppressions(
        self, tenant_id: int, addresses: Sequence[str], *, purpose: str = ""
    ) -> dict[str, tuple[SuppressionEntry, ...]]:
        return {address: self.stops.get((tenant_id, narrow(address)), ()) for address in addresses}


class MemoryGateway:
    """`ops` holds every op that was carried out; `failure` is raised instead, where it is set."""

    def __init__(self, folder: Path, *, capture: bool = True) -> None:
        self.keyring = Keyring.open(folder / "keys", create=True)
        self.lookup = MemoryLookup()
        self.outbox = Outbox(folder / "outbox.db", self.keyring) if capture else None
        self.ops: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, OpRefused] = {}
        self.failure: Exception | None = None
        self.used: list[tuple[str, str]] = []
        self.notices: list[Notice] = []
        self.hits: dict[str, int] = {}
        self.traces: dict[tuple[str, str], dict[str, Any]] = {}
        self.reasons: list[str] = []
        self.messages: dict[tuple[str, str], OwnMessage] = {}
        self.told: set[tuple[str, Told]] = set()
        self.mails: dict[tuple[str, str], list[Mailed]] = {}
        self.standing_rows: dict[str, list[dict[str, Any]]] = {}
        self.limit_rows: dict[str, list[dict[str, Any]]] = {}
        self._directory = MemoryDirectory()

    def directory(self) -> MemoryDirectory:
        return self._directory

    async def op(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        if name in self.refusals:
            raise self.refusals[name]
        self.ops.append((name, args))
        return {}

    def key_used(self, key: ApiKey) -> None:
        self.used.append((key.tenant.name, key.name))

    async def hit(self, key: str, *, limit: int, per_seconds: int) -> float:
        if self.hits.get(key, 0) >= limit:
            return float(per_seconds)
        self.hits[key] = self.hits.get(key, 0) + 1
        return 0.0

    async def submit_notice(self, notice: Notice) -> None:
        if self.failure is not None:
            raise self.failure
        self.notices.append(notice)

    async def message_trace(self, tenant: str, queue_id: str) -> dict[str, Any] | None:
        return self.traces.get((tenant, queue_id))

    async def own_messages(self, tenant: str, queue_ids: Sequence[str]) -> dict[str, OwnMessage]:
        if self.failure is not None:
            raise self.failure
        return {one: self.messages[tenant, one] for one in queue_ids if (tenant, one) in self.messages}

    async def mails_to(self, tenant: str, address: str) -> list[Mailed]:
        if self.failure is not None:
            raise self.failure
        return self.mails.get((tenant, narrow(address)), [])

    async def tell_outcomes(self, tenant: Tenant, told: Sequence[Told]) -> list[bool]:
        new = [(tenant.name, one) not in self.told for one in told]
        self.told |= {(tenant.name, one) for one in told}
        return new

    async def reputation(self, tenant: Tenant) -> list[dict[str, Any]]:
        return self.standing_rows.get(tenant.name, [])

    async def limits(self, tenant: Tenant) -> list[dict[str, Any]]:
        return self.limit_rows.get(tenant.name, [])

    async def metrics_text(self) -> str:
        if isinstance(self.failure, OpUnavailable):
            raise self.failure
        return "# HELP zegel_messages_total Messages.\n# TYPE zegel_messages_total counter\nzegel_messages_total 3\n"

    async def ready(self) -> list[str]:
        if self.failure is not None:
            raise self.failure
        return self.reasons

    async def notes(self) -> list[str]:
        return []

    def token(self, kind: tokens.TokenKind = tokens.TokenKind.UNSUBSCRIBE, *, address: str = "ann@example.net") -> str:
        """A token of the shop's newsletter for one person; for a confirmation the hash is that of the request."""
        narrow_hash = self.keyring.subject_hash(consent_text(SHOP.id, "newsletter", narrow(address)))
        hashed = narrow_hash if kind is tokens.TokenKind.CONFIRM else person_hash(self.keyring, SHOP.id, address)
        return tokens.make(
            self.keyring, kind, SHOP.id, purpose="newsletter", subject_hash=hashed, subscriber="customer-4711"
        )


def portal_settings(
    *,
    mode: str = "capture",
    expose: bool = False,
    outbox: bool = False,
    networks: Sequence[str] = (),
    rates: tuple[int, int] = (10_000, 10_000),
    allowed: Sequence[str] = (),
) -> Any:
    """The settings that the portal reads."""
    return SimpleNamespace(
        web=SimpleNamespace(
            public_url="https://mail.zegel.example", endpoint="here", expose_machine_routes=expose, expose_outbox=outbox
        ),
        api=SimpleNamespace(key_requests_per_minute=rates[0], tenant_requests_per_minute=rates[1]),
        server=SimpleNamespace(
            hostname="mail.zegel.example", language="nl", region="NL", private_networks=tuple(networks)
        ),
        delivery=SimpleNamespace(mode=mode),
        webhooks=SimpleNamespace(allowed_networks=tuple(allowed)),
        privacy=SimpleNamespace(
            delivery_log_days=28,
            security_log_days=90,
            consent_ip_months=24,
            campaign_addresses_days=28,
            campaign_invoice_days=92,
        ),
    )
