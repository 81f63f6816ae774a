"""`zegel held`: mail that waits for a person."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_rows
from relay.cli.queue import QueueId, show_change, show_message, waiting
from relay.cli.trouble import WRONG_USE, Trouble

app = group("Mail that waits for a person; it ends as delivered or with a report to its sender (PIPE-2).")
COLUMNS = (
    ("id", "id"), ("tenant", "tenant"), ("stream", "stream"), ("from", "from"), ("recipient_count", "recipients"),
    ("accepted_at", "accepted"), ("held", "held for"),
)  # fmt: skip


@command(app, "list", example="zegel held list --tenant shop")
def list_all(
    frame: Frame,
    tenant: Annotated[str, typer.Option(help="Only of this tenant.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
) -> None:
    """Show held messages."""
    show_rows(frame, waiting(frame, tenant, limit=limit, held=True), COLUMNS, empty="Nothing is held.")


@command(app, "show", example="zegel held show 0R3M7K2QX9T1A")
def show(frame: Frame, queue_id: QueueId) -> None:
    """Show one held message and why it is held."""
    show_message(frame, frame.call("held.show", id=queue_id), queue_id)


@command(app, "release", example="zegel held release 0R3M7K2QX9T1A --split")
def release(
    frame: Frame,
    queue_id: QueueId,
    *,
    split: Annotated[bool, typer.Option("--split", help="A copy for each, with only their own address in it.")] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="One mail in which nobody sees another address.")] = False,
) -> None:
    """Let it go as it was written, or so that nobody sees the address of another."""
    if split and hidden:
        raise Trouble(WRONG_USE, "--split and --hidden exclude each other: choose one")
    show_change(frame, "held.release", queue_id, way="split" if split else "hidden" if hidden else None)


@command(app, "refuse", example="zegel held refuse 0R3M7K2QX9T1A")
def refuse(frame: Frame, queue_id: QueueId) -> None:
    """End it with a report to its sender."""
    show_change(frame, "held.refuse", queue_id)
