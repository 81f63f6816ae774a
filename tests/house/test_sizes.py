"""Caps of size. The one way past a cap is an entry here, with its reason."""

from __future__ import annotations

import ast

from tests.house.tree import functions, name, sources

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
MAX_POLICY_LINES = 120
MAX_ARGUMENTS = 6

# "path" or "path function": why it may be larger.
EXCEPTIONS: dict[str, str] = {
    "relay/store/migrations/versions/0001_the_first_schema.py upgrade": "a migration is a list of tables, never edited again",
}


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def arguments_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments that a caller gives: without self and cls."""
    positional = [*node.args.posonlyargs, *node.args.args]
    own = bool(positional) and positional[0].arg in ("self", "cls")
    return len(positional) + len(node.args.kwonlyargs) - own


def excused(place: str) -> bool:
    path, _, rest = place.partition(":")
    return path in EXCEPTIONS or f"{path} {rest.partition(' ')[2]}" in EXCEPTIONS


def test_no_file_is_too_long() -> None:
    for folder, most in (("relay", MAX_FILE_LINES), ("policies", MAX_POLICY_LINES)):
        sizes = {name(path): len(path.read_text().splitlines()) for path in sources(folder)}
        assert {path: size for path, size in sizes.items() if size > most and path not in EXCEPTIONS} == {}


def test_no_function_is_too_long() -> None:
    sizes = {place: lines_of(node) for path in sources("relay", "policies") for place, node in functions(path)}
    assert {place: size for place, size in sizes.items() if size > MAX_FUNCTION_LINES and not excused(place)} == {}


def test_no_function_takes_too_much() -> None:
    counts = {place: arguments_of(node) for path in sources("relay", "policies") for place, node in functions(path)}
    assert {place: count for place, count in counts.items() if count > MAX_ARGUMENTS and not excused(place)} == {}


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    places = {name(path) for path in sources("relay", "policies")}
    places |= {
        f"{place.partition(':')[0]} {node.name}"
        for path in sources("relay", "policies")
        for place, node in functions(path)
    }
    assert set(EXCEPTIONS) <= places and all(EXCEPTIONS.values())
