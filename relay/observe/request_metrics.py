"""Metrics of requests of people about their own data; relay.observe.metrics takes them into the catalogue."""

from __future__ import annotations

from relay.observe.labels import TENANT
from relay.observe.registry import Gauge

REQUESTS_OPEN = Gauge(
    "zegel_requests_open",
    "Requests of people about their own data that were neither answered nor refused.",
    "Whose people wait for an answer?",
    [TENANT],
    merge="max",
)
REQUESTS_DUE_SOON = Gauge(
    "zegel_requests_due_soon",
    "Of these, due within a week.",
    "Which answers must be written now?",
    [TENANT],
    merge="max",
)
REQUESTS_OVERDUE = Gauge(
    "zegel_requests_overdue",
    "Of these, past their month, or the three after an extension.",
    "Has somebody been left without the answer that the law promises?",
    [TENANT],
    merge="max",
)
