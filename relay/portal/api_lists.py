"""What a tenant has here, in lists: consents of a purpose, suppressions, purposes, domains; and the proof about one person."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from relay.mail.envelope import Tenant
from relay.portal.api_access import ReadsConsents, ReadsDomains, ReadsProofs, ReadsPurposes, ReadsSuppressions
from relay.portal.api_body import api_router
from relay.portal.api_models import Short, Time, WithEmail, example
from relay.portal.gateway import OpRefused
from relay.portal.openapi import refusals
from relay.portal.pages import Site, ThisSite
from relay.portal.paging import Cursor, Limit, opened, sealed

router = api_router()

NO_STORE = "no-store"
MISSING = refusals(404)
TIMES = ("given_at", "confirmed_at", "expires_at")


class ConsentRow(BaseModel):
    """The present consent of one person. `email` is absent where the person was erased."""

    model_config = example(
        email="ann@example.net", status="given", basis="consent", given_at="2026-01-02T10:00:00Z", event=17
    )

    email: str | None = None
    status: str
    basis: str
    given_at: datetime | None = None
    confirmed_at: datetime | None = None
    expires_at: datetime | None = None
    event: int


class ConsentPage(BaseModel):
    """A page may hold fewer rows than `limit`, or none; it is the last where `next` is absent."""

    model_config = example(
        consents=[
            {
                "email": "ann@example.net",
                "status": "given",
                "basis": "consent",
                "given_at": "2026-01-02T10:00:00Z",
                "event": 17,
            }
        ],
        next="AAAAAd5x",
    )

    consents: list[ConsentRow]
    next: str | None = None


class SuppressionRow(BaseModel):
    """One thing that stands against mail. `email` is absent where it is not known or was erased."""

    model_config = example(email="bob@example.net", scope="all", reason="objection", at="2026-01-02T10:00:00Z")

    email: str | None = None
    scope: str
    reason: str
    at: datetime
    expires_at: datetime | None = None
    lifted: Annotated[list[str], Field(description="Purposes that the person confirmed since (CONSENT-11).")] = []


class SuppressionPage(BaseModel):
    model_config = example(
        suppressions=[
            {
                "email": "bob@example.net",
                "scope": "all",
                "reason": "objection",
                "at": "2026-01-02T10:00:00Z",
                "lifted": [],
            }
        ],
        next="AAAAAd5x",
    )

    suppressions: list[SuppressionRow]
    next: str | None = None


class PurposeRow(BaseModel):
    """`optin_key` is the public key of the sign-up form, /optin/KEY."""

    model_config = example(name="newsletter", title_nl="Tuinbrief", title_en="Garden letter", optin_key="k7f3Zq0Tn2xW")

    name: str
    controller: str = ""
    category: str = ""
    title_nl: str = ""
    title_en: str = ""
    optin_key: str


class DnsRecord(BaseModel):
    name: str
    type: str
    value: str


class DomainRow(BaseModel):
    """A domain to send as: usable once `verified` by its record, or `vouched` for by the operator."""

    model_config = example(
        domain="shop.example",
        verified=True,
        vouched=False,
        has_key=True,
        records=[{"name": "_zegel.shop.example", "type": "TXT", "value": "zegel-verify=p3Xk"}],
    )

    domain: str
    verified: bool
    vouched: bool
    has_key: Annotated[bool, Field(description="Whether its mail is signed with a key of its own.")]
    records: list[DnsRecord]


class ProofQuery(WithEmail):
    """`at`: as it was then; without it, as it is now."""

    model_config = example(email="ann@example.net", purpose="newsletter", at="2026-06-30T00:00:00Z")

    purpose: Short = ""
    at: Time | None = None


class ProofEvent(BaseModel):
    """One event of the ledger; what else was recorded with it, such as basis and method, stands beside these."""

    model_config = ConfigDict(extra="allow")

    event_id: int
    event: str
    at: str
    purpose: str | None = None
    text: Annotated[str | None, Field(description="The words that the person saw.")] = None
    personal: dict[str, Any] | None = None
    evidence: dict[str, Any] | None = None
    recorded_by: str
    recorded_at: str
    hash: str


class ProofState(BaseModel):
    model_config = ConfigDict(extra="allow")

    purpose: str
    status: str


class ProofStop(BaseModel):
    """An objection, restriction or bounce that stood then; `lifted`: the lists for which the person said yes after it."""

    scope: str
    reason: str
    at: str
    lifted: list[str]
    expires_at: str | None = None


class Judgement(BaseModel):
    """Whether advertising of one list counted on what was known then, and by which rule; `why` says so where it did not."""

    purpose: str
    counts: bool
    mailed: bool
    rule: str
    mode: str
    reason: str | None = None
    warning: str | None = None
    why: dict[str, str] | None = None
    basis: str | None = None
    event_id: int | None = None


class ProofMail(BaseModel):
    """Advertising that was delivered, and the event that it rested on; null where nothing stood behind it."""

    at: str
    queue_id: str
    purpose: str
    event_id: int | None = None
    rule: str | None = None
    basis: str | None = None


class ChainHead(BaseModel):
    seq: int
    hash: str


class Proof(BaseModel):
    """Who agreed to what, when, how and in which words; all that was recorded until `at`, and what followed from it."""

    model_config = example(
        controller="Shop BV",
        subject="5f1c",
        at="2026-06-30T00:00:00Z",
        made_at="2026-11-22T10:00:00Z",
        made_by="api:form",
        suppressions=[],
        judgements=[
            {
                "purpose": "newsletter",
                "counts": True,
                "mailed": True,
                "rule": "CONSENT-1",
                "reason": None,
                "why": None,
                "basis": "consent",
                "event_id": 17,
                "mode": "enforce",
            }
        ],
        mails=[
            {
                "at": "2026-03-02T09:00:00Z",
                "queue_id": "0QKZ5W8T3A7FN",
                "purpose": "newsletter",
                "event_id": 17,
                "rule": "CONSENT-1",
                "basis": "consent",
            }
        ],
        head={"seq": 17, "hash": "5d0f"},
        states=[{"purpose": "newsletter", "status": "given", "basis": "consent", "given_at": "2026-01-02T10:00:00Z"}],
        events=[
            {
                "event_id": 17,
                "event": "given",
                "at": "2026-01-02T10:00:00Z",
                "purpose": "newsletter",
                "basis": "consent",
                "method": "web_form",
                "text": "Ja, stuur mij de nieuwsbrief",
                "personal": {"email": "ann@example.net", "source": "https://shop.example/join"},
                "evidence": {"evidence_ip": "192.0.2.7"},
                "recorded_by": "api:form",
                "recorded_at": "2026-01-02T10:00:01Z",
                "hash": "5d0f",
            }
        ],
    )

    controller: str
    subject: Annotated[str, Field(description="Keyed hash of the person, as the audit log has it.")]
    at: str
    made_at: str
    made_by: str
    states: list[ProofState]
    suppressions: list[ProofStop]
    judgements: list[Judgement]
    mails: list[ProofMail]
    events: list[ProofEvent]
    head: Annotated[ChainHead | None, Field(description="Last event of the sender's ledger and its hash.")] = None


@router.get("/consents", response_model=ConsentPage, response_model_exclude_none=True, responses=MISSING)
async def list_consents(
    site: ThisSite,
    response: Response,
    tenant: ReadsConsents,
    purpose: Annotated[str, Query(max_length=200, examples=["newsletter"])],
    limit: Limit = 100,
    cursor: Cursor = "",
) -> ConsentPage:
    """The present consent of everybody for one purpose. Who changes while you read comes again, later in the list."""
    if purpose not in tenant.purposes:
        raise HTTPException(404, "this tenant has no such purpose")
    of = _list(tenant, f"consents\0{purpose}")
    args = {
        "tenant": tenant.name,
        "purpose": purpose,
        "limit": limit,
        "after": opened(site.gateway.keyring, of, cursor),
    }
    page = await _asked(site, response, "consent.page", {**args, "after": args["after"] or 0})
    rows = [ConsentRow.model_validate(row | {name: row[name] or None for name in TIMES}) for row in page["items"]]
    return ConsentPage(consents=rows, next=sealed(site.gateway.keyring, of, page["next"]))


@router.get("/suppressions", response_model=SuppressionPage, response_model_exclude_none=True)
async def list_suppressions(
    site: ThisSite, response: Response, tenant: ReadsSuppressions, limit: Limit = 100, cursor: Cursor = ""
) -> SuppressionPage:
    """Everybody to whom something stands in the way, oldest first. What is set while you read comes at the end."""
    of = _list(tenant, "suppressions")
    after = opened(site.gateway.keyring, of, cursor)
    page = await _asked(site, response, "suppression.page", {"tenant": tenant.name, "limit": limit, "after": after})
    rows = [SuppressionRow.model_validate({**row, "email": row["address"]}) for row in page["items"]]
    return SuppressionPage(suppressions=rows, next=sealed(site.gateway.keyring, of, page["next"]))


@router.get("/purposes", response_model=list[PurposeRow])
async def list_purposes(site: ThisSite, response: Response, tenant: ReadsPurposes) -> list[PurposeRow]:
    """The lists that you mail for."""
    rows = await _asked(site, response, "purpose.list", {"tenant": tenant.name})
    return [PurposeRow.model_validate(row) for row in rows["items"]]


@router.get("/domains", response_model=list[DomainRow])
async def list_domains(site: ThisSite, response: Response, tenant: ReadsDomains) -> list[DomainRow]:
    """The domains that you may send as, with the record that proves each."""
    rows = await _asked(site, response, "domain.list", {"tenant": tenant.name})
    return [DomainRow.model_validate(row) for row in rows["items"]]


@router.post("/proofs", response_model=Proof, response_model_exclude_unset=True)
async def prove(site: ThisSite, response: Response, query: ProofQuery, tenant: ReadsProofs) -> Any:
    """What is recorded about one person, to show a regulator or the person. Each look is in the audit log.

    A POST, because an address never stands in a URL; it changes nothing.
    """
    args = {"tenant": tenant.name, "address": query.email, "purpose": query.purpose, "at": query.at}
    return await _asked(site, response, "consent.proof", {name: value for name, value in args.items() if value})


def _list(tenant: Tenant, name: str) -> str:
    return f"{tenant.id}\0{name}"


async def _asked(site: Site, response: Response, op: str, args: dict[str, Any]) -> dict[str, Any]:
    response.headers["Cache-Control"] = NO_STORE
    try:
        return await site.gateway.op(op, args)
    except OpRefused as refused:
        raise HTTPException(422, refused.text) from None
