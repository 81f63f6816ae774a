"""The `zegel` command: every noun and verb of the contract, put together. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from relay import __version__
from relay.cli import (
    apikeys,
    audit,
    backup,
    bench,
    checkconfig,
    consents,
    credentials,
    demo,
    dkim,
    doctor,
    domains,
    explain,
    held,
    init,
    keys,
    leaving,
    limits,
    policies,
    privacy,
    purposes,
    queue,
    reputation,
    serve,
    suppressions,
    tenants,
    top,
    trace,
    webhooks,
)
from relay.cli.frame import group

app = group(
    "Zegel lets out only mail that may be sent: consent, one-click opt-out, no exposed recipients, DKIM, and an "
    "explanation for everything it refuses.\n\n"
    r"[bold]First steps:[/bold] [cyan]zegel demo --samples[/cyan] shows it; [cyan]zegel init DIR[/cyan] sets one up."
)

for module in (init, serve, demo, checkconfig, doctor, explain, trace, top, audit, backup, bench):
    module.add_to(app)
for name, noun in (
    ("tenant", tenants),
    ("domain", domains),
    ("credential", credentials),
    ("dkim", dkim),
    ("keys", keys),
    ("purpose", purposes),
    ("consent", consents),
    ("suppression", suppressions),
    ("queue", queue),
    ("held", held),
    ("limit", limits),
    ("reputation", reputation),
    ("privacy", privacy),
    ("policy", policies),
    ("apikey", apikeys),
    ("webhook", webhooks),
):
    app.add_typer(noun.app, name=name)
leaving.add_to(tenants.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zegel {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line of this process. Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 something is down."""
    _stand_in_for_closed_streams()
    _print_what_can_be_printed()
    app(prog_name="zegel")


def _print_what_can_be_printed() -> None:
    """A terminal of an 8-bit locale has no dash: what was asked for is done by then, and a password is shown only once."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _stand_in_for_closed_streams() -> None:
    """Who starts us may have closed one (`2>&-`): the next socket would take its number, and be written to as if it were that."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free, so this one
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 for as long as this process lives
