"""Requests of people about their own data in the tenants' API: enter, list, show, extend, answer, refuse (GDPR-24).

Of the key's own tenant: what is another's is 404, and nothing tells which. An address stands only in the answer to who asks for
one request, never in a list.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from relay.mail.envelope import Tenant
from relay.portal.api_access import ReadsRequests, WritesRequests
from relay.portal.api_body import api_router
from relay.portal.api_models import Body, Time, WithEmail, example
from relay.portal.gateway import OpRefused
from relay.portal.once import again, settled
from relay.portal.openapi import refusals
from relay.portal.pages import Site, ThisSite
from relay.portal.paging import Cursor, Limit, opened, sealed

router = api_router()

NO_STORE = "no-store"
MISSING = refusals(404)
SETTLED = MISSING | refusals(409)
STATUS = {"request.unknown": 404, "request.settled": 409, "request.extended": 409, "request.late": 409}
Kind = Literal["access", "rectify", "erase", "restrict", "object", "portability"]
State = Literal["open", "overdue", "answered", "refused", "all"]
Ref = Annotated[str, Path(pattern=r"^[0-9]{8}-[a-z2-9]{4}$", description="The request's `ref`.")]
Words = Annotated[str, Field(max_length=4_000)]
_TIMES = ("asked_at", "due_at", "extended_at", "settled_at", "at", "sent_at")

REQUEST: dict[str, Any] = {
    "ref": "20260131-k7f3",
    "kind": "access",
    "channel": "api",
    "state": "open",
    "asked_at": "2026-01-31T10:00:00Z",
    "due_at": "2026-02-28T10:00:00Z",
    "late": False,
    "opened_by": "api:desk",
}


class NewRequest(WithEmail):
    """A request that reached you. `asked_at`: when; the month counts from there. Default: now."""

    model_config = example(email="ann@example.net", kind="access", asked_at="2026-01-31T10:00:00Z")

    kind: Kind
    asked_at: Time | None = None
    text: Annotated[Words, Field(description="What is asked for, in words.")] = ""


class Extension(Body):
    """Why two months more are needed, as the person was told (GDPR 12(3))."""

    model_config = example(reason="Three systems must be searched")

    reason: Annotated[Words, Field(min_length=1)]


class Answer(Body):
    """How it was answered, and when the answer went out (default: now)."""

    model_config = example(text="Copy sent by mail")

    text: Words = ""
    at: Time | None = None


class Refusal(Body):
    """Why, as the person was told, together with the ways to authority and court (GDPR 12(4))."""

    model_config = example(reason="The person could not be identified")

    reason: Annotated[Words, Field(min_length=1)]
    at: Time | None = None


class RequestRow(BaseModel):
    """`state`: open, overdue, answered or refused. `channel`: api, hand (the operator's), or my (the person's own page)."""

    model_config = example(**REQUEST)

    ref: str
    kind: str
    channel: str
    state: str
    asked_at: datetime
    due_at: datetime
    extended_at: datetime | None = None
    settled_at: datetime | None = None
    late: Annotated[bool, Field(description="Whether it is, or was, settled after its time.")]
    opened_by: str


class Step(BaseModel):
    model_config = ConfigDict(extra="allow")

    at: datetime
    by: str
    step: str
    text: str | None = None
    reason: str | None = None
    sent_at: datetime | None = None


class Request(RequestRow):
    """`email` and `text` are absent once the person was erased; `subject` is the keyed hash that the audit has."""

    model_config = example(
        **REQUEST,
        email="ann@example.net",
        subject="5f1c",
        steps=[{"at": "2026-01-31T10:00:00Z", "by": "api:desk", "step": "opened"}],
    )

    email: str | None = None
    text: str | None = None
    subject: str
    steps: list[Step]


class RequestPage(BaseModel):
    """The last page where `next` is absent."""

    model_config = example(requests=[REQUEST], next="AAAAAd5x")

    requests: list[RequestRow]
    next: str | None = None


@router.get("/requests", response_model=RequestPage, response_model_exclude_none=True)
async def list_requests(
    site: ThisSite,
    response: Response,
    tenant: ReadsRequests,
    state: Annotated[State, Query(description="open: all that wait, overdue ones too.")] = "open",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> dict[str, Any]:
    """Requests of people, oldest first, those they made on the own-data page too. Names nobody."""
    of = f"{tenant.id}\0requests\0{state}"
    after = opened(site.gateway.keyring, of, cursor)
    page = await _ask(site, response, tenant, "request.page", state=state, limit=limit, after=after)
    rows = [_shown(row) for row in page["items"]]
    return {"requests": rows, "next": sealed(site.gateway.keyring, of, page["next"])}


@router.post("/requests", status_code=201, response_model=Request, response_model_exclude_none=True)
async def open_request(
    site: ThisSite, response: Response, wanted: NewRequest, tenant: WritesRequests
) -> dict[str, Any]:
    """Enter a request that came in by letter, mail or telephone; it is due in one month."""
    said = {"kind": wanted.kind, "asked_at": wanted.asked_at, "text": wanted.text, "address": wanted.email}
    return _shown(await _ask(site, response, tenant, "request.open", **said, **again()))


@router.get("/requests/{ref}", response_model=Request, response_model_exclude_none=True, responses=MISSING)
async def show_request(site: ThisSite, response: Response, ref: Ref, tenant: ReadsRequests) -> dict[str, Any]:
    """One request, with who asked, what, and every step. Each look is in the audit log."""
    return _shown(await _ask(site, response, tenant, "request.show", ref=ref))


@router.post("/requests/{ref}/extend", response_model=Request, response_model_exclude_none=True, responses=SETTLED)
async def extend_request(
    site: ThisSite, response: Response, ref: Ref, wanted: Extension, tenant: WritesRequests
) -> dict[str, Any]:
    """Two months more, once, within the first month; tell the person why."""
    return _shown(await _ask(site, response, tenant, "request.extend", ref=ref, reason=wanted.reason, **again()))


@router.post("/requests/{ref}/answer", response_model=Request, response_model_exclude_none=True, responses=SETTLED)
async def answer_request(
    site: ThisSite, response: Response, ref: Ref, wanted: Answer, tenant: WritesRequests
) -> dict[str, Any]:
    """Record that the answer went out. It changes no data by itself."""
    said = {"ref": ref, "text": wanted.text, "at": wanted.at}
    return _shown(await _ask(site, response, tenant, "request.answer", **said, **again()))


@router.post("/requests/{ref}/refuse", response_model=Request, response_model_exclude_none=True, responses=SETTLED)
async def refuse_request(
    site: ThisSite, response: Response, ref: Ref, wanted: Refusal, tenant: WritesRequests
) -> dict[str, Any]:
    """Record that it was refused, and why."""
    said = {"ref": ref, "reason": wanted.reason, "at": wanted.at}
    return _shown(await _ask(site, response, tenant, "request.refuse", **said, **again()))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Times as RFC 3339, and the address under the name that the API has for it."""
    made = {name: value for name, value in row.items() if name not in ("tenant", "address", "steps")}
    made |= {name: datetime.fromtimestamp(made[name], UTC) for name in _TIMES if made.get(name)}
    if "steps" in row:
        made["steps"] = [_shown(step) for step in row["steps"]]
        made["email"] = row["address"]
    return made


async def _ask(site: Site, response: Response, tenant: Tenant, op: str, **args: Any) -> dict[str, Any]:
    response.headers["Cache-Control"] = NO_STORE
    given = {name: value for name, value in args.items() if value not in (None, "")}
    if settled.get():
        op, given = "request.show", {"ref": settled.get()}
    try:
        return await site.gateway.op(op, {"tenant": tenant.name, **given})
    except OpRefused as refused:
        raise HTTPException(STATUS.get(refused.code, 422), refused.text) from None
