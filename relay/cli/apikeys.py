"""`zegel apikey`: keys of tenants for /api/v1."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name

app = group("Keys of tenants for /api/v1.")

KeyName = Annotated[
    str, typer.Argument(metavar="NAME", help="What it is for, for instance webshop.", show_default=False)
]


@command(app, "add", example="zegel apikey add shop webshop")
def add(frame: Frame, tenant: Name, name: KeyName) -> None:
    """Make a key; it is shown this once."""
    made = frame.call("apikey.add", tenant=tenant, name=name)
    show_record(frame, made, title="Key made; it is not shown again. Send it as `Authorization: Bearer KEY`")


@command(app, "list", example="zegel apikey list shop")
def list_all(frame: Frame, tenant: Name) -> None:
    """Show the keys of a tenant, without their secrets."""
    columns = (("name", "key"), ("created_at", "made"), ("revoked_at", "revoked"))
    empty = "No keys yet: make one with `zegel apikey add TENANT NAME`."
    show_rows(frame, frame.call("apikey.list", tenant=tenant), columns, empty=empty)


@command(app, "revoke", example="zegel apikey revoke shop webshop")
def revoke(frame: Frame, tenant: Name, name: KeyName) -> None:
    """End a key, within 2 seconds, for ever."""
    show_record(frame, frame.call("apikey.revoke", tenant=tenant, name=name), title="Key revoked")
