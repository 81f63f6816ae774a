"""`zegel privacy retention`."""

from __future__ import annotations

from tests.relay.cli.conftest import Zegel


def test_a_tenant_keeps_less_and_not_more(zegel: Zegel) -> None:
    zegel("tenant", "add", "shop")
    rows = {row["kind"]: row for row in zegel.ask("privacy", "retention", "show", "shop")}
    assert (rows["delivery_log"]["days"], rows["evidence"]["operator_days"], rows["audit"]["may_choose"]) == (
        28,
        720,
        False,
    )
    assert zegel.ask("privacy", "retention", "set", "shop", "delivery_log", "7")["days"] == 7
    rows = {row["kind"]: row for row in zegel.ask("privacy", "retention", "show", "shop")}
    assert (rows["delivery_log"]["days"], rows["delivery_log"]["operator_days"]) == (7, 28)
    for days in ("3650", "0", "ten"):
        told = zegel("privacy", "retention", "set", "shop", "delivery_log", days)
        assert told.code in (1, 2) and "days" in told.err, told
    assert (rows["captured"]["days"], rows["outcome"]["days"], rows["captured"]["operator_days"]) == (7, 7, 28)
    assert zegel.ask("privacy", "retention", "set", "shop", "delivery_log", "default")["days"] == 28
