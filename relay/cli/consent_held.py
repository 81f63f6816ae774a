"""`zegel consent held`: imports that look like a bought list, and the operator's word on them (CONSENT-7)."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import say, show_record, show_rows
from relay.cli.tenants import Name

app = group("Imports that look like a bought list wait here for a person (CONSENT-7).")

Ref = Annotated[
    str, typer.Argument(metavar="IMPORT", help="As `zegel consent held list` shows it.", show_default=False)
]
_COLUMNS = (
    ("import", "import"), ("state", "state"), ("rows", "bought rows"), ("shared", "with one time"), ("shared_at", "that time"),
    ("asked_at", "imported"), ("asked_by", "by"), ("reason", "what was said"),
)  # fmt: skip


@command(app, "list", example="zegel consent held list shop")
def list_all(frame: Frame, tenant: Name) -> None:
    """Show the imports of a tenant that looked bought, and what was said of each."""
    show_rows(frame, frame.call("consent.held", tenant=tenant), _COLUMNS, empty="No import of this tenant is held.")


@command(app, "release", example='zegel consent held release shop 3f9a1c0be2d4 --reason "contract C-1: asked by name"')
def release(
    frame: Frame,
    tenant: Name,
    ref: Ref,
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="What seller and buyer checked; the audit keeps it.", show_default=False)
    ],
) -> None:
    """Let the file in: import it again after this. Only the very same bytes are taken, and each row is still checked."""
    found = frame.call("consent.decide", tenant=tenant, state="released", reason=reason, **{"import": ref})
    show_record(frame, found, title="Let in")
    if not frame.as_json:
        say(f"Now import the same file again: zegel consent import {tenant} FILE")


@command(app, "refuse", example='zegel consent held refuse shop 3f9a1c0be2d4 --reason "the seller has no proof"')
def refuse(
    frame: Frame,
    tenant: Name,
    ref: Ref,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; the audit keeps it.", show_default=False)],
) -> None:
    """Keep the file out; to import it again says so."""
    found = frame.call("consent.decide", tenant=tenant, state="refused", reason=reason, **{"import": ref})
    show_record(frame, found, title="Kept out")
