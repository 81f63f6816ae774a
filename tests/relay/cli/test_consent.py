"""Consents and suppressions from the command line: counts, lines, codes (contract, `consent import`)."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from relay.cli.client import Link
from relay.cli.consent_import import Refused
from relay.cli.trouble import DOWN, Trouble
from tests.relay.cli.conftest import COLUMNS, Zegel, consents


def test_an_import_says_what_it_took_and_which_lines_it_refused(shop: Zegel, tmp_path: Path) -> None:
    file = consents(tmp_path / "in.csv", ["ann@example.net", "nonsense", "bob@example.net"])
    answer = shop("consent", "import", "shop", file, "--json")
    assert answer.code == 1 and answer.err == ""
    told = answer.json
    assert (told["imported"], told["refused"]) == (2, 1)
    assert [(error["line"], error["field"]) for error in told["errors"]] == [(3, "email")]
    again = shop("consent", "import", "shop", consents(tmp_path / "good.csv", ["ann@example.net"]), "--json")
    assert again.code == 0 and again.json["refused"] == 0


def test_a_file_over_several_chunks_keeps_its_line_numbers(shop: Zegel, tmp_path: Path) -> None:
    addresses = [f"person{number}@example.net" for number in range(1_100)]
    addresses[777] = "broken"
    answer = shop("consent", "import", "shop", consents(tmp_path / "in.csv", addresses), "--json")
    assert (answer.json["imported"], answer.json["refused"]) == (1_099, 1)
    assert answer.json["errors"][0]["line"] == 779
    told = shop("consent", "import", "shop", tmp_path / "in.csv")
    assert told.code == 1 and "779" in told.out and "1 refused" in told.out


def test_lines_that_an_open_quote_swallows_are_counted(shop: Zegel, tmp_path: Path) -> None:
    file = consents(tmp_path / "in.csv", [f"person{number}@example.net" for number in range(301)])
    lines = file.read_text().splitlines()
    lines[1:] = [line.replace('"Ja, graag"', "Ja") for line in lines[1:]]
    lines[1] = lines[1].replace(",Ja,", ',"Ja,')
    file.write_text("\n".join(lines) + "\n")
    answer = shop("consent", "import", "shop", file, "--json")
    assert answer.code == 1 and (answer.json["imported"], answer.json["refused"]) == (0, 301)
    (error,) = answer.json["errors"]
    assert (error["line"], error["last_line"]) == (2, 302)


def test_rows_that_are_known_are_told_as_part_of_the_imported_ones(shop: Zegel, tmp_path: Path) -> None:
    file = consents(tmp_path / "in.csv", ["ann@example.net", "bob@example.net"])
    assert "2 imported, 0 refused." in shop("consent", "import", "shop", file).out
    assert "2 imported (2 of them had been imported before), 0 refused." in shop("consent", "import", "shop", file).out


def test_json_lines_are_read_too(shop: Zegel, tmp_path: Path) -> None:
    consents(tmp_path / "in.csv", ["ann@example.net"])
    header, row = COLUMNS.split(","), (tmp_path / "in.csv").read_text().splitlines()[1].replace('"Ja, graag"', "Ja")
    (tmp_path / "in.jsonl").write_text(json.dumps(dict(zip(header, row.split(","), strict=True))) + "\n{broken\n")
    answer = shop("consent", "import", "shop", tmp_path / "in.jsonl", "--json")
    assert answer.code == 1 and (answer.json["imported"], answer.json["errors"][0]["line"]) == (1, 2)


def test_a_file_that_is_not_there_is_wrong_use(shop: Zegel, tmp_path: Path) -> None:
    answer = shop("consent", "import", "shop", tmp_path / "nowhere.csv")
    assert answer.code == 2 and "cannot be read" in answer.err


def test_an_unknown_tenant_is_told_before_the_file_is_read(shop: Zegel, tmp_path: Path) -> None:
    answer = shop("consent", "import", "nobody", consents(tmp_path / "in.csv", ["ann@example.net"]))
    assert answer.code == 1 and "zegel tenant list" in answer.err


def test_who_left_stays_away_whatever_is_imported_later(shop: Zegel, tmp_path: Path) -> None:
    file = consents(tmp_path / "in.csv", ["ann@example.net"])
    shop.ask("consent", "import", "shop", file)
    assert shop.ask("consent", "show", "shop", "ann@example.net")["consents"][0]["status"] == "given"
    assert shop.ask("consent", "withdraw", "shop", "ann@example.net")["scope"] == "all"
    assert shop("consent", "import", "shop", file, "--json").code == 1
    shown = shop.ask("consent", "show", "shop", "ann@example.net")
    assert shown["consents"][0]["status"] == "withdrawn" and shown["suppressions"][0]["reason"] == "objection"
    (row,) = shop.ask("suppression", "list", "shop")
    assert (row["address"], row["scope"], row["reason"]) == ("ann@example.net", "all", "objection")


def test_a_suppression_is_of_everything_and_an_objection_unless_said(shop: Zegel) -> None:
    made = shop.ask("suppression", "add", "shop", "bob@example.net")
    assert (made["scope"], made["reason"]) == ("all", "objection")
    shop.ask("suppression", "add", "shop", "eve@example.net", "--scope", "newsletter", "--reason", "bounce")
    assert len(shop.ask("suppression", "list", "shop")) == 2
    assert [row["reason"] for row in shop.ask("suppression", "list", "shop", "eve@example.net")] == ["bounce"]
    shop.ask("suppression", "remove", "shop", "eve@example.net", "--scope", "newsletter", "--reason", "bounce")
    assert shop.ask("suppression", "list", "shop", "eve@example.net") == []


def test_a_request_is_recorded_and_keeps_its_token(shop: Zegel) -> None:
    """The token is the person's yes; who runs the command must not be able to say it for him."""
    made = shop.ask("consent", "request", "shop", "ann@example.net", "--purpose", "newsletter")
    assert made["mails_sent"] == 0 and "token" not in made
    assert shop.ask("consent", "show", "shop", "ann@example.net")["consents"][0]["status"] == "requested"
    asked = shop("consent", "request", "shop", "ann@example.net", "--purpose", "newsletter", "--send")
    assert asked.code == 3 and "zegel serve" in asked.err


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_proof_chain_and_export(shop: Zegel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("relay.owner.consents.EXPORT_ROWS", rows)  # of a page
    shop.ask("consent", "import", "shop", consents(tmp_path / "in.csv", ["ann@example.net", "bob@example.net"]))
    proof = shop.ask("consent", "proof", "shop", "ann@example.net")
    assert proof["events"][0]["text"] == "Ja, graag"
    assert "Ja, graag" in shop("consent", "proof", "shop", "ann@example.net").out
    assert shop.ask("consent", "verify", "shop")["ok"] is True
    lines = [json.loads(line) for line in shop("consent", "export", "shop").out.splitlines()]
    assert len(lines) == 3 and lines[-1]["head"]["seq"] == lines[-2]["event_id"]
    whole = shop.ask("consent", "export", "shop")
    assert set(lines[-1]) == {"head", "statement", "key", "signature"}
    assert whole == {"tenant": "shop", "events": lines[:-1], "head": lines[-1]["head"]}, "one JSON value for a program"
    shop.ask("tenant", "add", "empty", "--language", "en")
    assert shop.ask("consent", "export", "empty") == {"tenant": "empty", "events": [], "head": None}
    assert shop("consent", "export", "nobody", "--json").out == ""
    target = tmp_path / "out.jsonl"
    assert shop.ask("consent", "export", "shop", target)["events"] == 2
    assert target.stat().st_mode & 0o077 == 0, "personal data"
    assert [json.loads(line) for line in target.read_text().splitlines()][:-1] == lines[:-1]
    assert shop("consent", "export", "shop", target).code == 3, "nothing is overwritten"


def test_a_person_is_erased_after_a_question(shop: Zegel, tmp_path: Path) -> None:
    """GDPR-8: also by an answer on paper or by telephone."""
    shop("consent", "import", "shop", consents(tmp_path / "in.csv", ["ann@example.net"]), "--json")
    asked = shop("privacy", "erase", "shop", "ann@example.net")
    assert asked.code == 2 and "--yes" in asked.err
    assert shop.ask("consent", "show", "shop", "ann@example.net")["consents"][0]["status"] == "given"
    assert shop.ask("privacy", "erase", "shop", "ann@example.net", "--yes")["erased"] is True
    shown = shop.ask("consent", "show", "shop", "ann@example.net")
    assert shown["consents"][0]["status"] == "erased"
    assert [(one["scope"], one["reason"]) for one in shown["suppressions"]] == [("all", "objection")]
    again = shop("consent", "import", "shop", tmp_path / "in.csv", "--json")
    assert again.code == 1 and again.json["errors"][0]["reason"] == "objected"
    assert shop("privacy", "erase", "nobody", "ann@example.net", "--yes").code == 1


def test_a_proof_as_a_page(shop: Zegel, tmp_path: Path) -> None:
    shop.ask("consent", "import", "shop", consents(tmp_path / "in.csv", ["ann@example.net"]))
    page = tmp_path / "ann.html"
    told = shop("consent", "proof", "shop", "ann@example.net", "--html", page)
    assert told.code == 0 and str(page) in told.out
    assert page.read_text().startswith("<!doctype html>") and "Ja, graag" in page.read_text()
    assert page.stat().st_mode & 0o077 == 0, "personal data"
    assert shop("consent", "proof", "shop", "ann@example.net", "--html", page).code == 3, "nothing is overwritten"
    told = shop("consent", "proof", "shop", "ann@example.net")
    assert "newsletter: advertising counted [CONSENT-1]" in told.out


def test_an_export_as_csv_is_an_import(shop: Zegel, tmp_path: Path) -> None:
    shop.ask(
        "consent",
        "import",
        "shop",
        consents(tmp_path / "in.csv", ["ann@example.net", "bob@example.net", "eve@example.net"]),
    )
    shop.ask("consent", "withdraw", "shop", "eve@example.net")
    file = tmp_path / "out.csv"
    assert shop.ask("consent", "export", "shop", file) == {
        "tenant": "shop",
        "file": str(file),
        "rows": 2,
        "left_out": [],
    }
    assert file.stat().st_mode & 0o077 == 0, "personal data"
    assert "eve@" not in file.read_text()
    assert shop("consent", "export", "shop", "--format", "csv").out == file.read_text()
    again = shop.ask("consent", "import", "shop", file)
    assert (again["imported"], again["unchanged"], again["refused"]) == (2, 2, 0)
    asked = shop("consent", "export", "shop", "--format", "csv", "--json")
    assert asked.code == 2 and "name a file" in asked.err
    shop.ask("tenant", "set", "shop", "--german-proof")
    part = shop("consent", "export", "shop", tmp_path / "part.csv")
    assert part.code == 1 and "left out: 2, where evidence_ip is needed" in part.err, "the import would refuse them"


def test_an_export_holds_nothing_that_a_spreadsheet_runs(shop: Zegel, tmp_path: Path) -> None:
    """What a browser calls itself, and where somebody came from, strangers write; the officer opens it in a spreadsheet."""
    names = ["ann", "bob", "cas", "dee"]
    values = ['=HYPERLINK("https://evil.example")', "+31 6", "-1+1|cmd", "@SUM(1)"]
    first = consents(tmp_path / "in.csv", [f"{name}@example.net" for name in names])
    with first.open() as file:
        rows = list(csv.DictReader(file))
    given = tmp_path / "in.jsonl"
    lines = [json.dumps(row | {"evidence_user_agent": value}) for row, value in zip(rows, values, strict=True)]
    given.write_text("\n".join(lines))
    assert shop.ask("consent", "import", "shop", given)["imported"] == 4
    shop.ask("consent", "export", "shop", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["evidence_user_agent"] for row in cells] == [f"'{value}" for value in values]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in cells for cell in row.values())
    again = shop.ask("consent", "import", "shop", tmp_path / "out.csv")
    assert (again["imported"], again["unchanged"]) == (4, 4), "it is the same row when it is read again"


