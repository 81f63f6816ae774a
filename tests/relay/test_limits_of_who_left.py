"""What is counted for a tenant that leaves is forgotten, and what several share is not (GDPR-18)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.counters.contract import Limit
from relay.counters.embedded import EmbeddedCounters
from relay.counters.one_node import OneNode
from relay.limitbook import LimitBook, keys_of
from relay.mail.envelope import Credential, Domain, Stream, Tenant
from relay.policy.catalogue import Catalogue
from relay.reputation.book import Book
from relay.reputation.judge import Bounds
from relay.settings.model import Settings

NOW = 1_790_000_000.0
HERS = Tenant(7, "kerst", "Kerst BV", domains={"kerst.example": Domain("kerst.example", vouched=True)})
LOGINS = [Credential("kp-bills", "kp-bills", "kerst", Stream.TRANSACTIONAL)]


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[EmbeddedCounters]:
    made = EmbeddedCounters(tmp_path)
    yield made
    made.close()


def test_own_limits_are_as_new_and_shared_ones_as_they_were(counters: EmbeddedCounters) -> None:
    shared, catalogue = OneNode(counters), Catalogue.load({})
    book = Book(shared.windows, Bounds(**Settings().reputation.model_dump()))
    rows = LimitBook(catalogue, shared, book).rows(HERS, LOGINS, NOW)
    own = [
        row.limit
        for row in rows
        if row.limit.tenant == HERS.id and row.limit.period_seconds == 86_400 and not row.limit.since
    ]
    others = [row.limit for row in rows if row.limit.tenant != HERS.id]
    strange = Limit("recipients_per_day", "tenant", "8", 100, 86_400, tenant=8)
    assert own, rows
    for limit in (*own, *others, strange):
        counters.take([(limit._replace(people=b"", since=0.0, behind=0), 1)], NOW, park=True)
    bites = [row.bites for row in rows]
    counters.hits(sorted(set(bites)), 86_400.0, NOW)
    before = {limit[:3]: counters.used(limit, NOW) for limit in (*others, strange)}
    asyncio.run(shared.reset(*keys_of(catalogue, shared, book, HERS, LOGINS, NOW)))
    assert [counters.used(limit, NOW) for limit in own] == [0] * len(own)
    assert {limit[:3]: counters.used(limit, NOW) for limit in (*others, strange)} == before
    assert before[strange[:3]] == 1
    assert all(not counters.count(key, 86_400.0, NOW) for key in bites)
