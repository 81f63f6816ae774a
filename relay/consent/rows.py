"""A record of the ledger as the row of an import that would make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from relay.consent.ledger import Past
from relay.consent.record import OPTIONAL, REQUIRED
from relay.consent.state import STANDING, Present

COLUMNS = (*REQUIRED, *OPTIONAL)
"""The columns of an export, in its order."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
RECORDS = ("given", "imported", "changed", "confirmed")
_TIMES = ("given_at", "confirmed_at", "expires_at", "sale_at")


def holds(present: Present | None, past: Past) -> bool:
    """Whether the present state rests on this record, or on one that replaced it without an end between them."""
    if past.event not in RECORDS or present is None or present.state.status not in STANDING:
        return False
    clear: Mapping[str, Any] = past.clear
    return bool(max(clear.get("given_at", 0.0), clear.get("confirmed_at", 0.0)) > present.ended_at)


def row_of(past: Past, text: str) -> dict[str, str]:
    """The row of a record; `text` is what was shown. What retention took is not in it."""
    clear: Mapping[str, Any] = past.clear
    values = {name: str(value) for name, value in clear.items() if name in COLUMNS and name not in _TIMES}
    values |= {name: _exact(clear[name]) for name in _TIMES if clear.get(name)}
    values |= {**(past.personal or {}), **(past.evidence or {})}
    values["purpose"] = past.purpose
    values["text"] = text
    if "sensitive" in clear:
        values["sensitive_audience"] = "yes" if clear["sensitive"] else "no"
    if clear.get("category"):
        values["product_category"] = str(clear["category"])
    return {name: value for name in COLUMNS if (value := values.get(name, ""))}


def harmless(text: str) -> str:
    """A value as a cell that no spreadsheet runs; `written` takes it back. What a browser calls itself, a stranger chooses."""
    return f"'{text}" if _FORMULA.match(text) else text


def written(cell: str) -> str:
    """The value of a cell: without the mark by which a spreadsheet knows that it is text."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def _exact(at: float) -> str:
    """RFC 3339 in UTC with all of its digits, so that it is the same moment when it is read again."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