def test_every_refused_row_is_in_the_report(shop: Zegel, tmp_path: Path) -> None:
    """One row a reason, in the order of the file, whoever refused it: the reader of the file or the owner."""
    addresses = [f"person{number}@example.net" for number in range(1_100)]
    for number in (3, 600, 1_000):
        addresses[number] = "broken"
    file = consents(tmp_path / "in.csv", addresses)
    lines = file.read_text().splitlines()
    lines[10] += ",one,too,many"
    lines[700] = lines[700].replace("newsletter", "nothing").replace(",NL,", ",Nederland,")
    file.write_text("\n".join(lines) + "\n")
    report = tmp_path / "refused.csv"
    told = shop("consent", "import", "shop", file, "--report", report)
    assert told.code == 1 and "1095 imported, 5 refused." in told.out and str(report) in told.out
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert [(int(row["line"]), row["field"]) for row in rows] == [
        (5, "email"), (11, ""), (602, "email"), (701, "purpose"), (701, "jurisdiction"), (1002, "email"),
    ]  # fmt: skip
    assert all(row["reason"] for row in rows) and "@" not in report.read_text(), "a line number is no address"
    assert report.stat().st_mode & 0o077 == 0
    assert shop("consent", "import", "shop", file, "--report", report).code == 3, "nothing is overwritten"
    answer = shop("consent", "import", "shop", file, "--json").json
    assert [error["line"] for error in answer["errors"]] == [int(row["line"]) for row in rows]


