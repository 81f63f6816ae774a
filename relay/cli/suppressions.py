"""`zegel suppression`: who gets nothing any more."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name

app = group("Who gets nothing any more, and why.")

AT_ONCE = 1_000
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The e-mail address.", show_default=False)]
Scope = Annotated[str, typer.Option(metavar="all|PURPOSE", help="Everything, or one list.")]
Reason = Annotated[
    Literal["objection", "bounce", "complaint", "restriction"], typer.Option(help="Why nothing may go there.")
]


@command(app, "add", example="zegel suppression add shop ann@example.net")
def add(frame: Frame, tenant: Name, address: Address, *, scope: Scope = "all", reason: Reason = "objection") -> None:
    """Stop mail to an address, at once; a consent that it covers ends."""
    show_record(frame, frame.call("suppression.add", tenant=tenant, address=address, scope=scope, reason=reason))


@command(app, "list", example="zegel suppression list shop --limit 50")
def list_all(
    frame: Frame,
    tenant: Name,
    address: Annotated[str | None, typer.Argument(metavar="[ADDRESS]", help="Only what stands for this one.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, newest first.")] = 1000,
) -> None:
    """Show what stands; an address is shown where it is still known."""
    columns = (
        ("address", "address"), ("scope", "scope"), ("reason", "reason"), ("at", "since"), ("expires_at", "until"),
        ("lifted", "lifted for"), ("source", "source"),
    )  # fmt: skip
    show_rows(frame, _newest(frame, tenant, address, limit), columns, empty="Nothing stands.")


def _newest(frame: Frame, tenant: str, address: str | None, limit: int) -> list[dict[str, Any]]:
    """In parts, so that nobody who leaves meanwhile waits. What is set anew between two of them moves the rest on."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for skip in range(0, limit, AT_ONCE):
        most = min(AT_ONCE, limit - skip)
        rows = frame.call("suppression.list", tenant=tenant, address=address, limit=most, skip=skip)
        found |= {(row["subject"], row["scope"], row["reason"]): row for row in rows}
        if len(rows) < most:
            break
    return list(found.values())


@command(app, "remove", example="zegel suppression remove shop ann@example.net --reason bounce")
def remove(frame: Frame, tenant: Name, address: Address, *, scope: Scope = "all", reason: Reason = "objection") -> None:
    """Lift a bounce or a restriction; an objection is lifted only by the person's own confirmation (CONSENT-11)."""
    show_record(frame, frame.call("suppression.remove", tenant=tenant, address=address, scope=scope, reason=reason))
