"""Every metric, declared once: name, help, the question it answers, and what its labels may hold.

Base units, prefix `zegel_`; never an address, a subject, a queue id or free text in a label (OPS-1).
`monitoring/metrics.md` is generated from this file.
"""

from __future__ import annotations

import re

from relay.observe import incident_metrics, privacy_metrics, request_metrics, use_metrics, webhook_metrics
from relay.observe.buckets import FAST, SIZES, SLOW, TINY
from relay.observe.exposition import Base
from relay.observe.exposition import merge as merge_snapshots
from relay.observe.exposition import together as together_snapshots
from relay.observe.labels import NAME, OUTCOME, POLICY, PROVIDER, RULE, STREAM, SUBJECT, TENANT, VERDICT
from relay.observe.registry import AnyMetric, Counter, Gauge, Histogram, Label, Snapshot

__all__ = ["CATALOGUE", "Base", "Snapshot", "merge", "snapshot", "together"]

MESSAGES = Counter(
    "zegel_messages_total",
    "Messages by what became of them at intake; refused ones count once, at MAIL, RCPT or the end of data.",
    "How much comes in, and how much of it may leave?",
    [STREAM, VERDICT],
)
TENANT_MESSAGES = Counter(
    "zegel_tenant_messages_total",
    "The same by tenant.",
    "Who sends how much, and who is refused?",
    [TENANT, VERDICT],
)
REFUSALS = Counter("zegel_refusals_total", "Refusals by rule.", "Which rule stops mail, and since when?", [RULE])
RECIPIENTS = Counter(
    "zegel_recipients_total",
    "Recipients by what became of them at intake.",
    "How many people would have got mail they had not agreed to?",
    [Label("outcome", ("accepted", "refused", "dropped"))],
)
ACCEPT_SECONDS = Histogram(
    "zegel_accept_seconds", "Time from the end of data to the reply.", "Do senders wait?", bounds=FAST
)
POLICY_SECONDS = Histogram(
    "zegel_policy_seconds", "Time a policy takes to decide.", "Which policy is slow?", [POLICY], bounds=TINY
)
POLICY_BYPASS = Counter(
    "zegel_policy_bypass_total",
    "Messages let through without a policy's answer, since what it asks was down.",
    "What passed unchecked while a store was down (PIPE-3)?",
    [POLICY],
)
FACTS_UNAVAILABLE = Counter(
    "zegel_facts_unavailable_total",
    "Facts that could not be had in time.",
    "Which store fails or is slow?",
    [
        Label(
            "fact", ("consents", "suppressions", "requests", "thread", "fingerprint", "leaks", "standing", "allowance")
        )
    ],
)
SCAN_SECONDS = Histogram(
    "zegel_scan_seconds", "Time of a scan for leaks.", "Do attachments make senders wait (PIPE-6)?", bounds=FAST
)
LEAKS = Counter(
    "zegel_leaks_total",
    "Messages with data that should not leave by mail, by what was found and what followed (DLP).",
    "What leaks, who only watches it, and what was stopped?",
    [
        Label(
            "detector",
            ("bsn", "iban", "card", "address_list", "address_file", "special", "unreadable", "bomb"),
        ),
        Label(
            "verdict",
            (
                *("accept", "hold", "defer", "reject"),
                *("would-accept", "would-hold", "would-defer", "would-reject"),
            ),
        ),
    ],
)
THROTTLED = Counter(
    "zegel_throttled_total",
    "Messages over a limit, parked or deferred.",
    "Whose pace is too high, and which limit says so?",
    [Label("scope", ("credential", "tenant", "client", "domain", "stream"))],
)

