"""Double opt-in: somebody asks, the person confirms from his own mailbox, and only that is consent (CLASS-7, CONSENT-8).

The answer to a request is the same whether the address may be mailed or not, and comes after the same time, so that nobody
learns who is on a list. A mailbox gets so many confirmation mails a day over all lists of all senders and all spellings that its
provider takes, so that the forms of a gateway are no way to flood somebody.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import orjson
from email_validator import EmailNotValidError, validate_email
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from relay.consent import token as tokens
from relay.limits import client_key
from relay.mail.address import inbox, parse_path
from relay.mail.envelope import Purpose, Tenant
from relay.mail.face import NO_FACE
from relay.portal import cors
from relay.portal.faces import shown
from relay.portal.gateway import DirectoryView, Notice, OpRefused, OpUnavailable, purpose_title, sender_title
from relay.portal.pages import Site, ThisSite

router = APIRouter(include_in_schema=False)

HOUR, DAY = 3_600, 86_400
CLIENT_LIMIT = 20  # requests of one client address an hour
TENANT_LIMIT = 2_000  # requests for the lists of one tenant an hour, from wherever
ADDRESS_LIMIT = 10  # mails to one mailbox a day, over all lists
ANSWER_SECONDS = 0.2  # no answer to a request comes sooner: whom nothing is mailed to takes less work
MAX_EMAIL_CHARS = 320
JSON = "application/json"


class OptIn(NamedTuple):
    """A list that people can sign up for."""

    key: str
    tenant: Tenant
    purpose: Purpose

    def names(self, language: str) -> dict[str, Any]:
        return {
            "title": purpose_title(self.purpose, self.purpose.name, language),
            "sender": sender_title(self.tenant, self.purpose),
        }


def find(directory: DirectoryView, key: str) -> OptIn | None:
    """The list behind a purpose key, or None. Raises OpUnavailable while nobody is known."""
    if not directory.is_known:
        raise OpUnavailable("directory")
    found = directory.optin(key)
    return OptIn(key, *found) if found else None


@router.api_route("/optin/confirm/{token}", methods=["GET", "HEAD"])
async def ask(site: ThisSite, request: Request, token: str) -> Response:
    optin = _confirmable(site, request, token)
    if optin is None:
        return site.note(request, "confirm_gone", status=404)
    names, whose = optin.names(site.language(request)), shown(site, optin.tenant)
    return site.page(request, "optin_confirm.html", token=token, key=optin.key, whose=whose, **names)


@router.post("/optin/confirm/{token}")
async def confirm(site: ThisSite, request: Request, token: str) -> Response:
    found = _confirmable(site, request, token)
    if found is None:
        return site.note(request, "confirm_gone", status=404)
    whose = shown(site, found.tenant)
    try:
        await site.gateway.op("consent.confirm", _confirmation(site, request, token, found))
    except OpUnavailable:
        return site.note(request, "optin_down", status=503, headers={"Retry-After": "120"}, whose=whose)
    except OpRefused:
        return site.note(request, "confirm_gone", status=410, whose=whose)
    return site.note(request, "confirm_done", status=200, whose=whose, **found.names(site.language(request)))


@router.api_route("/optin/{key}", methods=["GET", "HEAD"])
async def show_form(site: ThisSite, request: Request, key: str) -> Response:
    optin = find(site.gateway.directory(), key)
    return _form(site, request, optin) if optin else site.note(request, "optin_unknown", status=404)


@router.options("/optin/{key}")
async def may_post(site: ThisSite, request: Request, key: str) -> Response:
    optin = find(site.gateway.directory(), key)
    return cors.preflight(request, site.gateway.directory().face(optin.tenant.id) if optin else NO_FACE)


@router.post("/optin/{key}")
async def start(site: ThisSite, request: Request, key: str) -> Response:
    optin = find(site.gateway.directory(), key)
    if optin is None:
        return _told(site, request, "optin_unknown", 404)
    answer = await _start(site, request, optin)
    return cors.allow(request, site.gateway.directory().face(optin.tenant.id), answer)


async def _start(site: Site, request: Request, optin: OptIn) -> Response:
    given = await _posted_email(request)
    address = address_in(given)
    if address is None:
        if is_json(request):
            return _told(site, request, "optin_wrong", 422, optin=optin)
        return _form(site, request, optin, wrong=True, typed=given[:MAX_EMAIL_CHARS])
    began = asyncio.get_running_loop().time()
    try:
        limits = (
            (f"optin:{client_key(site.client(request))}", CLIENT_LIMIT),
            (f"optin-tenant:{optin.tenant.id}", TENANT_LIMIT),
        )
        for key, limit in limits:
            wait = await site.gateway.hit(key, limit=limit, per_seconds=HOUR)
            if wait > 0:
                return _told(site, request, "optin_busy", 429, {"Retry-After": str(int(wait) + 1)}, optin=optin)
        await _request(site, request, optin, address)
        await asyncio.sleep(began + ANSWER_SECONDS - asyncio.get_running_loop().time())
    except OpUnavailable:
        return _told(site, request, "optin_down", 503, {"Retry-After": "120"}, optin=optin)
    return _told(site, request, "optin_sent", 202, optin=optin)


def is_json(request: Request) -> bool:
    """Whether a script speaks: it sends JSON, or asks for JSON and for no page."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    accept = request.headers.get("accept", "").lower()
    return kind == JSON or (JSON in accept and "text/html" not in accept)


