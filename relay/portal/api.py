"""The tenants' API, /api/v1: consents and suppressions in, what happened to a message out.

Bearer keys of the tenant; answers and errors are JSON, errors as RFC 9457 problem details. An answer never repeats
what was sent in, and an address never stands in a URL. Every route works for the key's own tenant and no other.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from relay.mail.envelope import Tenant
from relay.observe.actor import actor
from relay.observe.metrics import UNSUBSCRIBES
from relay.portal import outcomes
from relay.portal.api_body import JsonRoute
from relay.portal.api_models import (
    ConsentAnswer,
    ConsentEvents,
    ConsentReport,
    LimitRow,
    Lookup,
    OutcomeReport,
    Problem,
    Removal,
    Removed,
    StandingRow,
    Suppression,
    SuppressionReport,
    ToldOutcomes,
    consent_report,
)
from relay.portal.consents import record
from relay.portal.gateway import OpRefused, OpUnavailable
from relay.portal.pages import Site

RETRY_AFTER_SECONDS = 30
TITLES = {
    400: "The request could not be read",
    401: "An API key is needed",
    403: "This key may not do that",
    404: "There is no such thing",
    405: "That cannot be done here",
    409: "That cannot be changed",
    413: "The body is over 1 MB",
    415: "The body is not said to be JSON",
    422: "Some fields are not right",
    500: "Something went wrong on our side",
    503: "The gateway cannot store anything right now",
}
REFUSED_STATUS = {
    "suppression.objection_stands": 409,
    "consent.objected": 409,
    "consent.restricted": 409,
    "suppression.unknown": 404,
}


BEARER = HTTPBearer(auto_error=False, description="An API key of the tenant.")


async def calling_tenant(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> Tenant:
    """The tenant whose key came with the request. Raises HTTPException 401, or 403 where he is suspended."""
    if credentials is None:
        raise HTTPException(401, "send the key as `Authorization: Bearer <key>`", {"WWW-Authenticate": "Bearer"})
    site: Site = request.app.state.site
    directory = site.gateway.directory()
    if not directory.is_known:
        raise OpUnavailable("directory")
    caller = directory.api_caller(credentials.credentials)
    if caller is None:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise HTTPException(401, "this key is not known, or was revoked", challenge)
    tenant, key = caller
    actor.set(f"api:{key}")
    if tenant.suspended:
        raise HTTPException(403, "this tenant is suspended; ask the operator of the gateway")
    return tenant


Caller = Annotated[Tenant, Depends(calling_tenant)]


def create_api(site: Site) -> FastAPI:
    """The sub-application, so that its errors are JSON while the portal's are pages."""
    shared: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": TITLES[status]} for status in (400, 401, 403, 413, 415, 422, 503)
    }
    api = FastAPI(
        title="Zegel",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        responses=shared,
        description="Consents and suppressions in, traces out. Keys are made by `zegel`, one tenant each.",
        redirect_slashes=False,
    )
    api.state.site = site
    api.router.route_class = JsonRoute
    _add_error_answers(api)
    _add_routes(api, site)
    _add_figures(api, site)
    return api


def _add_routes(api: FastAPI, site: Site) -> None:
    @api.post("/consents", response_model=ConsentReport, responses={207: {"model": ConsentReport}})
    async def record_consents(events: ConsentEvents, tenant: Caller) -> JSONResponse:
        """Record one consent event or up to 500. Each item has its own answer: 200 all in, 207 some, 422 none."""
        answers = await record(site.gateway, tenant, events.items)
        recorded = sum(answer.ok for answer in answers)
        status = 200 if recorded == len(answers) else 207 if recorded else 422
        return _json(ConsentReport(recorded=recorded, refused=len(answers) - recorded, results=answers), status)

    @api.post("/consents/lookup", response_model=ConsentAnswer)
    async def look_up_consent(query: Lookup, tenant: Caller) -> JSONResponse:
        """What is known of one address for one purpose, and whether it may be mailed now."""
        if query.purpose not in tenant.purposes:
            raise HTTPException(404, "this tenant has no such purpose")
        lookup = site.gateway.lookup
        state = lookup.consents(tenant.id, query.purpose, [query.email])[query.email]
        pending = lookup.requests(tenant.id, query.purpose, [query.email])[query.email]
        stops = lookup.suppressions(tenant.id, [query.email], purpose=query.purpose)[query.email]
        return _json(consent_report(query.purpose, state, pending, stops))

    @api.post("/suppressions", response_model=SuppressionReport)
    async def suppress(entry: Suppression, tenant: Caller) -> JSONResponse:
        """Stop mail to an address: for one purpose, or with scope `all` for every marketing purpose. Idempotent."""
        result = await _change(site, tenant, "suppression.add", entry)
        if result.get("changed") and entry.reason == "objection":
            UNSUBSCRIBES.inc(("api",))
        return _json(SuppressionReport(scope=entry.scope, reason=entry.reason))

    @api.post("/suppressions/remove", response_model=Removed)
    async def unsuppress(entry: Removal, tenant: Caller) -> JSONResponse:
        """Lift a bounce or a restriction. Objections and complaints stay: only the person himself can come back (CONSENT-11)."""
        await _change(site, tenant, "suppression.remove", entry)
        return _json(Removed(removed=True))

    @api.get("/messages/{message_id}", responses={404: {"model": Problem, "description": TITLES[404]}})
    async def trace_message(
        message_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,80}$")], tenant: Caller
    ) -> JSONResponse:
        """What happened to one of your messages: the id is the one of `250 2.0.0 queued as <id>`."""
        trace = await site.gateway.message_trace(tenant.name, message_id)
        if trace is None:
            raise HTTPException(404, "no message of yours has this id")
        return _json(trace)


