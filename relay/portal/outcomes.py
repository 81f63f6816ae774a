"""Bounces and complaints that a tenant tells of: each of a message of his own, each counted once (REP-1, REP-2, REP-3, FB-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.mail.address import narrow
from relay.mail.envelope import Stream, Tenant
from relay.portal.api_models import FieldError, Misfit, OutcomeAnswer, ToldOutcome
from relay.portal.gateway import Gateway, OwnMessage, Told

TAKEN = ("accepted", "held", "parked")
TEMPORARY = "is not final: tell it when it has ended, with 5.x.x"
NOT_YOURS = "no message of yours has this id, or the delivery log is older than it is kept"
NOT_YET = "this message has not been delivered there"
NOT_TO = "this message did not go to that address"
NO_STATUS = "needs a status, as 5.1.1 or 5.2.2"


async def record(gateway: Gateway, tenant: Tenant, items: Sequence[ToldOutcome | Misfit]) -> list[OutcomeAnswer]:
    """One answer for each item, in order. Raises OpUnavailable: what was counted before stays, telling it again is safe."""
    mine = await gateway.own_messages(
        tenant.name, sorted({item.message.upper() for item in items if isinstance(item, ToldOutcome)})
    )
    answers: list[OutcomeAnswer] = []
    told: list[tuple[int, Told]] = []
    for index, item in enumerate(items):
        if isinstance(item, Misfit):
            answers.append(OutcomeAnswer(index=index, ok=False, counted=False, errors=item.errors))
            continue
        found = mine.get(item.message.upper())
        error = _wrong(item, found)
        if error is not None:
            answers.append(OutcomeAnswer(index=index, ok=False, counted=False, errors=[error]))
            continue
        assert found is not None, "what is not there is wrong"
        answers.append(OutcomeAnswer(index=index, ok=True, counted=False))
        # What delivery has seen fail is counted already.
        if item.outcome == "complained" or narrow(item.email) not in found.failed:
            told.append((index, Told(found, item.email, item.outcome, item.status or "")))
    if told:
        counted = await gateway.tell_outcomes(tenant, [one for _, one in told])
        for (index, _), is_new in zip(told, counted, strict=True):
            answers[index].counted = is_new
    return answers


def _wrong(item: ToldOutcome, found: OwnMessage | None) -> FieldError | None:
    if found is None:
        return FieldError(field="message", reason=NOT_YOURS)
    if narrow(item.email) not in found.recipients:
        return FieldError(field="email", reason=NOT_TO)
    if narrow(item.email) not in found.ended:
        return FieldError(field="message", reason=NOT_YET)
    if item.outcome == "bounced" and item.status is None:
        return FieldError(field="status", reason=NO_STATUS)
    if item.outcome == "bounced" and item.status is not None and not item.status.startswith("5"):
        return FieldError(field="status", reason=TEMPORARY)
    return None


def own_message(queue_id: str, tenant: str, events: Sequence[tuple[str, Mapping[str, Any]]]) -> OwnMessage | None:
    """A message of the delivery log, where it is one of `tenant` and was taken; `events` are its lines, oldest first."""
    first = next((data for word, data in events if word in TAKEN), None)
    if first is None or first.get("tenant") != tenant:
        return None
    rows = [row for _, data in events for row in data.get("outcomes", ())]
    failed = frozenset(narrow(row[0]) for row in rows if row[1] == "failed" and row[4])
    return OwnMessage(
        queue_id,
        str(first["credential"]),
        Stream(first["stream"]).value,
        str(first.get("domain", "")),
        frozenset(narrow(address) for address in first["rcpt"]),
        failed,
        failed | frozenset(narrow(row[0]) for row in rows if row[1] == "delivered"),
    )
