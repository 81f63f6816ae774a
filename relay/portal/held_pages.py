"""Held mail for its sender: /held/{token}, the page behind the links of our letter (CC-10).

Mail scanners follow links, so GET and HEAD change nothing; a button posts the choice. The token is for one message and for one
time that it is held, and it ends with the choice, whoever makes it. Without it nothing is told, not even that there was mail.
What the mail holds is shown in a frame of its own: sandboxed, without script, image, style or link of the mail's (see
relay.portal.sanitise).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from starlette.exceptions import HTTPException

from relay.consent import token as tokens
from relay.mail.envelope import Tenant
from relay.mail.notice import REFUSE
from relay.mail.reply import REASONS
from relay.portal.explained import rules
from relay.portal.gateway import OpRefused
from relay.portal.pages import HERE, Site, ThisSite
from relay.portal.sanitise import clean

router = APIRouter(include_in_schema=False)

ENDINGS = frozenset(("released", "refused", "deleted"))
FIELDS = ("from", "to", "cc", "reply-to", "date", "subject")
STYLE = (HERE / "static" / "held_mail.css").read_text("utf-8")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
FRAME_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; sandbox; frame-ancestors 'self'; "
    "form-action 'none'; base-uri 'none'",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
}


class Link(NamedTuple):
    """A token that is ours: which message, of which tenant, and since when it was held then."""

    queue_id: str
    tenant: Tenant
    since: float

    @property
    def args(self) -> dict[str, Any]:
        return {"id": self.queue_id, "tenant_id": self.tenant.id, "since": self.since}


@router.api_route("/held/{token}", methods=["GET", "HEAD"])
async def show(site: ThisSite, request: Request, token: str) -> Response:
    link = _read(site, token)
    if link is None:
        return site.note(request, "held_bad", status=404)
    mail = await _ask(site, "held.look", link)
    if mail is None:
        return await _over(site, request, link)
    if mail["held_until"] <= time.time():
        return site.note(request, "held_expired", status=410)
    ways = (*mail["offers"], REFUSE)
    chosen = request.query_params.get("choice", "")
    return site.page(
        request,
        "held.html",
        headers=PAGE_HEADERS,
        token=token,
        mail=mail,
        sentence=REASONS[mail["held"]].cause(site.language(request), mail["held_detail"].items()),
        explained=mail["rule"] in rules(),
        ways=sorted(ways, key=lambda way: way != chosen),
        chosen=chosen if chosen in ways else "",
        now=time.time(),
    )


@router.post("/held/{token}")
async def choose(site: ThisSite, request: Request, token: str) -> Response:
    link = _read(site, token)
    if link is None:
        return site.note(request, "held_bad", status=404)
    return await _choose(site, request, link)


@router.api_route("/held/{token}/mail", methods=["GET", "HEAD"])
async def content(site: ThisSite, request: Request, token: str) -> Response:
    link = _read(site, token)
    if link is None:
        raise HTTPException(404)
    found = await _ask(site, "held.content", link)
    if found is None:
        raise HTTPException(410)
    return await page_of(site, request, found)


async def page_of(site: Site, request: Request, found: dict[str, Any]) -> Response:
    """What `held.content` told, as a page that is safe to show in a frame and alone."""
    html, is_cut = await asyncio.to_thread(clean, found["html"]) if found["html"] else ("", False)
    values = {**found["fields"], "subject": found["subject"]}
    return site.page(
        request,
        "held_mail.html",
        headers=FRAME_HEADERS,
        style=Markup(STYLE),
        mail={**found, "is_cut": found["is_cut"] or is_cut},
        html=Markup(html),
        fields=[(name.replace("-", "_"), values[name]) for name in FIELDS if values.get(name)],
    )


async def _choose(site: Site, request: Request, link: Link) -> Response:
    """Carry out what was posted. Raises OpUnavailable."""
    choice = await _posted(request)
    mail = await _ask(site, "held.look", link)
    if mail is None:
        return await _over(site, request, link)
    if choice != REFUSE and _is_suspended(site, link.tenant, str(mail.get("credential", ""))):
        return site.note(request, "held_suspended", status=403)
    said = {"choice": choice, "by": "sender", "name": mail["from"]}
    try:
        done = await site.gateway.op("held.decide", {**link.args, **said})
    except OpRefused as refused:
        if refused.code == "busy" and await _ending(site, link) is None:
            return site.note(request, "held_busy", status=503, headers={"Retry-After": "60"})
        if refused.code in ("usage", "held.choice"):
            return site.note(request, "held_choice", status=400)
        return await _over(site, request, link)
    if not done.get("id"):
        return await _over(site, request, link)
    return site.note(request, f"held_done_{choice}", status=200)


def _is_suspended(site: Site, tenant: Tenant, login: str) -> bool:
    """Nothing is sent for who is, so nothing may be said to be on its way (THROTTLE-9)."""
    logins = site.gateway.directory().credentials_of(tenant)
    return tenant.suspended or any(each.suspended for each in logins if each.name == login)


def _read(site: Site, text: str) -> Link | None:
    token = tokens.read(site.gateway.keyring, text)
    if token is None or token.kind is not tokens.TokenKind.HELD:
        return None
    tenant = site.gateway.directory().tenant_by_id(token.tenant_id)
    return Link(token.purpose, tenant, float(token.subscriber)) if tenant else None


async def _ask(site: Site, op: str, link: Link) -> dict[str, Any] | None:
    """The answer, or None where the message is not held any more. Raises OpUnavailable."""
    try:
        answer = await site.gateway.op(op, link.args)
    except OpRefused:
        return None
    return answer if answer.get("items", answer) else None


async def _posted(request: Request) -> str:
    """The one field `choice`; "" where there is none."""
    try:
        async with request.form(max_files=0, max_fields=5) as form:
            values = form.getlist("choice")
    except HTTPException:
        return ""
    return values[0] if len(values) == 1 and isinstance(values[0], str) else ""


async def _over(site: Site, request: Request, link: Link) -> Response:
    """Nothing can be chosen any more: who has decided, where the delivery log still says it."""
    told = await _ending(site, link) or {}
    key = {"sender": "held_used", "time": "held_expired"}.get(told.get("by", ""), "held_over")
    return site.note(request, key, status=410)


async def _ending(site: Site, link: Link) -> dict[str, Any] | None:
    """How the waiting that the link is for came to its end, as the delivery log says."""
    trace = await site.gateway.message_trace(link.tenant.name, link.queue_id)
    events = (trace or {}).get("events", ())
    return next((event for event in events if event["event"] in ENDINGS and event["at"] >= link.since), None)
