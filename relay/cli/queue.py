"""`zegel queue`: what waits to be delivered."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Annotated, Any

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import console, counted, moment, print_json, say, show_record, show_rows, table
from relay.cli.trouble import NO, WRONG_USE, Trouble

app = group("What waits to be delivered.")

TOGETHER = 100  # of `retry`; each worker answers within seconds
Tenant = Annotated[str, typer.Option(help="Only of this tenant.")]
Login = Annotated[str, typer.Option(metavar="USERNAME", help="Only of this login.")]
Parked = Annotated[bool, typer.Option("--parked", help="Only what waits for the turn that a limit gave it.")]
AtMost = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
QueueId = Annotated[
    str, typer.Argument(metavar="ID", help="As in the reply `250 2.0.0 queued as ID`.", show_default=False)
]
COLUMNS = (
    ("id", "id"), ("tenant", "tenant"), ("stream", "stream"), ("from", "from"), ("waiting", "waiting"), ("recipient_count", "of"),
    ("accepted_at", "accepted"), ("due", "next attempt"), ("tries", "tries"), ("held", "held for"),
)  # fmt: skip


@command(app, "list", example="zegel queue list --tenant shop --limit 20")
def list_all(
    frame: Frame, tenant: Tenant = "", credential: Login = "", *, parked: Parked = False, limit: AtMost = 100
) -> None:
    """Show messages that wait."""
    rows = waiting(frame, tenant, credential=credential, parked=parked, limit=limit)
    show_rows(frame, rows if frame.as_json else [for_people(row) for row in rows], COLUMNS, empty="The queue is empty.")
    show_restored(frame)


@command(app, "show", example="zegel queue show 0R3M7K2QX9T1A")
def show(frame: Frame, queue_id: QueueId) -> None:
    """Show one message: envelope, recipients with their state, and what is changed in it."""
    show_message(frame, frame.call("queue.show", id=queue_id), queue_id)


@dataclasses.dataclass(frozen=True, slots=True)
class Many:
    """Which messages, where more than one is meant."""

    tenant: Tenant = ""
    credential: Login = ""
    parked: Parked = False
    everything: Annotated[bool, typer.Option("--all", help="Everything that waits for a later time.")] = False
    limit: AtMost = 1000
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False


@command(app, "retry", example="zegel queue retry --tenant shop --parked")
def retry(
    frame: Frame,
    queue_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Of one message; without it, say which by options.")
    ] = "",
    *,
    many: Many,
) -> None:
    """Try a message now instead of when its turn comes, or all that wait for a later time: of a tenant, of a login, those that
    are parked, or --all. Held and frozen messages stay where they are; limits are not asked again.
    """
    if bool(queue_id) == bool(many.tenant or many.credential or many.parked or many.everything):
        raise Trouble(WRONG_USE, "name one message, or say which with --tenant, --credential, --parked or --all")
    if queue_id:
        show_change(frame, "queue.retry", queue_id)
    else:
        _retry_many(frame, many)


def _retry_many(frame: Frame, many: Many) -> None:
    rows = waiting(frame, many.tenant, credential=many.credential, parked=many.parked, later=True, limit=many.limit)
    ids, retried, more = [row["id"] for row in rows if not row["frozen"]], 0, len(rows) >= many.limit
    if ids and not many.yes:
        frame.confirm(f"Try {counted(len(ids), 'message')} now that wait for a later time, whatever the limits?")
    with frame.link() as link:
        for first in range(0, len(ids), TOGETHER):
            retried += link.call("queue.retry_many", {"ids": ids[first : first + TOGETHER]})["retried"]
    if frame.as_json:
        print_json({"retried": retried, "more": more})
        return
    say(f"Tried now: {counted(retried, 'message')}." if ids else "Nothing of that waits for a later time.")
    if more:
        say("There may be more: do it again.")


@command(app, "hold", example="zegel queue hold 0R3M7K2QX9T1A")
def hold(frame: Frame, queue_id: QueueId) -> None:
    """Keep a message until you release or refuse it."""
    show_change(frame, "queue.hold", queue_id)


@command(app, "release", example="zegel queue release")
def release(
    frame: Frame,
    queue_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Of a held message; without it, all that a restore keeps waiting.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a message go that was held; without ID, after `zegel restore`, the whole queue and marketing."""
    if queue_id:
        show_change(frame, "queue.release", queue_id)
    else:
        _release_restored(frame, yes=yes)


