"""`zegel privacy request`, for people and for programs."""

from __future__ import annotations

from tests.relay.cli.conftest import Zegel

OPEN = ("privacy", "request", "open", "shop", "ann@example.net", "--kind", "access")


def test_a_request_from_its_entry_to_its_answer(shop: Zegel) -> None:
    made = shop.ask(*OPEN, "--asked-at", "2026-01-31T10:00:00Z", "--text", "all about me")
    assert made["due_at"] - made["asked_at"] == 28 * 86_400, "February has no 31st"
    (listed,) = shop.ask("privacy", "request", "list", "--state", "overdue")
    assert listed["ref"] == made["ref"] and listed["late"] is True and "address" not in listed
    late = shop("privacy", "request", "extend", made["ref"], "--reason", "no time")
    assert late.code == 1 and "answer it now" in late.err
    done = shop.ask("privacy", "request", "answer", made["ref"], "--text", "sent", "--at", "2026-02-20T10:00:00Z")
    assert (done["state"], done["late"]) == ("answered", False), "it went out in time"
    assert all(step["by"].startswith("operator:") for step in done["steps"])
    assert shop.ask("privacy", "request", "list") == []


def test_people_read_tables_and_sentences(shop: Zegel) -> None:
    assert "No requests." in shop("privacy", "request", "list").out
    ref = shop.ask(*OPEN)["ref"]
    listed = shop("privacy", "request", "list").out
    assert ref in listed and "ann@example.net" not in listed
    assert "ann@example.net" in shop("privacy", "request", "show", ref).out
    refused = shop("privacy", "request", "refuse", ref, "--reason", "not identified")
    assert "Refused" in refused.out and "not identified" in refused.out
    again = shop("privacy", "request", "answer", ref)
    assert again.code == 1 and "open another" in again.err
    assert "zegel privacy request list" in shop("privacy", "request", "show", "20260101-none").err
    assert shop("privacy", "request", "show", ref, "--tenant", "kerk").code == 1
