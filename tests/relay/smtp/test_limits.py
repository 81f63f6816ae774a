"""What a session may use: time, memory, connections, tries (SMTP-8, SMTP-11, THROTTLE-10, PIPE-6). Limits are made small."""

from __future__ import annotations

import select
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from policies.throttle import Settings
from relay.limits import charges, client_key
from relay.mail.envelope import SessionInfo
from tests.harness.client import Client, Closed
from tests.harness.gateway import MESSAGE, SENDER, Gateway
from tests.policies.casebook import submission

LARGE = MESSAGE.replace(b"way.\r\n", b"way.\r\n" + (b"x" * 70 + b"\r\n") * 2800)  # 200 KB


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("tight"),
        workers=1,
        limits={
            "max_message_bytes": 300_000,
            "max_in_flight_bytes": 300_000,
            "command_timeout_seconds": 0.8,
            "data_timeout_seconds": 3.0,
            "failed_logins_per_10_minutes": 3,
            "reply_timeout_seconds": 2.0,
        },
    )
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def test_who_says_nothing_is_sent_away(tight: Gateway) -> None:
    with tight.connect() as client:
        assert client.reply().startswith("220")
        assert client.reply().startswith("421 4.4.2")
        assert client.is_closed()


def test_who_stops_within_an_auth_response_is_sent_away(tight: Gateway) -> None:
    with tight.connect() as client:
        client.reply()
        client.ask("EHLO client.test")
        assert client.ask("AUTH LOGIN").startswith("334")
        assert client.reply().startswith("421 4.4.2")
        assert client.is_closed()


def test_who_sends_a_message_too_slowly_is_sent_away(tight: Gateway) -> None:
    with tight.connect() as client:
        client.login(*tight.logins["personal"])
        client.envelope(SENDER, "ann@dest.example")
        client.send(MESSAGE)
        assert client.reply().startswith("421 4.4.2")
        assert client.is_closed()
    assert tight.queued() == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_who_sends_for_ever_is_sent_away(tight: Gateway, chunked: bool) -> None:
    with tight.connect() as client:
        client.login(*tight.logins["personal"])
        if chunked:
            client.ask(f"MAIL FROM:<{SENDER}>")
            client.ask("RCPT TO:<ann@dest.example>")
            client.send(b"BDAT 300000 LAST\r\n")
        else:
            client.envelope(SENDER, "ann@dest.example")
        client.send(MESSAGE)
        for _ in range(100):
            if select.select([client.sock], [], [], 0.05)[0]:
                break
            client.send(b"x" * 998 + b"\r\n")
        assert client.reply().startswith("421 4.4.2")
    assert tight.queued() == 0


def test_octets_in_flight_have_a_cap(tight: Gateway) -> None:
    """SMTP-8: over the cap 452, the session goes on, and room comes back."""
    tight.sink.clear()
    with tight.connect() as first, tight.connect() as second:
        first.login(*tight.logins["personal"])
        second.login(*tight.logins["personal"])
        first.envelope(SENDER, "ann@dest.example")
        first.send(LARGE)

        def is_full() -> bool:
            """The first message is in the gateway, so a second one finds no room; before that it does."""
            first.send(b"x" * 998 + b"\r\n")
            second.envelope(SENDER, "bob@dest.example")
            second.send(LARGE + b".\r\n")
            reply = second.reply()
            assert reply.startswith(("250 2.0.0", "452 4.3.1")), reply
            return reply.startswith("452")

        tight.until(is_full, 5.0, "there is room without end")
        first.send(b".\r\n")
        assert first.reply().startswith("250 2.0.0")
        second.envelope(SENDER, "bob@dest.example")
        second.send(LARGE + b".\r\n")
        assert second.reply().startswith("250 2.0.0")
    tight.settle()


