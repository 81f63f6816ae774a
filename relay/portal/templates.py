"""How the templates of pages and printed documents are read: escaped, and a name that nobody gave is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PROOF: Final = "proof.html"
REGISTER: Final = "register.html"


def environment() -> Environment:
    """A new one; whoever makes it keeps it, since it keeps what it compiled."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
