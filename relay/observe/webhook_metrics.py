"""Metrics of the webhooks to tenants' marketing tools; relay.observe.metrics takes them into the catalogue."""

from __future__ import annotations

from relay.observe.labels import TENANT
from relay.observe.registry import Counter, Gauge, Label

TRIES = Counter(
    "zegel_webhook_tries_total",
    "Tries to tell a tenant's marketing tool of an event, and events given up after the last one (dead).",
    "Do marketing tools hear of who left?",
    [Label("outcome", ("delivered", "failed", "dead"))],
)
WAITING = Gauge(
    "zegel_webhook_waiting_events",
    "Events that wait for a tenant's marketing tool.",
    "Whose tool is behind?",
    [TENANT],
    merge="max",
)
OLDEST = Gauge(
    "zegel_webhook_oldest_seconds",
    "Age of the oldest event that waits for a tenant's marketing tool.",
    "Since when does a tool not know who left?",
    [TENANT],
    merge="max",
)
DEAD = Gauge(
    "zegel_webhook_dead_events",
    "Events for a tenant's marketing tool that were given up.",
    "What did a tool never hear of?",
    [TENANT],
    merge="max",
)