SESSIONS = Gauge("zegel_smtp_sessions", "SMTP sessions that are open.", "How near is max_connections?")
SMTP_EVENTS = Counter(
    "zegel_smtp_events_total",
    "What happens in SMTP sessions; protocol errors by reply code.",
    "Is a client broken, or somebody probing?",
    [
        Label(
            "event",
            re.compile(r"session|starttls|refused_connection|bad_proxy_header|protocol_error_[45][0-9]{2}"),
            known=("session", "starttls", "refused_connection", "bad_proxy_header"),
        )
    ],
)
AUTH_FAILURES = Counter(
    "zegel_auth_failures_total",
    "Logins refused.",
    "Is somebody guessing passwords?",
    [Label("reason", ("wrong", "blocked", "suspended", "unavailable"))],
)
LOGIN_ATTACKS = Counter(
    "zegel_login_attacks_total",
    "Ten minutes in which one login got many wrong passwords from several addresses (THROTTLE-10).",
    "Is somebody guessing the password of one account from everywhere?",
)
SUSPENDED = Gauge(
    "zegel_suspended_accounts",
    "Tenants and logins that are suspended.",
    "Who waits for a person to release him (THROTTLE-9)?",
    [Label("kind", ("tenant", "credential"))],
    merge="max",
)
SIGNS = Counter(
    "zegel_signs_total",
    "Messages with a sign of abuse: a login suddenly sends far more (THROTTLE-7), a campaign goes as personal mail (CLASS-9).",
    "Was a password stolen, or is a newsletter sent as personal mail?",
    [Label("sign", ("sudden_change", "bulk"))],
)
IN_FLIGHT_BYTES = Gauge(
    "zegel_in_flight_bytes", "Message bytes in memory.", "How near is max_in_flight_bytes, after which mail gets 452?"
)

QUEUE_MESSAGES = Gauge(
    "zegel_queue_messages",
    "Messages in the queue.",
    "Does more come in than leaves?",
    [Label("state", ("ready", "waiting", "in_flight", "frozen"))],
)
QUEUE_OLDEST = Gauge(
    "zegel_queue_oldest_seconds",
    "Age of the oldest message that waits.",
    "Is a destination stuck?",
    [PROVIDER],
    merge="max",
)
QUEUE_AGE = Gauge(
    "zegel_queue_age_seconds",
    "Age of the oldest message that waits: urgent is transactional and personal mail, bulk is marketing.",
    "Does somebody wait for a password reset?",
    [Label("rank", ("urgent", "bulk"))],
    merge="max",
)
QUEUE_STOPPED = Gauge(
    "zegel_queue_stopped",
    "1 while a worker takes no new mail: its queue cannot be written, or space is low.",
    "Do senders get 4xx because of our disk?",
    merge="max",
)
HELD_MESSAGES = Gauge("zegel_held_messages", "Messages held for a person.", "Is somebody needed to look?")
HELD_OLDEST = Gauge(
    "zegel_held_oldest_seconds",
    "Time since the oldest held message was accepted.",
    "How long does somebody wait for our decision?",
    merge="max",
)
HOLD_DECISIONS = Counter(
    "zegel_hold_decisions_total",
    "Held messages that were decided on.",
    "Who decides on held mail, and how?",
    [
        Label("by", ("operator", "sender", "tenant", "time")),
        Label("choice", ("as_written", "split", "hidden", "refuse")),
    ],
)
CONTACT_LETTERS = Counter(
    "zegel_contact_letters_total",
    "Letters to tenants' contacts on refused and held mail: the digest of a day, the first refusal of a rule.",
    "Do tenants hear of what is refused?",
    [Label("letter", ("digest", "first"))],
)
CORRUPT_ROWS = Gauge("zegel_queue_corrupt_rows", "Queue rows that cannot be read.", "Is a disk failing?")
SPOOL_COMMITS = Counter("zegel_spool_commits_total", "Durable commits of the queue.", "How many syncs does mail cost?")
SPOOL_BATCH = Histogram(
    "zegel_spool_batch_messages",
    "Messages that shared one durable commit.",
    "Do sessions share syncs under load?",
    bounds=SIZES,
)
SPOOL_FAILURES = Counter("zegel_spool_failures_total", "Commits that failed.", "Is the disk full or failing?")

