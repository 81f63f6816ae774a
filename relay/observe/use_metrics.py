"""Metrics of use records; relay.observe.metrics takes them into the catalogue."""

from __future__ import annotations

from relay.observe.registry import Counter, Label

USES = Counter(
    "zegel_use_records_total",
    "Advertising that was delivered and written down with what it rested on: a record of the ledger, or nothing.",
    "Does every mailing rest on something that can be shown (CONSENT-15)?",
    [Label("rested", ("record", "nothing"))],
)
