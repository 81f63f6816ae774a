"""`zegel check-config`: every error at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import print_json, say
from relay.cli.trouble import NO

if TYPE_CHECKING:
    from relay.settings.model import Settings


def add_to(app: typer.Typer) -> None:
    command(app, "check-config", example="zegel check-config -c zegel.toml")(check_config)


def check_config(frame: Frame) -> None:
    """Look for every error in the config: where, what is wrong, what to write. Exits 1 where there is one."""
    problems = problems_of(frame)
    warnings = [] if problems else _warnings(frame.settings(), file_of(frame))
    if frame.as_json:
        print_json({"file": file_of(frame), "ok": not problems, "problems": problems, "warnings": warnings})
    else:
        for problem in problems or warnings:
            say(f"{problem['file']}: {problem['key']}", f"    {problem['wrong']}.", f"    {problem['remedy']}.", "")
        if problems:
            say(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}.")
        elif not warnings:
            say(f"{file_of(frame)}: nothing is wrong.")
    if problems:
        raise typer.Exit(NO)


def _warnings(settings: Settings, file: str) -> list[dict[str, str]]:
    """What stops no start: a limit on open files of this shell that is too low, and hosts that nobody said the country of."""
    from relay.serve import descriptors
    from relay.settings.whereabouts import undeclared

    found = [(one.key, one.wrong, one.remedy) for one in undeclared(settings)]
    short = descriptors.shortage(settings, descriptors.reachable())
    found += [("limits.max_connections", *short)] if short else []
    return [{"file": file, "key": key, "wrong": text, "remedy": remedy} for key, text, remedy in found]


def file_of(frame: Frame) -> str:
    """The file that is read, or "defaults"."""
    import os

    from relay.settings.load import DEFAULTS, find

    found = find(frame.config, os.environ)
    return DEFAULTS if found is None else str(found)


def problems_of(frame: Frame) -> list[dict[str, str]]:
    """Everything that would stop the start: settings, policies, smarthosts."""
    from relay.settings.problem import ConfigError

    try:
        settings = frame.settings()
    except ConfigError as error:
        problems = [problem._asdict() for problem in error.problems]
        # The policies are checked all the same: one look must find everything.
        return problems + _policy_problems(_raw_policies(frame), file_of(frame))
    return _policy_problems(settings.policies, file_of(frame)) + _peer_problems(settings, file_of(frame))


def _raw_policies(frame: Frame) -> dict[str, Any]:
    """The [policies] table of a file that is otherwise wrong; {} where there is none or it is not even TOML."""
    from pathlib import Path

    from relay.settings.toml import read_toml

    try:
        table = read_toml(Path(file_of(frame))).get("policies", {})
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _policy_problems(tables: dict[str, Any], file: str) -> list[dict[str, str]]:
    from relay.policy.catalogue import Catalogue, CatalogueError

    try:
        Catalogue.load(tables)
    except CatalogueError as error:
        return [{"file": file, **problem._asdict()} for problem in error.problems]
    return []


def _peer_problems(settings: Settings, file: str) -> list[dict[str, str]]:
    from relay.delivery import route
    from relay.delivery.peers import PeerError

    if settings.delivery.mode != "smarthost":
        return []
    try:
        route.peers(settings.delivery)
    except (PeerError, OSError) as error:
        return [
            {"file": file, "key": "delivery.smarthosts", "wrong": str(error), "remedy": "Mend it as the sentence says"}
        ]
    return []
