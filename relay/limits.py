"""Which limits one message is charged against (THROTTLE-1 to THROTTLE-3): from settings to charges. Pure.

The numbers come from the settings of the throttle policy, which a tenant or a stream may override; what an operator set
for one login, stream, domain or tenant is stronger (`zegel limit set`).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from relay.counters.cell_rate import warm_up_amount
from relay.counters.contract import (
    AT_ONCE,
    BEHIND,
    CAMPAIGN,
    DAY,
    FIRST_TIME,
    IN_LINE,
    MINUTE,
    SHARED,
    SUDDEN,
    UNASKED,
    URGENT,
    WARM_UP,
    Charge,
    Limit,
)
from relay.mail.envelope import Account, Domain, OwnLimits, Stream, Submission
from relay.mail.sender import from_domain

WHOLE = 100
HOUR = 3600
_OLD_DAYS = 70  # who is older has warmed up, whatever the settings
CAMPAIGN_DAYS = 90
PACE = "messages_per_minute"
WIDE = ("stream", "tenant", "domain", "client")
"""Scopes in which the mail of several logins meets, and but for the stream campaigns meet mail that somebody waits for."""
_NORMAL = 100_000  # up to which an account warms up where no limit of a day is set


class Who(NamedTuple):
    """Whose limits a message meets. `domain` and `client` are "" where they are not known.

    The domain is the tenant's that the From domain is or lies under: names under a domain are made up at will.
    """

    credential: str
    tenant: int
    stream: str
    domain: str = ""
    client: str = ""

    @classmethod
    def of(cls, mail: Submission) -> Who:
        domain = from_domain(mail.message) if mail.message is not None else ""
        domain = tenants_domain(mail.account.tenant.domains, domain)
        return cls.at(mail.account, domain, client_key(mail.session.client_ip))

    @classmethod
    def at(cls, account: Account, domain: str = "", client: str = "") -> Who:
        credential = account.credential
        return cls(credential.name, account.tenant.id, credential.stream.value, domain, client)

    def scopes(self) -> list[tuple[str, str, str, int]]:
        """(scope, subject, key that it is counted by, tenant), in the order of docs/limits.md; of the tenant the subject is "".

        A domain and an address count what all tenants send from there.
        """
        tenant = self.tenant
        found = [("credential", self.credential, f"c:{self.credential}", tenant)]
        found.append(("stream", self.stream, f"s:{tenant}:{self.stream}", tenant))
        found.append(("tenant", "", f"t:{tenant}", tenant))
        if self.domain:
            found.append(("domain", self.domain, f"d:{self.domain}", 0))
        if self.client:
            found.append(("client", self.client, f"i:{self.client}", 0))
        return found


@lru_cache(maxsize=8192)
def client_key(address: str) -> str:
    """What a client is counted by: an IPv4 address, mapped into IPv6 or not; of IPv6 the /64, which is one line's to choose from.

    What is no address comes back as it is.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))


def charges(
    mail: Submission,
    settings: object,
    percent: int = WHOLE,
    *,
    consents: bool = True,
    marks: Callable[[Submission], bytes] | None = None,
) -> list[Charge]:
    """Every limit of the message with its cost: one message, and as many recipients as are left.

    `percent`: the part of each limit that the standing of the sender leaves him (REP-1, REP-2). `consents`: each recipient of a
    campaign has one. `marks` tells who the recipients are, for the limit on those of the first time; None: it is not asked.
    """
    account, who = mail.account, Who.of(mail)
    begun = _begun(account, who.domain)
    per_message, per_recipient, first_time, signs = _all_of(
        settings, who, account.tenant.limits, percent, begun, consents=consents
    )
    count = max(1, len(mail.recipients))
    found = [*per_message, *[(limit, count) for limit in per_recipient]]
    if marks is not None and first_time is not None:
        found.append((Limit(*first_time[:-1], marks(mail)), count))
    found += [(limit, count) for limit in _of_today(signs, mail.now)]
    return found


_Begun = tuple[float, int, float]
"""When a login was made, by how many days its warm-up lies behind, since when its tenant has the domain that it sends from."""


_Sign = tuple[Limit, float]
"""What is counted because it shows abuse, and when it is over: of a warm-up the day from which on it limits nothing."""


def _begun(account: Account, domain: str) -> _Begun:
    known = account.tenant.domains.get(domain)
    return account.credential.created_at, account.credential.warmup_behind, known.created_at if known else 0.0


@lru_cache(maxsize=8192)
def _all_of(
    settings: object, who: Who, own: OwnLimits, percent: int, begun: _Begun, *, consents: bool
) -> tuple[tuple[Charge, ...], tuple[Limit, ...], Limit | None, tuple[_Sign, ...]]:
    """Charges of each message, limits on recipients, that on those of the first time, and signs. One look-up for all of them:
    to hash the settings costs as much as a limit.
    """
    per_message, per_recipient = limits_of(settings, who, own, percent)
    charged = tuple((limit, 1) for limit in per_message)
    return charged, per_recipient, first_time_of(settings, who, own, percent), _signs(settings, who, begun, consents)


