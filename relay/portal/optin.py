"""Double opt-in: somebody asks, the person confirms from his own mailbox, and only that is consent (CLASS-7, CONSENT-8).

The answer to a request is the same whether the address may be mailed or not, so that nobody learns who is on a list.
"""

from __future__ import annotations

from typing import NamedTuple

from email_validator import EmailNotValidError, validate_email
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from relay.consent import token as tokens
from relay.consent.subject import consent_text
from relay.mail.address import narrow
from relay.mail.envelope import Purpose, Tenant
from relay.portal.gateway import DirectoryView, Notice, OpRefused, OpUnavailable, purpose_title, sender_title
from relay.portal.pages import Site

CLIENT_LIMIT = 20  # requests of one client address an hour
ADDRESS_LIMIT = 2  # confirmation mails to one address a day: one mail and one reminder (CLASS-7)
MAX_EMAIL_CHARS = 320


class OptIn(NamedTuple):
    """A list that people can sign up for."""

    key: str
    tenant: Tenant
    purpose: Purpose

    def names(self, language: str) -> dict[str, str]:
        return {
            "title": purpose_title(self.purpose, self.purpose.name, language),
            "sender": sender_title(self.tenant, self.purpose),
        }


def find(directory: DirectoryView, key: str) -> OptIn | None:
    """The list behind a purpose key, or None."""
    found = directory.optin(key)
    return OptIn(key, *found) if found else None


def routes(site: Site) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/optin/confirm/{token}", methods=["GET", "HEAD"])
    async def ask(request: Request, token: str) -> Response:
        optin = _confirmable(site, token)
        if optin is None:
            return site.note(request, "confirm_gone", status=404)
        return site.page(request, "optin_confirm.html", token=token, **optin[1].names(site.language(request)))

    @router.post("/optin/confirm/{token}")
    async def confirm(request: Request, token: str) -> Response:
        found = _confirmable(site, token)
        if found is None:
            return site.note(request, "confirm_gone", status=404)
        try:
            await site.gateway.op("consent.confirm", _confirmation(site, request, *found))
        except OpUnavailable:
            return site.note(request, "optin_down", status=503, headers={"Retry-After": "120"})
        except OpRefused:
            return site.note(request, "confirm_gone", status=410)
        return site.note(request, "confirm_done", status=200, **found[1].names(site.language(request)))

    @router.api_route("/optin/{key}", methods=["GET", "HEAD"])
    async def form(request: Request, key: str) -> Response:
        optin = find(site.gateway.directory(), key)
        return _form(site, request, optin) if optin else site.note(request, "optin_unknown", status=404)

    @router.post("/optin/{key}")
    async def start(request: Request, key: str) -> Response:
        optin = find(site.gateway.directory(), key)
        if optin is None:
            return site.note(request, "optin_unknown", status=404)
        address = await _posted_address(request)
        if address is None:
            return _form(site, request, optin, wrong=True)
        try:
            wait = await site.gateway.hit(
                f"optin:{site.client(request)}", limit=CLIENT_LIMIT, per_seconds=3600
            )
            if wait > 0:
                return site.note(request, "optin_busy", status=429, headers={"Retry-After": str(int(wait) + 1)})
            await _request(site, request, optin, address)
        except OpUnavailable:
            return site.note(request, "optin_down", status=503, headers={"Retry-After": "120"})
        return site.note(request, "optin_sent", status=202)

    return router


def _form(site: Site, request: Request, optin: OptIn, *, wrong: bool = False) -> Response:
    names = optin.names(site.language(request))
    return site.page(
        request, "optin_form.html", status=422 if wrong else 200, wrong=wrong, key=optin.key, tenant=optin.tenant, **names
    )


async def _posted_address(request: Request) -> str | None:
    """The one address of field `email`, or None where there is none that mail could go to."""
    try:
        async with request.form(max_files=0, max_fields=20) as form:
            values = form.getlist("email")
    except HTTPException:
        return None
    if len(values) != 1 or not isinstance(values[0], str) or len(values[0]) > MAX_EMAIL_CHARS:
        return None
    try:
        return validate_email(values[0].strip(), check_deliverability=False).normalized
    except EmailNotValidError:
        return None


async def _request(site: Site, request: Request, optin: OptIn, address: str) -> None:
    """Records the request and queues its confirmation mail. A refusal is silent: it would tell who is on the list."""
    keyring, tenant, purpose = site.gateway.keyring, optin.tenant, optin.purpose.name
    subject = keyring.subject_hash(consent_text(tenant.id, purpose, narrow(address)))
    if await site.gateway.hit(f"optin-address:{subject.hex()}", limit=ADDRESS_LIMIT, per_seconds=86_400) > 0:
        return
    language = site.language(request)
    try:
        await site.gateway.op(
            "consent.request",
            {"tenant": tenant.name, "email": address, "purpose": purpose} | _evidence(site, request, optin, language),
        )
    except OpRefused:
        return
    text = tokens.make(keyring, tokens.TokenKind.CONFIRM, tenant.id, purpose=purpose, subject_hash=subject)
    link = f"{site.settings.web.public_url.rstrip('/')}/optin/confirm/{text}?lang={language}"
    await site.gateway.submit_notice(Notice("optin.confirm", tenant.name, purpose, address, language, link))


def _confirmable(site: Site, text: str) -> tuple[tokens.Token, OptIn] | None:
    token = tokens.read(site.gateway.keyring, text)
    if token is None or token.kind is not tokens.TokenKind.CONFIRM:
        return None
    tenant = site.gateway.directory().tenant_by_id(token.tenant_id)
    purpose = tenant.purposes.get(token.purpose) if tenant else None
    if tenant is None or purpose is None:
        return None
    return token, OptIn("", tenant, purpose)


def _confirmation(site: Site, request: Request, token: tokens.Token, optin: OptIn) -> dict[str, object]:
    evidence = _evidence(site, request, optin, site.language(request))
    return {
        "tenant": optin.tenant.name,
        "purpose": optin.purpose.name,
        "subject_hash": token.subject_hash.hex(),
        "doi_ip": site.client(request),
    } | evidence


def _evidence(site: Site, request: Request, optin: OptIn, language: str) -> dict[str, object]:
    """The columns of the consent record that this form can vouch for (rulebook section 5, minimal consent record)."""
    page = f"{site.settings.web.public_url.rstrip('/')}/optin/{optin.key or 'confirm'}"
    return {
        "basis": "consent",
        "method": "double_optin",
        "source": page,
        "text": site.texts[language]["optin_statement"].format(**optin.names(language)),
        "text_language": language,
        "policy_url": page,
        "evidence_ip": site.client(request),
        "evidence_user_agent": request.headers.get("user-agent", "")[:300],
        "jurisdiction": site.settings.server.region,
        "provenance": "own",
        "controller": optin.purpose.controller or optin.tenant.legal_name,
        "sensitive_audience": "yes" if optin.tenant.sensitive_audience else "no",
    }
