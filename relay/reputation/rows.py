"""How everybody of one tenant stands, for people: `zegel reputation show`, the API, the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.counters.ring import tally
from relay.mail.address import org_domain
from relay.mail.envelope import Credential, Stream, Tenant
from relay.reputation.book import Book, Seat, place_of
from relay.reputation.judge import Level


def seats(tenant: Tenant, credentials: Sequence[Credential]) -> list[Seat]:
    """Every login, stream and From domain of a tenant, and the tenant itself."""
    own = [("credential", each.name) for each in credentials] + [("stream", stream.value) for stream in Stream]
    own += [("domain", name) for name in sorted({org_domain(domain) for domain in tenant.domains})] + [("tenant", "")]
    return [Seat(tenant.id, scope, subject, place_of(tenant.id, scope, subject)) for scope, subject in own]


async def rows(book: Book, tenant: Tenant, credentials: Sequence[Credential], now: float) -> list[dict[str, Any]]:
    """One row for each. Ratios are None where there is too little mail to say so. Raises CountersUnavailable."""
    return [await _row(book, tenant, seat, now) for seat in seats(tenant, credentials)]


async def _row(book: Book, tenant: Tenant, seat: Seat, now: float) -> dict[str, Any]:
    window = await book.windows.get(seat.place, now)
    counted = tally(window)
    bounces, complaints = book.ratios(counted)
    return {
        "scope": seat.scope,
        "subject": seat.subject or tenant.name,
        "level": Level(window.level).word,
        "since": window.since or None,
        "deliveries": counted.deliveries,
        "bounces": counted.bounces,
        "complaints": counted.complaints,
        "bounce_ratio": bounces,
        "complaint_ratio": complaints,
    }


def chosen(found: Sequence[Seat], scope: str, subject: str) -> list[Seat]:
    """The seats that a release names; "" is any."""
    return [seat for seat in found if scope in ("", seat.scope) and subject in ("", seat.subject)]
