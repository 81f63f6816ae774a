"""`zegel apikey`: keys of tenants for /api/v1."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name

app = group("Keys of tenants for /api/v1.")

KeyName = Annotated[
    str, typer.Argument(metavar="NAME", help="What it is for, for instance webshop.", show_default=False)
]


@dataclasses.dataclass(frozen=True, slots=True)
class Rights:
    """What a key may do, and until when."""

    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="What it may do, such as consents:write; repeat. Default: all."),
    ] = None
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="Last day (UTC) or RFC 3339 time; it answers 401 from then on. Default: never."
        ),
    ] = None


@command(app, "add", example="zegel apikey add shop webshop --scope consents:write --expires 2027-12-31")
def add(frame: Frame, tenant: Name, name: KeyName, rights: Rights) -> None:
    """Make a key; it is shown this once."""
    made = frame.call("apikey.add", tenant=tenant, name=name, scopes=rights.scope or None, expires=rights.expires)
    show_record(frame, made, title="Key made; it is not shown again. Send it as `Authorization: Bearer KEY`")


@command(app, "list", example="zegel apikey list shop")
def list_all(frame: Frame, tenant: Name) -> None:
    """Show the keys of a tenant, without their secrets; the last use is kept as a day only."""
    columns = (
        ("name", "key"), ("scopes", "may"), ("created_at", "made"), ("expires_at", "expires"), ("used_on", "last used"),
        ("revoked_at", "revoked"),
    )  # fmt: skip
    empty = "No keys yet: make one with `zegel apikey add TENANT NAME`."
    rows = frame.call("apikey.list", tenant=tenant)
    show_rows(frame, rows, columns, empty=empty)


@command(app, "revoke", example="zegel apikey revoke shop webshop")
def revoke(frame: Frame, tenant: Name, name: KeyName) -> None:
    """End a key, within 2 seconds, for ever."""
    show_record(frame, frame.call("apikey.revoke", tenant=tenant, name=name), title="Key revoked")
