"""Smarthost settings: what they mean, and which cannot work."""

from pathlib import Path

import pytest

from relay.delivery import backoff
from relay.delivery.backoff import Failure
from relay.delivery.peers import Peer, PeerError, Seat, choose, next_chance, parse_peer, read_passwords


@pytest.mark.parametrize(
    ("url", "host", "port", "implicit"),
    [
        ("smtp://mx.example", "mx.example", 587, False),
        ("smtp://mx.example:25", "mx.example", 25, False),
        ("smtps://mx.example/", "mx.example", 465, True),
        ("smtp://[::1]:2525", "::1", 2525, False),
        ("SMTP://MX.Example:25", "mx.example", 25, False),
    ],
)
def test_addresses(url: str, host: str, port: int, implicit: bool) -> None:
    peer = parse_peer(url)
    assert (peer.host, peer.port, peer.implicit_tls) == (host, port, implicit)


def test_user_with_password() -> None:
    peer = parse_peer("smtp://relay%40shop@mx.example", passwords={"*": "s3cret"})
    assert (peer.user, peer.password) == ("relay@shop", "s3cret")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://mx.example", "smtp://"),
        ("mx.example:25", "smtp://"),
        ("smtp://", "smtp://"),
        ("smtp://mx.example:0", "smtp://"),
        ("smtp://mx.example:99999", "port"),
        ("smtp://mx.example/path", "smtp://"),
        ("smtp://u:geheim@mx.example", "password file"),
        ("smtp://u@mx.example", "password"),
    ],
)
def test_what_cannot_work_is_told_with_the_remedy_and_without_the_password(url: str, word: str) -> None:
    with pytest.raises(PeerError, match=word) as caught:
        parse_peer(url)
    assert "geheim" not in str(caught.value)


def test_a_password_never_goes_to_an_unverified_host() -> None:
    for tls in ("opportunistic", "off"):
        with pytest.raises(PeerError, match="verif"):
            parse_peer("smtp://u@mx.example", tls=tls, passwords={"*": "x"})  # type: ignore[arg-type]
        with pytest.raises(PeerError, match="verif"):
            Peer("mx.example", 25, tls=tls, user="u", password="x", clear_auth=True)  # type: ignore[arg-type]
    with pytest.raises(PeerError, match="smtps"):
        parse_peer("smtps://mx.example", tls="off")


@pytest.mark.parametrize(
    ("peer", "starttls"),
    [
        (Peer("mx.example", 25), "required"),
        (Peer("mx.example", 25, tls="opportunistic"), "offered"),
        (Peer("mx.example", 25, tls="off"), "no"),
        (Peer("mx.example", 465, implicit_tls=True), "no"),
        (Peer("127.0.0.1", 25), "offered"),
        (Peer("localhost", 25), "offered"),
        (Peer("::1", 25), "offered"),
        (Peer("localhost.example", 25), "required"),
        (Peer("127.0.0.1", 25, user="u", password="x"), "required"),
        (Peer("127.0.0.1", 25, user="u", password="x", clear_auth=True), "no"),
        (Peer("mx.example", 25, user="u", password="x", clear_auth=True), "required"),
    ],
)
def test_what_is_asked_of_starttls(peer: Peer, starttls: str) -> None:
    assert peer.starttls == starttls


@pytest.mark.parametrize(
    ("text", "passwords"),
    [
        ("geheim\n", {"*": "geheim"}),
        ("with space \n", {"*": "with space "}),
        ("u@mx.example geheim\n\nv@mx.example  andere\n", {"u@mx.example": "geheim", "v@mx.example": "andere"}),
        ("u@mx.example geheim", {"u@mx.example": "geheim"}),
        ("", {}),
    ],
)
def test_password_files(text: str, passwords: dict[str, str]) -> None:
    assert read_passwords(text) == passwords


def test_ca_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.pem.*PEM file"):
        Peer("mx.example", 25, ca_file=tmp_path / "missing.pem").context()


def test_first_usable_host_in_order_and_when_the_next_may_be() -> None:
    first, second = Seat(Peer("a.example", 25)), Seat(Peer("b.example", 25))
    assert choose([first, second], 0.0) is first
    first.state = backoff.failed(first.state, Failure("connect", "x"), 0.0)
    assert choose([first, second], 1.0) is second
    second.state = backoff.failed(second.state, Failure("connect", "x"), 1.0)
    assert choose([first, second], 2.0) is None
    assert next_chance([first, second]) == 5.0
    assert choose([first, second], 5.0) is first
    first.connections = 1  # the trial is under way
    assert choose([first, second], 5.0) is None
    assert next_chance([first, second]) == 6.0