def test_refused_rows_without_number_stay_out_of_the_memory(tmp_path: Path) -> None:
    """Sixty thousand of them: what is held at once is the first fifty."""
    errors = [{"line": number, "field": "email", "reason": "is not an e-mail address: é"} for number in range(500)]
    tracemalloc.start()
    with Refused(tmp_path / "refused.csv", keep=True) as refused:
        for _ in range(120):
            refused.add(errors)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        out = io.StringIO()
        refused.write_json({"imported": 0, "unchanged": 0, "refused": 60_000}, out)
    assert peak < 8 << 20, peak
    told = json.loads(out.getvalue())
    assert (len(told["errors"]), told["refused"], told["errors"][-1]["line"]) == (60_000, 60_000, 499)
    assert len((tmp_path / "refused.csv").read_text().splitlines()) == 60_001


class Breaks:
    """Counts the chunks of imports, and breaks off at one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chunks: list[int] = []
        self.at = 0
        call = Link.call

        def counted(link: Link, op: str, args: Any) -> Any:
            if op == "consent.import_rows":
                if len(self.chunks) + 1 == self.at:
                    raise Trouble(DOWN, "the gateway is away")
                self.chunks.append(args["rows"][0]["line"])
            return call(link, op, args)

        monkeypatch.setattr(Link, "call", counted)

    def first_lines(self) -> list[int]:
        """Of the chunks since the last question."""
        lines, self.chunks, self.at = self.chunks, [], 0
        return lines


def test_an_import_that_broke_off_goes_on(shop: Zegel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [f"person{number}@example.net" for number in range(1_800)]
    addresses[7] = "broken"
    file = consents(tmp_path / "in.csv", addresses)
    breaks = Breaks(monkeypatch)

    def broken_off() -> None:
        breaks.at = 3
        assert shop("consent", "import", "shop", file).code == 3
        assert breaks.first_lines() == [2, 502]

    broken_off()
    told = shop("consent", "import", "shop", file, "--json")
    assert breaks.first_lines() == [1002, 1502]
    assert told.code == 1, "one row was refused, before it broke off"
    assert told.json == {"imported": 1_799, "unchanged": 0, "refused": 1, "resumed_after_line": 1_001, "errors": []}
    again = shop("consent", "import", "shop", file, "--json")
    assert breaks.first_lines() == [2, 502, 1002, 1502], "it had come to its end"
    assert (again.json["unchanged"], [error["line"] for error in again.json["errors"]]) == (1_799, [9])
    broken_off()
    said = shop("consent", "import", "shop", file).out
    assert "Going on after line 1001" in said and "1 rows refused before are told with --restart" in said
    breaks.first_lines()
    broken_off()
    told = shop("consent", "import", "shop", file, "--restart", "--json")
    assert breaks.first_lines()[0] == 2 and [error["line"] for error in told.json["errors"]] == [9]
    broken_off()
    file.write_text(file.read_text().replace("broken", "mended@example.net"))
    told = shop("consent", "import", "shop", file, "--json")
    assert breaks.first_lines()[0] == 2, "another file now"
    assert told.code == 0 and told.json["imported"] == 1_800
