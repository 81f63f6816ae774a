"""`zegel reputation` while no gateway runs: how everybody stands, and a release that is written down."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from relay.counters.embedded import EmbeddedCounters
from relay.counters.ring import BOUNCED, DELIVERED, News
from relay.reputation.book import Book, Sender
from relay.reputation.judge import Bounds
from tests.relay.cli.conftest import Zegel
from tests.relay.cli.test_limit import audited

NEWS = Sender(1, "shop-newsletter", "marketing", "news.shop.example")


def sent(folder: Path, delivered: int, bounced: int) -> None:
    async def work() -> None:
        counters = EmbeddedCounters(folder / "data")
        codes = bytes([DELIVERED] * delivered + [BOUNCED] * bounced)
        await Book(counters.windows, Bounds()).add(NEWS, News(ended=codes), time.time())
        counters.close()

    asyncio.run(work())


def test_everybody_stands_well_at_first(shop: Zegel) -> None:
    rows = shop.ask("reputation", "show", "shop")
    assert [(row["scope"], row["subject"]) for row in rows] == [
        *[("credential", f"shop-{name}") for name in ("newsletter", "personal", "transactional")],
        *[("stream", name) for name in ("marketing", "transactional", "personal")],
        ("domain", "shop.example"),
        ("tenant", "shop"),
    ]
    assert {row["level"] for row in rows} == {"good"} and {row["bounce_ratio"] for row in rows} == {None}


def test_who_is_paused_is_shown_and_released(shop: Zegel, tmp_path: Path) -> None:
    sent(tmp_path, 900, 100)
    rows = {(row["scope"], row["subject"]): row for row in shop.ask("reputation", "show", "shop")}
    paused = {place for place, row in rows.items() if row["level"] == "paused"}
    assert paused == {
        ("credential", "shop-newsletter"), ("stream", "marketing"), ("domain", "shop.example"), ("tenant", "shop"),
    }  # fmt: skip
    assert rows["stream", "marketing"]["bounce_ratio"] == 0.1 and rows["stream", "marketing"]["since"] > 0
    text = shop("reputation", "show", "shop", "--stream", "marketing").out
    assert "paused" in text and "10.0%" in text and "personal" not in text
    one = shop.ask("reputation", "release", "shop", "--domain", "shop.example")
    left = {"leave_at_once": 0, "leave_in_turn": 0}
    assert one == {"tenant": "shop", "scope": "domain", "subject": "shop.example", "released": 1, **left}
    assert shop.ask("reputation", "release", "shop")["released"] == 3
    assert {row["level"] for row in shop.ask("reputation", "show", "shop")} == {"good"}
    assert audited(tmp_path)[-2:] == ["reputation.release"] * 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "nobody"), 1, "no tenant"),
        (("release", "nobody"), 1, "no tenant"),
        (("release", "shop", "--credential", "nobody"), 1, "no such credential"),
        (("release", "shop", "--stream", "marketing", "--domain", "shop.example"), 2, "one of"),
    ],
)
def test_what_cannot_be_says_why(shop: Zegel, words: tuple[str, ...], code: int, said: str) -> None:
    answer = shop("reputation", *words)
    assert answer.code == code and said in answer.err
