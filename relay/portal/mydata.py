"""/my/{token}: what a sender holds about the person behind a link, and what he can do with it (GDPR-5 to GDPR-10).

One address for all of it: GET shows the sender and a form for the address, and POST does one `step`. There is no cookie and no
script: what was proven travels in a sealed token of the form. Whatever is typed, a stranger gets the same page after the same
work; the mail is queued after the answer has left.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from relay.consent import token as tokens
from relay.directory import start_key
from relay.limits import client_key
from relay.mail.address import parse_path, wide
from relay.mail.envelope import Tenant
from relay.observe.events import NOTICE_FAILED
from relay.observe.log import log
from relay.observe.metrics import UNSUBSCRIBES
from relay.portal.faces import shown
from relay.portal.gateway import Mailed, Notice, OpRefused, OpUnavailable
from relay.portal.holdings import as_csv, as_json
from relay.portal.optin import MAX_EMAIL_CHARS, address_in
from relay.portal.pages import Site, ThisSite
from relay.portal.unsubscribe import OPT_OUT, Link, link_of, names_of

router = APIRouter(include_in_schema=False)

HOUR, DAY = 3_600, 86_400
CLIENT_LIMIT = 40  # steps of one client address an hour that try an address or a code
PAGE_LIMIT = 300  # the same for all others
ADDRESS_LIMIT = 10  # mails to one address a day, over all senders
CODE = re.compile(r"[0-9]{8}")
MAX_FIELD_CHARS = 2_000
SHOWN_MAILS = 100
RETRY = {"Retry-After": "120"}
OPENS = OPT_OUT | {tokens.TokenKind.START, tokens.TokenKind.ENTER}
ACTIONS = ("stop", "stop_all", "restrict", "unrestrict")


class Visit(NamedTuple):
    """One request of somebody with a link."""

    site: Site
    request: Request
    text: str  # of the link's token
    link: Link
    fields: dict[str, str]

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        names = names_of(self.site, self.request, self.link)
        is_start = self.link.token.kind is tokens.TokenKind.START
        values |= {"again": self.again, "lead": "code_lead_start" if is_start else "code_lead"}
        values = {"whose": shown(self.site, self.link.tenant), "tenant": self.link.tenant, **names, **values}
        return self.site.page(self.request, template, status=status, token=self.text, **values)

    def note(self, key: str, status: int, headers: dict[str, str] | None = None) -> Response:
        return self.site.note(
            self.request, key, status=status, headers=headers, whose=shown(self.site, self.link.tenant)
        )

    @property
    def again(self) -> str:
        """Where to begin anew."""
        if self.link.token.kind in OPT_OUT:
            return f"/my/{self.text}"
        return f"/my/start/{start_key(self.site.gateway.keyring, self.link.token.tenant_id)}"

    @property
    def tenant(self) -> Tenant:
        assert self.link.tenant is not None, "a step needs one"
        return self.link.tenant


@router.api_route("/my/address/{token}", methods=["GET", "HEAD"])
async def ask_move(site: ThisSite, request: Request, token: str) -> Response:
    tenant = _mover(site, token)
    if tenant is None:
        return site.note(request, "move_gone", status=404)
    sender = tenant.legal_name or tenant.name
    return site.page(request, "my_move.html", token=token, sender=sender, whose=shown(site, tenant))


@router.post("/my/address/{token}")
async def move(site: ThisSite, request: Request, token: str) -> Response:
    tenant = _mover(site, token)
    if tenant is None:
        return site.note(request, "move_gone", status=404)
    try:
        await site.gateway.op("mydata.moved", {"token": token})
    except OpRefused:
        return site.note(request, "move_gone", status=410)
    except OpUnavailable:
        return site.note(request, "my_down", status=503, headers=RETRY)
    sender = tenant.legal_name or tenant.name
    return site.note(request, "move_done", status=200, sender=sender, whose=shown(site, tenant))


@router.api_route("/my/{token}", methods=["GET", "HEAD"])
async def show(site: ThisSite, request: Request, token: str) -> Response:
    link = link_of(site, token, OPENS)
    if link is None:
        return site.note(request, "bad_token", status=404)
    visit = Visit(site, request, token, link, {})
    if link.token.kind is tokens.TokenKind.ENTER:
        return visit.page("my_enter.html")
    if link.token.kind is tokens.TokenKind.START:
        return RedirectResponse(f"{visit.again}?lang={site.language(request)}", 303)
    return visit.page("my.html", wrong="", typed="")


@router.post("/my/{token}")
async def take_step(site: ThisSite, request: Request, token: str) -> Response:
    link = link_of(site, token, OPENS)
    if link is None or link.tenant is None:
        return site.note(request, "bad_token", status=404)
    visit = Visit(site, request, token, link, await posted(request))
    take = STEPS.get(visit.fields.get("step", ""))
    if take is None or not _is_of(visit):
        return visit.note("my_over", 400)
    try:
        return await _busy(visit) or await take(visit)
    except OpUnavailable:
        return visit.note("my_down", 503, RETRY)
    except OpRefused as error:
        if error.code == "token.unknown":  # its tenant was deleted: there is nobody to ask any more (GDPR-18)
            return visit.note("bad_token", 404)
        return visit.note("my_over" if error.code == "proof.over" else "bad_request", 400)


async def _ask(visit: Visit) -> Response:
    """An address was typed: mail it a code where it is that of the link, and say the same anyway."""
    address = visit.fields.get("email", "").strip()
    if visit.link.token.kind not in OPT_OUT:
        return visit.note("my_over", 400)
    if not is_mailbox(address):
        return visit.page("my.html", status=422, wrong="email", typed=visit.fields.get("email", "")[:MAX_EMAIL_CHARS])
    told = await visit.site.gateway.op("mydata.ask", {"token": visit.text, "address": address})
    page = visit.page("my_code.html", asked=told["asked"], wrong="")
    if told["code"]:
        page.background = BackgroundTask(mail, visit.site, code_notice(visit, told, address))
    return page


def is_mailbox(text: str) -> bool:
    """Any that mail goes to, also in a domain of a local network."""
    return len(text) <= MAX_EMAIL_CHARS and not text.startswith("@") and not isinstance(parse_path(text), str)


def code_notice(visit: Visit, told: dict[str, Any], address: str) -> Notice:
    """The mail with a code, and with the link that opens the same."""
    language = visit.site.language(visit.request)
    way = f"{visit.site.settings.web.public_url.rstrip('/')}/my/{told['enter']}?lang={language}"
    return Notice("my.code", visit.tenant.name, "", address, language, str(told["code"]), way=way)


async def _enter(visit: Visit) -> Response:
    """The button behind the link in the mail."""
    told = await visit.site.gateway.op("mydata.enter", {"token": visit.text})
    return await _data(visit, str(told["proof"])) if told["proof"] else visit.note("my_over", 410)


async def _code(visit: Visit) -> Response:
    asked, code = visit.fields.get("asked", ""), re.sub(r"\s", "", visit.fields.get("code", ""))
    if "code" not in visit.fields:
        return visit.page("my_code.html", asked=asked, wrong="")  # in the other language
    if not CODE.fullmatch(code):
        return visit.page("my_code.html", status=422, asked=asked, wrong="form")
    told = await visit.site.gateway.op("mydata.prove", {"asked": asked, "code": code})
    if told["proof"]:
        return await _data(visit, str(told["proof"]))
    if told["over"]:
        return visit.note("my_locked", 429)
    return visit.page("my_code.html", status=422, asked=asked, wrong="code")


def _proof(visit: Visit) -> dict[str, str]:
    """Who it is, and the link, which knows what the sender's tool calls him (GDPR-25)."""
    return {"proof": visit.fields.get("proof", ""), "link": visit.text}