def _told(
    site: Site,
    request: Request,
    key: str,
    status: int,
    headers: dict[str, str] | None = None,
    *,
    optin: OptIn | None = None,
) -> Response:
    """The answer to a POST: a page, a line, or JSON where a script asks; errors as RFC 9457 has them."""
    whose = shown(site, optin.tenant) if optin else None
    if not is_json(request):
        return site.note(request, key, status=status, headers=headers, whose=whose)
    words = {name: site.text(request, f"{key}_{name}") for name in ("title", "text")}
    shared = {"Cache-Control": "no-store", "Content-Language": site.language(request), **(headers or {})}
    if status < 400:
        return JSONResponse({"state": "asked", **words}, status, shared)
    problem = {"type": "about:blank", "status": status, "title": words["title"], "detail": words["text"]}
    return JSONResponse(problem, status, shared, media_type="application/problem+json")


def _form(site: Site, request: Request, optin: OptIn, *, wrong: bool = False, typed: str = "") -> Response:
    names = optin.names(site.language(request)) | {"tenant": optin.tenant, "whose": shown(site, optin.tenant)}
    names |= {"key": optin.key, "wrong": wrong, "typed": typed}
    return site.page(request, "optin_form.html", status=422 if wrong else 200, **names)


async def _posted_email(request: Request) -> str:
    """What stands in field `email`; "" where it is not one text."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON:
        try:
            given = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            return ""
        email = given.get("email") if isinstance(given, dict) else None
        return email if isinstance(email, str) else ""
    try:
        async with request.form(max_files=0, max_fields=20) as form:
            values = form.getlist("email")
    except HTTPException:
        return ""
    return values[0] if len(values) == 1 and isinstance(values[0], str) else ""


def address_in(text: str) -> str | None:
    """The address that somebody typed, as given (CONSENT-16); None where no mail could go to it."""
    if len(text) > MAX_EMAIL_CHARS:
        return None
    address = text.strip()
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return None
    return None if isinstance(parse_path(address), str) else address


async def _request(site: Site, request: Request, optin: OptIn, address: str) -> None:
    """Records the request and queues its confirmation mail. A refusal is silent: it would tell who is on the list."""
    tenant, purpose = optin.tenant.name, optin.purpose.name
    arguments = {
        "tenant": tenant,
        "address": address,
        "purpose": purpose,
        "source": _page(site, optin),
        "jurisdiction": site.settings.server.region,
        "evidence_ip": site.client(request),
        "evidence_user_agent": _user_agent(request),
        "mail": True,
    }
    try:
        result = await site.gateway.op("consent.request", arguments)
    except OpRefused:
        return
    person = site.gateway.keyring.lasting_hash(f"optin\0{inbox(address)}").hex()
    if (
        not result["may_mail"]
        or await site.gateway.hit(f"optin-mail:{person}", limit=ADDRESS_LIMIT, per_seconds=DAY) > 0
    ):
        return
    language = site.language(request)
    link = (
        f"{site.settings.web.public_url.rstrip('/')}/optin/confirm/{result['token']}?lang={language}&form={optin.key}"
    )
    notice = Notice("optin.confirm", tenant, purpose, address, language, link, message_id=result["message_id"])
    await site.gateway.submit_notice(notice)


def _confirmable(site: Site, request: Request, text: str) -> OptIn | None:
    key = request.query_params.get("form", "")
    token = tokens.read(site.gateway.keyring, text)
    if token is None or token.kind is not tokens.TokenKind.CONFIRM:
        return None
    form = find(site.gateway.directory(), key)
    tenant = site.gateway.directory().tenant_by_id(token.tenant_id)
    purpose = tenant.purposes.get(token.purpose) if tenant else None
    if tenant is None or purpose is None:
        return None
    # The link names the form that it came from; it counts only where it is a form of the same list.
    is_same = form is not None and (form.tenant.id, form.purpose.name) == (tenant.id, purpose.name)
    return OptIn(key if is_same else "", tenant, purpose)


def _confirmation(site: Site, request: Request, text: str, optin: OptIn) -> dict[str, object]:
    """Arguments of the owner's op: the token, and what the person saw when he pressed the button (CONSENT-2)."""
    language = site.language(request)
    return {
        "token": text,
        "ip": site.client(request),
        "user_agent": _user_agent(request),
        "text": site.texts[language]["optin_statement"].format(**optin.names(language)),
        "text_language": language,
        "policy_url": _page(site, optin) if optin.key else "",
    }


def _page(site: Site, optin: OptIn) -> str:
    return f"{site.settings.web.public_url.rstrip('/')}/optin/{optin.key}"


def _user_agent(request: Request) -> str:
    """What the browser calls itself, cut and without characters that could break a line."""
    given = request.headers.get("user-agent", "")[:300]
    return "".join(char for char in given if char.isprintable())
