"""What a validation error means to the person who wrote the file: what is wrong, and what to write."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from relay.settings.model import Settings

UNITS = ("seconds", "hours", "days", "months", "years", "bytes", "minutes", "milliseconds")
# How many of the smaller unit one of the other is; what "25M" or "5m" was meant to be.
_BYTES: dict[str, float] = {
    "k": 1024,
    "kb": 1024,
    "kib": 1024,
    "m": 1024**2,
    "mb": 1024**2,
    "mib": 1024**2,
    "g": 1024**3,
    "gb": 1024**3,
}
_SECONDS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_IN_SECONDS = {"seconds": 1.0, "hours": 3600.0, "days": 86400.0}
_WITH_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_FORBIDDEN = {
    "auth": "AUTH cannot be switched off: without a login nothing is relayed. Remove the key",
    "password": "A password does not stand in this file. Write password_file with the path of a file that holds it",
}
_TYPES = {
    "int_type": "a whole number without quotes",
    "float_type": "a number without quotes",
    "bool_type": "true or false without quotes",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "tuple_type": "a list in square brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def explain(error: ErrorDetails) -> tuple[str, str, str]:
    """(dotted key, what is wrong, remedy) of one pydantic error."""
    parts = [str(part) for part in error["loc"]]
    key = ".".join(parts)
    context = error.get("ctx", {})
    kind = error["type"]
    if kind == "setting":
        return key, str(context["wrong"]), str(context["remedy"])
    if kind == "extra_forbidden":
        return key, "unknown key", _nearest(parts)
    if kind == "literal_error":
        return key, f"{_shown(error['input'])} is not one of the choices", f"Write {context['expected']}"
    if kind in _TYPES:
        return key, f"{_shown(error['input'])} is not {_TYPES[kind]}", _rewrite(parts[-1], error["input"], _TYPES[kind])
    return key, f"{_shown(error['input'])} is refused: {error['msg']}", _bound(context)


def _shown(value: object) -> str:
    """The value as it is told; one that fills the screen is cut."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bound(context: dict[str, Any]) -> str:
    words = {"gt": "more than", "ge": "at least", "le": "at most", "lt": "less than"}
    bounds = [f"{word} {context[name]:.15g}" for name, word in words.items() if name in context]
    return f"Write {' and '.join(bounds)}" if bounds else "Write at least one value"


def _nearest(parts: list[str]) -> str:
    """A remedy for an unknown key: the known one that was probably meant, else what there is."""
    known = _keys([part for part in parts[:-1] if not part.isdigit()])
    wanted = parts[-1]
    for word, remedy in _FORBIDDEN.items():
        if wanted.startswith(word):
            return remedy
    stem = wanted.rpartition("_")[0] if wanted.rpartition("_")[2] in UNITS else wanted
    for key in known:
        name, _, unit = key.rpartition("_")
        if unit in UNITS and name in (stem, wanted):
            return f"Write {key}, a number of {unit}"
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
    return f"Write {near[0]}" if near else f"Known keys: {', '.join(known)}"


def _keys(path: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in path:
        annotation = model.model_fields[part].annotation
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return list(model.model_fields)


def _rewrite(key: str, value: object, expected: str) -> str:
    """A remedy for a value of the wrong type: a number with a unit becomes the number in the key's own unit."""
    found = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    unit = next((unit for unit in UNITS if key.endswith(f"_{unit}")), "")
    factors: dict[str, float] = {}
    if unit == "bytes":
        factors = _BYTES
    elif unit in _IN_SECONDS:
        factors = {name: seconds / _IN_SECONDS[unit] for name, seconds in _SECONDS.items()}
    if found and found[2].lower() in factors:
        number = float(found[1]) * factors[found[2].lower()]
        return f"Write {key} = {number:.15g}, in {unit}"
    return f"Write {expected}" + (f", in {unit}" if unit else "")
