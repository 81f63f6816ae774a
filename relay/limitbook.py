"""Every limit that the mail of one tenant meets: whose it is, what is allowed, taken and left, when it frees, how often it bit.

For people: `zegel limit show`, and a tenant's own rows over the API. Nothing here is on the road of a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from relay.counters.contract import DAY, HABITS, SHARED, SUDDEN, WARM_UP, Limit, SharedCounters
from relay.limits import (
    WHOLE,
    Who,
    allowed_today,
    bite_key,
    buckets,
    first_time_of,
    first_time_set_at,
    for_people,
    limits_of,
    part_of,
    signs_of,
)
from relay.mail.envelope import Account, Credential, Stream, Tenant
from relay.policy.catalogue import Catalogue
from relay.reputation.book import Book, Sender

POLICY, REPUTATION = "throttle", "reputation"
AT_THE_DOOR = ("recipients_per_message", "connections_per_address", "failed_logins_per_10_minutes")


class Row(NamedTuple):
    """One limit as it holds for some streams of the tenant. `set_by`: operator (`zegel limit set`) or config."""

    limit: Limit
    subject: str
    set_by: str
    bites: str  # what its bites are counted by
    streams: list[str]


class LimitBook:
    """The limits of tenants, as `catalogue` has them, over `counters`; `book` says which part of them senders have."""

    def __init__(self, catalogue: Catalogue, counters: SharedCounters, book: Book) -> None:
        self._catalogue = catalogue
        self._book = book
        self._counters = counters

    def rows(self, tenant: Tenant, credentials: Sequence[Credential], now: float, *, client: str = "") -> list[Row]:
        """What is in force for the logins of a tenant and its domains, in the order of docs/limits.md; with `client`, what an
        address is counted by, also for what comes from there.
        """
        found: dict[tuple[Limit, str], Row] = {}
        for account, domain, settings in self._everybody(tenant, credentials):
            who = Who.at(account, domain, client)
            percent = self._percent(tenant, who)
            per_message, per_recipient = limits_of(settings, who, tenant.limits, percent)
            keys = {(scope, key): subject for scope, subject, key, _ in who.scopes()}
            first_time = first_time_of(settings, who, tenant.limits, percent)
            signs = [*([first_time] if first_time else []), *signs_of(settings, account, domain, now)]
            for limit in (*filter(None, map(for_people, per_message)), *per_recipient, *signs):
                if limit.scope == "credential" and not who.credential:
                    continue
                own = domain if limit.scope == "domain" else who.credential
                subject = keys.get((limit.scope, limit.key), own)
                is_own = (limit.scope, subject, limit.name) in tenant.limits
                is_own = is_own or (limit is first_time and first_time_set_at(who, tenant.limits) is not None)
                set_by = "operator" if is_own else "config"
                row = Row(limit, subject or tenant.name, set_by, bite_key(limit.scope, _named(limit), who), [])
                streams = found.setdefault((limit, subject), row).streams
                if who.stream not in streams:
                    streams.append(who.stream)
        order = ("credential", "stream", "tenant", "domain", "client")
        return sorted(found.values(), key=lambda row: (order.index(row.limit.scope), row.subject, row.limit.name))

    def _everybody(self, tenant: Tenant, credentials: Sequence[Credential]) -> Iterator[tuple[Account, str, object]]:
        """Everybody whose mail would meet a limit and from which domain, with the settings that hold for him; none where the
        policy is off.
        """
        for stream in Stream:
            step = next((s for s in self._catalogue.plan(tenant, stream).admit if s.policy.name == POLICY), None)
            if step is None:
                continue
            people = [each for each in credentials if each.stream is stream and not each.revoked]
            accounts = [Account(tenant, each) for each in people or [Credential("", "", tenant.name, stream)]]
            for account in accounts:
                yield account, "", step.settings
            for domain in tenant.domains:
                yield accounts[0], domain, step.settings

    def _percent(self, tenant: Tenant, who: Who) -> int:
        """The part of each limit that is left to who stands so (REP-1, REP-2)."""
        level = self._book.stands(Sender(tenant.id, who.credential, who.stream, who.domain)).level
        steps = self._catalogue.plan(tenant, Stream(who.stream)).admit
        step = next((step for step in steps if step.policy.name == REPUTATION and step.mode == "enforce"), None)
        return part_of(step.settings, level) if step is not None else WHOLE

    async def show(
        self, tenant: Tenant, credentials: Sequence[Credential], now: float, *, client: str = ""
    ) -> list[dict[str, Any]]:
        """The rows with what is taken at `now`, as the contract prints them; then how often an address of a client bit, whichever
        it was, unless one is asked for.
        """
        shown = [await self._shown(row, now) for row in self.rows(tenant, credentials, now, client=client)]
        shown += [
            _at_the_door(tenant, *key, value) for key, value in sorted(tenant.limits.items()) if key[2] in AT_THE_DOOR
        ]
        for name in ("messages_per_minute", "recipients_per_day") if not client else ():
            bites = await self._counters.count(bite_key("client", name, Who("", tenant.id, "")), DAY, now)
            if bites:
                row: dict[str, Any] = {
                    "scope": "client",
                    "subject": None,
                    "name": name,
                    "streams": [],
                    "set_by": "config",
                }
                shown.append({**row, **_NOT_COUNTED, "allowed": None, "bites_24h": bites})
        return shown

    async def _shown(self, row: Row, now: float) -> dict[str, Any]:
        limit = row.limit
        used = await self._counters.used(limit, now)
        # What is sudden hangs on the days before: there is no number that is allowed.
        allowed = None if limit.name in HABITS else allowed_today(limit, now) if limit.name == WARM_UP else limit.amount
        left = None if allowed is None else max(0, allowed - used)
        return {
            "scope": limit.scope,
            "subject": row.subject,
            "name": _named(limit),
            "streams": row.streams,
            "allowed": allowed,
            "used": used,
            "left": left,
            "frees_at": (await self._counters.room(limit, now) or None) if left == 0 else None,
            "set_by": row.set_by,
            "bites_24h": await self._counters.count(row.bites, DAY, now),
        }

    async def waiting(self, rows: Sequence[Row], now: float) -> int:
        """Units of parked mail that these limits count. Who stands otherwise has a row of his own for what is counted as one."""
        found: dict[tuple[str, ...], int] = {}
        for limit in (row.limit for row in rows):
            is_shared = limit.behind == SHARED  # an operator is told of all that waits
            units = await self._counters.waiting(limit._replace(behind=0) if is_shared else limit, now)
            found[limit[:3]] = max(units, found.get(limit[:3], 0))
        return sum(found.values())

    async def reset(self, rows: Sequence[Row], tenants: Sequence[int]) -> int:
        """Forget what was charged to these limits, also by mail of `tenants` that waits; how many they are. Parked mail keeps
        its turn.
        """
        await self._counters.reset(*(bucket for row in rows for bucket in buckets(row.limit, tenants)))
        return len(rows)


def _named(limit: Limit) -> str:
    """A campaign is measured otherwise than other mail, and is one thing with it for people."""
    return SUDDEN if limit.name in HABITS else limit.name


def keys_of(
    catalogue: Catalogue,
    counters: SharedCounters,
    book: Book,
    tenant: Tenant,
    credentials: Sequence[Credential],
    now: float,
) -> list[str | Limit]:
    """All that is counted for a tenant alone, as `SharedCounters.reset` takes it; what several share stays, but for its line."""
    rows = LimitBook(catalogue, counters, book).rows(tenant, credentials, now)
    who = Who("", tenant.id, "")
    keys: list[str | Limit] = [bite_key("client", name, who) for name in ("messages_per_minute", "recipients_per_day")]
    for row in rows:
        own = buckets(row.limit, [tenant.id])
        keys += own if row.limit.tenant else own[2:]
        keys.append(row.bites)
    return keys


_NOT_COUNTED = {"used": None, "left": None, "frees_at": None}


def _at_the_door(tenant: Tenant, scope: str, subject: str, name: str, value: int) -> dict[str, Any]:
    """What an operator set of the limits that come before a message; nothing is used up of them."""
    row = {"scope": scope, "subject": subject or tenant.name, "name": name, "streams": [], "allowed": value}
    return {**row, **_NOT_COUNTED, "set_by": "operator", "bites_24h": 0}


def chosen(rows: Sequence[Row], name: str, scope: str, subject: str) -> list[Row]:
    """The rows of one `scope` and `subject` ("": of any), and of one `name`; "": of any but SUDDEN, whose history would be
    forgotten unasked.
    """
    return [
        row
        for row in rows
        if (_named(row.limit) == name or (not name and row.limit.name not in HABITS))
        and scope in ("", row.limit.scope)
        and subject in ("", row.subject)
    ]