DELIVERIES = Counter(
    "zegel_deliveries_total",
    "Delivery attempts, one per recipient.",
    "Does mail arrive, and where not?",
    [PROVIDER, OUTCOME],
)
DELIVERY_REFUSALS = Counter(
    "zegel_delivery_refusals_total",
    "Attempts, one per recipient, that did not deliver, by what the answer was about (RFC 3463).",
    "Are we blocked, or are the addresses bad?",
    [PROVIDER, Label("outcome", ("deferred", "failed")), SUBJECT],
)
DELIVERY_DOUBTS = Counter(
    "zegel_delivery_doubts_total",
    "Attempts cut after the final dot: the next one may be a duplicate (OUT-10).",
    "How many recipients may have got a mail twice?",
)
REPORTS_LOST = Counter(
    "zegel_reports_lost_total",
    "Delivery reports and notices of ours that could not be delivered (OUT-12).",
    "Do senders hear what became of their mail?",
)
DELIVERY_SECONDS = Histogram(
    "zegel_delivery_seconds", "Time from acceptance to the final outcome.", "How long is mail under way?", bounds=SLOW
)
NEXT_HOPS_FAILING = Gauge(
    "zegel_next_hops_failing",
    "Next hops that failed when they were last tried: no connection, no TLS, no login.",
    "Does a smarthost refuse us, so that mail waits?",
    merge="max",
)
DKIM_SIGNATURES = Counter(
    "zegel_dkim_signatures_total",
    "Signatures made.",
    "Is everything signed that leaves?",
    [Label("algorithm", ("rsa-sha256", "ed25519-sha256"))],
)
DKIM_FAILURES = Counter(
    "zegel_dkim_failures_total", "Copies that wait because they could not be signed.", "Is a key missing or broken?"
)

DKIM_DUE = Gauge(
    "zegel_dkim_keys_due",
    "Active DKIM keys of half a year or older of which the next is not in the making (DKIM-9).",
    "Which keys are to be replaced?",
    merge="max",
)
DKIM_MISMATCHED = Gauge(
    "zegel_dkim_mismatched_keys",
    "Active DKIM keys that differ from what DNS showed at their last check (DKIM-8).",
    "Does a domain publish another key than the one we sign with?",
    merge="max",
)

COMPLAINT_RATIO = Gauge(
    "zegel_complaint_ratio", "Complaints per delivery (REP-2).", "Who must be stopped at 0.003?", [TENANT], merge="max"
)
BOUNCE_RATIO = Gauge(
    "zegel_bounce_ratio",
    "Hard bounces per delivery (REP-1).",
    "Who mails an old or bought list?",
    [TENANT],
    merge="max",
)
OUTCOMES = Counter(
    "zegel_outcomes_total",
    "Deliveries that came to an end, and complaints, as they count for their senders (REP-1, REP-2).",
    "What do providers and recipients say to our mail?",
    [Label("outcome", ("delivered", "bounced", "unknown", "refused", "complained"))],
)
SENDERS = Gauge(
    "zegel_reputation_senders",
    "Logins, streams, From domains and the tenant itself that do not stand well.",
    "Who is slowed down, and who waits for a person to release him?",
    [TENANT, Label("level", ("warn", "review", "paused"))],
    merge="max",
)
DNSBL_LISTED = Gauge(
    "zegel_dnsbl_listed",
    "1 while an address of ours is listed (REP-5). Nothing sets it yet.",
    "Are we blocked?",
    [Label("zone", NAME)],
    merge="max",
)
UNSUBSCRIBES = Counter(
    "zegel_unsubscribes_total",
    "People who left.",
    "How do people leave, and did a campaign drive them out?",
    [Label("channel", ("one_click", "page", "mailto", "my", "api", "operator", "complaint"))],
)