def _release_restored(frame: Frame, *, yes: bool) -> None:
    from relay.backup.restore import release as release_all
    from relay.cli.backup import gap
    from relay.cli.client import as_folder_owner, require_folder
    from relay.store import restored

    data = frame.settings().server.data_dir
    require_folder(data)
    with as_folder_owner(data):
        note = restored.read(data)
    if note is None:
        raise Trouble(
            NO, "no restore waits for its release; to let one held message go, name it: `zegel queue release ID`"
        )
    if not frame.as_json:
        say(*gap(note))
    if not yes:
        frame.confirm(f"Let what was restored go ({counted(note.messages, 'message')}), and marketing with it?")
    with as_folder_owner(data):
        files = release_all(data)
    told = {**note._asdict(), "files": files}
    frame.call("restore.released", **told)
    if frame.as_json:
        print_json({"state": "released", "gap_seconds": note.gap_seconds, **told})
    else:
        say("Released: it leaves within seconds, and is judged again by the consents and opt-outs that are known now.")


@command(app, "delete", example="zegel queue delete 0R3M7K2QX9T1A --yes")
def delete(
    frame: Frame, queue_id: QueueId, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Destroy a message; nobody is told. To tell its sender, `zegel queue hold` and `zegel held refuse`."""
    if not yes:
        frame.confirm(f"Destroy {queue_id} without a report to its sender?")
    show_change(frame, "queue.delete", queue_id)


@command(app, "stats", example="zegel queue stats")
def stats(frame: Frame) -> None:
    """Count what waits, what is on its way and what is held."""
    show_record(frame, frame.call("queue.stats"))
    show_restored(frame)


def show_restored(frame: Frame) -> None:
    """For people: what a restore keeps aside, which is in no list and no count."""
    from relay.store import restored

    note = None if frame.as_json else restored.read(frame.settings().server.data_dir)
    if note is not None:
        say(f"Apart from that, a restore waits for `zegel queue release`: {counted(note.messages, 'message')}.")


def waiting(frame: Frame, tenant: str, **how: object) -> list[dict[str, Any]]:
    """Messages that wait, of one tenant where one is named; `frozen` are those of who is suspended (THROTTLE-9).

    Raises OwnerError, OpRefused or Trouble where there is no such tenant or login.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from relay.owner import OwnerError
    from relay.serve.channel import OpRefused, OpUnavailable
    from relay.store import StoreUnavailable

    stopped: set[tuple[str, str]] = set()
    with frame.link() as link:
        rows: list[dict[str, Any]] = link.call("queue.list", {"tenant": tenant, **how})
        if tenant and not rows:  # who has mail here is there, whether or not the database can be asked
            link.call("tenant.show", {"name": tenant})
        login = how.get("credential")
        if login and not rows and all(row["name"] != login for row in link.call("credential.list", {})):
            raise Trouble(NO, "there is no such credential: see `zegel credential list`")
        # Mail is shown whether or not the database can be asked.
        with suppress(SQLAlchemyError, StoreUnavailable, OwnerError, OpRefused, OpUnavailable):
            stopped = {(row["kind"], row["name"]) for row in link.call("suspension.list", {}) if row["suspended"]}
    return [
        {**row, "frozen": not stopped.isdisjoint((("tenant", row["tenant"]), ("credential", row["credential"])))}
        for row in rows
    ]


def for_people(row: dict[str, Any]) -> dict[str, Any]:
    """One message with the reason why it is held in words; what is held or frozen has no next attempt, whatever its turn was."""
    from relay.mail.reply import REASONS

    if not row["held"] and not row.get("frozen"):
        return row
    code, told = row["held"], "suspended"
    if code:
        try:
            told = REASONS[code].cause("en", row.get("held_detail", {}).items())
        except KeyError:  # of another version
            told = code
        told = code if "?" in told else told  # nobody knows what fills it
    return {**row, "due": None, "held": told}


def show_message(frame: Frame, found: dict[str, Any] | None, queue_id: str) -> None:
    """One message of the queue for people or programs. Raises Trouble where there is none."""
    if found is None:
        raise missing(queue_id)
    if frame.as_json:
        print_json(found)
        return
    show_record(frame, for_people(found), skip=("edits", "recipients", "held_detail"))
    out = console()
    out.print(table(found["recipients"], (("address", "recipient"), ("state", "state"))))
    rows = [dict(zip(("kind", "name", "value", "rule"), edit, strict=False)) for edit in found["edits"]]
    if rows:
        say("Changes made at delivery:")
        out.print(table(rows, (("kind", "change"), ("name", "field"), ("value", "value"), ("rule", "rule"))))


def show_change(frame: Frame, op: str, queue_id: str, **how: object) -> None:
    """Run a change of one message and tell its new state."""
    done = frame.call(op, id=queue_id, **how)
    if done is None:
        raise missing(queue_id)
    if frame.as_json:
        print_json(done)
    elif "due" in done:
        say(
            f"{done['id']} leaves in its turn under the limits, at {moment(done['due'])}; `zegel queue retry` sends it now."
        )
    else:
        say(f"{done['id']} is {done['state']}.")


def missing(queue_id: str) -> Trouble:
    """No such message waits."""
    return Trouble(NO, f"no message {queue_id} waits here: see what became of it with `zegel trace {queue_id}`")
