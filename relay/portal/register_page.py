"""The register of processing as a page that prints well: one file, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from relay import __version__
from relay.portal.register import words_of

HERE = Path(__file__).parent


def render(document: Mapping[str, Any]) -> str:
    """The page for what `relay.portal.register.register` made, in its language."""
    language = document["language"]
    words = words_of(language)
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = lambda text: text.replace("T", " ").replace("Z", " UTC")
    return environment.get_template("register.html").render(
        found=document,
        language=language,
        said=lambda key, **slots: words[key].format(**slots),
        title_of=lambda purpose: purpose[f"title_{language}"] or purpose["name"],
        version=__version__,
    )
