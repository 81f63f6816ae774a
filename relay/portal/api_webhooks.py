"""Webhooks in the tenants' API: where a tenant's own tool hears of who left; of the key's own tenant and no other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Path, Query, Response
from pydantic import BaseModel, Field

from relay.mail.envelope import Tenant
from relay.portal.api_access import ReadsWebhooks, WritesWebhooks
from relay.portal.api_body import api_router
from relay.portal.api_models import Body, example
from relay.portal.gateway import OpRefused
from relay.portal.once import again
from relay.portal.openapi import refusals
from relay.portal.pages import Site, ThisSite
from relay.settings.endpoint import Networks
from relay.settings.reach import leads_inside

router = api_router()

NO_STORE = "no-store"
MISSING = refusals(404)
CLASHING = refusals(409)
INSIDE = (
    "this address is inside a machine or network, where no webhook goes: give a public one, or ask the operator of the gateway "
    "to allow its network"
)
STATUS = {
    "webhook.unknown": 404,
    "webhook.no_event": 404,
    "webhook.exists": 409,
    "webhook.too_many": 409,
    "webhook.overtaken": 409,
}
Kind = Literal["unsubscribed", "complained", "confirmed", "suppressed", "unrestricted", "moved", "erased"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$", examples=["crm"])]
InPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,63}$", description="The webhook's name.")]
_TIMES = ("created_at", "before_until", "answered_at", "oldest_at", "at", "dead_at")


HOOK = {
    "name": "crm",
    "url": "https://crm.example.org/zegel",
    "events": ["unsubscribed", "erased"],
    "with_address": False,
    "created_at": "2026-11-22T10:00:00Z",
    "failure": "",
}
SECRET = "3q2-7wDvWb1Kx8M0yqk4nH6tJr5s9uEz"


class NewWebhook(Body):
    model_config = example(
        name="crm", url="https://crm.example.org/zegel", events=["unsubscribed", "erased"], with_address=False
    )

    name: Name
    url: Annotated[str, Field(max_length=1_000, examples=["https://crm.example.org/zegel"])]
    events: Annotated[list[Kind] | None, Field(max_length=7, description="Default: all.")] = None
    with_address: Annotated[bool, Field(description="Whether the person's address is in events.")] = False


class Webhook(BaseModel):
    """`failure` says why the last try was not taken. `before_until`: so long the secret before signs too."""

    model_config = example(**HOOK)

    name: str
    url: str
    events: list[Kind]
    with_address: bool
    created_at: datetime
    before_until: datetime | None = None
    answered_at: datetime | None = None
    failure: str


class WebhookState(Webhook):
    """`waiting` events are tried still, the oldest is of `oldest_at`; `dead` ones were given up."""

    model_config = example(**HOOK, waiting=0, dead=0)

    waiting: int
    oldest_at: datetime | None = None
    dead: int


class MadeWebhook(Webhook):
    """The secret of the signature is shown this once."""

    model_config = example(**HOOK, secret=SECRET)

    secret: str


class Rotation(Body):
    model_config = example(hours=24)

    hours: Annotated[int, Field(ge=0, le=168, description="So long the secret before signs too.")] = 24


class Rotated(BaseModel):
    model_config = example(name="crm", secret=SECRET, before_until="2026-11-23T10:00:00Z")

    name: str
    secret: str
    before_until: datetime


class Retry(Body):
    model_config = example(event="evt_0R3M7K2QX9T1A")

    event: Annotated[str | None, Field(max_length=40, description="Only this one; default: all dead ones.")] = None


class Again(BaseModel):
    model_config = example(name="crm", again=2)

    name: str
    again: int


class QueuedTest(BaseModel):
    model_config = example(name="crm", event_id="evt_0R3M7K2QX9T1A")

    name: str
    event_id: str


class RemovedWebhook(BaseModel):
    model_config = example(name="crm", removed=True, events_deleted=0)

    name: str
    removed: bool
    events_deleted: int


class DeadEvent(BaseModel):
    """`overtaken`: a later event of the same person was delivered, so this one is not sent again."""

    model_config = example(
        webhook="crm",
        event_id="evt_0R3M7K2QX9T1A",
        event="unsubscribed",
        at="2026-11-22T10:00:00Z",
        dead_at="2026-11-25T10:00:00Z",
        tries=13,
        failure="status 503",
        overtaken=False,
    )

    webhook: str
    event_id: str
    event: str | None = None
    at: datetime
    dead_at: datetime
    tries: int
    failure: str
    overtaken: bool


@router.get("/webhooks", response_model=list[WebhookState], response_model_exclude_none=True)
async def list_webhooks(site: ThisSite, response: Response, tenant: ReadsWebhooks) -> list[dict[str, Any]]:
    """Your webhooks, what waits for each, and how the last try ended."""
    response.headers["Cache-Control"] = NO_STORE
    return [_shown(row) for row in (await _ask(site, tenant, "webhook.list"))["items"]]


@router.post(
    "/webhooks", status_code=201, response_model=MadeWebhook, response_model_exclude_none=True, responses=CLASHING
)
async def add_webhook(site: ThisSite, response: Response, wanted: NewWebhook, tenant: WritesWebhooks) -> dict[str, Any]:
    """Make one: https, at a public address. At most five."""
    response.headers["Cache-Control"] = NO_STORE
    if leads_inside(wanted.url, Networks(site.settings.webhooks.allowed_networks)):
        raise HTTPException(422, INSIDE)
    return _shown(await _ask(site, tenant, "webhook.add", **wanted.model_dump(exclude_none=True), **again()))


@router.get("/webhooks/dead", response_model=list[DeadEvent], response_model_exclude_none=True)
async def list_dead_events(
    site: ThisSite, response: Response, tenant: ReadsWebhooks, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> list[dict[str, Any]]:
    """Events that were given up after three days, newest first."""
    response.headers["Cache-Control"] = NO_STORE
    return [_shown(row) for row in (await _ask(site, tenant, "webhook.dead", limit=limit))["items"]]


@router.post("/webhooks/{name}/rotate", response_model=Rotated, responses=MISSING)
async def rotate_secret(
    site: ThisSite, response: Response, name: InPath, order: Rotation, tenant: WritesWebhooks
) -> dict[str, Any]:
    """Make a new secret; for a while events are signed with both."""
    response.headers["Cache-Control"] = NO_STORE
    return _shown(await _ask(site, tenant, "webhook.rotate", name=name, hours=order.hours))


@router.post("/webhooks/{name}/retry", response_model=Again, responses=MISSING | CLASHING)
async def retry_events(
    site: ThisSite, response: Response, name: InPath, order: Retry, tenant: WritesWebhooks
) -> dict[str, Any]:
    """Send dead events again, and try at once what waits; of each the oldest 5,000."""
    response.headers["Cache-Control"] = NO_STORE
    return await _ask(site, tenant, "webhook.retry", name=name, **order.model_dump(exclude_none=True))


@router.post("/webhooks/{name}/test", response_model=QueuedTest, responses=MISSING)
async def test_webhook(site: ThisSite, response: Response, name: InPath, tenant: WritesWebhooks) -> dict[str, Any]:
    """Send an event `test` that is about nobody; the list shows whether it was taken."""
    response.headers["Cache-Control"] = NO_STORE
    return await _ask(site, tenant, "webhook.test", name=name)


@router.post("/webhooks/{name}/remove", response_model=RemovedWebhook, responses=MISSING)
async def remove_webhook(site: ThisSite, response: Response, name: InPath, tenant: WritesWebhooks) -> dict[str, Any]:
    """End one, for ever; what waits for it is deleted."""
    response.headers["Cache-Control"] = NO_STORE
    return await _ask(site, tenant, "webhook.remove", name=name, **again())


async def _ask(site: Site, tenant: Tenant, op: str, **args: Any) -> dict[str, Any]:
    try:
        return await site.gateway.op(op, {"tenant": tenant.name, **args})
    except OpRefused as error:
        raise HTTPException(STATUS.get(error.code, 422), error.text) from None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """With times as the API writes them."""
    return {**row, **{name: datetime.fromtimestamp(row[name], UTC) for name in _TIMES if row.get(name)}}
