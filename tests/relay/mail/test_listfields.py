"""List-Unsubscribe as written in the wild, and hosts that the internet can or cannot reach (UNSUB-2, -3, -12, -18)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.listfields import host_of, is_public, list_id, read_uris


@pytest.mark.parametrize(
    ("value", "uris"),
    [
        (b"<https://x.example/u>", ["https://x.example/u"]),
        (b"<mailto:a@b>,<https://x.example/u>", ["mailto:a@b", "https://x.example/u"]),
        (b"(comment) <https://x.example/u> text", ["https://x.example/u"]),
        (b"<https://x.example/u\t/v>", ["https://x.example/u/v"]),
        (b"<>, <https://x.example/u>", ["https://x.example/u"]),
        (b"<>", None),
        (b"", None),
        (b"https://x.example/u", None),
        (b"<https://x.example/u", None),
        (b"=?utf-8?q?<https://x>?=", None),
        ("<https://x.example/ü>".encode(), None),
    ],
)
def test_uris_are_read_tolerantly(value: bytes, uris: list[str] | None) -> None:
    assert read_uris(value) == uris


@given(st.binary(max_size=200))
def test_no_value_breaks_the_reader(value: bytes) -> None:
    uris = read_uris(value)
    assert uris is None or all(uri and " " not in uri for uri in uris)


@pytest.mark.parametrize(
    ("uri", "host", "public"),
    [
        ("https://shop.example/u", "shop.example", True),
        ("HTTPS://Shop.Example:8443/u", "shop.example", True),
        ("https://shop.example./u", "shop.example", True),
        ("https://93.184.216.34/u", "93.184.216.34", True),
        ("https://[2606:2800:220:1::1]/u", "2606:2800:220:1::1", True),
        ("https://user:pass@10.1.2.3/u", "10.1.2.3", False),
        ("https://127.0.0.1/u", "127.0.0.1", False),
        ("https://127.1/u", "127.1", False),
        ("https://0x7f.1/u", "0x7f.1", False),
        ("https://2130706433/u", "2130706433", False),
        ("https://169.254.169.254/latest", "169.254.169.254", False),
        ("https://[::1]/u", "::1", False),
        ("https://[fd00::1]/u", "fd00::1", False),
        ("https://[::ffff:10.0.0.1]/u", "::ffff:10.0.0.1", False),
        ("https://localhost/u", "localhost", False),
        ("https://intranet/u", "intranet", False),
        ("https://printer.local/u", "printer.local", False),
        ("https://web.internal/u", "web.internal", False),
        ("https:///u", "", False),
        ("https://?x", "", False),
    ],
)
def test_hosts_are_judged_by_their_form(uri: str, host: str, public: bool) -> None:
    assert host_of(uri) == host
    assert is_public(host) is public


def test_a_list_keeps_its_name() -> None:
    assert list_id("newsletter", "shop.example") == "<newsletter.shop.example>"
    assert list_id("Tuin & Huis!", "shop.example") == "<tuin-huis.shop.example>"
    assert list_id("日本", "shop.example") == "<list.shop.example>"
