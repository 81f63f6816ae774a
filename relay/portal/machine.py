"""For machines: liveness, readiness, metrics. Not for the public address unless `web.expose_machine_routes` says so.

Else only a client on this machine, with no proxy between, is answered; for all others there is no such page.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from relay.portal.clients import require_local
from relay.portal.gateway import OpUnavailable
from relay.portal.pages import ThisSite

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def _require_near(site: ThisSite, request: Request) -> None:
    if not site.settings.web.expose_machine_routes:
        require_local(request)


router = APIRouter(include_in_schema=False, dependencies=[Depends(_require_near)])


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def alive() -> Response:
    return PlainTextResponse("ok\n")


@router.api_route("/readyz", methods=["GET", "HEAD"])
async def ready(site: ThisSite) -> Response:
    try:
        reasons, notes = await site.gateway.ready(), await site.gateway.notes()
    except OpUnavailable:
        reasons, notes = ["the owner of the data folder does not answer"], []
    return JSONResponse({"ready": not reasons, "reasons": reasons, "notes": notes}, 503 if reasons else 200)


@router.api_route("/metrics", methods=["GET", "HEAD"])
async def metrics(site: ThisSite) -> Response:
    try:
        return PlainTextResponse(await site.gateway.metrics_text(), media_type=METRICS_TYPE)
    except OpUnavailable:
        return PlainTextResponse("metrics are not to be had right now\n", 503)