def signs_of(settings: object, account: Account, domain: str, now: float, *, consents: bool = True) -> list[Limit]:
    """What is counted with the limits because it shows abuse: sudden change (THROTTLE-7), and warm-ups (THROTTLE-3)."""
    return _of_today(_signs(settings, Who.at(account, domain), _begun(account, domain), consents), now)


def _signs(settings: object, who: Who, begun: _Begun, consents: bool) -> tuple[_Sign, ...]:
    """The signs of a login, with warm-ups that may be over."""
    made, behind, since = begun
    login, domain = ("credential", who.credential, made, behind), ("domain", who.domain, since, 0)
    found = [_sudden(settings, who.stream, who.credential, who.tenant, consents)]
    found += [
        _warm_up(settings, who.stream, (scope, name, who.tenant, begin, days))
        for scope, name, begin, days in (login, domain)
        if begin
    ]
    return tuple((limit, _over_at(limit)) for limit in found if limit is not None)


def _over_at(limit: Limit) -> float:
    """When a sign is over: never, but for a warm-up; 0.0 for one that limits nothing from its first day on."""
    if not limit.since:
        return math.inf
    days = 0
    while days < _OLD_DAYS and warm_up_amount(limit.amount, limit.burst, limit.behind, days):
        days += 1
    return limit.since + days * DAY if days else 0.0


def _of_today(signs: tuple[_Sign, ...], now: float) -> list[Limit]:
    """The signs without warm-ups that are over."""
    return [limit for limit, over_at in signs if now < over_at]


@lru_cache(maxsize=8192)
def first_time_of(settings: object, who: Who, own: OwnLimits, percent: int = WHOLE) -> Limit | None:
    """How many people a login may write to in 24 hours whom it never wrote to before; None: any number, as a campaign, which has
    their consents. What the operator set holds at once, for the login, its stream or its tenant; the config's number once the
    login's correspondents are learned.
    """
    if who.stream == Stream.MARKETING or not who.credential:
        return None
    amount: int = getattr(settings, f"{who.stream}_{FIRST_TIME}", 0)
    days: int = getattr(settings, "first_time_learning_days", 0)
    set_at = first_time_set_at(who, own)
    if set_at is not None:
        amount, days = own[set_at], 0
    amount = _part(amount, percent)
    return (
        Limit(FIRST_TIME, "credential", f"c:{who.credential}", amount, DAY, 0, who.tenant, 0.0, days)
        if amount
        else None
    )


def first_time_set_at(who: Who, own: OwnLimits) -> tuple[str, str, str] | None:
    """Where an operator set it: the narrowest of login, stream and tenant."""
    places = (("credential", who.credential), ("stream", who.stream), ("tenant", ""))
    return next((found for scope, subject in places if (found := (scope, subject, FIRST_TIME)) in own), None)


@lru_cache(maxsize=8192)
def _sudden(settings: object, stream: str, credential: str, tenant: int, consents: bool) -> Limit | None:
    """What counts for THROTTLE-7; None where 0 is set. Where nobody looks up consents, a campaign has only campaigns of before to
    be measured against, so nothing is said until those of 90 days are counted.
    """
    times: int = getattr(settings, "sudden_times", 0)
    if not times:
        return None
    least: int = getattr(settings, "sudden_recipients_per_hour", 200)
    if stream == Stream.MARKETING:
        days = 0 if consents else CAMPAIGN_DAYS
        return Limit(CAMPAIGN, "credential", f"h:{credential}", least, HOUR, times, tenant, behind=days)
    return Limit(SUDDEN, "credential", f"h:{credential}", least, HOUR, times, tenant)


def tenants_domain(domains: Mapping[str, Domain], name: str) -> str:
    """The domain of the tenant that `name` is, or is under; `name` itself where it is none of his."""
    above = name
    while above:
        if above in domains:
            return above
        above = above.partition(".")[2]
    return name


@lru_cache(maxsize=8192)
def _warm_up(settings: object, stream: str, who: tuple[str, str, int, float, int]) -> Limit | None:
    """The warm-up of a login or domain (THROTTLE-3); None where the settings want none."""
    scope, name, tenant, since, behind = who
    first: int = getattr(settings, "warmup_recipients", 0)
    normal: int = getattr(settings, f"{stream}_recipients_per_day", 0)
    if scope == "domain":
        normal = getattr(settings, "domain_recipients_per_day", 0) or getattr(settings, "tenant_recipients_per_day", 0)
        name = by_stream(name, stream)
    if not first:
        return None
    return Limit(WARM_UP, scope, f"w:{name}", first, DAY, normal or _NORMAL, tenant, since, behind)


def by_stream(domain: str, stream: str) -> str:
    """What the warm-up of a domain is counted by: each stream apart, so that a campaign which reserves days holds up no other.

    Campaigns go by the name alone, as all mail did before: no domain begins anew with an upgrade.
    """
    return domain if stream == Stream.MARKETING else f"{domain}:{stream}"


