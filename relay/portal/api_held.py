"""Held mail in the tenants' API: list, show, preview, release, refuse; of the key's own tenant and no other.

Idempotent: to decide the same again answers the same, and to decide otherwise after somebody has decided is 409. What is not, or
no more, or another tenant's is 404, and nothing tells which.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from relay.mail.envelope import Tenant
from relay.mail.notice import REFUSE
from relay.mail.reply import REASONS
from relay.portal.api_access import DecidesHeld, ReadsHeld
from relay.portal.api_body import api_router
from relay.portal.api_models import Body, example
from relay.portal.gateway import OpRefused, OpUnavailable
from relay.portal.held_pages import page_of
from relay.portal.openapi import refusals
from relay.portal.pages import Site, ThisSite

router = api_router()

LOG_WAITS = (0.0, 0.3, 0.6, 1.2)  # seconds: the delivery log is written twice a second, or later
GONE = "no message of yours that is held has this id"
NO_STORE = "no-store"
MISSING = refusals(404)
DECIDED = MISSING | refusals(409)

QueueId = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{13}$", description="As in `250 2.0.0 queued as <id>`.")]
Way = Literal["as_written", "split", "hidden"]


HELD: dict[str, Any] = {
    "id": "0R3M7K2QX9T1A",
    "reason": "recipients.ask",
    "rule": "CC-10",
    "why": "15 people of 15 organisations would see each other's address.",
    "sender": "info@shop.example",
    "stream": "personal",
    "mail_class": "personal",
    "recipient_count": 15,
    "accepted_at": "2026-03-04T08:15:00Z",
    "held_since": "2026-03-04T08:15:00Z",
    "held_until": "2026-03-04T12:15:00Z",
    "sender_may_choose": ["split", "hidden"],
}


class HeldMail(BaseModel):
    """A message that waits. Nobody has got it; at `held_until` it goes back to its sender."""

    model_config = example(**HELD)

    id: str
    reason: Annotated[str, Field(description="What it is held for, a code.")]
    rule: str
    why: Annotated[str, Field(description="The same as a sentence, in the tenant's language.")]
    sender: str
    stream: str
    mail_class: str
    recipient_count: int
    accepted_at: datetime
    held_since: datetime
    held_until: datetime
    sender_may_choose: Annotated[list[Way], Field(description="What its sender was offered, besides not sending it.")]


class HeldMailShown(HeldMail):
    model_config = example(**HELD, subject="Invitation", recipients=["ann@example.net", "bob@example.org"])

    subject: str
    recipients: list[str]


class HeldPage(BaseModel):
    """`next`: where the next page begins, as `after`; absent on the last."""

    model_config = example(held=[HELD], next="0R3M7K2QX9T1A")

    held: list[HeldMail]
    next: str | None = None


class Release(Body):
    """`as_written`: everybody sees all addresses. `split`: a copy for each. `hidden`: one mail that shows nobody."""

    model_config = example(recipients="split")

    recipients: Way


class Decision(BaseModel):
    """`changed` is false where it had been decided so before."""

    model_config = example(id="0R3M7K2QX9T1A", state="released", recipients="split", changed=True)

    id: str
    state: Literal["released", "refused"]
    recipients: Way | None = None
    changed: bool


@router.get("/held", response_model=HeldPage, response_model_exclude_none=True)
async def list_held(
    site: ThisSite,
    response: Response,
    tenant: ReadsHeld,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    after: Annotated[str, Query(pattern=r"^([0-9A-Za-z]{13})?$")] = "",
) -> HeldPage:
    """Mail of yours that waits for a person, oldest first."""
    response.headers["Cache-Control"] = NO_STORE
    answer = await site.gateway.op("held.page", {"tenant_id": tenant.id, "limit": limit, "after": after})
    rows = answer["items"]
    return HeldPage(
        held=[HeldMail(**_fields(row, tenant)) for row in rows], next=rows[-1]["id"] if len(rows) == limit else None
    )


@router.get("/held/{queue_id}", response_model=HeldMailShown, responses=MISSING)
async def show_held(site: ThisSite, response: Response, queue_id: QueueId, tenant: ReadsHeld) -> HeldMailShown:
    """One message that waits, with its recipients."""
    response.headers["Cache-Control"] = NO_STORE
    row = await _find(site, "held.look", queue_id, tenant)
    people = [one["address"] for one in row["recipients"]]
    return HeldMailShown(**_fields(row, tenant), subject=row["subject"], recipients=people)


@router.get(
    "/held/{queue_id}/preview", response_class=Response, responses=MISSING | {200: {"content": {"text/html": {}}}}
)
async def preview_held(site: ThisSite, request: Request, queue_id: QueueId, tenant: ReadsHeld) -> Response:
    """What it says, as a page that is safe to show in a frame: cleaned, nothing fetched, attachments by name only."""
    return await page_of(site, request, await _find(site, "held.content", queue_id, tenant))


@router.post("/held/{queue_id}/release", response_model=Decision, response_model_exclude_none=True, responses=DECIDED)
async def release_held(
    site: ThisSite, response: Response, queue_id: QueueId, order: Release, tenant: DecidesHeld
) -> Decision:
    """Let it go. With `as_written` an exposure of addresses is recorded as an incident (CC-20)."""
    response.headers["Cache-Control"] = NO_STORE
    return await _decide(site, tenant, queue_id, order.recipients)


@router.post("/held/{queue_id}/refuse", response_model=Decision, response_model_exclude_none=True, responses=DECIDED)
async def refuse_held(site: ThisSite, response: Response, queue_id: QueueId, tenant: DecidesHeld) -> Decision:
    """End it; its sender gets a report."""
    response.headers["Cache-Control"] = NO_STORE
    return await _decide(site, tenant, queue_id, REFUSE)


def _fields(row: dict[str, Any], tenant: Tenant) -> dict[str, Any]:
    """What the gateway tells of a held message, in the words of the API."""
    return {
        "id": row["id"],
        "reason": row["held"],
        "rule": row["rule"],
        "why": REASONS[row["held"]].cause(tenant.language, row["held_detail"].items()),
        "sender": row["from"],
        "stream": row["stream"],
        "mail_class": row["class"],
        "recipient_count": row["recipient_count"],
        "sender_may_choose": row["offers"],
        **{name: datetime.fromtimestamp(row[name], UTC) for name in ("accepted_at", "held_since", "held_until")},
    }


async def _find(site: Site, op: str, queue_id: str, tenant: Tenant) -> dict[str, Any]:
    try:
        found = await site.gateway.op(op, {"id": queue_id.upper(), "tenant_id": tenant.id})
    except OpRefused as refused:
        raise _trouble(refused) from None
    if found.get("items", found) is None:
        raise HTTPException(404, GONE)
    return found


async def _decide(site: Site, tenant: Tenant, queue_id: str, choice: str) -> Decision:
    number = queue_id.upper()
    args = {"id": number, "tenant_id": tenant.id, "choice": choice, "by": "tenant"}
    state: Literal["released", "refused"] = "refused" if choice == REFUSE else "released"
    way: Any = None if choice == REFUSE else choice
    why: OpRefused | None = None
    try:
        done = await site.gateway.op("held.decide", args)
    except OpRefused as refused:
        done, why = {}, refused
        if refused.code not in ("held.over", "held.unknown", "busy"):
            raise _trouble(refused) from None
    if done.get("id"):
        return Decision(id=number, state=state, recipients=way, changed=True)
    is_his, before = await _decided_before(site, tenant, number)
    if before is None:  # that somebody is at it is told to whom it concerns
        raise _trouble(why) if is_his and why is not None and why.code == "busy" else HTTPException(404, GONE)
    if before != (state, way):
        raise HTTPException(409, f"this message was {before[0]} already: nothing has changed")
    return Decision(id=number, state=state, recipients=way, changed=False)


async def _decided_before(site: Site, tenant: Tenant, number: str) -> tuple[bool, tuple[str, str | None] | None]:
    """Whether it is a message of the tenant; what was decided on it, and how, or None where nothing was."""
    is_his = False
    for wait in LOG_WAITS:
        await asyncio.sleep(wait)
        trace = await site.gateway.message_trace(tenant.name, number)
        is_his = trace is not None
        events = trace["events"] if trace is not None else ()  # what was held a moment ago may not be in it either
        words = [event for event in events if event["event"] in ("held", "released", "refused")]
        if words and words[-1]["event"] != "held":
            return True, (words[-1]["event"], words[-1].get("way"))
    return is_his, None


def _trouble(refused: OpRefused) -> Exception:
    """What the queue refused, as an answer: somebody is at it, or it cannot be read."""
    if refused.code == "busy":
        return OpUnavailable("busy")
    return HTTPException(409 if refused.code == "damaged" else 422, refused.text)
