"""Regular expressions mean the same on every Python that we support."""

from __future__ import annotations

import re

from tests.house.tree import PACKAGES, name, sources

POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+")


def test_no_group_is_possessive() -> None:
    """Python before 3.11.5, which Debian 12 has, loses its place where such a group fails half-way. `(?>(?:...)*)` is right."""
    found = [
        f"{name(path)}:{number}"
        for path in sources(*PACKAGES)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if POSSESSIVE_GROUP.search(line)
    ]
    assert found == []
