"""`zegel bench`: what one message costs the gateway on this machine, stage by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import console, print_json, say
from relay.cli.trouble import WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.cli.bench_stages import Stage

SMALLEST, LARGEST = 1_024, 20_000_000


def add_to(app: typer.Typer) -> None:
    command(app, "bench", example="zegel bench --size 10240")(bench)


def bench(
    frame: Frame,
    *,
    size: Annotated[int, typer.Option(metavar="BYTES", help="Size of the message.")] = 10_240,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Times that each stage is measured; the best counts.")] = 3,
) -> None:
    """Measure the gateway's own cost of one message, by stage, with the policies as the config has them.

    Works on data of its own beside yours, on the same disk, and removes them. Sends nothing.
    """
    if not SMALLEST <= size <= LARGEST:
        raise Trouble(WRONG_USE, f"--size {size} is out of range: write {SMALLEST} to {LARGEST}")
    from relay.cli.bench_ground import ground
    from relay.cli.bench_stages import measure
    from relay.observe.log import configure

    settings = frame.settings()
    configure(settings, level="critical")
    with ground(settings) as made:
        stages = measure(made, size=size, rounds=rounds)
    if frame.as_json:
        print_json(_as_json(stages, size))
    else:
        _show(stages, size)


def total(stages: list[Stage]) -> float:
    """CPU microseconds of a message; what is part of another stage counts once."""
    return sum(stage.microseconds for stage in stages if not stage.of)


def _as_json(stages: list[Stage], size: int) -> dict[str, Any]:
    return {
        "size_bytes": size,
        "total_microseconds": round(total(stages), 1),
        "stages": [{**stage._asdict(), "microseconds": round(stage.microseconds, 1)} for stage in stages],
    }


def _show(stages: list[Stage], size: int) -> None:
    from rich import box
    from rich.table import Table

    whole = total(stages)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("CPU of one message, by stage", overflow="fold")
    for title in ("microseconds", "share"):
        table.add_column(title, justify="right")
    table.add_column("remark", style="dim", overflow="fold")
    for stage in stages:
        share = "" if stage.of else f"{stage.microseconds / whole:.0%}"
        name = f"  [dim]{stage.name}[/]" if stage.of else stage.name
        table.add_row(name, f"{stage.microseconds:,.1f}", share, stage.remark)
    table.add_section()
    table.add_row("[bold]in all[/]", f"[bold]{whole:,.1f}[/]", "", f"one core could do {1e6 / whole:,.0f} a second")
    console().print(table)
    say(
        f"{size:,} octets, one recipient, signed; indented lines are part of the line above them, or an alternative to it."
    )
