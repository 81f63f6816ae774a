"""Where the state lies: settings of the database and of the counters."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, Field

from relay.settings.redis_url import WRITE as WRITE_COUNTERS
from relay.settings.redis_url import NoRedisUrl, RedisUrl, hidden, parse_redis_url
from relay.settings.section import FilePath, Section, refuse


def _counters_place(text: str) -> str:
    if text != "embedded":
        found = parse_redis_url(text)
        if isinstance(found, NoRedisUrl):
            raise refuse(f"{hidden(text)!r}: {found.wrong}", WRITE_COUNTERS)
    return text


def _redis_url(text: str) -> RedisUrl:
    found = parse_redis_url(text)
    assert isinstance(found, RedisUrl), "validated above"
    return found


CountersPlace = Annotated[str, AfterValidator(_counters_place)]


class Storage(Section):
    """Where the state lies."""

    database: str = Field(
        default="sqlite:///zegel.db",
        description="Directory, consent ledger, suppressions; a relative file lies in data_dir.",
    )
    counters: CountersPlace = Field(
        default="embedded",
        repr=False,  # it may hold a password
        description="Limits: embedded shares them among the workers; redis://, redis+sentinel://, redis+cluster:// among nodes.",
    )
    counters_password_file: FilePath | None = Field(
        default=None,
        description="File whose first line is the password of Redis; the address may hold one, best from the environment.",
        examples=["/etc/zegel/redis.secret"],
    )
    counters_ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the authorities to trust for rediss:// instead of the system's.",
        examples=["/etc/zegel/ca.pem"],
    )
    counters_timeout_seconds: float = Field(
        default=1.0,
        gt=0,
        le=10,  # a reply must come within 30 s (PIPE-6), and it may have to wait for this more than once
        description="Time in which Redis must answer; after it this node goes on alone, with its share.",
    )
    counters_degraded_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Part of each limit that a node keeps to while Redis is away; nodes times this is the excess.",
    )

    @cached_property
    def redis(self) -> RedisUrl | None:
        """Where counters lie that all nodes share, None when each has its own."""
        return None if self.counters == "embedded" else _redis_url(self.counters)
