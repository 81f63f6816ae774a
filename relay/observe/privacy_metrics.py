"""Metrics of erasure and retention; relay.observe.metrics takes them into the catalogue."""

from __future__ import annotations

from relay.observe.registry import Counter, Gauge, Label

STRUCK = Counter(
    "zegel_erased_copies_total",
    "Queued copies that were dropped because their recipient was erased.",
    "Does mail still wait for people who had themselves erased?",
)
ERASING = Gauge(
    "zegel_erasure_oldest_seconds",
    "Age of the oldest erasure that queue, delivery log and other files do not know of yet.",
    "Is an erased person still named in a file?",
    merge="max",
)

KIND = Label(
    "kind",
    (
        "delivery_log",
        "campaign_addresses",
        "mailing",
        "captured",
        "outcome",
        "evidence",
        "proof",
        "bounce",
        "audit",
        "request",
        "code",
        "idempotency",
        "webhook",
        "told",
        "incident",
        "request_file",
        "threads",
    ),
)
FORGOTTEN = Counter(
    "zegel_retention_forgotten_total",
    "Rows, captured mails, and files of the delivery log, that had had their time and were deleted, by kind of data.",
    "Is what has had its time forgotten?",
    [KIND],
)
FORGOT_AT = Gauge(
    "zegel_retention_run_timestamp_seconds",
    "When the hourly job last looked at a kind of data.",
    "Has the job looked at every kind of data?",
    [KIND],
    merge="max",
)
