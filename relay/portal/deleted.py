"""Whoever got what was not for him confirms that he deleted it: /deleted/{token} (GDPR-23).

GET and HEAD change nothing, since scanners follow every link; the button posts. The confirmation is written down with its time.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from relay.consent import token as tokens
from relay.mail.envelope import Tenant
from relay.portal.faces import shown
from relay.portal.gateway import OpRefused, OpUnavailable, sender_title
from relay.portal.pages import Site, ThisSite

router = APIRouter(include_in_schema=False)

RETRY_AFTER_SECONDS = 120


@router.api_route("/deleted/{token}", methods=["GET", "HEAD"])
async def show(site: ThisSite, request: Request, token: str) -> Response:
    if not _is_ours(site, token):
        return site.note(request, "deleted_bad", status=404)
    try:
        asked = await site.gateway.op("deletion.look", {"token": token})
    except OpRefused:
        return site.note(request, "deleted_bad", status=404)
    except OpUnavailable:
        return _not_now(site, request)
    if asked["confirmed_at"]:
        return site.note(request, "deleted_done", status=200, whose=shown(site, _tenant(site, token)))
    sender = _sender(site, token) or site.text(request, "this_sender")
    whose = shown(site, _tenant(site, token))
    return site.page(request, "deleted.html", token=token, sender=sender, what=asked["what"], whose=whose)


@router.post("/deleted/{token}")
async def confirm(site: ThisSite, request: Request, token: str) -> Response:
    if not _is_ours(site, token):
        return site.note(request, "deleted_bad", status=404)
    try:
        await site.gateway.op("deletion.confirm", {"token": token})
    except OpRefused:
        return site.note(request, "deleted_bad", status=404)
    except OpUnavailable:
        return _not_now(site, request)
    return site.note(request, "deleted_done", status=200, whose=shown(site, _tenant(site, token)))


def _is_ours(site: Site, text: str) -> bool:
    """Whether this is such a link at all, so that nobody asks the owner with what he made up."""
    token = tokens.read(site.gateway.keyring, text)
    return token is not None and token.kind is tokens.TokenKind.DELETE


def _tenant(site: Site, text: str) -> Tenant | None:
    token = tokens.read(site.gateway.keyring, text)
    return site.gateway.directory().tenant_by_id(token.tenant_id) if token else None


def _sender(site: Site, text: str) -> str:
    return sender_title(_tenant(site, text), None)


def _not_now(site: Site, request: Request) -> Response:
    return site.note(request, "deleted_down", status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