def test_room_comes_back_from_sessions_that_break_off(tight: Gateway) -> None:
    with tight.connect() as client:
        client.login(*tight.logins["personal"])
        client.envelope(SENDER, "ann@dest.example")
        client.send(LARGE)
    with tight.connect() as client:
        client.login(*tight.logins["personal"])
        client.ask(f"MAIL FROM:<{SENDER}>")
        client.ask("RCPT TO:<ann@dest.example>")
        client.send(b"BDAT 200000\r\n" + b"x" * 100)
    tight.until(lambda: tight.metric("zegel_in_flight_bytes") == 0.0, 5.0, "octets stay counted")
    tight.until(lambda: _takes(tight), 5.0, "no room for a large message")
    tight.settle()


def _takes(gateway: Gateway) -> bool:
    with gateway.connect() as client:
        client.login(*gateway.logins["personal"])
        client.envelope(SENDER, "ann@dest.example")
        client.send(LARGE + b".\r\n")
        return client.reply().startswith("250")


def test_failed_logins_block_the_address_and_no_other(tight: Gateway) -> None:
    """THROTTLE-10: the right password from the attacker's address is refused too, from elsewhere it is taken."""
    attacker, other = "192.0.2.66", "192.0.2.67"
    for _ in range(3):
        with tight.connect("proxy", address=attacker) as client:
            assert client.login("personal", "nonsense").startswith("535 5.7.8")
    with tight.connect("proxy", address=attacker) as client:
        assert client.login(*tight.logins["personal"]).startswith("454 4.7.0 [THROTTLE-10]")
        assert client.login_again(*tight.logins["marketing"]).startswith("454 4.7.0")
    with tight.connect("proxy", address=other) as client:
        assert client.login(*tight.logins["personal"]).startswith("235")


def test_failed_logins_of_one_ipv6_network_count_together(tight: Gateway) -> None:
    """THROTTLE-10: whoever has one address of a /64 has all of them."""
    for number in range(3):
        with tight.connect("proxy", address=f"2001:db8:1:2::{number + 1:x}") as client:
            assert client.login("personal", "nonsense").startswith("535 5.7.8")
    with tight.connect("proxy", address="2001:db8:1:2:ffff::9") as client:
        assert client.login(*tight.logins["personal"]).startswith("454 4.7.0 [THROTTLE-10]")
    with tight.connect("proxy", address="2001:db8:1:3::1") as client:
        assert client.login(*tight.logins["personal"]).startswith("235")


def test_guesses_at_one_login_from_everywhere_ring_and_lock_nobody_out(tight: Gateway) -> None:
    """THROTTLE-10: account-wide only an alarm."""
    for number in range(9):
        with tight.connect("proxy", address=f"198.51.100.{number + 20}") as client:
            assert client.login("mailserver", "nonsense").startswith("535 5.7.8")
    tight.until(lambda: tight.metric("zegel_login_attacks_total") == 1.0, 5.0, "nobody is told")
    assert '"credential":"mailserver"' in (tight.folder / "gateway.log").read_text()
    with tight.connect("proxy", address="198.51.100.99") as client:
        assert client.login(*tight.logins["mailserver"]).startswith("235")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_a_client_is_counted_by(address: str, key: str) -> None:
    assert client_key(address) == key


def test_the_pace_of_a_client_holds_for_its_network() -> None:
    """THROTTLE-2."""
    mail = submission({"why": "a letter", "stream": "personal"})
    keys = []
    for address in ("2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1"):
        session = SessionInfo(address)
        found = charges(replace(mail, session=session), Settings())
        keys.append([limit.key for limit, _ in found if limit.scope == "client"])
    assert keys[0] == keys[1] and not set(keys[0]) & set(keys[2])


def test_a_login_that_waits_holds_up_nobody(tight: Gateway) -> None:
    """The delay after a wrong password is that client's alone: the other is let in first, if the machine is fast enough once."""

    def is_first(address: str) -> bool:
        with tight.connect("proxy", address=address) as guesser, tight.connect() as client:
            guesser.reply()
            guesser.ask("EHLO guesser.test")
            for _ in range(2):
                guesser.ask("AUTH PLAIN AHBlcnNvbmFsAHdyb25n")
            guesser.send(b"AUTH PLAIN AHBlcnNvbmFsAHdyb25n\r\n")  # 0.4 s
            assert client.login(*tight.logins["personal"]).startswith("235")
            is_first = not select.select([guesser.sock], [], [], 0)[0]
            assert guesser.reply().startswith("535")
            return is_first

    assert any(is_first(f"203.0.113.{number}") for number in range(101, 109)), "the guesser was answered first"