async def _show(visit: Visit) -> Response:
    return await _data(visit, visit.fields.get("proof", ""))


async def _change(visit: Visit) -> Response:
    proof, action = visit.fields.get("proof", ""), visit.fields.get("action", "")
    if action not in ACTIONS:
        return visit.note("bad_request", 400)
    purpose = {"purpose": visit.fields.get("purpose", "")} if action == "stop" else {}
    done = await visit.site.gateway.op("mydata.change", {**_proof(visit), "action": action, **purpose})
    if done["changed"] and action in ("stop", "stop_all"):
        UNSUBSCRIBES.inc(("page",))
    return await _data(visit, proof, done="block_stays" if done.get("stays") else action)


async def _export(visit: Visit) -> Response:
    held, mails = await _held(visit, visit.fields.get("proof", ""))
    document = as_json(visit.site, visit.tenant, held, mails)
    if visit.fields.get("format") == "csv":
        content, kind, name = as_csv(document), "text/csv; charset=utf-8; header=present", "my-data.csv"
    else:
        content, kind, name = document.encoded, "application/json", "my-data.json"
    with contextlib.suppress(
        OpUnavailable
    ):  # who has a right to his data gets them, whether or not it can be written down
        await visit.site.gateway.op("mydata.exported", _proof(visit))
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, 200, headers, kind)


async def _move(visit: Visit) -> Response:
    """A new address was typed: ask there, and say the same anyway."""
    proof = visit.fields.get("proof", "")
    address = address_in(visit.fields.get("email", ""))
    if address is None:
        return await _data(visit, proof, wrong="email", status=422)
    try:
        told = await visit.site.gateway.op("mydata.move", {**_proof(visit), "address": address})
    except OpRefused as error:
        if not error.code.startswith("address."):
            raise
        return await _data(visit, proof, wrong=error.code.removeprefix("address."), status=422)
    page = await _data(visit, proof, done="move")
    if told["token"]:
        language = visit.site.language(visit.request)
        base = visit.site.settings.web.public_url.rstrip("/")
        link = f"{base}/my/address/{told['token']}?lang={language}"
        page.background = BackgroundTask(
            mail, visit.site, Notice("my.move", visit.tenant.name, "", address, language, link)
        )
    return page


