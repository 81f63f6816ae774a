"""Every setting: its name with its unit, its type, its default and one line of explanation.

`config/zegel.toml` is generated from this file. What only makes sense in combination is checked in checks.py.
Nothing here switches AUTH off: a listener that relays without a login cannot be written down.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from relay.settings.api import Api
from relay.settings.endpoint import (
    Endpoint,
    Networks,
    Smarthost,
    is_loopback_name,
    parse_endpoint,
    parse_ip,
    parse_smarthost,
)
from relay.settings.incidents import Incidents
from relay.settings.processing import EEA, Processing
from relay.settings.reputation import Reputation
from relay.settings.section import FilePath, Seconds, Section, refuse
from relay.settings.storage import Storage

LOOPBACK = ("127.0.0.0/8", "::1/128")

_HOSTNAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def _hostname(text: str) -> str:
    if not _HOSTNAME.fullmatch(text.lower()):
        raise refuse(f"{text!r} is not a host name", 'Write a name as in DNS, for instance "relay.example.org"')
    return text.lower()


def _region(text: str) -> str:
    if text.upper() not in EEA:
        raise refuse(f"{text!r} is not a country of the EEA", 'Write its two-letter code, for instance "NL" (GDPR-15)')
    return text.upper()


def _network(text: str) -> str:
    try:
        Networks([text])
    except ValueError as error:
        raise refuse(str(error), 'Write networks as in "10.0.0.0/8" or "fd00::/8"') from None
    return text


def _endpoint(text: str) -> str:
    if parse_endpoint(text) is None:
        raise refuse(f"{text!r} is no address with a port", 'Write for instance "127.0.0.1:2525" or "[::1]:2525"')
    return text


def _smarthost(text: str) -> str:
    if parse_smarthost(text) is None:
        remedy = 'Write "smtp://host:port", or "smtps://host:port" for TLS from the first byte'
        if "@" in text:
            raise refuse("a smarthost holds credentials", f"{remedy}; put them in username and password_file")
        raise refuse(f"{text!r} is no smarthost", remedy)
    return text


def _public_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment or "@" in parts.netloc:
        raise refuse(f"{text!r} is no web address", 'Write for instance "https://relay.example.org"')
    if parts.scheme == "http" and not is_loopback_name(host) and not _is_private(host):
        raise refuse("one-click unsubscribe needs https (RFC 8058 section 3.1)", f'Write "https://{parts.netloc}"')
    return text.rstrip("/")


def _is_private(host: str) -> bool:
    ip = parse_ip(host)
    return ip is not None and ip.is_private


Host = Annotated[str, AfterValidator(_hostname)]
Region = Annotated[str, AfterValidator(_region)]
ListenAddress = Annotated[str, AfterValidator(_endpoint)]
NetworkList = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False)]
SmarthostList = Annotated[tuple[Annotated[str, AfterValidator(_smarthost)], ...], Field(strict=False)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
# Upper bounds are far over what makes sense, and far under what a clock, a socket or a column cannot hold.
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Octets = Annotated[int, Field(gt=0, le=1 << 40)]
Hours = Annotated[float, Field(gt=0, le=8_760)]
Days = Annotated[int, Field(gt=0, le=36_500)]
Months = Annotated[int, Field(gt=0, le=1_200)]
Years = Annotated[int, Field(gt=0, le=100)]
Schedule = Annotated[tuple[Seconds, ...], Field(strict=False, min_length=1, max_length=100)]


class Server(Section):
    """The machine and its folders."""

    hostname: Host = Field(
        default="localhost", description="Name of this gateway in greetings, EHLO and Received, as in DNS."
    )
    data_dir: FilePath = Field(
        default=Path("zegel-data"),
        description="Folder for queue, database and counters; a relative path counts from the folder of this file.",
    )
    keys_dir: FilePath = Field(
        default=Path("zegel-keys"),
        description="Folder for keys (queue, tokens, hashes, DKIM); never inside data_dir (GDPR-19).",
    )
    workers: int = Field(default=0, ge=0, le=64, description="Worker processes; 0: one per core.")
    language: Literal["nl", "en"] = Field(default="nl", description="Language of replies where no tenant is known yet.")
    region: Region = Field(default="NL", description="EEA country where data, logs and backups lie (GDPR-15).")
    private_networks: NetworkList = Field(
        default=(),
        description="Networks that are yours: balancers and web proxies in them are believed about client addresses.",
    )
    log_level: Literal["info", "warning", "error"] = Field(
        default="info", description="Least weight of what is logged; info has every refusal and what became of it."
    )
    digest_hour: int = Field(
        default=6,
        ge=0,
        le=23,
        description="Hour (UTC) at which tenants' contacts get the digest of refused and held mail.",
    )
    drain_timeout_seconds: Seconds = Field(
        default=30.0, description="Time that running sessions and deliveries get at SIGTERM."
    )


class Listener(Section):
    """One SMTP port. Repeat [[listener]] for more; AUTH is always required before mail is relayed."""

    kind: Literal["submission", "submissions", "feedback"] = Field(
        default="submission",
        description="submission: STARTTLS; submissions: TLS from the first byte; feedback: bounces and reports, relays nothing.",
    )
    address: ListenAddress = Field(default="127.0.0.1:2525", description="IP address and port.")
    tls: Literal["required", "opportunistic", "off"] = Field(
        default="required",
        description="required | opportunistic | off; off only on loopback, for feedback in private_networks too.",
    )
    proxy_protocol: bool = Field(
        default=False,
        description="A PROXY header (v1 or v2) comes first; only loopback and private_networks may then connect.",
    )
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the certificate and its chain.",
        examples=["/etc/zegel/tls/fullchain.pem"],
    )
    key: FilePath | None = Field(
        default=None,
        description="PEM file with the private key of the certificate.",
        examples=["/etc/zegel/tls/privkey.pem"],
    )

    @cached_property
    def endpoint(self) -> Endpoint:
        endpoint = parse_endpoint(self.address)
        assert endpoint is not None, "validated above"
        return endpoint


class Web(Section):
    """Unsubscribe pages, console and API."""

    address: ListenAddress = Field(
        default="127.0.0.1:8025", description="IP address and port; TLS is the web proxy's in front."
    )
    public_url: PublicUrl = Field(
        default="http://127.0.0.1:8025",
        description="Address under which recipients and senders reach it; https unless on loopback.",
    )
    expose_machine_routes: bool = Field(
        default=False,
        description="Whether /healthz, /readyz and /metrics answer others than this machine itself.",
    )

    @cached_property
    def endpoint(self) -> Endpoint:
        endpoint = parse_endpoint(self.address)
        assert endpoint is not None, "validated above"
        return endpoint


class Delivery(Section):
    """What happens to mail that may leave."""

    mode: Literal["capture", "smarthost", "mx"] = Field(
        default="capture",
        description="capture: nothing leaves, see /outbox, smarthosts rest; smarthost: all goes to the hosts below.",
    )
    smarthosts: SmarthostList = Field(
        default=(), description='Next hops, tried in order: "smtp://host:port" (STARTTLS) or "smtps://host:port".'
    )
    tls: Literal["required", "opportunistic", "off"] = Field(
        default="required",
        description="required: encrypted to a verified certificate; off only to loopback and private_networks.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the authorities to trust instead of the system's.",
        examples=["/etc/zegel/ca.pem"],
    )
    username: str = Field(default="", description="Login at the smarthosts; empty: none.")
    password_file: FilePath | None = Field(
        default=None,
        description="File whose first line is the password of that login.",
        examples=["/etc/zegel/smarthost.secret"],
    )
    connections_per_destination: Count = Field(
        default=20, description="Parallel connections to one host, per node (OUT-11)."
    )
    messages_per_connection: Count = Field(default=100, description="Messages before a connection is closed (OUT-11).")
    connect_timeout_seconds: Seconds = Field(default=30.0, description="Time to connect.")
    command_timeout_seconds: Seconds = Field(
        default=300.0, description="Time for a reply to a command (RFC 5321 4.5.3.2)."
    )
    data_timeout_seconds: Seconds = Field(
        default=600.0, description="Time for the reply after the final dot (RFC 5321 4.5.3.2.6)."
    )
    idle_timeout_seconds: Seconds = Field(default=30.0, description="Time that an unused connection is kept.")
    retry_after_seconds: Schedule = Field(
        default=(300.0, 900.0, 1800.0, 3600.0, 3600.0, 7200.0, 14400.0),
        description="Waits between attempts, the last one repeats; at least 1800 from the third on (OUT-2).",
    )
    give_up_after_hours: Hours = Field(
        default=120.0, description="Age at which an undelivered message is returned (OUT-2)."
    )
    transactional_give_up_after_hours: Hours = Field(
        default=120.0,
        description="The same for transactional streams, if smaller; 4 suits codes and password resets (OUT-2).",
    )
    warn_after_hours: Hours = Field(
        default=4.0, description="Age at which the sender is told of a delay, once, if it is still tried (OUT-2)."
    )

    @cached_property
    def hops(self) -> tuple[Smarthost, ...]:
        """The smarthosts, parsed, in the order in which they are tried."""
        return tuple(hop for hop in map(parse_smarthost, self.smarthosts) if hop is not None)


class Limits(Section):
    """What the gateway bears. The pace of mail is set in policies.throttle, for one tenant with `zegel policy mode ... --set`."""

    max_message_bytes: Octets = Field(default=26_214_400, description="Largest message, offered as SIZE (SMTP-8).")
    max_in_flight_bytes: Octets = Field(
        default=268_435_456, description="Message bytes in memory on this node; over it 452 4.3.1."
    )
    max_recipients: int = Field(
        default=500, ge=100, le=100_000, description="Recipients of one transaction (SMTP-10, at least 100)."
    )
    max_connections: Count = Field(default=20_000, description="SMTP connections to this node at one time.")
    connections_per_address: Count = Field(default=20, description="Of these, from one client address (SMTP-11).")
    connections_exempt_networks: NetworkList = Field(
        default=LOOPBACK, description="Networks without connections_per_address; add your own servers here."
    )
    bare_line_end_networks: NetworkList = Field(
        default=(),
        description="Old devices that end lines with CR or LF alone: mended to CRLF, not refused; no BDAT there (SMTP-5).",
    )
    command_timeout_seconds: Seconds = Field(
        default=300.0, description="Time that a client gets for its next command (SMTP-11)."
    )
    data_timeout_seconds: Seconds = Field(
        default=900.0, description="Time that a client gets for one message (SMTP-11)."
    )
    data_min_bytes_per_minute: Octets = Field(default=1024, description="Slowest transfer of a message (SMTP-11).")
    max_errors: Count = Field(default=10, description="Protocol errors before the session ends with 421 (SMTP-23).")
    failed_logins_per_10_minutes: Count = Field(
        default=10, description="Failed logins of an address before a block (THROTTLE-10)."
    )
    login_block_seconds: Seconds = Field(
        default=900.0, description="First block after these; each further one doubles (THROTTLE-10)."
    )
    reply_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        default=30.0, description="Time from the end of data to the reply, then 451 4.3.0 (PIPE-6)."
    )
    hold_ask_hours: Hours = Field(
        default=4.0,
        description="Time that a sender gets to answer about held mail, then it is returned (CC-10, PIPE-2).",
    )
    hold_review_hours: Hours = Field(
        default=72.0, description="Time that held mail waits for a person's decision, then it is returned (PIPE-2)."
    )
    freeze_hours: Hours = Field(
        default=72.0,
        description="Time that mail of a suspended account is kept, from the suspension; then it is returned (THROTTLE-9).",
    )
    min_free_disk_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = Field(
        default=268_435_456, description="Free space in data_dir below which new mail gets 452 4.3.1."
    )


class Privacy(Section):
    """How long personal data are kept, and what logs show."""

    address_in_logs: Literal["hash", "clear"] = Field(
        default="hash", description="hash: keyed hash and domain; clear: the address itself (OPS-2)."
    )
    client_address_in_received: Literal["hide", "show"] = Field(
        default="hide", description="Whether Received shows the sender's own IP address to recipients (SMTP-22)."
    )
    delivery_log_days: Days = Field(default=28, description="Outcome of each delivery, and captured mail (GDPR-14).")
    campaign_addresses_days: Days = Field(
        default=28, description="Delivery log of a mailing, from its invoice date, else from its last line (GDPR-12)."
    )
    campaign_invoice_days: Days = Field(
        default=92, description="So long after its last line a mailing may be invoiced; later counts as then (GDPR-12)."
    )
    security_log_days: Days = Field(default=90, description="Logins and changes by people (GDPR-14).")
    consent_ip_months: Months = Field(default=24, description="IP addresses in proofs of consent (GDPR-14).")
    consent_proof_years: Years = Field(
        default=5, description="Proof of consent and which mails rested on it, after the last of them (CONSENT-15)."
    )
    bounce_suppression_days: Annotated[Days, Field(le=90)] = Field(
        default=90, description="Suppression after a hard bounce, 90 at most (REP-3)."
    )
    statistics_months: Months = Field(default=25, description="Counters without addresses (GDPR-14). Not read yet.")


class Alarms(Section):
    """Who hears when something is wrong, without Prometheus (docs/operating.md)."""

    mail_to: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Addresses that get a mail."
    )
    webhook_url: str = Field(default="", description="Address that gets a signed POST; https, or http on loopback.")
    webhook_secret_file: FilePath | None = Field(
        default=None,
        description="File with one line of at least 16 characters, the key of the signature.",
        examples=["/etc/zegel/alarms.secret"],
    )
    repeat_hours: Hours = Field(default=4.0, description="How often what goes on is told again.")


class Webhooks(Section):
    """Where events of tenants may go: public addresses over https, and the networks below (docs/webhooks.md)."""

    allowed_networks: NetworkList = Field(
        default=(), description="Private networks that webhooks of tenants may reach; http only where it is loopback."
    )


# One listener on loopback: what runs without any file serves this machine only.
DEFAULT_LISTENERS = (Listener(tls="off"),)


class Settings(Section):
    """The whole configuration. Paths are absolute after `relay.settings.load.load`."""

    server: Server = Server()
    listener: Annotated[tuple[Listener, ...], Field(strict=False, min_length=1)] = DEFAULT_LISTENERS
    web: Web = Web()
    api: Api = Api()
    storage: Storage = Storage()
    delivery: Delivery = Delivery()
    limits: Limits = Limits()
    privacy: Privacy = Privacy()
    reputation: Reputation = Reputation()
    alarms: Alarms = Alarms()
    webhooks: Webhooks = Webhooks()
    incidents: Incidents = Incidents()
    processing: Processing = Processing()
    # Raw: relay.policy.catalogue knows the policies and checks their tables.
    policies: dict[str, dict[str, Any]] = {}

    @cached_property
    def private(self) -> Networks:
        """Loopback and `server.private_networks`: whose word about client addresses is taken."""
        return Networks((*LOOPBACK, *self.server.private_networks))

    @cached_property
    def connections_exempt(self) -> Networks:
        """Clients that `limits.connections_per_address` does not hold for."""
        return Networks(self.limits.connections_exempt_networks)

    @cached_property
    def line_ends_mended(self) -> Networks:
        """Clients whose line ends are made clean instead of refused."""
        return Networks(self.limits.bare_line_end_networks)

    @property
    def database_path(self) -> Path:
        """File of the embedded database."""
        return self.server.data_dir / self.storage.database.removeprefix("sqlite:///")
