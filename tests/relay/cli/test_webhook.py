"""`zegel webhook`, for people and for programs."""

from __future__ import annotations

import pytest

from tests.relay.cli.conftest import Zegel

URL = "https://crm.example.org/zegel"


def test_a_webhook_from_its_making_to_its_end(shop: Zegel) -> None:
    made = shop.ask("webhook", "add", "shop", "crm", URL, "--event", "erased", "--event", "unsubscribed")
    assert made["secret"].startswith("whsec_") and made["events"] == ["erased", "unsubscribed"]
    shop.ask("webhook", "test", "shop", "crm")
    (shown,) = shop.ask("webhook", "list", "shop")
    assert (shown["waiting"], shown["dead"], shown["with_address"]) == (1, 0, False) and "secret" not in shown
    rotated = shop.ask("webhook", "rotate", "shop", "crm", "--hours", "2")
    assert rotated["secret"] != made["secret"]
    assert shop.ask("webhook", "dead", "shop", "crm") == []
    assert shop.ask("webhook", "retry", "shop", "crm")["again"] == 0
    assert shop.ask("webhook", "remove", "shop", "crm")["events_deleted"] == 1


def test_people_read_tables_and_sentences(shop: Zegel) -> None:
    assert "zegel webhook add" in shop("webhook", "list", "shop").out
    made = shop("webhook", "add", "shop", "crm", URL, "--with-address")
    assert made.code == 0 and "not shown again" in made.out and "whsec_" in made.out
    listed = shop("webhook", "list", "shop").out
    assert URL in listed and "whsec_" not in listed
    assert "No event was given up." in shop("webhook", "dead", "shop").out


def test_what_is_wrong_is_said_with_what_to_do(shop: Zegel) -> None:
    wrong = shop("webhook", "add", "shop", "crm", "http://crm.example.org/")
    assert wrong.code and "https://crm.example.org/zegel" in wrong.err
    unknown = shop("webhook", "retry", "shop", "crm")
    assert unknown.code and "zegel webhook list" in unknown.err
    kind = shop("webhook", "add", "shop", "crm", URL, "--event", "left")
    assert kind.code and "unsubscribed" in kind.err


@pytest.mark.parametrize("url", ["https://127.0.0.1/zegel", "https://localhost:8443/", "https://[::ffff:10.0.0.1]/"])
def test_a_place_where_none_would_go_is_refused_at_once(shop: Zegel, url: str) -> None:
    inside = shop("webhook", "add", "shop", "crm", url)
    assert inside.code == 1 and "webhooks.allowed_networks" in inside.err
    assert shop.ask("webhook", "list", "shop") == []