def allowed_today(limit: Limit, now: float) -> int:
    """What a warm-up allows on its present day; 0 where it is over."""
    return warm_up_amount(limit.amount, limit.burst, limit.behind, int((now - limit.since) // DAY))


@lru_cache(maxsize=8192)
def limits_of(
    settings: object, who: Who, own: OwnLimits, percent: int = WHOLE
) -> tuple[tuple[Limit, ...], tuple[Limit, ...]]:
    """Limits counted in messages and limits counted in recipients; 0 in the settings means no limit.

    What is no campaign asks a bucket of its own for the paces of WIDE and is counted in the common one unasked, so it never
    waits for a campaign and the campaign does for it; what waits for a limit of its own asks another still, so that it stands
    in nobody's way (docs/decisions/015-urgent-mail-goes-first.md).
    """
    per_message: list[Limit] = []
    per_recipient: list[Limit] = []
    may_wait = _may_wait(settings, who.stream)
    for scope, subject, key, tenant in who.scopes():
        prefix = who.stream if scope == "credential" else scope
        behind = 0 if tenant else SHARED
        minute: int = getattr(settings, f"{prefix}_{PACE}", 0)
        minute = _part(own.get((scope, subject, PACE), minute), percent)
        if minute:
            pace = Limit(PACE, scope, key, minute, MINUTE, minute, tenant, behind=behind)
            per_message += _asked_by(pace, who, may_wait=may_wait)
        day: int = getattr(settings, f"{prefix}_recipients_per_day", 0)
        day = _part(own.get((scope, subject, "recipients_per_day"), day), percent)
        if day:
            per_recipient.append(Limit("recipients_per_day", scope, key, day, DAY, 0, tenant, behind=behind))
    return tuple(per_message), tuple(per_recipient)


def _asked_by(pace: Limit, who: Who, *, may_wait: bool) -> tuple[Limit, ...]:
    """The buckets of one pace. Mail that may not wait stands in nobody's way, and in its stream there is no campaign."""
    if who.stream == Stream.MARKETING or pace.scope not in WIDE or (pace.scope == "stream" and not may_wait):
        return (pace,)
    at_once, in_line = _urgent(pace, who.tenant)
    of_all = pace._replace(burst=UNASKED)
    return (at_once, in_line, of_all) if may_wait else (at_once, of_all)


def _urgent(pace: Limit, tenant: int) -> tuple[Limit, Limit]:
    """The buckets beside the one of all mail, of which urgent mail is asked by one: by the first where it waits for nothing
    else. What waits stands in a line of its tenant.
    """
    at_once = pace._replace(key=pace.key + URGENT, since=AT_ONCE)
    return at_once, pace._replace(key=f"{pace.key}{BEHIND}{tenant}", since=IN_LINE)


def for_people(limit: Limit) -> Limit | None:
    """The limit as people know it, whichever stream it was asked for: of all mail. None: it is told by the one beside it."""
    if limit.since in (AT_ONCE, IN_LINE):
        return None
    return limit._replace(burst=limit.amount) if limit.burst == UNASKED else limit


def buckets(limit: Limit, tenants: Iterable[int]) -> tuple[Limit, ...]:
    """All that `limit`, as people know it, is counted by; where several tenants share it, with the lines of these."""
    if limit.name != PACE or limit.scope not in WIDE:
        return (limit,)
    at_once, in_line = _urgent(limit, limit.tenant)
    lines = [_urgent(limit, tenant)[1] for tenant in tenants] if not limit.tenant else [in_line]
    return (limit, at_once, *lines)


def part_of(settings: object, level: int) -> int:
    """The per cent of each limit that the settings of the reputation policy leave to who stands at `level`."""
    return int(getattr(settings, ("", "warn_percent", "review_percent")[min(level, 2)], WHOLE)) if level else WHOLE


def _part(amount: int, percent: int) -> int:
    """That part of a limit, and at least 1: less would be none at all."""
    return max(1, amount * percent // WHOLE) if amount else 0


def bite_key(scope: str, name: str, who: Who) -> str:
    """What is counted each time the limit `name` of this scope makes mail of the tenant wait, for people to see.

    A client's address is not kept: what counts there is that it happened to this tenant.
    """
    domain = by_stream(who.domain, who.stream) if name == WARM_UP else who.domain
    subject = {"credential": who.credential, "stream": who.stream, "domain": domain}.get(scope, "")
    return f"bit:{who.tenant}:{scope}:{subject}:{name}"


def parks(mail: Submission, settings: object) -> tuple[bool, int]:
    """Whether mail of this stream waits for its turn when it is over, and how many recipients may wait."""
    most: int = settings.max_parked_recipients  # type: ignore[attr-defined]  # the throttle policy's settings; relay does not import policies
    return _may_wait(settings, mail.stream), most


def _may_wait(settings: object, stream: str) -> bool:
    over = settings.over  # type: ignore[attr-defined]  # as above
    return bool(over.of(Stream(stream)) == "park")
