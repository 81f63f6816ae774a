"""A list that looks bought waits for the operator: nothing of it counts before, and who leaves stays away (CONSENT-7)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.relay.cli.conftest import COLUMNS, Zegel

COUNT = 1_203  # three chunks
ADDRESSES = [f"koop{number}@example.net" for number in range(COUNT)]


def bought(path: Path, addresses: Sequence[str] = ADDRESSES, *, own: Sequence[str] = ()) -> Path:
    """A list with one time for all, complete in every column; `own` are rows of the tenant's own between them."""
    row = "{},newsletter,consent,web_form,https://list.example,{},Ja,nl,https://list.example/privacy,NL,{}"
    third = "third_party,no,List BV,C-1,yes"
    lines = [f"{COLUMNS},supplier,contract_ref,third_party_named"]
    lines += [row.format(address, "2026-01-02T10:00:00Z", third) for address in addresses]
    lines[2:2] = [row.format(address, "2026-01-02T10:00:00Z", "own,no,,,") for address in own]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def buyer(shop: Zegel) -> Zegel:
    shop.ask("tenant", "set", "shop", "--allow-third-party")
    return shop


def state(zegel: Zegel, address: str) -> str | None:
    found: list[dict[str, Any]] = zegel.ask("consent", "show", "shop", address)["consents"]
    return found[0]["status"] if found else None


def test_a_bought_list_waits_is_let_in_and_counts_then(buyer: Zegel, tmp_path: Path) -> None:
    file = bought(tmp_path / "bought.csv", own=["ann@example.net"])
    answer = buyer("consent", "import", "shop", file, "--json")
    assert answer.code == 1 and answer.err == ""
    told = answer.json
    assert (told["imported"], told["refused"], told["held"]) == (1, 0, COUNT)
    ref = told["held_import"]["import"]
    assert told["held_import"]["state"] == "waiting"
    assert state(buyer, "ann@example.net") == "given", "the tenant's own rows of that file are not held up"
    assert state(buyer, ADDRESSES[0]) is None and buyer.ask("consent", "verify", "shop")["events"] == 1

    (row,) = buyer.ask("consent", "held", "list", "shop")
    assert (row["import"], row["rows"], row["shared"], row["state"]) == (ref, COUNT, COUNT, "waiting")
    assert row["shared_at"] == "2026-01-02T10:00:00Z"

    buyer.ask("suppression", "add", "shop", ADDRESSES[5])  # he leaves while the list waits
    let_in = buyer.ask("consent", "held", "release", "shop", ref, "--reason", "contract C-1 seen")
    assert (let_in["state"], let_in["reason"]) == ("released", "contract C-1 seen")
    assert state(buyer, ADDRESSES[0]) is None, "to let a file in is not to import it"
    again = buyer("consent", "import", "shop", file, "--json")
    assert again.code == 1
    assert (again.json["imported"], again.json["refused"]) == (COUNT, 1)
    assert [(error["line"], error["reason"]) for error in again.json["errors"]] == [(8, "objected")]
    assert state(buyer, ADDRESSES[0]) == state(buyer, ADDRESSES[-1]) == "given" and state(buyer, ADDRESSES[5]) is None
    assert "held" not in again.json


def test_a_refused_list_stays_out_and_another_file_is_another_list(buyer: Zegel, tmp_path: Path) -> None:
    file = bought(tmp_path / "bought.csv")
    said = buyer("consent", "import", "shop", file)
    assert said.code == 1 and f"{COUNT} bought addresses are not in" in said.out
    (row,) = buyer.ask("consent", "held", "list", "shop")
    assert f"zegel consent held release shop {row['import']}" in said.out
    buyer.ask("consent", "held", "refuse", "shop", row["import"], "--reason", "no proof")
    copy = shutil.copy(file, tmp_path / "copy.csv")
    refused = buyer("consent", "import", "shop", Path(copy))
    assert refused.code == 1 and "This file was refused" in refused.out
    assert state(buyer, ADDRESSES[0]) is None
    other = buyer("consent", "import", "shop", bought(tmp_path / "other.csv", ADDRESSES[:30]), "--json")
    assert other.json["held_import"]["state"] == "waiting"
    assert len(buyer.ask("consent", "held", "list", "shop")) == 2


def test_a_file_that_was_let_in_may_not_change(buyer: Zegel, tmp_path: Path) -> None:
    file = bought(tmp_path / "bought.csv")
    ref = buyer("consent", "import", "shop", file, "--json").json["held_import"]["import"]
    buyer.ask("consent", "held", "release", "shop", ref, "--reason", "seen")
    answer = buyer("consent", "import", "shop", bought(file, [*ADDRESSES, "more@example.net"]), "--json")
    assert (answer.json["imported"], answer.json["held"]) == (0, COUNT + 1)


def test_who_may_not_buy_is_told_so_line_by_line(shop: Zegel, tmp_path: Path) -> None:
    answer = shop("consent", "import", "shop", bought(tmp_path / "bought.csv", ADDRESSES[:30]), "--json")
    assert (answer.json["imported"], answer.json["refused"]) == (0, 30) and "held" not in answer.json
    assert {error["field"] for error in answer.json["errors"]} == {"provenance"}
    assert shop.ask("consent", "held", "list", "shop") == []


@pytest.mark.parametrize("word", ["release", "refuse"])
def test_what_is_not_held_cannot_be_decided(buyer: Zegel, tmp_path: Path, word: str) -> None:
    buyer("consent", "import", "shop", bought(tmp_path / "bought.csv", ADDRESSES[:30]))
    (row,) = buyer.ask("consent", "held", "list", "shop")
    buyer.ask("tenant", "add", "other")
    for tenant, ref in (("other", row["import"]), ("shop", "0" * 12), ("shop", row["import"][:11]), ("shop", "%" * 12)):
        answer = buyer("consent", "held", word, tenant, ref, "--reason", "x")
        assert answer.code == 1 and "no such import is held" in answer.err, (tenant, ref)
    assert buyer.ask("consent", "held", "list", "shop")[0]["state"] == "waiting"
