"""Settings of policies: a frozen dataclass declares them with `option`, TOML tables fill them.

The type of an option is the type of its default, so name, unit, default, choices and explanation stand on one line and
config/zegel.toml can be generated from it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeVar

from relay.mail.domain import to_ascii
from relay.mail.envelope import MailClass, Stream, Submission

T = TypeVar("T")
S = TypeVar("S")

_DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class PerStream(NamedTuple):
    """One choice for each stream. In TOML a word for all, or a table with some of the three."""

    marketing: str
    transactional: str
    personal: str

    def of(self, stream: Stream) -> str:
        return getattr(self, stream.value)  # type: ignore[no-any-return]  # every field is a str

    @classmethod
    def all(cls, word: str) -> Self:
        return cls(*[word] * len(cls._fields))


class PerClass(NamedTuple):
    """One choice for each class, `bulk` for bulk mail that is not commercial. In TOML a word for all, or a table."""

    commercial: str
    bulk: str
    transactional: str
    personal: str

    def of(self, mail: Submission) -> str:
        if mail.mail_class is MailClass.COMMERCIAL:
            return self.commercial
        if mail.bulk:
            return self.bulk
        return self.personal if mail.mail_class is MailClass.PERSONAL else self.transactional

    @classmethod
    def all(cls, word: str) -> Self:
        return cls(*[word] * len(cls._fields))


P = TypeVar("P", PerStream, PerClass)


class Problem(NamedTuple):
    """One setting that cannot be used: the key as it stands in the config, what is wrong, what to write."""

    key: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong}. {self.remedy}"


class Option(NamedTuple):
    """A declared setting, for the generated config and for `zegel policy list`."""

    name: str
    default: object
    doc: str
    choices: tuple[str, ...]


MAXIMUM = 1_000_000_000_000  # far over any pace or size, and under what a column or a counter can hold


def option(
    default: T, doc: str, *, choices: tuple[str, ...] = (), minimum: int = 0, at_most: str = "", domains: bool = False
) -> T:
    """Declare one setting: its default (which fixes the type), one line of explanation, its choices, its least value.

    `choices` of a list hold for each item. `at_most` names a setting that may not be smaller. `domains`: each item of the
    list is one domain, or several with spaces between.
    """
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "at_most": at_most, "domains": domains}
    return dataclasses.field(default=default, metadata=metadata)


def declared(settings_type: type) -> list[Option]:
    """Every option of a Settings class. Raises TypeError where a field lacks its default or explanation."""
    result = []
    for field in dataclasses.fields(settings_type):
        if field.default is dataclasses.MISSING or not field.metadata.get("doc"):
            raise TypeError(f"{field.name}: declare it with option(default, doc)")
        if _kind(field.default) is None:
            raise TypeError(f"{field.name}: {type(field.default).__name__} is no kind of setting")
        result.append(Option(field.name, field.default, field.metadata["doc"], field.metadata["choices"]))
    return result


def fill(base: S, table: Mapping[str, object], where: str) -> tuple[S, list[Problem]]:
    """`base` with the values of `table` over it, and every problem found; `where` is the key of the table itself."""
    fields = {field.name: field for field in dataclasses.fields(base)}  # type: ignore[arg-type]  # a Settings dataclass
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for name, value in table.items():
        key = f"{where}.{name}"
        if name not in fields:
            known = ", ".join(fields) or "none"
            problems.append(Problem(key, "unknown key", f"Known keys: {known}"))
            continue
        read = _read(getattr(base, name), value, fields[name].metadata)
        if isinstance(read, _Wrong):
            problems.append(Problem(key, read.wrong, read.remedy))
        else:
            values[name] = read
    filled = dataclasses.replace(base, **values) if values else base  # type: ignore[type-var]  # as above
    for name in values:
        bound = fields[name].metadata["at_most"]
        if bound and getattr(filled, name) > getattr(filled, bound):
            wrong = f"{getattr(filled, name)} is never reached, for {bound} is {getattr(filled, bound)}"
            problems.append(Problem(f"{where}.{name}", wrong, f"Write {getattr(filled, bound)} or less"))
    return filled, problems


class _Wrong(NamedTuple):
    wrong: str
    remedy: str


_KINDS = (bool, int, float, str, PerStream, PerClass, tuple)  # bool before int, the named tuples before tuple


def _kind(default: object) -> type | None:
    return next((kind for kind in _KINDS if isinstance(default, kind)), None)


def _read(default: object, value: object, metadata: Mapping[str, Any]) -> object:
    kind, choices = _kind(default), metadata["choices"]
    if kind is bool:
        return value if isinstance(value, bool) else _Wrong(f"{value!r} is not true or false", "Write true or false")
    if kind is int or kind is float:
        return _number(kind, value, metadata["minimum"])
    if isinstance(default, PerStream):
        return _per(default, value, choices)
    if isinstance(default, PerClass):
        return _per(default, value, choices)
    if kind is str:
        return _word(value, choices)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return _list(tuple(value), metadata)
    return _Wrong(f"{value!r} is not a list of texts", 'Write for instance ["one", "two"]')


def _list(items: tuple[str, ...], metadata: Mapping[str, Any]) -> tuple[str, ...] | _Wrong:
    choices = metadata["choices"]
    for item in items:
        if choices and item not in choices:
            return _Wrong(f"{item!r} is not a choice", f"Write some of: {', '.join(choices)}")
        strange = [word for word in item.split() or [item] if not _is_domain(word)] if metadata["domains"] else []
        if strange:
            return _Wrong(f"{strange[0]!r} is not a domain", 'Write names as in DNS, for instance ["example.org"]')
    return items


def _is_domain(text: str) -> bool:
    ascii_name = to_ascii(text)
    return ascii_name is not None and _DOMAIN.fullmatch(ascii_name) is not None


def _number(kind: type, value: object, minimum: int) -> object:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return _Wrong(f"{value!r} is not a number", "Write a number without quotes")
    if not value >= minimum:  # so that a float that is no number is small too
        return _Wrong(f"{value} is too small", f"Write {minimum} or more")
    return value if value <= MAXIMUM else _Wrong("this number is too large", f"Write {MAXIMUM} or less")


def _word(value: object, choices: tuple[str, ...]) -> object:
    if not isinstance(value, str):
        return _Wrong(f"{value!r} is not a text", "Write it between quotes")
    if choices and value not in choices:
        return _Wrong(f"{value!r} is not a choice", f"Write one of: {', '.join(choices)}")
    return value


def _per(default: P, value: object, choices: tuple[str, ...]) -> P | _Wrong:
    """A choice for all, or a table with some; what is not said stays as in `default`."""
    if isinstance(value, str):
        word = _word(value, choices)
        return word if isinstance(word, _Wrong) else default.all(value)
    if not isinstance(value, Mapping):
        return _Wrong(f"{value!r} is neither a word nor a table", f"Write one of: {', '.join(choices)}")
    for name, word in value.items():
        if name not in default._fields:
            return _Wrong(f"{name!r} is not known here", f"Write some of: {', '.join(default._fields)}")
        read = _word(word, choices)
        if isinstance(read, _Wrong):
            return read
    return default._replace(**value)


def read_choice(default: P, value: object, choices: tuple[str, ...], key: str) -> P | Problem:
    """A PerStream or PerClass from TOML, for the keys that every policy has (mode, on_unavailable, partial)."""
    read = _per(default, value, choices)
    return Problem(key, read.wrong, read.remedy) if isinstance(read, _Wrong) else read
