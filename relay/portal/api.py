"""The tenants' API, /api/v1: consents and suppressions in, what happened to a message out.

Bearer keys of the tenant; answers and errors are JSON, errors as RFC 9457 problem details. An answer never repeats
what was sent in, and an address never stands in a URL. Every route works for the key's own tenant and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from starlette.routing import BaseRoute

from relay.mail.envelope import Tenant
from relay.observe.metrics import UNSUBSCRIBES
from relay.portal import outcomes
from relay.portal.api_access import (
    ReadsConsents,
    ReadsLimits,
    ReadsMessages,
    ReadsReputation,
    TellsOutcomes,
    WritesConsents,
    WritesSuppressions,
)
from relay.portal.api_body import api_router
from relay.portal.api_figures import LimitRow, MessageTrace, StandingRow
from relay.portal.api_models import (
    ConsentAnswer,
    ConsentEvents,
    ConsentReport,
    Lookup,
    OutcomeReport,
    Removal,
    Removed,
    Suppression,
    SuppressionReport,
    ToldOutcomes,
    consent_report,
)
from relay.portal.consents import record
from relay.portal.gateway import OpRefused
from relay.portal.once import again
from relay.portal.openapi import describe, refusals
from relay.portal.pages import Site, ThisSite
from relay.portal.problems import add_error_answers
from relay.portal.rates import RateHeaders, Rates

router = api_router()

MISSING = refusals(404)
REFUSED_STATUS = {
    "suppression.objection_stands": 409,
    "consent.objected": 409,
    "consent.restricted": 409,
    "suppression.unknown": 404,
}


@router.post("/consents", response_model=ConsentReport, responses={207: {"model": ConsentReport}})
async def record_consents(site: ThisSite, events: ConsentEvents, tenant: WritesConsents) -> JSONResponse:
    """Record one consent event or up to 500. Each item has its own answer: 200 all in, 207 some, 422 none."""
    answers = await record(site.gateway, tenant, events.items)
    recorded = sum(answer.ok for answer in answers)
    status = 200 if recorded == len(answers) else 207 if recorded else 422
    return _json(ConsentReport(recorded=recorded, refused=len(answers) - recorded, results=answers), status)


@router.post("/consents/lookup", response_model=ConsentAnswer, responses=MISSING)
async def look_up_consent(site: ThisSite, query: Lookup, tenant: ReadsConsents) -> JSONResponse:
    """What is known of one address for one purpose, and whether it may be mailed now."""
    if query.purpose not in tenant.purposes:
        raise HTTPException(404, "this tenant has no such purpose")
    lookup = site.gateway.lookup
    state = lookup.consents(tenant.id, query.purpose, [query.email])[query.email]
    pending = lookup.requests(tenant.id, query.purpose, [query.email])[query.email]
    stops = lookup.suppressions(tenant.id, [query.email], purpose=query.purpose)[query.email]
    return _json(consent_report(query.purpose, state, pending, stops))


@router.post("/suppressions", response_model=SuppressionReport)
async def suppress(site: ThisSite, entry: Suppression, tenant: WritesSuppressions) -> JSONResponse:
    """Stop mail to an address: for one purpose, or with scope `all` for every marketing purpose. Idempotent."""
    result = await _change(site, tenant, "suppression.add", entry)
    if result.get("changed") and entry.reason == "objection":
        UNSUBSCRIBES.inc(("api",))
    return _json(SuppressionReport(scope=entry.scope, reason=entry.reason))


@router.post("/suppressions/remove", response_model=Removed, responses=MISSING)
async def unsuppress(site: ThisSite, entry: Removal, tenant: WritesSuppressions) -> JSONResponse:
    """Lift a bounce or a restriction. Objections and complaints stay: only the person himself can come back (CONSENT-11)."""
    await _change(site, tenant, "suppression.remove", entry, **again())
    return _json(Removed(removed=True))


@router.get("/messages/{message_id}", response_model=MessageTrace, responses=MISSING)
async def trace_message(
    site: ThisSite, message_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,80}$")], tenant: ReadsMessages
) -> JSONResponse:
    """What happened to one of your messages: the id is the one of `250 2.0.0 queued as <id>`."""
    trace = await site.gateway.message_trace(tenant.name, message_id)
    if trace is None:
        raise HTTPException(404, "no message of yours has this id")
    return _json(trace)


@router.post("/outcomes", response_model=OutcomeReport, responses={207: {"model": OutcomeReport}})
async def tell_outcomes(site: ThisSite, told: ToldOutcomes, tenant: TellsOutcomes) -> JSONResponse:
    """Tell of bounces and complaints that came back to you: one, or up to 500. The same told twice counts once.

    Each item has its own answer: 200 all taken, 207 some, 422 none. A complaint ends advertising to that person.
    """
    answers = await outcomes.record(site.gateway, tenant, told.items)
    taken, counted = sum(answer.ok for answer in answers), sum(answer.counted for answer in answers)
    status = 200 if taken == len(answers) else 207 if taken else 422
    return _json(OutcomeReport(counted=counted, refused=len(answers) - taken, results=answers), status)


@router.get("/reputation", response_model=list[StandingRow])
async def show_reputation(site: ThisSite, tenant: ReadsReputation) -> JSONResponse:
    """How your logins, streams and From domains stand, by what became of their last 1,000 deliveries."""
    return _json([StandingRow.model_validate(row) for row in await site.gateway.reputation(tenant)])


@router.get("/limits", response_model=list[LimitRow])
async def show_limits(site: ThisSite, tenant: ReadsLimits) -> JSONResponse:
    """Every limit that your mail meets: what is allowed, used and left, how often it made mail wait."""
    return _json([LimitRow.model_validate(row) for row in await site.gateway.limits(tenant)])


async def _change(site: Site, tenant: Tenant, op: str, entry: Suppression | Removal, **more: bool) -> dict[str, Any]:
    arguments = {"tenant": tenant.name, "address": entry.email, "scope": entry.scope, "reason": entry.reason, **more}
    try:
        return await site.gateway.op(op, arguments)
    except OpRefused as error:
        raise HTTPException(REFUSED_STATUS.get(error.code, 422), error.text) from None


def _json(value: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(jsonable_encoder(value, exclude_none=True), status, {"Cache-Control": "no-store"})


def create_api(site: Site, routes: Sequence[BaseRoute]) -> FastAPI:
    """The sub-application with all `routes` of the API, so that its errors are JSON while the portal's are pages."""
    api = FastAPI(
        title="Zegel",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    api.state.site = site
    bounds = site.settings.api
    api.state.rates = Rates(bounds.key_requests_per_minute, bounds.tenant_requests_per_minute)
    api.add_middleware(RateHeaders)
    describe(api)
    add_error_answers(api)
    api.router.routes.extend(routes)
    return api
