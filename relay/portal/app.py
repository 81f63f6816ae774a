"""The web application: routes together, error pages, static file. Built once per web process by `relay.serve`.

The framework analyses a route when it is made, which takes a millisecond. So routes are made once, where their module is
loaded: the web process is forked with them, and an application only puts them together. A handler gets its application's
`Site` as `ThisSite`, and what one application keeps for itself stands there.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route
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
from relay.portal.pages import HERE, Site, ThisSite

ERROR_TEXTS = {404: "not_found", 405: "not_allowed", 413: "too_large"}


def _all(*routers: APIRouter) -> list[BaseRoute]:
    return [route for router in routers for route in router.routes]


PAGE_ROUTES = _all(
    unsubscribe.router,
    mystart.router,
    mydata.router,
    optin.router,
    faces.router,
    held_pages.router,
    deleted.router,
    why.router,
)
API_ROUTES = _all(
    api.router,
    api_held.router,
    api_webhooks.router,
    api_lists.router,
    api_requests.router,
    api_mailings.router,
)
front = APIRouter(include_in_schema=False)


@front.api_route("/", methods=["GET", "HEAD"])
async def home(site: ThisSite, request: Request) -> Response:
    return site.page(request, "home.html")


def create_app(gateway: Gateway, settings: PortalSettings) -> FastAPI:
    """The application for one node. It writes nothing itself: every change is an op of `gateway`."""
    site = Site(gateway, settings)
    app = FastAPI(title="Zegel", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.site = site
    # As they are: `include_router` would have each analysed once more.
    app.router.routes.extend([*PAGE_ROUTES, *machine.router.routes])
    if settings.delivery.mode == "capture" and gateway.outbox is not None:
        app.router.routes.extend(outbox_pages.router.routes)
    app.mount("/api/v1", api.create_api(site, API_ROUTES))
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.router.routes.extend(front.routes)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        key = ERROR_TEXTS.get(error.status_code, "error")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _methods(request) or headers.get("Allow", "GET, HEAD")
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


def _methods(request: Request) -> str:
    """All that may be done at this path: GET and POST of a page are routes of their own (RFC 9110, 15.5.6)."""
    routes = [route for route in PAGE_ROUTES if isinstance(route, Route)]
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
