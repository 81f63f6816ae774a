"""`zegel privacy`: what people may ask of a tenant about their own data, and incidents with them."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import incidents, mailings, register, requests, retention
from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record
from relay.cli.suppressions import Address
from relay.cli.tenants import Name

app = group(
    "What people may ask about their own data (GDPR-5 to GDPR-10), and what to do when it went astray (GDPR-20)."
)
app.add_typer(incidents.app, name="incident")
app.add_typer(retention.app, name="retention")
app.add_typer(mailings.app, name="mailing")
app.add_typer(requests.app, name="request")
app.add_typer(register.app, name="processor")
register.add_to(app)

_UNLISTED = (
    "erased, but the line for restores could not be written to erased.jsonl in the data folder: make room there, or put right "
    "what lies in its place; the gateway writes it at its next start"
)
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@command(app, "erase", example="zegel privacy erase shop ann@example.net")
def erase(frame: Frame, tenant: Name, address: Address, *, yes: Yes = False) -> None:
    """Erase a person from what is held for one tenant; the objection stays, as a keyed hash (GDPR-8).

    There is no way back. Queue, delivery log and other files forget the address within seconds while the gateway runs, else
    at its next start; backups when their time is over.
    """
    if not yes:
        frame.confirm(f"Erase {address} from what is held for {tenant}? There is no way back.")
    answer = frame.call("consent.erase", tenant=tenant, address=address)
    show_record(frame, answer)
    if answer.get("listed") is False:
        typer.echo(_UNLISTED, err=True)
