"""What the pages of a tenant show of him: style sheet of his colours and his logo, served by us (strict CSP)."""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from relay.mail.envelope import Tenant
from relay.mail.face import Face, deeper
from relay.portal.gateway import OpRefused
from relay.portal.pages import Site, ThisSite

router = APIRouter(include_in_schema=False)

FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}  # names change with what they name
KINDS = {"png": "image/png", "jpg": "image/jpeg"}
MOST_LOGOS = 200  # kept in memory: 10 MB
_STYLE = re.compile(r"([0-9a-f]{6})-([0-9a-f]{6})\.css")
_CSS = """:root {{ --wax: {colour}; --wax-deep: {deep}; --on-wax: {text}; --kicker: var(--soft); }}
button.primary {{ border-color: var(--soft); }}
"""


class Shown(NamedTuple):
    """Whose page it is, for the template."""

    name: str
    face: Face


def shown(site: Site, tenant: Tenant | None) -> Shown | None:
    """For a page of this tenant; None where he is gone."""
    if tenant is None:
        return None
    return Shown(tenant.legal_name or tenant.name, site.gateway.directory().face(tenant.id))


@router.api_route("/face/{name}", methods=["GET", "HEAD"])
async def style(site: ThisSite, request: Request, name: str) -> Response:
    found = _STYLE.fullmatch(name)
    if found is None:
        return site.note(request, "not_found", status=404)
    colour, text = (f"#{part}" for part in found.groups())
    css = _CSS.format(colour=colour, deep=deeper(colour), text=text)
    return Response(css, 200, FOR_EVER, "text/css; charset=utf-8")


@router.api_route("/logo/{name}", methods=["GET", "HEAD"])
async def logo(site: ThisSite, request: Request, name: str) -> Response:
    tenant = site.gateway.directory().with_logo(name) if name else None
    if tenant is None:
        return site.note(request, "not_found", status=404)
    kept = site.logos
    if name not in kept:
        try:
            found = await site.gateway.op("tenant.logo", {"name": tenant.name})
        except OpRefused:
            found = {"logo": ""}
        if found["logo"] != name:  # it was changed in this second
            return site.note(request, "not_found", status=404)
        kept[name] = base64.b64decode(found["picture"])
        if len(kept) > MOST_LOGOS:
            kept.popitem(last=False)
    return Response(kept[name], 200, FOR_EVER, KINDS[name.rpartition(".")[2]])
