"""Facts: what policies need to know beyond the mail itself, fetched before deciding; unknown is a third answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from relay.mail.leaks.findings import Findings


class Fact(StrEnum):
    """Names of facts. The value's type stands beside each."""

    CONSENTS = "consents"  # Mapping[str, ConsentState | None] by recipient address as given
    SUPPRESSIONS = "suppressions"  # Mapping[str, tuple[SuppressionEntry, ...]]
    REQUESTS = "requests"  # Mapping[str, PendingRequest | None]: double opt-in asked for (CLASS-7)
    THREAD = "thread"  # ThreadParent | None (CC-11)
    FINGERPRINT = "fingerprint"  # int: nearly equal texts of the tenant in 24 h, with this one (CLASS-9)
    LEAKS = "leaks"  # Findings of relay.mail.leaks: counts of what should not leave (DLP-1..8)
    STANDING = "standing"  # Standing (REP-1, REP-2)
    ALLOWANCE = "allowance"  # Allowance (THROTTLE-1); charged or, in explain, only looked at


class Unavailable(NamedTuple):
    """The fact could not be had. `why` is for the operator, never for a peer.

    `so_far` is what was known of it when its time was over: enough for a no where it says so, never for a yes.
    """

    why: str
    so_far: Any = None


class ConsentState(NamedTuple):
    """Present state of consent for (tenant, purpose, address): the fold of its events, without personal data.

    Times are seconds since the epoch or 0.0. `event` is the ledger sequence of the record that holds; `used_at` the month
    of the last mail that rested on it, or in which it came to be on record (CONSENT-13).
    """

    status: str  # requested | given | confirmed | withdrawn | objected | restricted | erased
    basis: str  # consent | soft_optin | published_for_marketing | non_eea_b2b
    given_at: float
    confirmed_at: float = 0.0
    expires_at: float = 0.0
    controller: str = ""
    category: str = ""
    sale_kind: str = ""
    sale_at: float = 0.0
    provenance: str = "own"  # own | third_party
    jurisdiction: str = ""
    sensitive: bool = False
    event: int = 0
    used_at: float = 0.0
    purpose: str = ""  # the purpose that it was given for, where that is not the one asked for (CONSENT-4)


class SuppressionEntry(NamedTuple):
    """One standing suppression: `scope` is "all" or a purpose; `reason` objection | bounce | complaint | restriction."""

    scope: str
    reason: str
    at: float


class PendingRequest(NamedTuple):
    """A double opt-in that was asked for: when, and how many confirmation mails have gone out (CLASS-7)."""

    requested_at: float
    mails_sent: int


class ThreadParent(NamedTuple):
    """Keyed hashes of the addresses that the parent message showed (CC-11); `seen` tells which of ours are among them."""

    seen: frozenset[str]  # lower-case addresses of this mail that the parent showed


class Standing(NamedTuple):
    """How the sender stands: 0 good, 1 warn, 2 review, 3 paused; and who of login, stream, domain and tenant stands so."""

    level: int = 0
    scope: str = ""  # credential | stream | domain | tenant


class Allowance(NamedTuple):
    """Answer of the limits. Granted: `due` is when the mail may leave (now or earlier: at once). Not granted: when there
    would be room, 0.0 for not in the coming days. `limit` names what bit; `backlog` has this mail in it where it would park.
    """

    granted: bool
    due: float = 0.0
    limit: str = ""  # e.g. "messages_per_minute"
    scope: str = ""  # credential | tenant | client | domain | stream
    allowed: int = 0  # the number that the limit allows
    backlog: int = 0  # recipients parked for the tenant
    sudden: int = 0  # recipients of the last hour where that is far more than this account ever sends (THROTTLE-7)
    agreed: int = 0  # of a campaign that is sudden: consents held for its purpose, or as many as excuse it
    is_share: bool = False  # `allowed` is this node's part of the limit, while it cannot ask the others
    receipt: object = None  # what the counters that granted it want to see again to take it back


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that were asked for. Reading one that was not asked for is a bug and raises KeyError."""

    values: Mapping[Fact, object]

    @property
    def consents(self) -> Mapping[str, ConsentState | None]:
        return self.values[Fact.CONSENTS]  # type: ignore[return-value]  # gather.py puts this type there

    @property
    def suppressions(self) -> Mapping[str, tuple[SuppressionEntry, ...]]:
        return self.values[Fact.SUPPRESSIONS]  # type: ignore[return-value]  # as above

    @property
    def requests(self) -> Mapping[str, PendingRequest | None]:
        return self.values[Fact.REQUESTS]  # type: ignore[return-value]  # as above

    @property
    def thread(self) -> ThreadParent | None:
        return self.values[Fact.THREAD]  # type: ignore[return-value]  # as above

    @property
    def fingerprint(self) -> int:
        return self.values[Fact.FINGERPRINT]  # type: ignore[return-value]  # as above

    @property
    def leaks(self) -> Findings:
        return self.values[Fact.LEAKS]  # type: ignore[return-value]  # as above

    @property
    def standing(self) -> Standing:
        return self.values[Fact.STANDING]  # type: ignore[return-value]  # as above

    @property
    def allowance(self) -> Allowance:
        return self.values[Fact.ALLOWANCE]  # type: ignore[return-value]  # as above


NO_FACTS = Facts({})
