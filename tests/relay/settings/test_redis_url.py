"""Addresses of shared counters: what they say, what is refused with a remedy, and that nobody reads a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.settings.load import load
from relay.settings.problem import ConfigError
from relay.settings.redis_url import NoRedisUrl, RedisUrl, parse_redis_url, shown

SECRET = "hunter2"

GOOD = [
    ("redis://localhost", RedisUrl("single", (("localhost", 6379),), False, "", "", 0, "")),
    ("rediss://:p%40ss@[::1]:7000/3", RedisUrl("single", (("::1", 7000),), True, "", "p@ss", 3, "")),
    ("redis+cluster://a,b:1", RedisUrl("cluster", (("a", 6379), ("b", 1)), False, "", "", 0, "")),
    ("rediss+sentinel://u:p@a,b/main/2", RedisUrl("sentinel", (("a", 26379), ("b", 26379)), True, "u", "p", 2, "main")),
]
BAD = [
    "redis", "redis://", "http://a", "redis+ring://a", "redis://a,b", "redis://a:0", "redis://a:99999", "redis://a b",
    "redis://a/x", "redis://a/1/2", "redis+cluster://a/1", "redis+sentinel://a", "redis+sentinel://a/", "redis://user@a",
    "redis://a?db=1", "redis://a#1", "unix:///run/redis.sock", "redis://[::1", "redis+sentinel://a/name/x",
]  # fmt: skip


@pytest.mark.parametrize(("text", "parsed"), GOOD, ids=[text for text, _ in GOOD])
def test_an_address_is_read_as_it_is_meant(text: str, parsed: RedisUrl) -> None:
    assert tuple(parse_redis_url(text)) == tuple(parsed)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused_with_a_remedy(text: str, tmp_path: Path) -> None:
    assert isinstance(parse_redis_url(text), NoRedisUrl)
    with pytest.raises(ConfigError) as caught:
        load(environment={"ZEGEL_STORAGE__COUNTERS": text}, overrides={"server.data_dir": tmp_path / "data"})
    [problem] = caught.value.problems
    assert problem.key == "ZEGEL_STORAGE__COUNTERS" and "redis+sentinel://" in problem.remedy


@pytest.mark.parametrize(
    "text",
    [
        f"redis://zegel:{SECRET}@a/x",
        f"redis+ring://:{SECRET}@a",
        f"redis://:{SECRET}@198.51.100.7",
        f"redis://:{SECRET}@a?b",
        f"redis://:{SECRET}/{SECRET}@a",
        f"redis:/:{SECRET}@a",
        f"redis://:{SECRET}@{SECRET}@a/x",
    ],
)
def test_no_complaint_repeats_a_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environment={"ZEGEL_STORAGE__COUNTERS": text})
    assert SECRET not in f"{caught.value} {caught.value.problems}"


def test_nothing_that_is_printed_of_the_settings_holds_the_password() -> None:
    settings = load(environment={"ZEGEL_STORAGE__COUNTERS": f"redis+sentinel://u:{SECRET}@a,b/main"})
    assert settings.storage.redis is not None and settings.storage.redis.password == SECRET
    assert SECRET not in f"{settings!r} {settings} {settings.storage.redis!r}"
    assert shown(settings.storage.redis) == "redis+sentinel://a:26379,b:26379/main"
