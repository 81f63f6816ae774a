"""Consent events of the API into ops of the owner: the same road, checks and words as `zegel consent import`.

Given and confirmed events are rows of the import; neighbours go in together, under one commit. What a tenant says can
never lift an objection: that takes the person's own confirmation through our link (CONSENT-11).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from relay.mail.envelope import Tenant
from relay.observe.metrics import UNSUBSCRIBES
from relay.portal.api_models import ConsentEvent, FieldError, ItemAnswer, Misfit
from relay.portal.gateway import Gateway, OpRefused
from relay.portal.once import is_resumed

ROW_EVENTS = ("given", "confirmed")
# Columns that mean something for the events that are no proof of consent; `email` becomes `address`.
REQUEST_COLUMNS = frozenset(("email", "purpose", "source", "jurisdiction", "evidence_ip", "evidence_user_agent"))
WITHDRAW_COLUMNS = frozenset(("email", "purpose", "source"))

Indexed = tuple[int, ConsentEvent | Misfit]


async def record(gateway: Gateway, tenant: Tenant, events: Sequence[ConsentEvent | Misfit]) -> list[ItemAnswer]:
    """One answer for each event, in order. Raises OpUnavailable: what went in before stays, sending again is safe."""
    answers: list[ItemAnswer] = []
    for are_rows, group in groupby(enumerate(events), key=_is_row):
        if are_rows:
            answers += await _record_rows(gateway, tenant, list(group))
        else:
            for index, event in group:
                assert isinstance(event, ConsentEvent), "a misfit goes with the rows"
                answers.append(await _record_one(gateway, tenant, index, event))
    return answers


def _is_row(item: Indexed) -> bool:
    """Whether it goes with its neighbours; what is no event at all does, so that it does not part them."""
    return isinstance(item[1], Misfit) or item[1].event in ROW_EVENTS


async def _record_rows(gateway: Gateway, tenant: Tenant, items: Sequence[Indexed]) -> list[ItemAnswer]:
    errors: dict[int, list[FieldError]] = {}
    rows: list[dict[str, Any]] = []
    for index, event in items:
        if isinstance(event, Misfit):
            errors[index] = event.errors
        elif event.event == "confirmed" and not event.confirmed_at:
            errors[index] = [FieldError(field="confirmed_at", reason="is needed for event confirmed")]
        else:
            rows.append({"line": index, **event.columns})
    if rows:
        try:
            result = await gateway.op("consent.import_rows", {"tenant": tenant.name, "rows": rows})
        except OpRefused as refused:
            errors |= {row["line"]: _refusal(row["line"], refused).errors or [] for row in rows}
            result = {"errors": []}
        for error in result["errors"]:
            errors.setdefault(error["line"], []).append(_field_error(error))
    return [ItemAnswer(index=index, ok=index not in errors, errors=errors.get(index)) for index, _ in items]


async def _record_one(gateway: Gateway, tenant: Tenant, index: int, event: ConsentEvent) -> ItemAnswer:
    is_request = event.event == "requested"
    columns = event.columns
    strange = sorted(set(columns) - (REQUEST_COLUMNS if is_request else WITHDRAW_COLUMNS))
    if strange:
        reason = f"means nothing for event {event.event}: leave it out"
        return ItemAnswer(index=index, ok=False, errors=[FieldError(field=name, reason=reason) for name in strange])
    arguments = {"tenant": tenant.name, "address": columns.pop("email"), **columns}
    if is_request and is_resumed.get():
        arguments["once"] = True
    try:
        result = await gateway.op("consent.request" if is_request else "consent.withdraw", arguments)
    except OpRefused as refused:
        return _refusal(index, refused)
    if result.get("changed"):  # of a withdrawal: he was in until now
        UNSUBSCRIBES.inc(("api",))
    return ItemAnswer(index=index, ok=True)


def _refusal(index: int, refused: OpRefused) -> ItemAnswer:
    # Codes are `noun.cause`; where the noun is a column, it is the field at fault.
    noun = refused.code.partition(".")[0]
    field = noun if noun in ConsentEvent.model_fields else ""
    return ItemAnswer(index=index, ok=False, errors=[FieldError(field=field, reason=refused.text)])


def _field_error(error: dict[str, Any]) -> FieldError:
    remedy = error.get("remedy")
    reason = f"{error['reason']}: {remedy}" if remedy else str(error["reason"])
    return FieldError(field=str(error["field"]), reason=reason)
