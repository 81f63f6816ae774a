"""Mail files of the world for tests: the folder named by ZEGEL_TEST_CORPUS and those in CPython's own test suite."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

_LINE_END = re.compile(rb"\r\n|\r|\n")


def crlf(raw: bytes) -> bytes:
    """`raw` with every line end as CRLF, as a mail program would send it."""
    return _LINE_END.sub(b"\r\n", raw)


def corpus() -> list[Path]:
    """Files of the shared corpus; [] where ZEGEL_TEST_CORPUS is not set."""
    folder = os.environ.get("ZEGEL_TEST_CORPUS", "")
    return sorted(path for path in Path(folder).rglob("*") if path.suffix in (".eml", ".msg")) if folder else []


def cpython() -> list[Path]:
    """Messages in CPython's test suite; [] where the interpreter came without it."""
    found = importlib.util.find_spec("test.test_email")
    if found is None or found.origin is None:
        return []
    return sorted((Path(found.origin).parent / "data").glob("msg_*.txt"))


def parameters() -> list[object]:
    """Every file as a pytest parameter; a missing collection is a skip with its name, so that it shows."""
    result: list[object] = []
    for name, files in (("ZEGEL_TEST_CORPUS", corpus()), ("test.test_email", cpython())):
        result += [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in files]
        if not files:
            skipped = pytest.mark.skip(reason=f"{name} is not there")
            result.append(pytest.param(None, id=name, marks=skipped))
    return result
