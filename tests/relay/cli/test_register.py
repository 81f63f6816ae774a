"""`zegel privacy register`, `instructions` and `processor`, for people and for programs."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.relay.cli.conftest import Zegel

HELP = ("privacy", "processor", "add", "Backup BV", "--service", "stores backups", "--country", "DE")


def test_the_register_as_json_table_and_page(shop: Zegel, tmp_path: Path) -> None:
    shop.ask(*HELP)
    made = shop.ask("privacy", "register", "--language", "nl")
    assert made["language"] == "nl" and [one["name"] for one in made["controllers"]] == ["shop"]
    assert made["sub_processors"][0]["name"] == "Backup BV" and made["transfers"] == []
    assert made["controllers"][0]["instruction"]["version"] >= 1 and len(made["missing"]) >= 2
    table = shop("privacy", "register", "--language", "en")
    assert table.code == 0 and "Register of processing" in table.out and "What is still missing" in table.out
    file = tmp_path / "register.html"
    said = shop("privacy", "register", "--html", file)
    assert said.code == 0 and str(file) in said.out and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Backup BV" in file.read_text()
    assert shop("privacy", "register", "--html", file).code != 0, "never over another file"
    assert shop("privacy", "register", "--tenant", "nobody").code == 1


def test_sub_processors_come_with_notice_and_go(shop: Zegel) -> None:
    assert "No sub-processors." in shop("privacy", "processor", "list").out
    early = shop(*HELP, "--from", "2026-01-01T00:00:00Z")
    assert early.code == 1 and "--without-notice" in early.err
    made = shop.ask(*HELP)
    assert made["state"] == "announced" and made["from_at"] - made["announced_at"] == 30 * 86_400
    with shop.config.open("a") as config:
        config.write("\n[processing]\nsub_processor_notice_days = 0\n")
    abroad = (*HELP[:3], "Stamp Inc", "--service", "time stamps", "--country", "US")
    assert "adequacy" in shop(*abroad).err
    assert shop.ask(*abroad, "--ground", "adequacy: Decision (EU) 2023/1795")["state"] == "at work"
    assert "Backup BV" in shop("privacy", "processor", "list").out
    shop.ask("privacy", "processor", "end", "Backup BV")
    assert [row["name"] for row in shop.ask("privacy", "processor", "list")] == ["Stamp Inc"]


def test_instructions_have_versions(shop: Zegel) -> None:
    count = len(shop.ask("privacy", "instructions", "shop"))
    shop.ask("policy", "mode", "shop", "recipients", "observe")
    last, *before = shop.ask("privacy", "instructions", "shop")
    assert (last["version"], last["op"], len(before)) == (count + 1, "policy.mode", count)
    said = shop.ask("privacy", "instructions", "shop", "--version", last["version"])
    assert said["document"]["policies"][0]["mode"] == "observe" and said["sha256"] == last["sha256"]
    assert "policy.mode" in shop("privacy", "instructions", "shop").out
    assert "recipients" in shop("privacy", "instructions", "shop", "--version", last["version"]).out
    assert shop("privacy", "instructions", "shop", "--version", 999).code == 1


def test_the_doctor_tells_where_each_host_is(shop: Zegel) -> None:
    with shop.config.open("a") as config:
        config.write(
            '\n[processing]\nendpoints = ["a.example.org DE", "b.example.com US adequacy: Decision (EU) 2023/1795"]\n'
        )
    found = shop("doctor", "--offline", "--json")
    assert "a.example.org is in DE, in the EEA" in found.out
    assert "b.example.com is in US, outside of the EEA, adequacy: Decision (EU) 2023/1795" in found.out


def test_a_smarthost_that_nobody_declared_is_a_warning_with_the_line_to_add(shop: Zegel) -> None:
    """GDPR-15: a gateway that ran before its hosts were asked for starts, and says what to write."""
    with shop.config.open("a") as config:
        config.write('\n[delivery]\nmode = "smarthost"\nsmarthosts = ["smtps://mail.example.org"]\n')
    line, key = '"mail.example.org NL"', "delivery.smarthosts.0"
    checked = shop.ask("check-config")
    (warning,) = [each for each in checked["warnings"] if each["key"] == key]
    assert checked["ok"] is True and line in warning["remedy"] and "mail.example.org" in warning["wrong"]
    (found,) = [each for each in shop("doctor", "--offline", "--json").json if key in each["text"]]
    assert (found["check"], found["state"]) == ("region", "warn") and line in found["remedy"]
    made = shop.ask("privacy", "register", "--language", "en")
    (row,) = [each for each in made["recipients"] if each["who"] == "mail.example.org"]
    assert row["country"] == "not declared"
    with shop.config.open("a") as config:
        config.write("\n[processing]\nendpoints = [" + line + "]\n")
    assert key not in [each["key"] for each in shop.ask("check-config")["warnings"]]
