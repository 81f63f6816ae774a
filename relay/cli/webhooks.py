"""`zegel webhook`: where the marketing tool of a tenant hears of who left."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import NO, Trouble

app = group("Where the marketing tool of a tenant hears of who left, came back or was erased (GDPR-25).")

HookName = Annotated[str, typer.Argument(metavar="NAME", help="What it is for, for instance crm.", show_default=False)]


@command(app, "add", example="zegel webhook add shop crm https://crm.example.org/zegel")
def add(
    frame: Frame,
    tenant: Name,
    name: HookName,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are posted; https.", show_default=False)],
    *,
    event: Annotated[
        list[str] | None, typer.Option(metavar="EVENT", help="Only this kind of event; repeat for more.")
    ] = None,
    with_address: Annotated[
        bool, typer.Option("--with-address", help="Put the address of the person into events, where it is known.")
    ] = False,
) -> None:
    """Make a webhook; the key of its signature is shown this once."""
    from relay.settings.endpoint import Networks
    from relay.settings.reach import leads_inside

    args = {"events": event} if event else {}
    if leads_inside(url, Networks(frame.settings().webhooks.allowed_networks)):
        raise Trouble(
            NO, f"{url} is inside a machine or network, where no webhook goes; webhooks.allowed_networks opens one"
        )
    made = frame.call("webhook.add", tenant=tenant, name=name, url=url, with_address=with_address or None, **args)
    show_record(
        frame, made, title="Webhook made; its secret is not shown again. The tool checks X-Zegel-Signature with it"
    )


@command(app, "list", example="zegel webhook list shop")
def list_all(frame: Frame, tenant: Name) -> None:
    """Show the webhooks of a tenant: what waits, what was given up, and why the last try failed."""
    columns = (
        ("name", "webhook"), ("url", "address"), ("events", "events"), ("with_address", "with address"),
        ("waiting", "waiting"), ("oldest_at", "since"), ("dead", "dead"), ("answered_at", "last taken"),
        ("failure", "last failure"),
    )  # fmt: skip
    empty = "No webhooks yet: make one with `zegel webhook add TENANT NAME URL`."
    show_rows(frame, frame.call("webhook.list", tenant=tenant), columns, empty=empty)


@command(app, "remove", example="zegel webhook remove shop crm")
def remove(frame: Frame, tenant: Name, name: HookName) -> None:
    """End a webhook, for ever; what waits for it is deleted."""
    show_record(frame, frame.call("webhook.remove", tenant=tenant, name=name), title="Webhook removed")


@command(app, "rotate", example="zegel webhook rotate shop crm --hours 48")
def rotate(
    frame: Frame,
    tenant: Name,
    name: HookName,
    *,
    hours: Annotated[int, typer.Option(min=0, max=168, help="So long the secret before signs too.")] = 24,
) -> None:
    """Make a new secret; for a while events are signed with both."""
    made = frame.call("webhook.rotate", tenant=tenant, name=name, hours=hours)
    show_record(frame, made, title="New secret made; it is not shown again")


@command(app, "dead", example="zegel webhook dead shop --limit 50")
def dead(
    frame: Frame,
    tenant: Name,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only of this webhook.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, newest first.")] = 1000,
) -> None:
    """Show events that were given up after three days; they are kept for 28 days from when they happened."""
    columns = (
        ("webhook", "webhook"), ("event_id", "event id"), ("event", "event"), ("at", "happened"), ("dead_at", "given up"),
        ("tries", "tries"), ("failure", "why"), ("overtaken", "overtaken"),
    )  # fmt: skip
    rows = frame.call("webhook.dead", tenant=tenant, name=name, limit=limit)
    show_rows(frame, rows, columns, empty="No event was given up.")


@command(app, "retry", example="zegel webhook retry shop crm")
def retry(
    frame: Frame,
    tenant: Name,
    name: HookName,
    *,
    event: Annotated[str | None, typer.Option(metavar="ID", help="Only this event, as `dead` shows it.")] = None,
) -> None:
    """Send again what was given up, and try at once what waits; what a later event has overtaken stays as it is."""
    show_record(frame, frame.call("webhook.retry", tenant=tenant, name=name, event=event))


@command(app, "test", example="zegel webhook test shop crm")
def test(frame: Frame, tenant: Name, name: HookName) -> None:
    """Send an event `test` that is about nobody; `zegel webhook list` shows whether it was taken."""
    show_record(
        frame, frame.call("webhook.test", tenant=tenant, name=name), title="Test queued; see `zegel webhook list`"
    )
