"""Arguments of an operation, read one by one: wrong type, wrong value or unknown name is refused with a remedy.

Every text is refused when it holds a control character, so that none can reach a header (MSG-7).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum

from relay.consent.record import LAST_SECOND, parse_time
from relay.mail.address import parse_path
from relay.owner.error import OwnerError

MAX_CHARS = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class _Missing(Enum):
    MISSING = 0


MISSING = _Missing.MISSING


class Args:
    """The arguments of one call. Reading marks a name as known; `done` refuses the rest."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._known: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether `name` was given, and not as null."""
        self._known.add(name)
        return self._values.get(name) is not None

    def text(self, name: str, default: str | _Missing = MISSING, *, max_chars: int = MAX_CHARS) -> str:
        """A text without control characters, stripped; empty only where a default allows it."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None or (value == "" and default is not MISSING):
            if default is MISSING:
                raise OwnerError("args.missing", f"{name} is missing: give it")
            return default
        if not isinstance(value, str):
            raise OwnerError("args.type", f"{name} must be text")
        if _CONTROL.search(value):
            raise OwnerError(
                "args.control", f"{name} holds a line break or another control character: write it on one line"
            )
        value = unicodedata.normalize("NFC", value.strip())
        if not value and default is MISSING:
            raise OwnerError("args.missing", f"{name} is empty: give it")
        if len(value) > max_chars:
            raise OwnerError("args.too_long", f"{name} is longer than {max_chars} characters: shorten it")
        return value

    def name(self, name: str, default: str | _Missing = MISSING) -> str:
        """A name: letters, digits, dot, underscore, hyphen; at most 63."""
        value = self.text(name, default)
        if value and not _NAME.fullmatch(value):
            raise OwnerError(
                "args.name",
                f"{name} may hold letters, digits, dots, underscores and hyphens, at most 63: choose another",
            )
        return value

    def choice(self, name: str, options: Sequence[str], default: str | _Missing = MISSING) -> str:
        """One of `options`."""
        value = self.text(name, default)
        if value not in options and value != default:
            raise OwnerError("args.choice", f"{name} must be one of {', '.join(options)}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise OwnerError("args.type", f"{name} must be true or false")
        return value

    def number(self, name: str, default: int, *, least: int = 0, most: int = 1_000_000) -> int:
        """A whole number between `least` and `most`."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise OwnerError("args.number", f"{name} must be a whole number from {least} to {most}")
        return value

    def time(self, name: str, default: float) -> float:
        """An RFC 3339 time with an offset, or epoch seconds; epoch seconds come out."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LAST_SECOND:
            return float(value)
        at = parse_time(value) if isinstance(value, str) else None
        if at is None:
            raise OwnerError(
                "args.time", f"{name} must be an RFC 3339 time with an offset, such as 2026-01-02T10:00:00Z"
            )
        return at

    def address(self, name: str, default: str | _Missing = MISSING) -> str:
        """An e-mail address as given."""
        value = self.text(name, default)
        if not value and default is not MISSING:
            return value
        parsed = parse_path(value)
        if isinstance(parsed, str):
            raise OwnerError("args.address", f"{name} is not an e-mail address: {parsed}")
        return value

    def domain(self, name: str) -> str:
        """A domain name of at least two labels, as lower-case A-labels."""
        parsed = parse_path(f"a@{self.text(name).rstrip('.')}")
        if isinstance(parsed, str) or "." not in parsed.domain or parsed.domain.startswith("["):
            raise OwnerError("args.domain", f"{name} is not a domain name: write it as shop.example")
        return parsed.domain

    def texts(self, name: str) -> list[str] | None:
        """A list of texts (one text counts as a list of one), or None where it is not given."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return None
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise OwnerError("args.type", f"{name} must be a list of texts")
        return list(items)

    def table(self, name: str) -> dict[str, object] | None:
        """A JSON object, or None where it is not given."""
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise OwnerError("args.type", f"{name} must be a table")
        return value

    def rows(self, name: str, most: int) -> list[dict[str, object]]:
        """A list of at most `most` JSON objects."""
        self._known.add(name)
        value = self._values.get(name)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise OwnerError("args.type", f"{name} must be a list of rows")
        if len(value) > most:
            raise OwnerError("args.too_many", f"{name} holds more than {most} rows: send it in parts")
        return value

    def rest(self, names: frozenset[str]) -> dict[str, object]:
        """The arguments among `names` that were given."""
        self._known |= names
        return {name: value for name, value in self._values.items() if name in names and value is not None}

    def done(self) -> None:
        """Refuse arguments that nobody read: a misspelt one must not pass in silence."""
        unknown = sorted(set(self._values) - self._known)
        if unknown:
            raise OwnerError("args.unknown", f"unknown argument {', '.join(unknown)}: leave it out")
