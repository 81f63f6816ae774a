"""The opt-out: RFC 8058 one-click for mailbox providers, one button for people, and what a link can do today.

GET and HEAD change nothing, since link scanners follow every link (UNSUB-8). POST with the one field of RFC 8058
stops the mail at once, without login, cookie, redirect or question (UNSUB-7). The answer 200 is given only after the
owner has committed the opt-out; while it cannot, the answer is 503 and nobody is told that he has left.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from relay.consent import token as tokens
from relay.mail.envelope import Purpose, Tenant
from relay.observe.metrics import UNSUBSCRIBES
from relay.portal.faces import shown
from relay.portal.gateway import OpRefused, OpUnavailable, purpose_title, sender_title
from relay.portal.pages import Site, ThisSite, wants_html

router = APIRouter(include_in_schema=False)

FIELD, VALUE = "List-Unsubscribe", "One-Click"  # RFC 8058 section 3.1
RETRY_AFTER_SECONDS = 120
OPT_OUT = frozenset((tokens.TokenKind.UNSUBSCRIBE, tokens.TokenKind.MY))


class Link(NamedTuple):
    """A token that is ours, and what the directory knows of it now. Tenant and list may be gone; the token still works."""

    token: tokens.Token
    tenant: Tenant | None
    purpose: Purpose | None

    @property
    def sender(self) -> str:
        return sender_title(self.tenant, self.purpose)


@router.api_route("/u/{token}", methods=["GET", "HEAD"])
async def show(site: ThisSite, request: Request, token: str) -> Response:
    link = link_of(site, token)
    if link is None:
        return site.note(request, "bad_token", status=404)
    whose = shown(site, link.tenant)
    return site.page(request, "unsubscribe.html", token=token, whose=whose, **names_of(site, request, link))


@router.post("/u/{token}")
async def opt_out(site: ThisSite, request: Request, token: str) -> Response:
    link = link_of(site, token)
    if link is None:
        return site.note(request, "bad_token", status=404)
    if not await asks_one_click(request):
        return site.note(request, "bad_request", status=400)
    everything = request.query_params.get("scope") == "all" or not link.token.purpose
    channel = "page" if wants_html(request) else "one_click"
    arguments = {"token": token, "channel": channel} | ({"scope": "all"} if everything else {})
    try:
        result = await site.gateway.op("optout", arguments)
    except OpRefused as error:
        if error.code == "token.unknown":
            return site.note(request, "bad_token", status=404)
        return _not_now(site, request)
    except OpUnavailable:
        return _not_now(site, request)
    if result.get("changed"):
        UNSUBSCRIBES.inc((channel,))
    return _done(site, request, link, token, everything=everything)


async def asks_one_click(request: Request) -> bool:
    """The body is exactly `List-Unsubscribe=One-Click`, as multipart/form-data or urlencoded (RFC 8058 section 3.2)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        body = (await request.body()).rstrip(b"\r\n")
        try:
            fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=2)
        except ValueError:
            return False
        return fields == [(FIELD, VALUE)]
    if kind == "multipart/form-data":
        try:
            async with request.form(max_files=0, max_fields=2) as form:
                return form.multi_items() == [(FIELD, VALUE)]
        except HTTPException:
            return False
    return False


def link_of(site: Site, text: str, kinds: frozenset[tokens.TokenKind] = OPT_OUT) -> Link | None:
    """What a link under a mail leads to; None where it is not ours, or not one of `kinds`."""
    token = tokens.read(site.gateway.keyring, text)
    if token is None or token.kind not in kinds:
        return None
    tenant = site.gateway.directory().tenant_by_id(token.tenant_id)
    return Link(token, tenant, tenant.purposes.get(token.purpose) if tenant else None)


def _not_now(site: Site, request: Request) -> Response:
    return site.note(request, "down", status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def names_of(site: Site, request: Request, link: Link) -> dict[str, Any]:
    """How list and sender are called on a page."""
    language = site.language(request)
    sender = link.sender or site.text(request, "this_sender")
    return {"title": purpose_title(link.purpose, link.token.purpose, language) or sender, "sender": sender}


def _done(site: Site, request: Request, link: Link, token: str, *, everything: bool) -> Response:
    names = names_of(site, request, link)
    key = "unsub_done_all" if everything else "unsub_done"
    if wants_html(request):
        whose = shown(site, link.tenant)
        return site.page(request, "unsubscribed.html", token=token, key=key, tenant=link.tenant, whose=whose, **names)
    return PlainTextResponse(site.text(request, f"{key}_title") + "\n", 200, {"Cache-Control": "no-store"})
