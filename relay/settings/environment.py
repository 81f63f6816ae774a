"""Settings from the environment: `ZEGEL_SECTION__KEY`, typed by the model, unknown names refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relay.settings.model import DEFAULT_LISTENERS, Settings
from relay.settings.problem import Problem
from relay.settings.toml import NotToml, parse_toml

PREFIX = "ZEGEL_"
SOURCE = "environment"


def overlay(
    table: dict[str, Any], environment: Mapping[str, str], origins: dict[str, tuple[str, str]]
) -> list[Problem]:
    """Put every `ZEGEL_SECTION__KEY` into `table`, note where it came from in `origins`; what cannot be put is a problem.

    Names without "__" are no settings (ZEGEL_CONFIG). Text, numbers and truth values are written as in TOML without quotes,
    lists as in TOML or divided by commas; an entry of [[listener]] is named by its place: ZEGEL_LISTENER__0__ADDRESS.
    """
    problems: list[Problem] = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        path = name.removeprefix(PREFIX).lower().split("__")
        field = Settings.model_fields.get(path[0])
        if field is None or len(path) < 2 or not all(path):
            remedy = f"Known sections: {', '.join(key.upper() for key in Settings.model_fields)}; or unset it"
            problems.append(Problem(SOURCE, name, "no such section", remedy))
            continue
        if path[0] == "listener":
            wrong = _listener(table, path, environment[name])
            if wrong:
                problems.append(Problem(SOURCE, name, wrong, "Count from 0 without gaps: ZEGEL_LISTENER__0__ADDRESS"))
                continue
        else:
            inner = table.setdefault(path[0], {})
            for part in path[1:-1]:
                inner = inner.setdefault(part, {}) if isinstance(inner, dict) else {}
            if isinstance(inner, dict):
                inner[path[-1]] = value_of(environment[name], _kind(field, path[-1]))
        origins[".".join(path)] = (SOURCE, name)
    return problems


def _listener(table: dict[str, Any], path: list[str], text: str) -> str:
    """Set one key of one listener; "" or what is wrong with the name."""
    if len(path) != 3 or not path[1].isdigit():
        return "a listener is named by its place"
    listeners = table.setdefault("listener", [listener.model_dump(exclude_none=True) for listener in DEFAULT_LISTENERS])
    place = int(path[1])
    if place > len(listeners):
        return f"there are {len(listeners)} listeners, so the next one has place {len(listeners)}"
    if place == len(listeners):
        listeners.append({})
    field = Settings.model_fields["listener"]
    listeners[place][path[2]] = value_of(text, _kind(field, path[2]))
    return ""


def _kind(field: FieldInfo, key: str) -> Any:
    """The type of `key` in a section; None where the section is raw or the key unknown."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            found = candidate.model_fields.get(key)
            return None if found is None else found.annotation
    return None


def value_of(text: str, kind: Any) -> object:
    """The value that `text` stands for: as it is for text and choices, else as TOML; what does not parse stays text."""
    if kind is not None and get_origin(kind) is tuple:
        value = _toml(text)
        return (
            value
            if isinstance(value, list)
            else [_item(part.strip(), kind) for part in text.split(",") if part.strip()]
        )
    if kind in (int, float, bool) or kind is None:
        return _toml(text)
    return text


def _item(text: str, kind: Any) -> object:
    item = get_args(kind)[0]
    return text if (get_args(item) or (item,))[0] is str else _toml(text)


def _toml(text: str) -> object:
    try:
        return parse_toml(f"value = {text}")["value"] if "\n" not in text else text
    except NotToml:
        return text