STAGE_CPU_SECONDS = Counter(
    "zegel_stage_cpu_seconds_total",
    "CPU time per stage of a message.",
    "Where do the microseconds of a message go?",
    [Label("stage", ("receive", "parse", "gather", "judge", "commit", "claim", "render", "sign", "send", "record"))],
)
LOOP_LAG = Histogram(
    "zegel_loop_lag_seconds", "How late the event loop runs.", "Does something block a worker?", bounds=FAST
)
LIMITS_DEGRADED = Gauge(
    "zegel_limits_degraded",
    "1 while a worker cannot ask Redis and keeps to its node's share of the limits.",
    "Do limits hold for all nodes together, or for each alone?",
    merge="max",
)
LIMITS_DEGRADATIONS = Counter(
    "zegel_limits_degradations_total",
    "Times that a worker could no longer ask Redis.",
    "Does Redis come and go, each time too briefly to be seen?",
)
LIMITS_SECONDS = Histogram(
    "zegel_limits_seconds",
    "Time for Redis to charge the limits of a message.",
    "Does Redis, or the way to it, hold up mail?",
    bounds=FAST,
)
STORE_USABLE = Gauge(
    "zegel_store_usable",
    "1 while the shared database can be read and written.",
    "Does mail get 451 because the database is full, damaged or gone?",
    merge="max",
)
RECORDS_LOST = Counter(
    "zegel_records_lost_total",
    "Records beside the road of a message that could not be kept; the mail itself went on.",
    "Does `zegel trace` miss something, or /outbox, or the memory of threads, or a proof?",
    [Label("record", ("delivery_log", "outbox", "thread", "audit", "outcome", "incident", "use"))],
)
UPKEEP_FAILURES = Counter(
    "zegel_upkeep_failures_total",
    "Hourly runs of retention that failed.",
    "Is data kept longer than it may be (GDPR-11)?",
)
DIRECTORY_STALE = Gauge(
    "zegel_directory_stale",
    "1 while a worker cannot read tenants, logins and keys as they are now.",
    "Does a change not take effect?",
    merge="max",
)
DESCRIPTORS_EXHAUSTED = Counter(
    "zegel_descriptors_exhausted_total",
    "Files or connections that could not be opened, since the limit on open files was reached.",
    "Is somebody turned away because of LimitNOFILE?",
)
RELOAD_REFUSED = Gauge(
    "zegel_reload_refused",
    "1 when part of the last reload (SIGHUP) was refused; what was in force stays.",
    "Is an old certificate, or an old setting, still in use after a reload?",
    merge="max",
)
CERTIFICATE_EXPIRES = Gauge(
    "zegel_certificate_expires_timestamp_seconds",
    "When the first certificate in force on a kind of listener runs out, in Unix time.",
    "When will clients refuse to connect?",
    [Label("listener", re.compile("submission|submissions|feedback"))],
    merge="min",
)
DISK_FREE = Gauge("zegel_disk_free_bytes", "Space left under the data folder.", "Will the disk be full?", merge="max")
DISK_SIZE = Gauge("zegel_disk_size_bytes", "Space in all under the data folder.", "How much is left?", merge="max")
DISK_RESERVE = Gauge(
    "zegel_disk_reserve_bytes",
    "limits.min_free_disk_bytes: with less space left new mail gets 452.",
    "How near is the point at which mail is refused?",
    merge="max",
)
PROCESSES = Gauge(
    "zegel_processes",
    "Processes of this gateway: they serve, are alive without an answer, or are not there.",
    "Does everything run that should?",
    [Label("kind", ("worker", "web")), Label("state", ("running", "silent", "missing"))],
)
ALARMS = Counter(
    "zegel_alarms_total",
    "Letters with alarms of our own, by way and by whether they could be told.",
    "Would anybody hear of trouble?",
    [Label("way", ("mail", "webhook")), Label("outcome", ("told", "lost"))],
)
START_TIME = Gauge(
    "zegel_start_time_seconds",
    "When the supervisor started, in Unix time.",
    "Does the whole gateway start again and again?",
    merge="max",
)
CRASHES = Counter(
    "zegel_crashes_total",
    "Bugs that were caught at an outer edge.",
    "Is there a bug that somebody should see?",
    [Label("place", ("session", "worker", "owner", "watch", "web", "supervisor", "delivery", "scan"))],
)
CHILD_RESTARTS = Counter(
    "zegel_child_restarts_total", "Processes started again.", "Does a process die?", [Label("kind", ("worker", "web"))]
)

_SPLIT_OFF = (webhook_metrics, incident_metrics, privacy_metrics, request_metrics, use_metrics)
_ALL = {**{name: value for module in _SPLIT_OFF for name, value in vars(module).items()}, **globals()}
CATALOGUE: tuple[AnyMetric, ...] = tuple(value for value in _ALL.values() if isinstance(value, AnyMetric))


def snapshot() -> Snapshot:
    """What this process has counted so far; fits into JSON."""
    return {metric.name: metric.dump() for metric in CATALOGUE}


def merge(snapshots: list[Snapshot], base: Base) -> str:
    """Prometheus text (0.0.4) of all processes together; `base` holds those that are gone, so counters never fall."""
    return merge_snapshots(CATALOGUE, snapshots, base)


def together(snapshots: list[Snapshot], base: Base) -> Snapshot:
    """All processes together, as one snapshot."""
    return together_snapshots(CATALOGUE, snapshots, base)
