"""`zegel privacy mailing`: an invoice date is set, seen, taken away, and bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.relay.cli.conftest import Zegel


def test_an_invoice_date_from_the_command_line(zegel: Zegel) -> None:
    today = datetime.now(UTC).date()
    zegel("tenant", "add", "shop")
    assert "No mailings" in zegel("privacy", "mailing", "list", "shop").out
    set_ = ("privacy", "mailing", "invoice", "shop", "spring sale")
    assert zegel.ask(*set_, today.isoformat())["invoice_date"] == today.isoformat()
    told = zegel(*set_, today.isoformat())
    assert told.code == 0 and "No mail was taken under this name yet" in told.out
    (row,) = zegel.ask("privacy", "mailing", "list", "shop")
    assert (row["mailing"], row["mails"], row["invoice_date"]) == ("spring sale", 0, today.isoformat())
    late = zegel(*set_, (today + timedelta(94)).isoformat())
    assert late.code == 1 and "at the latest" in late.err
    for wrong in ("tomorrow", "2026-02-30"):
        assert zegel(*set_, wrong).code in (1, 2)
    assert zegel.ask(*set_, "none")["mails"] == 0
    assert zegel.ask("privacy", "mailing", "list", "shop") == []
    audited = [row for row in zegel.ask("audit") if row["op"] == "mailing.invoice"]
    assert len(audited) == 3


def test_the_period_is_a_kind_that_tenants_choose(zegel: Zegel) -> None:
    zegel("tenant", "add", "shop")
    assert zegel.ask("privacy", "retention", "set", "shop", "campaign_addresses", "7")["days"] == 7
    rows = {row["kind"]: row for row in zegel.ask("privacy", "retention", "show", "shop")}
    assert (rows["campaign_addresses"]["days"], rows["campaign_addresses"]["operator_days"]) == (7, 28)
    assert rows["mailing"]["operator_days"] == 120 and not rows["mailing"]["may_choose"]
    assert zegel("privacy", "retention", "set", "shop", "campaign_addresses", "3650").code == 1


def test_check_config_has_nothing_to_say_of_the_period(zegel: Zegel) -> None:
    told = zegel("check-config")
    assert "campaign_addresses_days" not in told.out + told.err
