"""`zegel credential`: logins for mail clients and tools."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name, Why

app = group("Logins for mail clients and tools: made here, shown once.")

Username = Annotated[str, typer.Argument(metavar="USERNAME", help="As `list` shows it.", show_default=False)]


@command(app, "add", example="zegel credential add shop --stream marketing --purpose newsletter")
def add(  # every option of the contract; each is a word of its own to the reader of --help
    frame: Frame,
    tenant: Name,
    *,
    stream: Annotated[
        Literal["marketing", "transactional", "personal"],
        typer.Option(help="What it is for; fixes how its mail is judged.", show_default=False),
    ],
    purpose: Annotated[str | None, typer.Option(help="The list it mails for (marketing).")] = None,
    from_: Annotated[
        list[str] | None, typer.Option("--from", metavar="ADDRESS", help="May send as this only; repeat for more.")
    ] = None,
    null_sender: Annotated[
        bool, typer.Option("--null-sender", help="May send with an empty sender, for mail servers.")
    ] = False,
) -> None:
    """Make a login; its password is shown this once."""
    args = {"from": from_} if from_ else {}
    made = frame.call(
        "credential.add", tenant=tenant, stream=stream, purpose=purpose, null_sender=null_sender or None, **args
    )
    show_record(frame, made, title="Login made; the password is not shown again")


@command(app, "list", example="zegel credential list --tenant shop")
def list_all(frame: Frame, tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None) -> None:
    """Show logins, without their passwords."""
    columns = (
        ("name", "username"), ("tenant", "tenant"), ("stream", "stream"), ("purpose", "purpose"), ("from", "may send as"),
        ("suspended", "suspended"), ("revoked_at", "revoked"),
    )  # fmt: skip
    empty = "No logins yet: make one with `zegel credential add TENANT --stream ...`."
    show_rows(frame, frame.call("credential.list", tenant=tenant), columns, empty=empty)


@command(app, "revoke", example="zegel credential revoke shop-newsletter")
def revoke(frame: Frame, name: Username) -> None:
    """End a login, within 2 seconds, for ever."""
    show_record(frame, frame.call("credential.revoke", name=name), title="Login revoked")


@command(app, "suspend", example='zegel credential suspend shop-office --reason "password stolen"')
def suspend(frame: Frame, name: Username, reason: Why = "") -> None:
    """Stop a login: nothing of it is accepted or sent until `resume`; the tenant's contact is told why."""
    show_record(frame, frame.call("credential.suspend", name=name, reason=reason), title="Login suspended")


@command(app, "resume", example='zegel credential resume shop-office --reason "password changed"')
def resume(frame: Frame, name: Username, reason: Why = "") -> None:
    """Let a suspended login send again; what was frozen leaves."""
    show_record(frame, frame.call("credential.resume", name=name, reason=reason), title="Login released")
