"""`zegel held`: mail that waits for a person."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import clean, console, print_json, say, show_record, show_rows, table
from relay.cli.queue import (
    AtMost,
    QueueId,
    Tenant,
    for_people,
    missing,
    show_change,
    show_message,
    show_restored,
    waiting,
)
from relay.cli.trouble import WRONG_USE, Trouble

app = group("Mail that waits for a person; it ends as delivered or with a report to its sender (PIPE-2).")
COLUMNS = (
    ("id", "id"), ("tenant", "tenant"), ("stream", "stream"), ("from", "from"), ("recipient_count", "recipients"),
    ("accepted_at", "accepted"), ("held", "held for"), ("held_until", "goes back"),
)  # fmt: skip


@command(app, "list", example="zegel held list --tenant shop")
def list_all(
    frame: Frame,
    tenant: Tenant = "",
    limit: AtMost = 100,
) -> None:
    """Show held messages."""
    rows = [_until(frame, row) for row in waiting(frame, tenant, limit=limit, held=True)]
    show_rows(frame, rows if frame.as_json else [for_people(row) for row in rows], COLUMNS, empty="Nothing is held.")
    show_restored(frame)


@command(app, "show", example="zegel held show 0R3M7K2QX9T1A --content")
def show(
    frame: Frame,
    queue_id: QueueId,
    *,
    content: Annotated[
        bool, typer.Option("--content", help="What it says, as plain text, and its files by name; nothing is opened.")
    ] = False,
) -> None:
    """Show one held message and why it is held; with --content what it says."""
    if not content:
        found = frame.call("held.show", id=queue_id)
        show_message(frame, found and _until(frame, found), queue_id)
        return
    found = frame.call("held.content", id=queue_id)
    if found is None:
        raise missing(queue_id)
    told = _as_text(found)
    if frame.as_json:
        print_json(told)
        return
    show_record(frame, {"subject": told["subject"], **told["fields"]})
    for line in told["text"].splitlines():
        say(clean(line))
    if told["is_cut"]:
        say("There is more than is shown here.")
    if told["files"]:
        console().print(table(told["files"], (("name", "file"), ("content_type", "said to be"), ("size", "octets"))))


def _until(frame: Frame, row: dict[str, Any]) -> dict[str, Any]:
    """A held message, with when it goes back to its sender (PIPE-2)."""
    from relay.serve.held_ops import hold_seconds

    since = row["held_since"]  # none where it is in the queue and not held
    return row if since is None else {**row, "held_until": since + hold_seconds(frame.settings().limits, row["held"])}


def _as_text(found: dict[str, Any]) -> dict[str, Any]:
    """`held.content` with one text for people: that of the HTML where there is some, since that is what readers see."""
    from relay.portal.preview import html_text
    from relay.portal.sanitise import bounded

    html, plain = found.pop("html"), found.pop("plain")
    return {**found, "text": html_text(html) if html else plain, "is_cut": found["is_cut"] or bounded(html).is_cut}


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
