"""`zegel privacy retention`: for how long data are kept, and what a tenant chose (GDPR-11, GDPR-13)."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import WRONG_USE, Trouble

app = group("For how long data are kept, and what a tenant chose (GDPR-11, GDPR-13).")

KindName = Annotated[
    Literal["delivery_log", "campaign_addresses", "evidence", "bounce"],
    typer.Argument(
        metavar="KIND",
        help="delivery_log, campaign_addresses (of mailings), evidence (IP addresses in consents) or bounce.",
        show_default=False,
    ),
]
Days = Annotated[
    str, typer.Argument(metavar="DAYS", help="How long, in days; default: as the operator.", show_default=False)
]
Of = Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Of this tenant.", show_default=False)]


@command(app, "show", example="zegel privacy retention show shop")
def show(frame: Frame, tenant: Of = None) -> None:
    """Show for how many days each kind of data is kept: by the operator, and for a tenant what it chose."""
    from relay.owner.periods import CHOSEN, KINDS, LIKE
    from relay.serve.retention import operators

    house = operators(frame.settings().privacy)
    rows = frame.call("retention.chosen", tenant=tenant) if tenant else []
    own = {row["kind"]: row["days"] for row in rows}
    shown = [
        {
            "kind": kind,
            "operator_days": (most := house.get(kind, KINDS[kind].days)),
            "days": min(own.get(LIKE.get(kind, kind), most), most),
            "may_choose": kind in CHOSEN,
        }
        for kind in KINDS
    ]
    columns = (
        ("kind", "kind"),
        ("operator_days", "operator"),
        ("days", "days kept"),
        ("may_choose", "tenant may choose"),
    )
    show_rows(frame, shown, columns, empty="")


@command(app, "set", example="zegel privacy retention set shop delivery_log 7")
def change(frame: Frame, tenant: Name, kind: KindName, days: Days) -> None:
    """Keep a kind of a tenant's data for less long than the operator does, from the next run of the job on, within an hour."""
    from relay.serve.retention import operators

    if days != "default" and not (days.isascii() and days.isdigit() and 0 < int(days) <= 36_500):
        raise Trouble(WRONG_USE, f"{days!r} is no number of days: give one from 1 up, or default")
    most = operators(frame.settings().privacy)[kind]
    value = None if days == "default" else int(days)
    show_record(frame, frame.call("retention.set", tenant=tenant, kind=kind, days=value, most=most))
