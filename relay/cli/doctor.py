"""`zegel doctor`: what is wrong with this gateway and its surroundings, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.findings import Finding, ok, wrong
from relay.cli.frame import Frame, command
from relay.cli.output import COLOURS, clean, console, print_json
from relay.cli.trouble import NO, Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.settings.model import Settings


def add_to(app: typer.Typer) -> None:
    command(app, "doctor", example="zegel doctor -c /etc/zegel/zegel.toml")(doctor)


def doctor(
    frame: Frame,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Leave out DNS and the smarthosts.")] = False,
) -> None:
    """Look at config, keys, disk, clock, storage, region, TLS, DNS and smarthosts; each ok, warn or wrong, with its remedy.

    Exits 1 where something is wrong.
    """
    findings = examine(frame, offline=offline)
    if frame.as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        _show(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(NO)


def examine(frame: Frame, *, offline: bool) -> list[Finding]:
    """Every finding, in the order in which things build on each other."""
    from relay.cli.checkconfig import file_of, problems_of
    from relay.cli.client import as_folder_owner, require_folder
    from relay.cli.records import network
    from relay.cli.shared_counters import counters

    problems = problems_of(frame)
    if problems:
        return [wrong("config", f"{p['file']}: {p['key']}: {p['wrong']}", p["remedy"]) for p in problems]
    settings = frame.settings()
    findings = [ok("config", f"{file_of(frame)} can be used")]
    try:
        require_folder(settings.server.data_dir)
    except Trouble as trouble:
        return [*findings, wrong("data folder", trouble.text, "See above")]
    with as_folder_owner(settings.server.data_dir):
        findings += _on_this_machine(settings)
        if not offline:
            findings += _safely("counters", lambda: counters(settings))
            findings += _safely("network", lambda: network(settings))
    return findings


def _on_this_machine(settings: Settings) -> list[Finding]:
    from relay.cli import listeners, machine

    found: list[Finding] = []
    checks = (
        ("keys", machine.keys),
        ("data folder", machine.folders),
        ("disk", machine.disk),
        ("clock", machine.clock),
        ("storage", machine.storage),
        ("certificate", machine.certificates),
        ("gateway", machine.gateway),
        ("TLS", listeners.tls),
        ("open files", machine.open_files),
        ("region", machine.region),
        ("PDF", machine.pdf_reader),
    )
    for name, check in checks:
        found += _safely(name, lambda check=check: check(settings))  # type: ignore[misc]  # the default binds it
    return found


def _safely(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that fails is a finding too: the others must still be told."""
    try:
        return check()
    except Exception as error:
        return [wrong(name, f"could not be looked at: {trouble_of(error).text}", "Mend that first")]


def _show(findings: list[Finding]) -> None:
    from rich.text import Text

    out = console()
    for finding in findings:
        line = Text(f"{finding.state:<6}", style=COLOURS[finding.state])
        line.append(f"{finding.check:<12}", style="bold")
        line.append(clean(finding.text))
        out.print(line)
        if finding.state != "ok":
            out.print(Text(f"                  {clean(finding.remedy)}", style="dim"))
    counts = {state: sum(finding.state == state for finding in findings) for state in ("wrong", "warn", "ok")}
    out.print(Text(f"{counts['wrong']} wrong, {counts['warn']} to look at, {counts['ok']} in order."))
