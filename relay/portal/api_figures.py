"""Answers of the API about mail: what became of it, how its senders stand, which limits it meets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from relay.portal.api_models import example


class StandingRow(BaseModel):
    """How one sender stands by his last 1,000 deliveries. Ratios are left out where there is too little to say so."""

    model_config = example(
        scope="credential",
        subject="shop-newsletter",
        level="warn",
        since="2026-03-04T08:15:00Z",
        deliveries=1000,
        bounces=24,
        complaints=0,
        bounce_ratio=0.024,
    )

    scope: Literal["credential", "stream", "domain", "tenant"]
    subject: str
    level: Literal["good", "warn", "review", "paused"]
    since: datetime | None = None
    deliveries: int
    bounces: int
    complaints: int
    bounce_ratio: float | None = None
    complaint_ratio: float | None = None


class LimitRow(BaseModel):
    """One limit. `left` is 0 and `frees_at` says when there is room again while it bites; `bites_24h` is how often it made
    mail wait. Of scope client the address is not kept, so only that is known.
    """

    model_config = example(
        scope="credential",
        subject="shop-newsletter",
        name="messages_per_minute",
        streams=["marketing"],
        allowed=120,
        used=37,
        left=83,
        set_by="config",
        bites_24h=0,
    )

    scope: Literal["credential", "stream", "tenant", "domain", "client"]
    subject: str | None = None
    name: str | None = None
    streams: list[str]
    allowed: int | None = None
    used: int | None = None
    left: int | None = None
    frees_at: datetime | None = None
    set_by: Literal["operator", "config"]
    bites_24h: int


class MessageTrace(BaseModel):
    """What happened to a message, oldest first. Each event has, beside these, what belongs to it."""

    model_config = example(
        id="0R3M7K2QX9T1A",
        events=[
            {"at": 1772611200.0, "event": "accepted", "stream": "transactional", "rcpt": ["ann@example.net"]},
            {"at": 1772611201.5, "event": "delivered", "outcomes": [["ann@example.net", "delivered", "250 2.0.0 OK"]]},
        ],
    )

    id: str
    events: list[dict[str, Any]]
