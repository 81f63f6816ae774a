"""`zegel top`: the running gateway, live in the terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import COLOURS, console, print_json, say
from relay.cli.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from relay.cli.client import Link
    from relay.cli.pulse import Look

LOOK_SECONDS = 1.0
NARROW = 88  # columns under which everything stands in one
PID_ROOM = 44  # columns that a table needs to have room for process ids
Column = tuple[str, str]


def add_to(app: typer.Typer) -> None:
    command(app, "top", example="zegel top --once --json")(top)


def top(
    frame: Frame,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look for a second, print, and leave.")] = False,
) -> None:
    """Watch mail come in and leave, what is refused, what waits, and the processes; ends with Ctrl-C. Shows no address.

    Names under *trouble* are entries of docs/operating.md.
    """
    with frame.link() as link:
        if once or frame.as_json or not sys.stdout.isatty():
            first = _look(link)
            time.sleep(LOOK_SECONDS)
            _print(frame, _told(first, _look(link)))
            return
        _watch(link)


def _look(link: Link) -> Look:
    from relay.cli.pulse import Look

    answer = link.call("metrics.live", {})
    return Look(time.time(), answer["numbers"], answer["processes"])


def _told(before: Look, now: Look) -> dict[str, Any]:
    from relay.cli.pulse import pulse

    return pulse(before, now)


def _print(frame: Frame, told: dict[str, Any]) -> None:
    if frame.as_json:
        print_json(told)
    else:
        out = console()
        out.print(picture(told, out.width))


def _watch(link: Link) -> None:
    """Until Ctrl-C. A gateway that is away for a while is waited for."""
    from rich.live import Live

    out = console()
    before = _look(link)
    try:
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(LOOK_SECONDS)
                try:
                    now = _look(link)
                except Exception as error:
                    live.update(f"zegel: {_waiting(error)}", refresh=True)
                    continue
                live.update(picture(_told(before, now), out.width), refresh=True)
                before = now
    except KeyboardInterrupt:
        say("")


def _waiting(error: Exception) -> str:
    trouble: Trouble = trouble_of(error)
    return f"{trouble.text}\n(waiting for it; Ctrl-C ends)"


def picture(told: dict[str, Any], width: int) -> RenderableType:
    """The whole screen for `width` columns: two columns, or one where that is too narrow."""
    from rich.console import Group
    from rich.table import Table

    left: list[RenderableType] = [_flow(told), _queue(told)]
    room = width if width < NARROW else width // 2
    right: list[RenderableType] = [
        _processes(told, room),
        _rows(told["refusals"], "rule", "refused by"),
        _tenants(told),
    ]
    if width < NARROW:
        return Group(_head(told), *left, *right)
    both = Table.grid(expand=True, padding=(0, 2))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(Group(*left), Group(*right))
    return Group(_head(told), both)


def _head(told: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    line = Text(f"up {span(told['uptime_seconds'])}", style="bold")
    reply, lag = told["reply_seconds"], told["loop_lag_seconds"]
    line.append(f"   reply {span(reply)}   loop {span(lag)}", style="not bold")
    line.append("\n")
    if told["trouble"]:
        line.append("trouble: " + ", ".join(told["trouble"]), style="bold red")
    else:
        line.append("no trouble", style="green")
    return line


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title_justify="left")
    made.add_column(title, no_wrap=True)
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def _flow(told: dict[str, Any]) -> Table:
    made = _table("mail", "per s")
    for kind in ("in", "out"):
        made.add_row(kind, f"{sum(told[kind].values()):.1f}", style="bold")
        for word, rate in told[kind].items():
            made.add_row(f"  {word}", f"{rate:.1f}", style=COLOURS.get(word, "") if rate else "dim")
    parked = sum(told["throttled"].values())
    made.add_row("over a limit", f"{parked:.1f}", style="yellow" if parked else "dim")
    return made


def _queue(told: dict[str, Any]) -> Table:
    made = _table("queue", "messages")
    for state, number in told["queue"].items():
        loud = "red" if state == "corrupt" else "yellow"
        made.add_row(
            state.replace("_", " "),
            str(number),
            style=(loud if state in ("held", "corrupt") else "") if number else "dim",
        )
    for rank, age in told["oldest_seconds"].items():
        made.add_row(f"oldest {rank}", span(age) if age else "–", style="" if age else "dim")
    return made


def _processes(told: dict[str, Any], room: int) -> Table:
    with_pid = room >= PID_ROOM
    made = _table("process", *(["pid"] if with_pid else []), "sessions", "in/s", "state")
    for each in told["processes"]:
        name = "web" if each["kind"] == "web" else f"worker {each['place']}"
        colour = "green" if each["state"] == "running" else "bold red"
        cells = [str(each["sessions"]), f"{each['per_second']:.1f}", f"[{colour}]{each['state']}[/]"]
        made.add_row(name, *([str(each["pid"])] if with_pid else []), *cells)
    return made


def _rows(rows: list[dict[str, Any]], key: str, title: str) -> Table:
    made = _table(title, "per s", "in all")
    for row in rows:
        made.add_row(row[key], f"{row['per_second']:.1f}", str(row["total"]))
    return made


def _tenants(told: dict[str, Any]) -> Table:
    made = _table("tenant", "per s", "in all", "refused")
    for row in told["tenants"]:
        made.add_row(row["tenant"], f"{row['per_second']:.1f}", str(row["total"]), str(row["refused"]))
    return made


def span(seconds: float | None) -> str:
    """A time in at most two units, or a dash."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size, lower, fraction in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // fraction)} {lower}"
    return f"{seconds:.0f} s"
