"""`zegel privacy incident`, for people and for programs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.relay.cli.conftest import Zegel

OPEN = ("privacy", "incident", "open", "shop", "--kind", "loss", "--summary", "A list went to the wrong people")


def test_an_incident_from_its_beginning_to_its_end(shop: Zegel, tmp_path: Path) -> None:
    made = shop.ask(*OPEN, "--address", "ann@example.net")
    ref = made["ref"]
    assert made["tenant_due_at"] - made["detected_at"] == 24 * 3600
    assert made["authority_due_at"] - made["detected_at"] == 72 * 3600
    shop.ask("privacy", "incident", "note", ref, "The list had 40 names")
    assert shop("privacy", "incident", "close", ref, "--reason", "over").code == 1
    shop.ask("privacy", "incident", "assess", ref, "--risk", "unlikely", "--why", "colleagues", "--people", "40")
    shop.ask("privacy", "incident", "notify", ref, "--to", "tenant", "--whom", "privacy@shop.example")
    (listed,) = shop.ask("privacy", "incident", "list")
    assert listed["due"] == [] and listed["risk"] == "unlikely"
    file = tmp_path / "incident.json"
    shop.ask("privacy", "incident", "export", ref, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert kept["people"] == ["ann@example.net"]
    assert [step["step"] for step in kept["steps"]] == ["opened", "noted", "assessed", "notified"]
    assert all(step["by"].startswith("operator:") for step in kept["steps"])
    assert shop("privacy", "incident", "export", ref, file).code != 0, "never over another file"
    assert shop.ask("privacy", "incident", "close", ref, "--reason", "all confirmed")["state"] == "closed"
    assert shop.ask("privacy", "incident", "list") == []


def test_people_read_tables_and_sentences(shop: Zegel) -> None:
    assert "No incidents." in shop("privacy", "incident", "list").out
    ref = shop.ask(*OPEN)["ref"]
    assert ref in shop("privacy", "incident", "list").out
    shown = shop("privacy", "incident", "show", ref)
    assert "A list went to the wrong people" in shown.out and "Opened" in shown.out
    wrong = shop("privacy", "incident", "close", ref, "--reason", "over")
    assert "zegel privacy incident notify" in wrong.err and "--without-notice" in wrong.err
    assert "zegel privacy incident list" in shop("privacy", "incident", "show", "20260101-none").err


def test_the_clocks_are_those_of_the_settings(shop: Zegel) -> None:
    with shop.config.open("a") as config:
        config.write("\n[incidents]\ntenant_hours = 12\ntenant_alarm_hours = [2, 8]\nauthority_hours = 96\n")
    made = shop.ask(*OPEN)
    assert made["tenant_due_at"] - made["detected_at"] == 12 * 3600
    assert made["authority_due_at"] - made["detected_at"] == 96 * 3600


def test_drafts_are_filled_from_what_is_known(shop: Zegel) -> None:
    ref = shop.ask(*OPEN, "--address", "ann@example.net")["ref"]
    made = shop.ask("privacy", "incident", "draft", ref, "--to", "authority")
    assert made["language"] == "en" and ref in made["text"] and "A list went to the wrong people" in made["text"]
    assert "fill in: what may come of it" in made["missing"] and "ann@example.net" not in made["text"]
    shop.ask("privacy", "incident", "assess", ref, "--consequences", "unwanted mail")
    again = shop("privacy", "incident", "draft", ref, "--to", "tenant", "--language", "nl")
    assert "unwanted mail" in again.out and "Aan Shop B.V." in again.out and "still missing: vul in:" in again.out


def test_a_wrong_recipient_is_asked_once(shop: Zegel) -> None:
    ref = shop.ask(*OPEN)["ref"]
    words = ("privacy", "incident", "ask", ref, "eve@other.example", "--what", "A list of members")
    (asked,) = shop.ask(*words)["deletion"]
    assert asked["recipient"] == "…@other.example" and asked["confirmed_at"] is None and asked["mails_sent"] == 0
    assert shop(*words).code == 1
