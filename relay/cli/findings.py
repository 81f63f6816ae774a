"""One line of `zegel doctor`."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """`state` is ok, warn or wrong; `remedy` says what to do, "" for ok."""

    check: str
    state: str
    text: str
    remedy: str


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text, "")


def warn(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, "warn", text, remedy)


def wrong(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, "wrong", text, remedy)
