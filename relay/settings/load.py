"""From a TOML file, the environment and the command line to checked `Settings`, or everything that is wrong with them.

Order of strength: command line, environment (`ZEGEL_SECTION__KEY`), file, defaults. Errors are collected, not raised one by
one: a bad value is set aside so that the combinations of all others are still checked.
"""

from __future__ import annotations

import copy
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.settings.checks import clashes
from relay.settings.environment import overlay
from relay.settings.explain import explain
from relay.settings.model import Settings
from relay.settings.problem import ConfigError, Problem
from relay.settings.toml import NotToml, read_toml

SEARCH = (Path("zegel.toml"), Path("/etc/zegel/zegel.toml"))
DEFAULTS = "defaults"
MIN_SECRET = 16
PATH_KEYS = {
    "server": ("data_dir", "keys_dir"),
    "storage": ("counters_password_file", "counters_ca_file"),
    "delivery": ("ca_file", "password_file"),
    "alarms": ("webhook_secret_file",),
}


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of `path`, or of the first file that `find` finds, under the environment and `overrides`.

    `overrides` are dotted keys from a command line, `{"server.data_dir": "/tmp/x"}`. Relative paths count from the file's
    folder, without a file from the working folder. Raises ConfigError with every problem.
    """
    environment = os.environ if environment is None else environment
    source = find(path, environment)
    table = {} if source is None else _read(source)
    origins: dict[str, tuple[str, str]] = {}  # dotted key -> (file, key as written), where it is not the TOML file
    problems = overlay(table, environment, origins)
    for key, value in (overrides or {}).items():
        _put(table, key, str(value) if isinstance(value, Path) else value)
        origins[key] = ("command line", key)
    file = DEFAULTS if source is None else str(source)
    settings, bad = _validate(table)
    problems += [_problem(file, origins, *entry) for entry in bad]
    settings = _anchor(settings, Path.cwd() if source is None else source.resolve().parent)
    dead = {key for key, _, _ in bad}
    found = clashes(settings)
    links = () if any(clash.key == "server.keys_dir" for clash in found) else _links(settings)
    for clash in (*found, *links, *_files(settings)):
        if clash[0] not in dead:
            problems.append(_problem(file, origins, *clash))
    if problems:
        raise ConfigError(problems)
    return settings


def find(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file to read: `path`, ZEGEL_CONFIG, ./zegel.toml, /etc/zegel/zegel.toml; None: defaults only."""
    if path is None and environment.get("ZEGEL_CONFIG"):
        path = Path(environment["ZEGEL_CONFIG"])
    if path is not None:
        return path
    return next((candidate for candidate in SEARCH if candidate.is_file()), None)


def _read(source: Path) -> dict[str, Any]:
    try:
        return read_toml(source)
    except OSError as error:
        remedy = "Name an existing file with -c or ZEGEL_CONFIG, or make one with `zegel init`"
        raise ConfigError([Problem(str(source), "-", f"cannot be read ({error.strerror})", remedy)]) from None
    except NotToml as error:
        raise ConfigError([Problem(str(source), "-", str(error), error.remedy)]) from None


def _put(table: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
    table[last] = value


def _validate(table: dict[str, Any]) -> tuple[Settings, list[tuple[str, str, str]]]:
    """Settings without the values that are wrong, and those as (dotted key, what is wrong, remedy)."""
    bad: list[tuple[str, str, str]] = []
    table = copy.deepcopy(table)
    while True:
        try:
            return Settings.model_validate(table), bad
        except ValidationError as error:
            found = [explain(entry) for entry in error.errors()]
            # A list whose items are wrong is also too short; only the items are worth telling.
            bad += [entry for entry in found if not any(other[0].startswith(f"{entry[0]}.") for other in found)]
            for key, _, _ in found:
                _drop(table, key.split("."))


def _drop(table: Any, key: list[str]) -> None:
    """Remove the value at `key`, or the nearest thing above it that is there: each round removes something."""
    if isinstance(table, list):
        # A place in a list of tables is kept, so that later places keep their numbers; of plain values the list goes.
        inner = table[int(key[0])] if key[0].isdigit() and int(key[0]) < len(table) else None
        if isinstance(inner, dict) and len(key) > 1:
            _drop(inner, key[1:])
        else:
            table[:] = [copy.deepcopy(item) if isinstance(item, dict) else {} for item in table]
        return
    inner = table.get(key[0])
    tables = isinstance(inner, list) and any(isinstance(item, dict) for item in inner)
    if len(key) > 1 and (isinstance(inner, dict) or tables):
        _drop(inner, key[1:])
    else:
        table.pop(key[0], None)


def _problem(file: str, origins: Mapping[str, tuple[str, str]], key: str, wrong: str, remedy: str) -> Problem:
    # A value inside a list that came from the environment is known there by the name of the list.
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:length]))
        if origin is not None:
            return Problem(*origin, wrong, remedy)
    return Problem(file, key, wrong, remedy)


def _anchor(settings: Settings, base: Path) -> Settings:
    """The same settings with every relative path counted from `base`."""
    changes: dict[str, Any] = {}
    for section, keys in PATH_KEYS.items():
        table = getattr(settings, section)
        paths = {key: base / getattr(table, key) for key in keys if getattr(table, key) is not None}
        changes[section] = table.model_copy(update=paths)
    changes["listener"] = tuple(
        listener.model_copy(
            update={
                "certificate": None if listener.certificate is None else base / listener.certificate,
                "key": None if listener.key is None else base / listener.key,
            }
        )
        for listener in settings.listener
    )
    return settings.model_copy(update=changes)


def _links(settings: Settings) -> list[tuple[str, str, str]]:
    """What only a look at the disk tells of the folders."""
    data, keys = settings.server.data_dir.resolve(), settings.server.keys_dir.resolve()
    if data not in (keys, *keys.parents):
        return []
    why = f"keys_dir leads to {keys}, inside data_dir, so a copy of the data would hold its keys"
    return [("server.keys_dir", why, "Write a folder beside data_dir")]


def _files(settings: Settings) -> list[tuple[str, str, str]]:
    """Files that are named but cannot be used, as (dotted key, what is wrong, remedy)."""
    wrong: list[tuple[str, str, str]] = []
    for place, listener in enumerate(settings.listener):
        if listener.certificate is None or listener.key is None:
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listener.certificate, listener.key, password="")
        except ssl.SSLError as error:
            why = f"certificate and key do not fit ({error.reason or 'not PEM'})"
            wrong.append(
                (f"listener.{place}.certificate", why, "Write a PEM chain and the unencrypted key it was made for")
            )
        except OSError as error:
            why = f"certificate or key cannot be read ({error.strerror})"
            wrong.append((f"listener.{place}.certificate", why, "Write files that the gateway may read"))
    for section, keys in PATH_KEYS.items():
        for key in keys:
            file = getattr(getattr(settings, section), key)
            if not key.endswith("_file") or file is None:
                continue
            if not os.access(file, os.R_OK):
                wrong.append((f"{section}.{key}", f"{file} cannot be read", "Write a file that the gateway may read"))
            elif key == "webhook_secret_file" and len(secret(file)) < MIN_SECRET:
                remedy = f"openssl rand -hex 32 > {file}; chmod 600 {file}"
                wrong.append((f"{section}.{key}", f"{file} holds fewer than {MIN_SECRET} characters", remedy))
    return wrong


def secret(file: Path) -> str:
    """The first line of a file with a secret. Raises OSError."""
    return file.read_text("utf-8", "replace").partition("\n")[0].strip()