async def _erase(visit: Visit) -> Response:
    proof = visit.fields.get("proof", "")
    if visit.fields.get("sure") != "yes":
        await visit.site.gateway.op("mydata.held", {"proof": proof})
        kept = visit.site.settings.privacy
        days, mailing = kept.delivery_log_days, kept.campaign_addresses_days
        return visit.page("my_erase.html", proof=proof, days=days, mailing=mailing)
    if (await visit.site.gateway.op("mydata.erase", _proof(visit)))["erased"]:
        UNSUBSCRIBES.inc(("page",))
    return visit.note("my_erased", 200)


STEPS: dict[str, Callable[[Visit], Awaitable[Response]]] = {
    "ask": _ask,
    "code": _code,
    "enter": _enter,
    "data": _show,
    "change": _change,
    "export": _export,
    "move": _move,
    "erase": _erase,
}


TRIES = frozenset(("ask", "code", "enter", "move"))  # what a stranger could try, or flood somebody with


async def _data(visit: Visit, proof: str, *, done: str = "", wrong: str = "", status: int = 200) -> Response:
    held, mails = await _held(visit, proof)
    language = visit.site.language(visit.request)
    privacy = visit.site.settings.privacy
    return visit.page(
        "my_data.html",
        status=status,
        proof=proof,
        held=held,
        mails=mails[:SHOWN_MAILS],
        more_mails=max(0, len(mails) - SHOWN_MAILS),
        words=visit.site.texts[language],
        lists={row["purpose"]: row[f"title_{language}"] for row in held["consents"]},
        is_restricted=any(stop["reason"] == "restriction" and stop["scope"] == "all" for stop in held["stops"]),
        processor=visit.site.settings.server.hostname,
        provider=held["address"].rpartition("@")[2],
        days={
            "log": privacy.delivery_log_days,
            "mailing": privacy.campaign_addresses_days,
            "audit": privacy.security_log_days,
            "ip": privacy.consent_ip_months,
        },
        done=done,
        wrong=wrong,
        typed=visit.fields.get("email", "")[:MAX_EMAIL_CHARS] if wrong else "",
    )


async def _held(visit: Visit, proof: str) -> tuple[dict[str, Any], list[Mailed]]:
    held = await visit.site.gateway.op("mydata.held", {"proof": proof})
    return held, await visit.site.gateway.mails_to(visit.tenant.name, held["address"])


async def _busy(visit: Visit) -> Response | None:
    return await busy(visit, visit.fields["step"])


async def busy(visit: Visit, step: str) -> Response | None:
    """Counts a step of this client; the answer where there were too many."""
    kind, limit = ("my", CLIENT_LIMIT) if step in TRIES else ("my-page", PAGE_LIMIT)
    key = f"{kind}:{client_key(visit.site.client(visit.request))}"
    wait = await visit.site.gateway.hit(key, limit=limit, per_seconds=HOUR)
    return visit.note("my_busy", 429, {"Retry-After": str(int(wait) + 1)}) if wait > 0 else None


async def mail(site: Site, notice: Notice) -> None:
    """After the answer has left. Who gets no mail begins again, which is what the page says."""
    key = site.gateway.keyring.lasting_hash(f"my\0{wide(notice.recipient)}").hex()
    try:
        if await site.gateway.hit(f"my-mail:{key}", limit=ADDRESS_LIMIT, per_seconds=DAY) <= 0:
            await site.gateway.submit_notice(notice)
    except (OpUnavailable, OpRefused) as error:
        log.warning(NOTICE_FAILED, kind=notice.kind, error=type(error).__name__)


def _is_of(visit: Visit) -> bool:
    """Whether the sealed token of the form, where the step has one, belongs to the link of the page."""
    kinds = {"asked": tokens.TokenKind.ASKED, "proof": tokens.TokenKind.PROVEN}
    step = visit.fields["step"]
    if step in ("ask", "enter"):
        return (step == "enter") == (visit.link.token.kind is tokens.TokenKind.ENTER)
    name = "asked" if step == "code" else "proof"
    found = tokens.read(visit.site.gateway.keyring, visit.fields.get(name, ""))
    ours = visit.link.token
    return found is not None and (found.kind, found.tenant_id, found.subject_hash) == (
        kinds[name],
        ours.tenant_id,
        ours.subject_hash,
    )


def _mover(site: Site, text: str) -> Tenant | None:
    token = tokens.read(site.gateway.keyring, text)
    if token is None or token.kind is not tokens.TokenKind.MOVE:
        return None
    return site.gateway.directory().tenant_by_id(token.tenant_id)


async def posted(request: Request) -> dict[str, str]:
    """The fields of the form; none where it is no form, or names one twice."""
    try:
        async with request.form(max_files=0, max_fields=10) as form:
            items = form.multi_items()
    except HTTPException:
        return {}
    fields = {name: value for name, value in items if isinstance(value, str) and len(value) <= MAX_FIELD_CHARS}
    return fields if len(fields) == len(items) else {}
