"""Metrics of incidents and their clocks; relay.observe.metrics takes them into the catalogue."""

from __future__ import annotations

from relay.observe.labels import TENANT
from relay.observe.registry import Counter, Gauge, Label

OPENED = Counter(
    "zegel_incidents_opened_total",
    "Incidents that the gateway opened by itself, by kind.",
    "What goes wrong without anybody saying so?",
    [Label("kind", ("exposure", "leak", "export"))],
)
OPEN = Gauge(
    "zegel_incidents_open",
    "Incidents that are not closed.",
    "Whose incidents are being handled?",
    [TENANT],
    merge="max",
)
UNSEEN = Gauge(
    "zegel_incidents_unseen",
    "Open incidents that the gateway opened and nobody has looked at.",
    "Is there an incident that nobody knows of?",
    merge="max",
)
NOTICES = Gauge(
    "zegel_incident_notices_due",
    "Open incidents of which somebody must still be told: all (detection), those past each alarm, those past the deadline.",
    "Will a deadline of the law be missed, or is it?",
    [Label("to", ("tenant", "authority")), Label("past", ("detection", "warning", "urgent", "deadline"))],
    merge="max",
)
UNANSWERED = Gauge(
    "zegel_deletion_requests_unanswered",
    "Wrong recipients who were asked to delete something and have not confirmed it.",
    "Who still has what was not for him?",
    merge="max",
)
