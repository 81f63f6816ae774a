"""`zegel domain`: what a tenant may send as."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import print_json, say, show_record, show_records_to_publish, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import NO, WRONG_USE, Trouble

app = group("The domains that a tenant may send as, proved by DNS or vouched for by you.")

DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="For instance shop.example.", show_default=False)]


@command(app, "add", example="zegel domain add shop shop.example")
def add(
    frame: Frame,
    tenant: Name,
    domain: DomainName,
    vouched: Annotated[bool, typer.Option("--vouched", help="You answer for it instead of DNS; audited.")] = False,
) -> None:
    """Register a domain; print the record that proves it, unless you vouch for it."""
    found = frame.call("domain.add", tenant=tenant, domain=domain, vouched=vouched or None)
    if frame.as_json:
        print_json(found)
        return
    show_record(frame, found, title="Domain registered", skip=("records",))
    if not (found["verified"] or found["vouched"]):
        _publish(found)


@command(app, "verify", example="zegel domain verify shop shop.example")
def verify(frame: Frame, tenant: Name, domain: DomainName) -> None:
    """Look for the proof in DNS; exits 1 while it is not seen."""
    found = frame.call("domain.verify", tenant=tenant, domain=domain)
    usable = found["verified"] or found["vouched"]
    if frame.as_json:
        print_json(found)
    elif found["verified"]:
        say(f"{found['domain']} is verified.")
    else:
        _publish(found)
        if usable:
            say("Until then it is in use because you vouched for it.")
    if not usable:
        raise typer.Exit(NO)


@command(app, "list", example="zegel domain list shop")
def list_all(
    frame: Frame,
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Only of this tenant.")] = None,
    option: Annotated[str | None, typer.Option("--tenant", help="The same, as it used to be given.")] = None,
) -> None:
    """Show domains, whether they are proved, and whether they have a DKIM key."""
    if tenant is not None and option not in (None, tenant):
        raise Trouble(WRONG_USE, f"two tenants are given, {tenant} and {option}: name one")
    columns = (
        ("domain", "domain"),
        ("tenant", "tenant"),
        ("verified", "verified"),
        ("vouched", "vouched"),
        ("has_key", "DKIM key"),
    )
    empty = "No domains yet: register one with `zegel domain add TENANT DOMAIN`."
    show_rows(frame, frame.call("domain.list", tenant=tenant or option), columns, empty=empty)


def _publish(found: dict[str, Any]) -> None:
    say("Publish this in DNS, then run `zegel domain verify` again:", "")
    show_records_to_publish(found["records"])
