"""/my/start/{key}: the way to one's own data from the sender's web site, without a link from a mail (GDPR-5).

Anybody may type any address here. The answer is the page for the code, whoever is known or not; a code is mailed, after the
answer has left, only where something is held about the address, so that this is no way to have strangers mailed.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask

from relay.consent import token as tokens
from relay.mail.envelope import Tenant
from relay.portal.faces import shown
from relay.portal.gateway import Notice, OpRefused, OpUnavailable
from relay.portal.mydata import RETRY, Visit, busy, code_notice, is_mailbox, mail, posted
from relay.portal.optin import MAX_EMAIL_CHARS
from relay.portal.pages import Site, ThisSite
from relay.portal.unsubscribe import Link

router = APIRouter(include_in_schema=False)


@router.api_route("/my/start/{key}", methods=["GET", "HEAD"])
async def show(site: ThisSite, request: Request, key: str) -> Response:
    tenant = _found(site, key)
    if tenant is None:
        return site.note(request, "start_unknown", status=404)
    return _page(site, request, tenant, key=key, wrong="", typed="")


@router.post("/my/start/{key}")
async def begin(site: ThisSite, request: Request, key: str) -> Response:
    tenant = _found(site, key)
    if tenant is None:
        return site.note(request, "start_unknown", status=404)
    given = (await posted(request)).get("email", "")
    address = given.strip()
    if not is_mailbox(address):
        return _page(site, request, tenant, status=422, key=key, wrong="email", typed=given[:MAX_EMAIL_CHARS])
    try:
        return await _asked(site, request, tenant, address)
    except (OpUnavailable, OpRefused):
        return site.note(request, "my_down", status=503, headers=RETRY, whose=shown(site, tenant))


def _found(site: Site, key: str) -> Tenant | None:
    directory = site.gateway.directory()
    if not directory.is_known:
        raise OpUnavailable("directory")
    return directory.start_page(key)


async def _asked(site: Site, request: Request, tenant: Tenant, address: str) -> Response:
    nobody = tokens.Token(tokens.TokenKind.START, tenant.id, "", b"", "", 0)
    waiting = await busy(Visit(site, request, "", Link(nobody, tenant, None), {}), "ask")
    if waiting is not None:
        return waiting
    told = await site.gateway.op("mydata.start", {"tenant": tenant.name, "address": address})
    visit = Visit(site, request, str(told["token"]), Link(nobody, tenant, None), {})
    page = visit.page("my_code.html", asked=told["asked"], wrong="")
    notice = code_notice(visit, told, address) if told["code"] else None
    page.background = BackgroundTask(_mail_the_known, site, notice, address, tenant, is_known=bool(told["known"]))
    return page


async def _mail_the_known(site: Site, notice: Notice | None, address: str, tenant: Tenant, *, is_known: bool) -> None:
    """After the answer has left."""
    try:
        is_held = is_known or bool(await site.gateway.mails_to(tenant.name, address))
    except OpUnavailable:
        is_held = False
    if notice is not None and is_held:
        await mail(site, notice)


def _page(site: Site, request: Request, tenant: Tenant, *, status: int = 200, **values: Any) -> Response:
    sender = tenant.legal_name or tenant.name
    whose = shown(site, tenant)
    return site.page(request, "my_start.html", status=status, sender=sender, tenant=tenant, whose=whose, **values)
