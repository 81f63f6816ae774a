"""`zegel keys`: the keys at rest, and a new one."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import show_record, show_rows

app = group("The keys that seal the queue, hash addresses and make links. Not those that sign mail: see `zegel dkim`.")

KindOfKey = Annotated[
    Literal["queue", "hash", "token"],
    typer.Argument(
        metavar="KIND",
        help="queue: seals waiting mail. hash: hides addresses in consents and suppressions. token: makes links in mail.",
        show_default=False,
    ),
]


@command(app, "list", example="zegel keys list")
def list_all(frame: Frame) -> None:
    """Show every key by number, never its secret: current makes new things, live still opens and finds older ones."""
    columns = (("kind", "kind"), ("number", "number"), ("state", "state"), ("created_at", "since"))
    show_rows(frame, frame.call("keys.list"), columns, empty="No keys: run `zegel init`.")


@command(app, "rotate", example="zegel keys rotate token")
def rotate(frame: Frame, kind: KindOfKey) -> None:
    """Make a new key; every process uses it within 2 seconds. No link dies and no mail, consent or opt-out is lost.

    The older keys stay, for links have no end: never take one out of keys_dir. Then make a new `zegel backup`, since
    an older one cannot open what is written from now on. A hash key that was rotated makes each lookup ask once more.
    """
    made = frame.call("keys.rotate", kind=kind)
    show_record(frame, made, title="Key made. Back up keys_dir now: an older copy cannot open what comes from here on")
