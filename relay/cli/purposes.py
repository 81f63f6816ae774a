"""`zegel purpose`: the lists that a tenant mails for; consent is for one of them."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name

app = group("The lists that a tenant mails for; consent is given for one of them (CONSENT-4).")


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """How a purpose is told to people."""

    controller: Annotated[
        str | None, typer.Option(metavar="ENTITY", help="Legal entity behind it; default: the tenant's.")
    ] = None
    category: Annotated[str | None, typer.Option(help="Product category, for soft opt-in (CONSENT-5).")] = None
    title_nl: Annotated[str | None, typer.Option(metavar="TEXT", help="Its name on Dutch pages.")] = None
    title_en: Annotated[str | None, typer.Option(metavar="TEXT", help="Its name on English pages.")] = None


@command(
    app, "add", example='zegel purpose add shop newsletter --title-nl "de nieuwsbrief" --title-en "the newsletter"'
)
def add(
    frame: Frame,
    tenant: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For instance newsletter.", show_default=False)],
    description: Description,
) -> None:
    """Make a purpose; its sign-up form is at /optin/KEY."""
    made = frame.call("purpose.add", tenant=tenant, name=name, **dataclasses.asdict(description))
    show_record(frame, made, title="Purpose made")


@command(app, "list", example="zegel purpose list shop")
def list_all(frame: Frame, tenant: Name) -> None:
    """Show the purposes of a tenant with the keys of their sign-up forms."""
    columns = (
        ("name", "purpose"), ("controller", "controller"), ("category", "category"), ("title_nl", "Dutch"),
        ("title_en", "English"), ("optin_key", "key of /optin"),
    )  # fmt: skip
    show_rows(
        frame,
        frame.call("purpose.list", tenant=tenant),
        columns,
        empty="No purposes yet: make one with `zegel purpose add`.",
    )
