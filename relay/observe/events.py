"""Every event of the log, `noun.past_participle`, with what it means and the fields that come with it.

Same field, same meaning everywhere: `queue_id`, `tenant`, `credential`, `reason` (a code of reasons.toml), `kind` (type of an
exception), `place` (file and line), `elapsed_seconds`, `size_bytes`. `monitoring/events.md` is generated from this file.
"""

from __future__ import annotations

CATALOGUE: dict[str, str] = {}


def _event(name: str, meaning: str) -> str:
    CATALOGUE[name] = meaning
    return name


# Mail
MESSAGE_MALFORMED = _event("message.refused", "The bytes are no message. reason, detail.")
POLICY_REJECTED = _event("policy.rejected", "A policy refused a message or recipient. tenant, credential, reason.")
EXPOSURE = _event(
    "exposure.noticed", "Addresses would have been shown to others (CC). queue_id, kind, reason, address_count."
)
LEAK_NOTICED = _event(
    "leak.noticed",
    "Data that should not leave by mail (DLP). queue_id, tenant, credential, detector, found_count, verdict, files, why.",
)
QUEUE_FAILED = _event(
    "queue.failed", "A message could not be made durable; its sender was told to try again. queue_id."
)
KEY_MISSING = _event("key.missed", "A copy waits because its DKIM key is gone; put the key back. queue_id, domain.")
DKIM_DIFFERED = _event(
    "dkim.differed", "At the daily look DNS did not show the key that we sign with (DKIM-8). domain, selector."
)
QUEUE_ADOPTED = _event("queue.adopted", "Messages of a worker that is gone were taken over. message_count.")
QUEUE_ROW_DAMAGED = _event(
    "queue.row_damaged",
    "A queued message cannot be read; it stays where it is, see `zegel queue`. queue_id, file, error.",
)
QUEUE_FILE_DAMAGED = _event(
    "queue.file_damaged", "A queue file cannot be read and was put aside under another name. file, aside, error."
)
QUEUE_FILE_FAILED = _event(
    "queue.file_failed", "A queue file could not be worked with just now; it is tried again. file, error, damaged."
)
HOLD_DECIDED = _event(
    "hold.decided", "A held message was released or ended (CC-10, PIPE-2). queue_id, by, choice, reason."
)
REFUSAL_EXPLAINED = _event(
    "refusal.explained", "A tenant's contact was told of a rule for the first time. tenant, rule."
)
DIGEST_QUEUED = _event(
    "digest.queued", "The digest of a tenant's refused and held mail was queued. tenant, queue_id, rule_count."
)
HOLD_EXPIRED = _event(
    "hold.expired", "Held mail ran out of time and was returned to its senders (PIPE-2). message_count."
)
QUEUE_UNAVAILABLE = _event("queue.stopped", "New mail gets 4xx: the queue cannot be written, or space is low. why.")
QUEUE_RECOVERED = _event("queue.recovered", "The queue can be written again; new mail is taken.")
OUTBOX_FAILED = _event("outbox.failed", "A captured message could not be kept for /outbox. queue_id.")
PEER_CHANGED = _event("peer.changed", "A smarthost became usable or unusable. peer, state, stage, why.")
REPORT_DROPPED = _event(
    "report.dropped",
    "A delivery report or notice of ours could not be delivered: its reader hears nothing. queue_id, about.",
)

REPUTATION_CHANGED = _event(
    "reputation.changed",
    "A login, stream, From domain or tenant stands otherwise (REP-1, REP-2, THROTTLE-8). tenant, scope, whose, before, after, "
    "rule, deliveries, bounces, complaints.",
)
REPUTATION_RELEASED = _event(
    "reputation.released", "Mail that waited because its sender was paused leaves now. message_count."
)

# People and logins
LOGIN_REFUSED = _event("login.refused", "A wrong password. client.")
ACCOUNT_SUSPENDED = _event(
    "account.suspended",
    "Nothing of it is accepted or sent until a person releases it (THROTTLE-9). tenant or credential.",
)
SIGN_NOTICED = _event(
    "sign.noticed",
    "A login shows a sign of abuse; at most once a day for each. tenant, credential, reason.",
)
ACCOUNT_RESUMED = _event("account.released", "A person released a suspended account. tenant or credential.")
LOGIN_ATTACKED = _event(
    "login.attacked",
    "Many wrong passwords for one login within ten minutes, from several addresses; again in each ten minutes that it goes on. "
    "credential, failures.",
)
REQUEST_ANSWERED = _event("web.answered", "A page or an API call was answered. route, method, status, elapsed_seconds.")