def test_the_reply_comes_in_time_and_the_message_is_taken_back(tight: Gateway) -> None:
    """PIPE-6: the disk hangs; 451 at the deadline, and what is written later is not sent."""
    tight.sink.clear()
    with tight.connect() as client:
        client.login(*tight.logins["personal"])
        client.envelope(SENDER, "ann@dest.example")
        locked = [sqlite3.connect(path) for path in tight.settings.server.data_dir.glob("queue/*.queue")]
        assert locked, "no queue file found"
        for db in locked:
            db.execute("BEGIN IMMEDIATE")
        client.send(MESSAGE + b".\r\n")
        reply = client.reply()
        for db in locked:
            db.rollback()
            db.close()
        assert reply.startswith("451 4.3.0 [PIPE-6]"), reply
        client.envelope(SENDER, "bob@dest.example")
        client.send(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.0.0")
    tight.sink.wait(1)
    tight.settle()
    assert [one.rcpt for one in tight.sink.arrived] == [["RCPT TO:<bob@dest.example>"]]


def test_connections_of_one_address_are_counted_over_all_workers(gateway: Gateway) -> None:
    """SMTP-11: four in all, on two workers; another address is not touched, and a place comes back."""
    address = "192.0.2.99"
    held: list[Client] = []
    try:
        for _ in range(4):
            held.append(gateway.connect("proxy", address=address))
            assert held[-1].reply().startswith("220")
        for _ in range(4):  # whichever worker gets it
            with gateway.connect("proxy", address=address) as client:
                assert client.reply().startswith("421 4.7.0")
                assert client.is_closed()
        with gateway.connect("proxy", address="192.0.2.98") as client:
            assert client.reply().startswith("220")
        held.pop().close()
        gateway.until(lambda: _greets(gateway, address), 5.0, "the place did not come back")
    finally:
        for client in held:
            client.close()


def test_connections_of_one_ipv6_network_are_counted_together(gateway: Gateway) -> None:
    """SMTP-11: four in all of a /64, and an IPv4 address is the same one when it comes as IPv6."""
    for inside, outside in (("2001:db8:7:7::{}", "2001:db8:7:8::1"), ("::ffff:192.0.2.96", "192.0.2.95")):
        held: list[Client] = []
        try:
            for number in range(4):
                held.append(gateway.connect("proxy", address=inside.format(number + 1)))
                assert held[-1].reply().startswith("220")
            last = "192.0.2.96" if "ffff" in inside else inside.format("abcd")
            with gateway.connect("proxy", address=last) as client:
                assert client.reply().startswith("421 4.7.0")
            with gateway.connect("proxy", address=outside) as client:
                assert client.reply().startswith("220")
        finally:
            for client in held:
                client.close()


def _greets(gateway: Gateway, address: str) -> bool:
    with gateway.connect("proxy", address=address) as client:
        return client.reply().startswith("220")


def test_places_come_back_from_broken_connections(gateway: Gateway) -> None:
    """A bad handshake, a header that does not end, a connection that resets: none keeps its place."""
    address = "192.0.2.97"
    for _ in range(6):
        with gateway.connect("proxy", address=address) as client:
            client.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: close resets
    for _ in range(6):
        with Client(gateway.doors["proxy"].port, first=b"PROXY TCP4 192.0.2.97") as client:
            pass
    for _ in range(6):
        header = f"PROXY TCP4 {address} {address} 1 2\r\nthis is no handshake\r\n".encode()
        with Client(gateway.doors["proxy-implicit"].port, first=header) as client:
            assert client.is_closed() or True
    gateway.until(lambda: _greets_four(gateway, address), 10.0, "places are lost")


def _greets_four(gateway: Gateway, address: str) -> bool:
    held = [gateway.connect("proxy", address=address) for _ in range(4)]
    try:
        return all(client.reply().startswith("220") for client in held)
    except Closed:
        return False
    finally:
        for client in held:
            client.close()
