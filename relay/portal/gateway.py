"""What the portal needs of the rest of the gateway: one protocol, so that pages and API do no writes of their own.

`relay.serve` hands in the real one: ops go to the owner over its socket, reads to read-only connections. Tests use
`tests/fakes/gateway.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from relay.mail.apikey import ApiKey
from relay.mail.envelope import Credential, Purpose, Tenant
from relay.mail.face import Face
from relay.policy.facts import ConsentState, PendingRequest, SuppressionEntry
from relay.store.outbox import Stored


class OpRefused(Exception):
    """The owner looked at the op and said no; nothing changed. `text` is for the one who asked and holds no secret."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code)
        self.code = code
        self.text = text


class OpUnavailable(Exception):
    """The owner could not be asked or did not answer in time: nothing may be taken as done."""


class Notice(NamedTuple):
    """A mail of our own to a person (class system). `link` is the one thing he can do with it, or the code in it."""

    kind: str  # optin.confirm | my.code | my.move
    tenant: str
    purpose: str
    recipient: str
    language: str  # nl | en
    link: str
    message_id: str = ""  # where it was said before, as evidence (CONSENT-8)
    way: str = ""  # the other way to the same: a link beside a code


class OwnMessage(NamedTuple):
    """A message of the delivery log: whose it was, to whom it went (addresses folded narrowly), and who has an answer."""

    queue_id: str
    credential: str
    stream: str
    domain: str
    recipients: frozenset[str]
    failed: frozenset[str]  # refused for good by a host
    ended: frozenset[str]  # these, and who got it


class Mailed(NamedTuple):
    """A message to one address, as the delivery log has it, and what became of his copy."""

    queue_id: str
    at: float
    sender: str
    kind: str  # class of the mail
    outcome: str  # delivered | waiting | held | failed | refused | dropped


class Told(NamedTuple):
    """What a tenant tells of one recipient of one of his messages."""

    message: OwnMessage
    address: str
    kind: str  # bounced | complained
    status: str  # RFC 3463; "" for a complaint


class DirectoryView(Protocol):
    """The current snapshot of tenants; one attribute lookup or dictionary get each, no I/O."""

    @property
    def is_known(self) -> bool:
        """False while there is none yet: then it knows nobody, and nobody may be turned away on its word."""
        ...

    def tenant(self, name: str) -> Tenant | None: ...

    def tenant_by_id(self, tenant_id: int) -> Tenant | None: ...

    def credentials_of(self, tenant: Tenant) -> Sequence[Credential]:
        """Its logins that are in force."""
        ...

    def optin(self, purpose_key: str) -> tuple[Tenant, Purpose] | None:
        """Tenant and purpose behind the public key of an opt-in form."""
        ...

    def face(self, tenant_id: int) -> Face:
        """How the pages of a tenant look."""
        ...

    def with_logo(self, name: str) -> Tenant | None:
        """A tenant whose logo has that name."""
        ...

    def start_page(self, key: str) -> Tenant | None:
        """The tenant whose start page of own data has that key."""
        ...

    def api_caller(self, secret: str) -> ApiKey | None:
        """The API key behind a secret, expired ones too; the time it takes tells nothing of the key."""
        ...


class LookupView(Protocol):
    """Point reads of consent and suppression (relay.consent.lookup.Lookup)."""

    def consents(self, tenant_id: int, purpose: str, addresses: Sequence[str]) -> Mapping[str, ConsentState | None]: ...

    def suppressions(
        self, tenant_id: int, addresses: Sequence[str], *, purpose: str = ""
    ) -> Mapping[str, tuple[SuppressionEntry, ...]]: ...

    def requests(
        self, tenant_id: int, purpose: str, addresses: Sequence[str]
    ) -> Mapping[str, PendingRequest | None]: ...


class OutboxView(Protocol):
    """The reading half of relay.store.outbox.Outbox; called in a thread."""

    def entries(self, *, verdict: str = "", before: int = 0, limit: int = 50) -> list[Stored]: ...

    def entry(self, number: int) -> Stored | None: ...

    def siblings(self, queue_id: str) -> list[Stored]: ...

    def counts(self) -> dict[str, int]: ...


