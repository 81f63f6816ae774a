"""Names say what a thing is: no drawers for odds and ends, no classes that manage, help, handle or process."""

from __future__ import annotations

import ast
import re

from tests.house.tree import PACKAGES, name, nodes, parsed, sources

DRAWERS = frozenset(
    ("util", "utils", "helper", "helpers", "common", "misc", "shared", "stuff", "base", "core", "tools")
)
EMPTY_SUFFIX = re.compile(r"(Manager|Helper|Handler|Processor|Util|Utils|Info|Data)$")
# "path class": why it may be called so.
EXCEPTIONS = {
    "relay/mail/envelope.py SessionInfo": "fixed in the vocabulary before this rule; aiosmtpd has a Session of its own",
    "relay/observe/log.py LibraryLog": "a logging.Handler, named after what it does",
}


def test_no_file_is_a_drawer() -> None:
    parts = {part for path in sources(*PACKAGES, "tests", "bench") for part in (*path.parent.parts, path.stem)}
    assert parts & DRAWERS == set()


def test_no_class_is_named_after_nothing() -> None:
    found = {
        f"{name(path)} {node.name}"
        for path in sources(*PACKAGES)
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and EMPTY_SUFFIX.search(node.name)
    }
    assert {place for place in found if place not in EXCEPTIONS and not place.startswith("relay/smtp/")} == set()


def test_aiosmtpd_has_the_one_handler() -> None:
    found = {
        node.name
        for path in sources("relay/smtp")
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and EMPTY_SUFFIX.search(node.name)
    }
    assert len(found) <= 1, found


def test_every_module_says_what_it_is_for() -> None:
    silent = {name(path) for path in sources(*PACKAGES) if path.stat().st_size and not ast.get_docstring(parsed(path))}
    assert silent == set()


def test_work_left_over_has_an_owner() -> None:
    """`TODO` alone is a wish; with an issue it is a plan."""
    left = {
        f"{name(path)}:{number}"
        for path in sources(*PACKAGES)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"#.*\b(TODO|FIXME|XXX|HACK)\b(?!.*#\d+)", line)
    }
    assert left == set()
