"""`zegel privacy mailing`: the mailings of a tenant, when each was invoiced, and when its addresses go (GDPR-12)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import print_json, say, show_record, show_rows
from relay.cli.tenants import Name

app = group("Mailings, when they were invoiced, and when it is deleted who got them (GDPR-12).")

Called = Annotated[
    str, typer.Argument(metavar="MAILING", help="As X-Zegel-Tag has it, or as `list` shows it.", show_default=False)
]
Day = Annotated[
    str,
    typer.Argument(metavar="DATE", help="Day of its invoice, as 2026-03-01; none: take it away.", show_default=False),
]
_COLUMNS = (
    ("mailing", "mailing"), ("first_at", "first mail"), ("last_at", "last line"), ("mails", "mails"),
    ("invoice_date", "invoice"), ("delete_on", "deleted on"),
)  # fmt: skip


@command(app, "list", example="zegel privacy mailing list shop")
def list_all(frame: Frame, tenant: Name) -> None:
    """Show what was mailed under each X-Zegel-Tag, or without one to a list on one day; names nobody."""
    show_rows(frame, _page(frame, tenant), _COLUMNS, empty="No mailings.")


@command(app, "invoice", example="zegel privacy mailing invoice shop spring-sale 2026-03-01")
def invoice(frame: Frame, tenant: Name, mailing: Called, day: Day) -> None:
    """Say when a mailing was invoiced, before or after it went; its addresses go that day and the tenant's period later."""
    given = {"tenant": tenant, "mailing": mailing, "invoice_date": "" if day == "none" else day}
    latest = frame.settings().privacy.campaign_invoice_days
    done = frame.call("mailing.invoice", **given, invoice_days=latest)
    rows = _page(frame, tenant, mailing=done["mailing"])
    found: dict[str, Any] = rows[0] if rows else {**done, "mails": 0}
    if frame.as_json:
        print_json(found)
        return
    show_record(frame, found, title="Mailing")
    if not found["mails"]:
        say("No mail was taken under this name yet: see `zegel privacy mailing list` for those there are.")


def _page(frame: Frame, tenant: str, **only: str) -> list[dict[str, Any]]:
    privacy = frame.settings().privacy
    given = {"days": privacy.campaign_addresses_days, "invoice_days": privacy.campaign_invoice_days}
    rows: list[dict[str, Any]] = frame.call("mailing.page", tenant=tenant, **given, **only)["items"]
    return rows
