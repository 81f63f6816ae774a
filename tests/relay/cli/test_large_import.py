"""Many rows with one bad one: that one is told with its line and its reason, all others are in, and the memory stays flat.

IMPORT_ROWS=2000000 runs it at the size of the promise.
"""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from tests.relay.cli.conftest import COLUMNS, Zegel

ROWS = int(os.environ.get("IMPORT_ROWS", "4000"))
BAD = ROWS * 2 // 3
ROW = "p{0}@example.net,newsletter,consent,{1},https://shop.example/join,2026-01-02T10:00:00Z,Ja,nl,https://shop.example/p,NL,own,no\n"
PEAK_BYTES = 48 << 20


def test_of_many_rows_the_one_bad_is_named_and_all_others_are_in(shop: Zegel, tmp_path: Path) -> None:
    file, report = tmp_path / "in.csv", tmp_path / "refused.csv"
    with file.open("w", encoding="utf-8") as target:
        target.write(COLUMNS + "\n")
        target.writelines(ROW.format(number, "web_form" if number != BAD else "silence") for number in range(ROWS))
    tracemalloc.start()
    answer = shop("consent", "import", "shop", file, "--report", report, "--json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.code == 1
    assert (answer.json["imported"], answer.json["unchanged"], answer.json["refused"]) == (ROWS - 1, 0, 1)
    (error,) = answer.json["errors"]
    assert (error["line"], error["field"]) == (BAD + 2, "method") and "CONSENT-3" in error["reason"]
    assert report.read_text().splitlines()[1].startswith(f"{BAD + 2},,method,")
    assert peak < PEAK_BYTES, "whatever the size of the file"
    states = {
        number: shop.ask("consent", "show", "shop", f"p{number}@example.net")["consents"]
        for number in (0, BAD - 1, BAD, BAD + 1, ROWS - 1)
    }
    assert {number: [state["status"] for state in found] for number, found in states.items()} == {
        0: ["given"], BAD - 1: ["given"], BAD: [], BAD + 1: ["given"], ROWS - 1: ["given"],
    }  # fmt: skip
    assert shop.ask("consent", "verify", "shop")["events"] == ROWS - 1
