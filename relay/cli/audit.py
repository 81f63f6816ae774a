"""`zegel audit`: who changed what, and when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import show_rows


def add_to(app: typer.Typer) -> None:
    command(app, "audit", example="zegel audit shop")(audit)


def audit(
    frame: Frame,
    tenant: Annotated[
        str, typer.Argument(metavar="[TENANT]", help="Only what concerns this tenant.", show_default=False)
    ] = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
) -> None:
    """Tell who changed what and when: limits that were lifted, accounts that were released, mail that was let go. No address."""
    rows = frame.call("audit.list", tenant=tenant or None, limit=limit)
    if not frame.as_json:
        rows = [_in_words(row) for row in rows]
    columns = (("at", "when"), ("actor", "who"), ("op", "did"), ("tenant", "tenant"), ("what", "what"))
    show_rows(frame, rows, columns, empty="Nothing is written down.")


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in row["detail"].items() if value not in ("", None)}
    return {**row, "what": " ".join(f"{name}={value}" for name, value in told.items())}
