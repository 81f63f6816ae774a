"""Mailings in the tenants' API: which there are, when each was invoiced, and when its addresses go (GDPR-12).

Of the key's own tenant. A name may be that of another tenant's mailing too, and nothing tells so.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import HTTPException, Response
from pydantic import BaseModel, Field

from relay.mail.envelope import Tenant
from relay.mail.mailing import MOST_CHARS
from relay.portal.api_access import ReadsMailings, WritesMailings
from relay.portal.api_body import api_router
from relay.portal.api_models import Body, example
from relay.portal.gateway import OpRefused
from relay.portal.pages import Site, ThisSite
from relay.portal.paging import Cursor, Limit, opened, sealed

router = api_router()

NO_STORE = "no-store"
MAILING: dict[str, Any] = {
    "mailing": "spring-sale",
    "first_at": "2026-02-26T09:00:00Z",
    "last_at": "2026-02-26T11:30:12Z",
    "mails": 1204,
    "invoice_date": "2026-03-01",
    "delete_on": "2026-03-29",
}


class MailingRow(BaseModel):
    """What was mailed under one X-Zegel-Tag, or without one to a list on one day (`newsletter-2026-02-26`).

    From `delete_on` on, the next run of the hourly job deletes who got it. Only the date is there where no mail was taken yet.
    """

    model_config = example(**MAILING)

    mailing: str
    first_at: datetime | None = None
    last_at: Annotated[datetime | None, Field(description="The last line about one of its mails.")] = None
    mails: Annotated[int, Field(description="How many were taken.")]
    invoice_date: date | None = None
    delete_on: date | None = None


class MailingPage(BaseModel):
    """By name; the last page where `next` is absent."""

    model_config = example(mailings=[MAILING], next="AAAAAd5x")

    mailings: list[MailingRow]
    next: str | None = None


class Invoice(Body):
    """`invoice_date`: null takes it away again."""

    model_config = example(mailing="spring-sale", invoice_date="2026-03-01")

    mailing: Annotated[str, Field(min_length=1, max_length=MOST_CHARS, description="As X-Zegel-Tag has it.")]
    invoice_date: Annotated[
        str | None, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="A day.", examples=["2026-03-01"])
    ]


@router.get("/mailings", response_model=MailingPage, response_model_exclude_none=True)
async def list_mailings(
    site: ThisSite, response: Response, tenant: ReadsMailings, limit: Limit = 100, cursor: Cursor = ""
) -> dict[str, Any]:
    """Your mailings, and from which day on each is deleted. Names nobody."""
    of = f"{tenant.id}\0mailings"
    after = opened(site.gateway.keyring, of, cursor) or ""
    found = await _page(site, response, tenant, limit=limit, after=after)
    return {"mailings": found["items"], "next": sealed(site.gateway.keyring, of, found["next"])}


@router.post("/mailings", response_model=MailingRow, response_model_exclude_none=True)
async def invoice_mailing(
    site: ThisSite, response: Response, wanted: Invoice, tenant: WritesMailings
) -> dict[str, Any]:
    """Say when a mailing was invoiced, before or after it went: who got it is deleted 28 days later, or as you chose.

    `mails` is 0 where nothing was taken under that name yet.
    """
    said = {"mailing": wanted.mailing, "invoice_date": wanted.invoice_date or ""}
    latest = site.settings.privacy.campaign_invoice_days
    done = await _ask(site, response, tenant, "mailing.invoice", **said, invoice_days=latest)
    found = await _page(site, response, tenant, mailing=done["mailing"])
    return found["items"][0] if found["items"] else {"mailing": done["mailing"], "mails": 0}


async def _page(site: Site, response: Response, tenant: Tenant, **args: Any) -> dict[str, Any]:
    privacy = site.settings.privacy
    given = {"days": privacy.campaign_addresses_days, "invoice_days": privacy.campaign_invoice_days, **args}
    return await _ask(site, response, tenant, "mailing.page", **given)


async def _ask(site: Site, response: Response, tenant: Tenant, op: str, **args: Any) -> dict[str, Any]:
    response.headers["Cache-Control"] = NO_STORE
    try:
        return await site.gateway.op(op, {"tenant": tenant.name, **args})
    except OpRefused as refused:
        raise HTTPException(422, refused.text) from None
