"""What came with a message: envelope, session and the account behind it, as frozen values (RFC 5321, RFC 3461)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from relay.mail.message import Message


class Stream(StrEnum):
    """What a credential is for; fixed when it is made (CLASS-1)."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"
    PERSONAL = "personal"


class MailClass(StrEnum):
    """What a mail is (rulebook section 4)."""

    PERSONAL = "personal"
    TRANSACTIONAL = "transactional"
    COMMERCIAL = "commercial"
    SYSTEM = "system"


class Recipient(NamedTuple):
    """One RCPT: the address as given (it is delivered so), and its DSN parameters (RFC 3461)."""

    address: str
    notify: tuple[str, ...] = ()  # NEVER, or any of SUCCESS FAILURE DELAY; empty: not said
    orcpt: str = ""


class Envelope(NamedTuple):
    """MAIL and RCPT of one transaction. `mail_from` is "" for the null sender."""

    mail_from: str
    recipients: tuple[Recipient, ...]
    smtputf8: bool = False
    ret: str = ""  # FULL | HDRS | "" (RFC 3461 section 4.3)
    envid: str = ""


class SessionInfo(NamedTuple):
    """The SMTP session a message came through. `tls` is "" or for instance "TLSv1.3"."""

    client_ip: str
    ehlo: str = ""
    tls: str = ""
    cipher: str = ""
    protocol: str = "ESMTPSA"  # RFC 3848 keyword for Received


@dataclass(frozen=True, slots=True)
class Purpose:
    """A list or purpose a tenant mails for; consent is per purpose (CONSENT-4)."""

    name: str
    controller: str = ""  # legal entity; "" means the tenant's own
    category: str = ""  # product category for soft opt-in (CONSENT-5)
    title_nl: str = ""
    title_en: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of a tenant. Usable when `verified` (DNS TXT seen) or `vouched` (the operator answers for it)."""

    name: str
    verified: bool = False
    vouched: bool = False
    has_key: bool = False  # an active DKIM key exists (DKIM-8)
    created_at: float = 0.0  # its warm-up begins there (THROTTLE-3); 0.0: long ago

    @property
    def usable(self) -> bool:
        return self.verified or self.vouched


class OwnLimits(dict[tuple[str, str, str], int]):
    """What an operator set for one tenant: (scope, subject, name) to the number; 0 is no limit.

    Never changed once it is made, so what was made of it may be remembered by it.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]  # a dict has none

    def strictest(self, name: str, credential: str, stream: str) -> int:
        """The smallest number of `name` for this login, its stream or its tenant; 0 where none of them has one."""
        if not self:
            return 0
        places = (("credential", credential, name), ("stream", stream, name), ("tenant", "", name))
        return min((value for place in places if (value := self.get(place, 0))), default=0)


NO_OWN_LIMITS = OwnLimits()
USUAL_GROUNDS = frozenset(("consent", "soft_optin"))


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer. `modes` holds "policy" or "policy/stream" -> off | observe | enforce; `settings` the same keys -> table."""

    id: int
    name: str
    legal_name: str = ""
    kind: str = "company"  # company | charity | government
    category: str = ""
    sensitive_audience: bool = False
    language: str = "nl"
    contact: str = ""
    refusal_letters: bool = True  # the contact wants to hear of refusals (OPS-6)
    postal_address: str = ""
    suspended: bool = False
    domains: Mapping[str, Domain] = field(default_factory=dict)
    purposes: Mapping[str, Purpose] = field(default_factory=dict)
    modes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    limits: OwnLimits = NO_OWN_LIMITS
    grounds: Collection[str] = (
        USUAL_GROUNDS  # on which it may advertise: the bases, third_party, free_tier (CONSENT-5 to -9)
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """A made login. `from_addresses` narrows what it may send as; empty means every usable domain of the tenant."""

    name: str
    username: str
    tenant: str
    stream: Stream
    purpose: str = ""
    from_addresses: tuple[str, ...] = ()
    null_sender: bool = False  # SMTP-20
    revoked: bool = False
    suspended: bool = False  # THROTTLE-9
    created_at: float = 0.0  # its warm-up begins there (THROTTLE-3); 0.0: long ago
    warmup_behind: int = 0  # days of it with an alarm, after which the next allows no more


@dataclass(frozen=True, slots=True)
class Account:
    """Who sends: tenant, credential, and the purpose in force (`name+purpose`, or the credential's own)."""

    tenant: Tenant
    credential: Credential
    purpose: Purpose | None = None

    @property
    def suspended(self) -> bool:
        """Nothing of it is accepted or sent until a person releases its tenant or its login (THROTTLE-9)."""
        return self.tenant.suspended or self.credential.suspended


@dataclass(frozen=True, slots=True)
class Submission:
    """One message as the policies see it. At RCPT `message` is None and the class is what the stream fixes."""

    account: Account
    envelope: Envelope
    session: SessionInfo
    now: float  # wall clock, seconds since the epoch, UTC
    message: Message | None = None
    mail_class: MailClass = MailClass.PERSONAL
    bulk: bool = False
    confirm: bool = False  # a sender's own confirmation mail (CLASS-7)
    purpose: Purpose | None = None  # account's, or named by X-Zegel-Purpose
    in_company: bool = False  # at RCPT: others were taken before, so that it is no confirmation, which goes to one

    @property
    def stream(self) -> Stream:
        return self.account.credential.stream

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        return self.envelope.recipients
