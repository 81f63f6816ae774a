"""The proof for one address as a page that prints well: one file, without scripts and without anything from elsewhere."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template

from relay import __version__
from relay.consent.record import format_time
from relay.portal.explained import rules
from relay.portal.templates import PROOF, environment

HERE = Path(__file__).parent
# In this order; what else an event holds follows by its own name.
_SHOWN = (
    "method", "basis", "controller", "given_at", "confirmed_at", "expires_at", "text_language", "policy_url", "jurisdiction",
    "provenance", "sensitive", "category", "sale_kind", "sale_at", "scope", "reason", "source",
)  # fmt: skip
_CHAIN = ("event_id", "record_id", "schema_version", "text_hash", "prev_hash", "content_hash", "hash")
_ASIDE = frozenset(
    (
        *_CHAIN,
        "event",
        "at",
        "expired_at",
        "purpose",
        "channel",
        "text",
        "personal",
        "evidence",
        "recorded_by",
        "recorded_at",
    )
)
_TIMES = frozenset(("given_at", "confirmed_at", "expires_at", "sale_at"))


def render(found: Mapping[str, Any]) -> str:
    """The page for the answer of `consent.proof`, in the tenant's language."""
    language = "nl" if found["language"] == "nl" else "en"
    texts, explained = _texts(language), rules()
    return _template(language).render(
        found=found,
        language=language,
        said=lambda key, **slots: texts[key].format(**slots),
        events=[{**event, "facts": _facts(event), "chain": _chain(event)} for event in found["events"]],
        title_of={rule: explained[rule].words(language).title for rule in explained},
        version=__version__,
    )


@cache
def _texts(language: str) -> dict[str, str]:
    texts: dict[str, dict[str, str]] = tomllib.loads((HERE / "proof.toml").read_text("utf-8"))
    return texts[language]


@cache
def _template(language: str) -> Template:
    texts = _texts(language)

    def name(field: str) -> str:
        return texts.get(f"field_{field}", field)

    def word(value: object) -> str:
        if isinstance(value, bool):
            return texts["yes"] if value else texts["no"]
        return texts.get(f"word_{value}", str(value))

    made = environment()
    made.filters |= {"when": _when, "name": name, "word": word}
    return made.get_template(PROOF)


def _facts(event: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = [*_SHOWN, *(name for name in event if name not in _SHOWN and name not in _ASIDE)]
    values = ((name, event.get(name)) for name in names)
    return [
        (name, _when(format_time(value)) if name in _TIMES else value)
        for name, value in values
        if value is not None and value != ""
    ]


def _chain(event: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, event[name]) for name in _CHAIN if event.get(name) not in (None, "")]


def _when(text: str | None) -> str:
    return (text or "").replace("T", " ").replace("Z", " UTC")