class Gateway(Protocol):
    """Everything behind the pages."""

    @property
    def keyring(self) -> Any: ...

    @property
    def lookup(self) -> LookupView: ...

    @property
    def outbox(self) -> OutboxView | None:
        """None where delivery is not in capture mode."""
        ...

    def directory(self) -> DirectoryView: ...

    async def op(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Sends an op to the owner and returns its result once it is committed. Raises OpRefused or OpUnavailable."""
        ...

    def key_used(self, key: ApiKey) -> None:
        """Takes note that a key was used today; returns at once, and what is lost of it costs nothing."""
        ...

    async def hit(self, key: str, *, limit: int, per_seconds: int) -> float:
        """Counts one use of `key`, 0.0, where it is allowed; else counts nothing: the seconds until it would be."""
        ...

    async def submit_notice(self, notice: Notice) -> None:
        """Queues a mail of our own, durably. Raises OpUnavailable where it cannot be kept.

        It takes the road of every mail, where a confirmation is counted (CLASS-7).
        """
        ...

    async def message_trace(self, tenant: str, queue_id: str) -> dict[str, Any] | None:
        """What `zegel trace` tells of one message of this tenant; None where he has no such message."""
        ...

    async def own_messages(self, tenant: str, queue_ids: Sequence[str]) -> Mapping[str, OwnMessage]:
        """Those of these messages that are the tenant's, by id in capitals."""
        ...

    async def mails_to(self, tenant: str, address: str) -> list[Mailed]:
        """Messages of this tenant to this address, newest first. Raises OpUnavailable."""
        ...

    async def tell_outcomes(self, tenant: Tenant, told: Sequence[Told]) -> list[bool]:
        """Count what is told; whether each was new. Raises OpUnavailable."""
        ...

    async def reputation(self, tenant: Tenant) -> list[dict[str, Any]]:
        """How the senders of a tenant stand (relay.reputation.rows). Raises OpUnavailable."""
        ...

    async def limits(self, tenant: Tenant) -> list[dict[str, Any]]:
        """The limits that mail of this tenant meets (relay.limitbook.LimitBook.show)."""
        ...

    async def metrics_text(self) -> str:
        """Prometheus text of the whole node."""
        ...

    async def ready(self) -> list[str]:
        """Reasons why this node is not ready; empty when it is."""
        ...

    async def notes(self) -> list[str]:
        """What does not go as it should on this node, though it is ready."""
        ...


class WebSettings(Protocol):
    @property
    def public_url(self) -> str: ...

    @property
    def endpoint(self) -> object: ...

    @property
    def expose_machine_routes(self) -> bool:
        """Whether /healthz, /readyz and /metrics answer others than this machine itself."""
        ...

    @property
    def expose_outbox(self) -> bool:
        """The same for /outbox."""
        ...


class ServerSettings(Protocol):
    @property
    def hostname(self) -> str: ...

    @property
    def language(self) -> str: ...

    @property
    def region(self) -> str:
        """Country whose law the portal's own opt-in forms go by."""
        ...

    @property
    def private_networks(self) -> Sequence[str]: ...


class DeliverySettings(Protocol):
    @property
    def mode(self) -> str: ...


class PrivacySettings(Protocol):
    @property
    def delivery_log_days(self) -> int: ...

    @property
    def security_log_days(self) -> int: ...

    @property
    def consent_ip_months(self) -> int: ...

    @property
    def campaign_addresses_days(self) -> int: ...

    @property
    def campaign_invoice_days(self) -> int: ...


class ApiSettings(Protocol):
    @property
    def key_requests_per_minute(self) -> int: ...

    @property
    def tenant_requests_per_minute(self) -> int: ...


class WebhookSettings(Protocol):
    @property
    def allowed_networks(self) -> Sequence[str]: ...


class PortalSettings(Protocol):
    """The settings the portal reads; relay.settings.model.Settings is one."""

    @property
    def web(self) -> WebSettings: ...

    @property
    def api(self) -> ApiSettings: ...

    @property
    def server(self) -> ServerSettings: ...

    @property
    def delivery(self) -> DeliverySettings: ...

    @property
    def privacy(self) -> PrivacySettings: ...

    @property
    def webhooks(self) -> WebhookSettings: ...


def purpose_title(purpose: Purpose | None, name: str, language: str) -> str:
    """How a list is called to people: its title in their language, else in the other, else its name."""
    if purpose is None:
        return name
    titles = (purpose.title_nl, purpose.title_en) if language == "nl" else (purpose.title_en, purpose.title_nl)
    return titles[0] or titles[1] or purpose.name


def sender_title(tenant: Tenant | None, purpose: Purpose | None = None) -> str:
    """Who mails, to people: the list's controller, else the tenant's legal name, else its name; "" if it is gone."""
    if tenant is None:
        return ""
    return (purpose.controller if purpose else "") or tenant.legal_name or tenant.name