def _add_figures(api: FastAPI, site: Site) -> None:
    """What became of mail, and what follows from it."""

    @api.post("/outcomes", response_model=OutcomeReport, responses={207: {"model": OutcomeReport}})
    async def tell_outcomes(told: ToldOutcomes, tenant: Caller) -> JSONResponse:
        """Tell of bounces and complaints that came back to you: one, or up to 500. The same told twice counts once.

        Each item has its own answer: 200 all taken, 207 some, 422 none. A complaint ends advertising to that person.
        """
        answers = await outcomes.record(site.gateway, tenant, told.items)
        taken, counted = sum(answer.ok for answer in answers), sum(answer.counted for answer in answers)
        status = 200 if taken == len(answers) else 207 if taken else 422
        return _json(OutcomeReport(counted=counted, refused=len(answers) - taken, results=answers), status)

    @api.get("/reputation", response_model=list[StandingRow])
    async def show_reputation(tenant: Caller) -> JSONResponse:
        """How your logins, streams and From domains stand, by what became of their last 1,000 deliveries."""
        return _json([StandingRow.model_validate(row) for row in await site.gateway.reputation(tenant)])

    @api.get("/limits", response_model=list[LimitRow])
    async def show_limits(tenant: Caller) -> JSONResponse:
        """Every limit that your mail meets: what is allowed, used and left, how often it made mail wait."""
        return _json([LimitRow.model_validate(row) for row in await site.gateway.limits(tenant)])


async def _change(site: Site, tenant: Tenant, op: str, entry: Suppression | Removal) -> dict[str, Any]:
    arguments = {"tenant": tenant.name, "address": entry.email, "scope": entry.scope, "reason": entry.reason}
    try:
        return await site.gateway.op(op, arguments)
    except OpRefused as error:
        raise HTTPException(REFUSED_STATUS.get(error.code, 422), error.text) from None


def _add_error_answers(api: FastAPI) -> None:
    @api.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> JSONResponse:
        # The framework's own texts for 404 and 405 are its titles; ours say more.
        detail = str(error.detail) if isinstance(error, HTTPException) and error.status_code not in (405, 413) else ""
        return _problem(error.status_code, detail, headers=dict(error.headers or {}))

    @api.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> JSONResponse:
        # Never `input` or `ctx`: they repeat what was sent, which may be an address or a key.
        # A body that may be one or a list is held against both: what the other one lacks is no news.
        told = [item for item in error.errors() if item["type"] not in ("list_type", "model_attributes_type")]
        errors = [{"field": _field(item["loc"]), "reason": str(item["msg"])} for item in (told or error.errors())[:50]]
        status = 400 if any(item["type"] == "json_invalid" for item in error.errors()) else 422
        if status == 400:
            return _problem(status, "the body is not JSON")
        return _problem(status, errors=errors)

    @api.exception_handler(Exception)
    async def crash(request: Request, error: Exception) -> JSONResponse:
        # The framework raises it again behind this answer, and the guard logs it.
        return _problem(500)

    @api.exception_handler(OpUnavailable)
    async def wait(request: Request, error: OpUnavailable) -> JSONResponse:
        return _problem(
            503, "try again; sending the same again is safe", headers={"Retry-After": str(RETRY_AFTER_SECONDS)}
        )


def _problem(
    status: int, detail: str = "", *, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    body: dict[str, Any] = {
        "type": "about:blank",
        "status": status,
        "title": TITLES.get(status, "The request was refused"),
    }
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = errors
    return JSONResponse(
        body, status, {"Cache-Control": "no-store"} | (headers or {}), media_type="application/problem+json"
    )


def _field(location: tuple[int | str, ...]) -> str:
    """Path of a field as people write it: `3.given_at` for the fourth item's given_at."""
    # Pydantic names the branch of "one or a list" in the path; the sender does not know those names.
    return ".".join(
        str(part)
        for part in location
        if part not in ("body", "path", "ConsentEvent", "ToldOutcome") and "[" not in str(part)
    )


def _json(value: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(jsonable_encoder(value, exclude_none=True), status, {"Cache-Control": "no-store"})
