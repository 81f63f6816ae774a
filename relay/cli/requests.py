"""`zegel privacy request`: what people ask about their own data, and until when it is answered (docs/requests.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import print_json, show_record, show_rows
from relay.cli.suppressions import Address
from relay.cli.tenants import Name

app = group("Requests of people about their own data, and until when they are answered (GDPR-24).")

Ref = Annotated[
    str, typer.Argument(metavar="NUMBER", help="As `zegel privacy request list` shows it.", show_default=False)
]
Kind = Literal["access", "rectify", "erase", "restrict", "object", "portability"]
Owner = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="Only where it is this tenant's.")]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="When it went out; RFC 3339 with an offset. Default: now.")
]
_COLUMNS = (
    ("ref", "number"), ("tenant", "tenant"), ("kind", "kind"), ("state", "state"), ("asked_at", "asked"),
    ("due_at", "until"), ("settled_at", "settled"), ("late", "late"), ("channel", "by"),
)  # fmt: skip


@command(app, "open", example="zegel privacy request open shop ann@example.net --kind access")
def open_request(
    frame: Frame,
    tenant: Name,
    address: Address,
    *,
    kind: Annotated[Kind, typer.Option(help="Which right is used.", show_default=False)],
    asked_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it was made: the month counts from there. Default: now.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What is asked for, in words.")] = None,
) -> None:
    """Enter a request that came in by letter, mail or telephone; it is due in one month.

    What people do on /my by themselves is entered by itself, as answered.
    """
    said = {"kind": kind, "asked_at": asked_at, "text": text}
    _tell(frame, frame.call("request.open", tenant=tenant, address=address, **said), "Request entered")


@command(app, "list", example="zegel privacy request list --state overdue")
def list_all(
    frame: Frame,
    *,
    tenant: Owner = None,
    state: Annotated[
        Literal["open", "overdue", "answered", "refused", "all"], typer.Option(help="Which; open: all that wait.")
    ] = "open",
) -> None:
    """Show requests, those first that are due first; names nobody."""
    rows = frame.call("request.list", tenant=tenant, state=state)
    show_rows(frame, rows, _COLUMNS, empty="No requests.")


@command(app, "show", example="zegel privacy request show 20260301-abcd")
def show(frame: Frame, ref: Ref, *, tenant: Owner = None) -> None:
    """Show a request: who asked, what, and every step. Who looks is kept in the audit."""
    _tell(frame, frame.call("request.show", ref=ref, tenant=tenant), "Request")


@command(app, "extend", example='zegel privacy request extend 20260301-abcd --reason "Three systems must be searched"')
def extend(
    frame: Frame,
    ref: Ref,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, as the person was told.", show_default=False)],
    tenant: Owner = None,
) -> None:
    """Take two months more, once, within the first month. Tell the person why: the law wants that (GDPR 12(3))."""
    _tell(frame, frame.call("request.extend", ref=ref, reason=reason, tenant=tenant), "Extended")


@command(app, "answer", example='zegel privacy request answer 20260301-abcd --text "Copy sent by mail"')
def answer(
    frame: Frame,
    ref: Ref,
    *,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="How it was answered.")] = None,
    at: At = None,
    tenant: Owner = None,
) -> None:
    """Record that a request was answered; it sends nothing and changes no data: `erase` and `consent proof` do."""
    _tell(frame, frame.call("request.answer", ref=ref, text=text, at=at, tenant=tenant), "Answered")


@command(
    app, "refuse", example='zegel privacy request refuse 20260301-abcd --reason "The person could not be identified"'
)
def refuse(
    frame: Frame,
    ref: Ref,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, as the person was told.", show_default=False)],
    at: At = None,
    tenant: Owner = None,
) -> None:
    """Record that a request was refused. Tell the person why, and of authority and court (GDPR 12(4))."""
    _tell(frame, frame.call("request.refuse", ref=ref, reason=reason, at=at, tenant=tenant), "Refused")


def _tell(frame: Frame, found: dict[str, Any], title: str) -> None:
    if frame.as_json:
        print_json(found)
        return
    show_record(frame, found, title=title, skip=("steps", "subject"))
    for step in found["steps"]:
        show_record(frame, step, title=f"\n{step['step'].capitalize()}", skip=("step",))
