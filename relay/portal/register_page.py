"""The register of processing as a page that prints well: one file, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Template

from relay import __version__
from relay.portal.register import words_of
from relay.portal.templates import REGISTER, environment


def render(document: Mapping[str, Any]) -> str:
    """The page for what `relay.portal.register.register` made, in its language."""
    language = document["language"]
    words = words_of(language)
    return _template().render(
        found=document,
        language=language,
        said=lambda key, **slots: words[key].format(**slots),
        title_of=lambda purpose: purpose[f"title_{language}"] or purpose["name"],
        version=__version__,
    )


@cache
def _template() -> Template:
    made = environment()
    made.filters["when"] = lambda text: text.replace("T", " ").replace("Z", " UTC")
    return made.get_template(REGISTER)
