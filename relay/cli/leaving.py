"""`zegel tenant delete`: a tenant leaves, and nothing of it stays but the proof of its consents (GDPR-18)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.departing import export
from relay.cli.frame import Frame, command
from relay.cli.output import console, print_json, say, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import DOWN, NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.cli.client import Link
    from relay.settings.model import Settings

LOOK_SECONDS = 0.3
STALLED_SECONDS = 300.0
"""A gateway that did not get any further for so long waits for something that an operator must mend."""
FILES = (
    "its mail in the queue, held or waiting, the delivery log, captured mail, limits, standing, and private DKIM keys"
)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for the name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would go, and what would stay.")]


def add_to(app: typer.Typer) -> None:
    """Below `zegel tenant`."""
    command(app, "export", example="zegel tenant export shop shop.zip")(export)
    command(app, "delete", example="zegel tenant delete shop --dry-run")(delete)


def delete(frame: Frame, tenant: Name, *, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Delete a tenant who leaves, with all that is held of it. There is no way back: `zegel tenant export` first.

    Its mail stops at once, in open sessions and in the queue; then everything of it goes: mail, logs, logins, keys, settings,
    limits, webhooks, incidents. The proof of its consents stays as long as the law asks for it (CONSENT-15), and so do opt-outs,
    as keyed hashes: links in mail that was sent keep working. Broken off, it goes on when you run it again. See docs/leaving.md.
    """
    with frame.link() as link:
        held = link.call("tenant.holds", {"name": tenant})
        if dry_run:
            show_holds(frame, held)
            return
        if not held["emptied_at"]:
            if not held["deleted_at"]:
                _confirm(frame, tenant, held, yes=yes)
                link.call("tenant.delete", {"name": tenant})
            with _shown_at_work(frame, tenant):
                _follow(frame.settings(), link, tenant)
        after = link.call("tenant.holds", {"name": tenant})
    told = {name: after[name] for name in ("name", "deleted_at", "emptied_at", "stays")}
    if frame.as_json:
        print_json({**told, "went": held["goes"]})
        return
    say(f"{tenant} is deleted: nothing of it is left but the proof and the opt-outs.")
    say("Its DKIM records may leave the DNS in a week, and its export is the only copy of the rest.")


def show_holds(frame: Frame, held: dict[str, Any]) -> None:
    """What is held of a tenant, and what of it would stay."""
    if frame.as_json:
        print_json(held)
        return
    rows = [{"what": name.replace("_", " "), "rows": count} for name, count in sorted(held["goes"].items())]
    show_rows(frame, rows, (("what", "Goes"), ("rows", "Rows")), empty="Nothing of it would go.")
    say(f"With it go {FILES}.", "")
    kept = [
        {"what": name.replace("_", " "), "rows": count, "why": held["why"][name]}
        for name, count in sorted(held["stays"].items())
    ]
    show_rows(frame, kept, (("what", "Stays"), ("rows", "Rows"), ("why", "Why")), empty="Nothing of it would stay.")


def _confirm(frame: Frame, tenant: str, held: dict[str, Any], *, yes: bool) -> None:
    """The name typed once more. Raises Trouble where it is another, and where nobody can be asked."""
    if yes:
        return
    if not frame.may_ask:
        raise Trouble(WRONG_USE, f"there is nobody here to ask whether {tenant} is to be deleted: add --yes")
    show_holds(frame, held)
    if typer.prompt(f"\nType {tenant} to delete it; there is no way back", err=True).strip() != tenant:
        raise Trouble(NO, "that is another name: nothing was deleted")


def _follow(settings: Settings, link: Link, tenant: str) -> None:
    """Until nothing of it is left: the running gateway does that, and without one this command."""
    import asyncio

    from relay.cli.client import as_folder_owner, is_running

    if link.is_alone or not is_running(settings):
        link.call("tenant.delete", {"name": tenant})  # said again, it takes the folder's lock
    if link.is_alone:
        with as_folder_owner(settings.server.data_dir):
            asyncio.run(_follow_alone(settings, link))
        return
    since, before = time.monotonic(), link.call("tenant.holds", {"name": tenant})["goes"]
    while any(row["name"] == tenant for row in link.call("tenant.leaving", {})):
        if time.monotonic() - since > STALLED_SECONDS:
            left = link.call("tenant.holds", {"name": tenant})["goes"]
            if left != before:
                since, before = time.monotonic(), left
                continue
            text = (
                "the gateway goes on with it, and waits for something: its log says for what (tenant.deletion_delayed)"
            )
            raise Trouble(DOWN, f"{tenant} sends nothing any more, but is not gone from everywhere: {text}")
        time.sleep(LOOK_SECONDS)


async def _follow_alone(settings: Settings, link: Link) -> None:
    from relay.cli.client import opened_queue
    from relay.counters.embedded import EmbeddedCounters
    from relay.delivery.passes import Passes
    from relay.keyring import Keyring
    from relay.serve.departures import Departures
    from relay.serve.striking import Striking

    keyring = Keyring.open(settings.server.keys_dir, create=False)
    async with opened_queue(settings) as (queue, trace):
        striking = Striking(queue, Passes(), trace.say, keyring)
        with contextlib.closing(EmbeddedCounters(settings.server.data_dir)) as counters:

            async def op(name: str, args: dict[str, Any]) -> Any:
                return link.call(name, args)

            async def ask(name: str, args: dict[str, Any]) -> Any:
                queue.tick()
                return await striking.run(args)

            departures = Departures(settings, op, ask, lambda: (keyring, counters), workers=1)
            await departures.to_the_end()


@contextlib.contextmanager
def _shown_at_work(frame: Frame, tenant: str) -> Iterator[None]:
    out = console(stderr=True)
    if frame.as_json or not out.is_terminal:
        yield
        return
    with out.status(f"{tenant} sends nothing any more; queue, files and rows forget it"):
        yield
