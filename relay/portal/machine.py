"""For machines: liveness, readiness, metrics. Never on the public address unless the operator says so.

They live on `web.machine_address`. Where that is not set and the portal is on loopback only, the portal answers them
too, but only to a client on this machine that no proxy stands before.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from relay.portal.clients import is_local
from relay.portal.gateway import Gateway, OpUnavailable

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_machine_app(gateway: Gateway) -> FastAPI:
    """The application for `web.machine_address` alone: whoever reaches that address is answered."""
    app = FastAPI(title="Zegel for machines", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(routes(gateway, only_local=False))
    return app


def routes(gateway: Gateway, *, only_local: bool) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    def admit(request: Request) -> None:
        if only_local and not is_local(request):
            raise HTTPException(404)

    @router.api_route("/healthz", methods=["GET", "HEAD"])
    async def alive(request: Request) -> Response:
        admit(request)
        return PlainTextResponse("ok\n")

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    async def ready(request: Request) -> Response:
        admit(request)
        try:
            reasons = await gateway.ready()
        except OpUnavailable:
            reasons = ["the owner of the data folder does not answer"]
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @router.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics(request: Request) -> Response:
        admit(request)
        try:
            return PlainTextResponse(await gateway.metrics_text(), media_type=METRICS_TYPE)
        except OpUnavailable:
            return PlainTextResponse("metrics are not to be had right now\n", 503)

    return router
