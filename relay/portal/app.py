"""The web application: routes together, error pages, static file. Built once per web process by `relay.serve`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.portal import (
    api,
    api_held,
    api_lists,
    api_mailings,
    api_requests,
    api_webhooks,
    deleted,
    faces,
    held_pages,
    machine,
    mydata,
    mystart,
    optin,
    outbox_pages,
    unsubscribe,
    why,
)
from relay.portal.gateway import Gateway, OpUnavailable, PortalSettings
from relay.portal.guard import API_PREFIX, Guard
from relay.portal.pages import HERE, Site

ERROR_TEXTS = {404: "not_found", 405: "not_allowed", 413: "too_large"}


def create_app(gateway: Gateway, settings: PortalSettings) -> FastAPI:
    """The application for one node. It writes nothing itself: every change is an op of `gateway`."""
    site = Site(gateway, settings)
    app = FastAPI(title="Zegel", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    pages = [part.routes(site) for part in (unsubscribe, mystart, mydata, optin, faces, held_pages, deleted, why)]
    for router in pages:
        app.include_router(router)
    app.include_router(machine.routes(gateway, only_local=not settings.web.expose_machine_routes))
    if settings.delivery.mode == "capture" and gateway.outbox is not None:
        app.include_router(outbox_pages.routes(site, gateway.outbox, only_local=not settings.web.expose_outbox))
    tenants = api.create_api(site)
    api_held.add_routes(tenants, site)
    api_webhooks.add_routes(tenants, site)
    api_lists.add_routes(tenants, site)
    api_requests.add_routes(tenants, site)
    api_mailings.add_routes(tenants, site)
    app.mount("/api/v1", tenants)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def home(request: Request) -> Response:
        return site.page(request, "home.html")

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        key = ERROR_TEXTS.get(error.status_code, "error")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _methods(pages, request) or headers.get("Allow", "GET, HEAD")
        return site.note(request, key, status=error.status_code, headers=headers)

    @app.exception_handler(OpUnavailable)
    async def wait(request: Request, error: OpUnavailable) -> Response:
        return site.note(request, "optin_down", status=503, headers={"Retry-After": "120"})

    @app.exception_handler(RequestValidationError)
    async def misread(request: Request, error: RequestValidationError) -> Response:
        # Pages take no input but paths and queries; one that does not fit leads nowhere.
        return site.note(request, "not_found", status=404)

    def answer(scope: Scope, key: str, status: int) -> ASGIApp:
        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            await _plain_answer(site, Request(scope), key, status)(scope, receive, send)

        return respond

    app.add_middleware(Guard, answer=answer, is_https=settings.web.public_url.startswith("https://"))
    return app


def _methods(pages: Sequence[APIRouter], request: Request) -> str:
    """All that may be done at this path: GET and POST of a page are routes of their own (RFC 9110, 15.5.6)."""
    routes = [route for router in pages for route in router.routes if isinstance(route, Route)]
    found = {
        name for route in routes if route.matches(request.scope)[0] is not Match.NONE for name in route.methods or ()
    }
    return ", ".join(sorted(found))


def _plain_answer(site: Site, request: Request, key: str, status: int) -> Response:
    """The guard's own answers; JSON for the API, a page or a line for the rest."""
    # A body that was not read to its end would be taken for the next request.
    headers = {"Connection": "close"}
    if request.url.path.startswith(API_PREFIX):
        problem = {"type": "about:blank", "status": status, "title": site.texts["en"][f"{key}_title"]}
        return JSONResponse(problem, status, headers, media_type="application/problem+json")
    return site.note(request, key, status=status, headers=headers)