# Processes
CHILD_ENDED = _event("child.ended", "A worker or the web process ended unasked and is started again. place, code.")
CHILD_FAILED = _event(
    "child.failed", "The disk or the machine kept a worker or the web process from its work; it ends. place, why."
)
ZYGOTE_STARTED = _event(
    "zygote.started", "The process that others are forked from had ended, or never was: a new one is there."
)
RELOADED = _event("settings.reloaded", "SIGHUP was carried out. changed: names of the settings that are new.")
SETTINGS_POSTPONED = _event(
    "settings.postponed", "These settings are new in the config and hold from the next start. keys."
)
RELOAD_REFUSED = _event("settings.refused", "Part of a reload was refused; what was in force stays. problem.")
DIRECTORY_STALLED = _event(
    "directory.stalled", "Tenants, logins and keys cannot be read again; what was read last holds meanwhile. kind."
)
LEDGER_ANCHORED = _event(
    "ledger.anchored", "Once a day: the last event of a tenant's consents and its hash (CONSENT-14). tenant, seq, hash."
)
NOTICE_FAILED = _event(
    "notice.failed", "A mail of our own to a person could not be queued; whoever asked can ask again. kind, error."
)
STORE_FAILED = _event("store.failed", "The shared database could not be read or written. kind.")
STORE_BARRED = _event(
    "store.barred", "The shared database is damaged, changed by others or gone; what needs it gets 451. why."
)
STORE_LOG_RENEWED = _event(
    "store.log_renewed",
    "The write-ahead log of the shared database was deleted or replaced: it was copied back, and workers are replaced.",
)
STORE_RECOVERED = _event("store.recovered", "The shared database is whole and in use again.")
LIMITS_DEGRADED = _event(
    "limits.degraded",
    "Redis does not answer as it should: this worker keeps to its node's share of the limits. kind, share.",
)
LIMITS_RECOVERED = _event("limits.recovered", "Redis answers again, and counts the limits of all nodes.")
LIMITS_DAMAGED = _event(
    "limits.damaged",
    "A key in Redis holds what no gateway wrote: what it counts is limited by this node alone. At most once a minute. tenant.",
)
SUSPENSIONS_ISOLATED = _event(
    "suspensions.isolated",
    "Redis does not answer as it should: who is suspended or released at other gateways is not known here until it does. kind.",
)
SUSPENSIONS_REJOINED = _event("suspensions.rejoined", "Redis tells again who is suspended at other gateways.")
SUSPENSIONS_DAMAGED = _event(
    "suspensions.damaged",
    "The key of suspensions in Redis held what no gateway wrote: it was deleted, and every gateway tells again what it knows.",
)
LIMITS_CONFINED = _event(
    "limits.confined",
    "Redis counts for all nodes, but the database is this node's own: for tests, since an opt-out is known to one node.",
)
UPKEEP_FAILED = _event("upkeep.failed", "A job of retention or repair failed and will be tried again. kind.")
DESCRIPTORS_EXHAUSTED = _event(
    "descriptors.exhausted",
    "No file or connection could be opened: raise the limit (LimitNOFILE=). At most once a minute. error_count.",
)
CONNECTIONS_LIMITED = _event(
    "connections.limited",
    "The limit on open files leaves room for fewer connections than max_connections; those over it get 421. "
    "wanted, possible, limit, needed: all of one worker.",
)
MEASURE_FAILED = _event("measure.failed", "A number for the metrics could not be had; it keeps its last value. kind.")
ALARM_RAISED = _event(
    "alarm.raised", "Something is wrong, see docs/operating.md; or it still is. alarm, severity, state, labels."
)
ALARM_ENDED = _event("alarm.ended", "What an alarm was about is over. alarm, severity, state, labels.")
ALARM_DROPPED = _event("alarm.dropped", "Alarms could not be told by mail or webhook. way, why, alarms.")
WEBHOOK_FAILED = _event(
    "webhook.failed", "A tenant's marketing tool does not take events; it is tried again. tenant, webhook, kind."
)
WEBHOOK_RECOVERED = _event("webhook.recovered", "A tenant's marketing tool takes events again. tenant, webhook.")
WEBHOOK_ABANDONED = _event(
    "webhook.abandoned", "Events for a tenant's marketing tool were given up after three days. tenant, webhook, count."
)
INCIDENT_OPENED = _event(
    "incident.opened",
    "Data went where they should not: the clocks run (GDPR-20). tenant, incident: its number, kind, reason.",
)
INCIDENT_DROPPED = _event(
    "incident.dropped",
    "An exposure or leak could not be written down as an incident; open it by hand. tenant, kind, reason.",
)

ERASURE_FINISHED = _event("erasure.finished", "Queue and files have forgotten a person who was erased (GDPR-8).")
ERASURE_DELAYED = _event(
    "erasure.delayed", "A worker, file or disk was not to be had for an erasure; it is tried again every second. kind."
)
TENANT_DELETED = _event(
    "tenant.deleted", "A tenant is gone from everywhere but the proof of its consents (GDPR-18). tenant."
)
DELETION_DELAYED = _event(
    "tenant.deletion_delayed",
    "A worker, file, disk or Redis was not to be had while a tenant is deleted; it is tried again every second. kind.",
)

# Bugs caught at an outer edge
SESSION_CRASHED = _event("session.crashed", "A bug ended an SMTP command with 451. kind, place.")
REQUEST_CRASHED = _event("web.crashed", "A bug ended a web request with 500. route, error, where.")
WORKER_CRASHED = _event("worker.crashed", "A bug ended a task of a worker. kind, place.")
WATCH_CRASHED = _event("watch.crashed", "A bug in what happens beside the road of a message. kind.")
OP_CRASHED = _event("op.crashed", "A bug in an operation of the owner; nothing was written. op, kind, place.")
SCAN_CRASHED = _event("scan.crashed", "A reader of documents failed at one; it counts as unreadable. queue_id, place.")
SUPERVISOR_CRASHED = _event("supervisor.crashed", "A bug ended a task of the supervisor. kind, place.")
LIBRARY_WARNED = _event("library.warned", "A library logged a warning. logger, text.")
