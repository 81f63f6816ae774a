"""How often the API may be asked: no minute has more than is said, and every answer tells what is left."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.apikey import ApiKey
from relay.portal.rates import Rates
from tests.fakes.gateway import OTHER, OTHER_KEY, SHOP, SHOP_KEY, MemoryGateway, portal_settings
from tests.fakes.portal import browser

A, B, STRANGER = ApiKey(SHOP, "a"), ApiKey(SHOP, "b"), ApiKey(OTHER, "a")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_and_a_tenant_have_each_their_own_room() -> None:
    now = [100.0]
    rates = Rates(2, 3, now=lambda: now[0])
    assert [rates.ask(A).wait for _ in range(3)] == [0, 0, 60]
    assert [rates.ask(B).wait for _ in range(2)] == [0, 60], "the tenant's"
    assert rates.ask(STRANGER).wait == 0
    now[0] = 159.5
    assert rates.ask(A).wait == 1
    now[0] = 160.0
    assert [rates.ask(B).wait for _ in range(3)] == [0, 0, 60]
    assert [rates.ask(A).wait for _ in range(2)] == [0, 60]


def test_what_is_left_is_told() -> None:
    now = [0.0]
    rates = Rates(2, 10, now=lambda: now[0])
    told = rates.ask(A).headers
    assert told == {
        "RateLimit-Policy": '"key";q=2;w=60, "tenant";q=10;w=60',
        "RateLimit": '"key";r=1;t=60, "tenant";r=9;t=60',
    }
    now[0] = 20.0
    assert [rates.ask(B).headers["RateLimit"] for _ in range(3)][2] == '"key";r=0;t=60, "tenant";r=7;t=40'


@given(
    limit=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from([A, B]), st.floats(0, 45)), min_size=1, max_size=60),
)
def test_no_minute_has_more_than_is_said(limit: int, steps: list[tuple[ApiKey, float]]) -> None:
    now = [0.0]
    rates = Rates(limit, limit + 2, now=lambda: now[0])
    let_in: list[tuple[str, float]] = []
    for key, pause in steps:
        now[0] += pause
        if not rates.ask(key).wait:
            let_in.append((key.name, now[0]))
    for _, at in let_in:
        minute = [name for name, when in let_in if at <= when and when - at < 59.999]
        assert len(minute) <= limit + 2 and max(map(minute.count, "ab")) <= limit


async def test_too_many_are_told_when_to_come_back_and_do_nothing(tmp_path: Path) -> None:
    gateway = MemoryGateway(tmp_path, capture=False)
    stop = {"email": "ann@example.net", "reason": "bounce"}
    async with browser(gateway, portal_settings(mode="smarthost", rates=(2, 5))) as web:
        refused = await web.post("/api/v1/suppressions", json={}, headers=bearer(SHOP_KEY))
        assert refused.status_code == 422 and '"key";r=1' in refused.headers["ratelimit"], "errors count and tell"
        good = await web.post("/api/v1/suppressions", json=stop, headers=bearer(SHOP_KEY))
        assert good.status_code == 200 and '"key";r=0' in good.headers["ratelimit"]
        many = await web.post("/api/v1/suppressions", json=stop, headers=bearer(SHOP_KEY))
        assert (many.status_code, many.headers["content-type"]) == (429, "application/problem+json")
        assert 1 <= int(many.headers["retry-after"]) <= 60 and '"key";q=2;w=60' in many.headers["ratelimit-policy"]
        assert (await web.get("/api/v1/limits", headers=bearer(OTHER_KEY))).status_code == 200
        stranger = await web.get("/api/v1/limits", headers=bearer("zk_no"))
        assert stranger.status_code == 401 and "ratelimit" not in stranger.headers
    assert len(gateway.ops) == 1
