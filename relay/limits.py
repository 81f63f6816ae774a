"""Which limits one message is charged against (THROTTLE-1 to THROTTLE-3): from settings to charges. Pure.

The numbers come from the settings of the throttle policy, which a tenant or a stream may override.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache

from relay.counters.cell_rate import warm_up_amount
from relay.counters.contract import DAY, MINUTE, SUDDEN, WARM_UP, Charge, Limit
from relay.mail.envelope import Domain, Stream, Submission
from relay.mail.sender import from_domain

_OLD_SECONDS = 70 * DAY  # who is older has warmed up, whatever the settings
HOUR = 3600
_NORMAL = 100_000  # up to which an account warms up where no limit of a day is set


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


def charges(mail: Submission, settings: object) -> list[Charge]:
    """Every limit of the message with its cost: one message, and as many recipients as are left."""
    account = mail.account
    domain = from_domain(mail.message) if mail.message is not None else ""
    who = (account.credential.name, account.tenant.id, domain, client_key(mail.session.client_ip))
    per_message, per_recipient = _limits(settings, mail.stream.value, who)
    count = max(1, len(mail.recipients))
    found = [(limit, 1) for limit in per_message] + [(limit, count) for limit in per_recipient]
    credential = account.credential
    sudden = _sudden(settings, mail.stream.value, credential.name, account.tenant.id)
    if sudden is not None:
        found.append((sudden, count))
    for scope, name, since, behind in (
        ("credential", credential.name, credential.created_at, credential.warmup_behind),
        ("domain", domain, _since(account.tenant.domains, domain), 0),
    ):
        if since and mail.now < since + _OLD_SECONDS:
            limit = _warm_up(settings, mail.stream.value, (scope, name, account.tenant.id, since, behind))
            if limit is not None and _limits_still(limit, mail.now):
                found.append((limit, count))
    return found


@lru_cache(maxsize=8192)
def _sudden(settings: object, stream: str, credential: str, tenant: int) -> Limit | None:
    """What counts for THROTTLE-7; None for a stream that is sudden by its nature, as a weekly newsletter, and where 0 is set."""
    times: int = getattr(settings, "sudden_times", 0)
    if not times or stream == Stream.MARKETING:
        return None
    least: int = getattr(settings, "sudden_recipients_per_hour", 200)
    return Limit(SUDDEN, "credential", f"h:{credential}", least, HOUR, times, tenant)


def _since(domains: Mapping[str, Domain], name: str) -> float:
    """When the tenant got the domain that `name` is, or is under; 0.0 where it is none of his."""
    while name:
        if name in domains:
            return domains[name].created_at
        name = name.partition(".")[2]
    return 0.0


@lru_cache(maxsize=8192)
def _warm_up(settings: object, stream: str, who: tuple[str, str, int, float, int]) -> Limit | None:
    """The warm-up of a login or domain (THROTTLE-3); None where the settings want none."""
    scope, name, tenant, since, behind = who
    first: int = getattr(settings, "warmup_recipients", 0)
    normal: int = getattr(settings, f"{stream}_recipients_per_day", 0)
    if scope == "domain":
        normal = getattr(settings, "domain_recipients_per_day", 0) or getattr(settings, "tenant_recipients_per_day", 0)
    if not first:
        return None
    return Limit(WARM_UP, scope, f"w:{name}", first, DAY, normal or _NORMAL, tenant, since, behind)


def _limits_still(limit: Limit, now: float) -> bool:
    return warm_up_amount(limit.amount, limit.burst, limit.behind, int((now - limit.since) // DAY)) > 0


@lru_cache(maxsize=8192)
def _limits(settings: object, stream: str, who: tuple[str, int, str, str]) -> tuple[list[Limit], list[Limit]]:
    """Limits counted in messages and limits counted in recipients; 0 in the settings means no limit."""
    credential, tenant, domain, client = who
    scopes = [("credential", stream, f"c:{credential}", tenant), ("stream", "stream", f"s:{tenant}:{stream}", tenant)]
    scopes.append(("tenant", "tenant", f"t:{tenant}", tenant))
    # A domain and an address count what all tenants send from there.
    if domain:
        scopes.append(("domain", "domain", f"d:{domain}", 0))
    if client:
        scopes.append(("client", "client", f"i:{client}", 0))
    per_message: list[Limit] = []
    per_recipient: list[Limit] = []
    for scope, prefix, key, owner in scopes:
        minute: int = getattr(settings, f"{prefix}_messages_per_minute", 0)
        if minute:
            per_message.append(Limit("messages_per_minute", scope, key, minute, MINUTE, minute, owner))
        day: int = getattr(settings, f"{prefix}_recipients_per_day", 0)
        if day:
            per_recipient.append(Limit("recipients_per_day", scope, key, day, DAY, 0, owner))
    return per_message, per_recipient


def parks(mail: Submission, settings: object) -> tuple[bool, int]:
    """Whether mail of this stream waits for its turn when it is over, and how many recipients may wait."""
    over = settings.over  # type: ignore[attr-defined]  # the throttle policy's settings; relay does not import policies
    return over.of(mail.stream) == "park", settings.max_parked_recipients  # type: ignore[attr-defined]  # as above
