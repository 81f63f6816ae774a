"""Session set-up as a pure exchange: what an EHLO reply offers, and what is never said in clear."""

import ssl

import pytest

from relay.delivery import tls
from relay.delivery.handshake import Manners, Say, SetupFailed, StartTls, Steps, features_of, handshake
from relay.delivery.job import Features
from relay.delivery.replies import Reply


def walk(steps: Steps, replies: list[Reply]) -> tuple[list[bytes], Features]:
    """The lines that were said and the features at the end."""
    said: list[bytes] = []
    step = next(steps)
    left = iter(replies)
    try:
        while True:
            if isinstance(step, Say):
                said.append(step.line)
                step = steps.send(next(left))
            else:
                assert isinstance(step, StartTls)
                said.append(b"(tls)")
                step = steps.send(None)
    except StopIteration as stop:
        return said, stop.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"mx", Features()),
        (
            b"mx\nPIPELINING\nSIZE 1000\n8BITMIME\nSMTPUTF8\nDSN\nCHUNKING\nSTARTTLS",
            Features(True, True, True, True, 1000, True, True),
        ),
        (b"mx\npipelining\nsize 1000", Features(pipelining=True, size=1000)),
        (b"mx\nSIZE", Features(size=0)),
        (b"mx\nSIZE 0", Features(size=0)),
        (b"mx\nSIZE lots", Features(size=0)),
        (b"mx\nSIZE -5", Features(size=0)),
        (b"mx\nSIZE " + b"9" * 30, Features(size=0)),
        (b"mx\nAUTH PLAIN LOGIN\nAUTH=LOGIN", Features(auth=("PLAIN", "LOGIN", "LOGIN"))),
        (b"PIPELINING", Features()),
        (b"mx\n\n \nXPIPELINING\nPIPELINING-2", Features()),
        (b"mx\n\xff\xfe\nDSN", Features(dsn=True)),
    ],
)
def test_features(text: bytes, expected: Features) -> None:
    assert features_of(Reply(250, text), in_tls=False) == expected


def test_what_was_offered_in_clear_is_forgotten_in_tls() -> None:
    steps = handshake(Manners("relay.example", "required"))
    clear = Reply(250, b"mx\nSTARTTLS\nPIPELINING\nSMTPUTF8")
    said, features = walk(steps, [Reply(220, b"hi"), clear, Reply(220, b"go"), Reply(250, b"mx\nDSN")])
    assert said == [b"", b"EHLO relay.example\r\n", b"STARTTLS\r\n", b"(tls)", b"EHLO relay.example\r\n"]
    assert features == Features(dsn=True, tls=True)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"5.7.8 no", "535 5.7.8 no"),
        (b"bad line AUTH PLAIN AHVzZXJuYW1lAGdlaGVpbQ==", "535 bad line AUTH PLAIN ..."),
        (b"bad line AHVzZXJuYW1lAGdl", "535 bad line ..."),
        (b"user=username, password='geheim' wrong", "535 user=..., password='...' wrong"),
        (b"<Z2VoZWlt> wrong", "535 ... wrong"),
    ],
)
def test_what_a_host_repeats_of_a_login_goes_nowhere(said: bytes, told: str) -> None:
    """The reason of a failure stands in the log, on pages and in reports."""
    steps = handshake(Manners("relay.example", "no", "username", "geheim", clear_auth=True))
    with pytest.raises(SetupFailed) as failed:
        walk(steps, [Reply(220, b"hi"), Reply(250, b"mx\nAUTH PLAIN"), Reply(535, said)])
    assert failed.value.why == told


@pytest.mark.parametrize(
    ("password", "said", "told"),
    [
        ("blue cat sat mat", b"wrong: blue cat sat mat", "535 wrong: ..."),
        ("blue cat sat mat", b"wrong: <blue cat sat mat>, bye", "535 wrong: <...>, bye"),
        ("blue cat sat mat", b"wrong: blue cat s", "535 wrong: ..."),
        ("blue cat sat mat", b"wrong: cat sat mat", "535 wrong: ..."),
        ("blue cat sat mat", b"no\nwrong: blue\ncat sat mat", "535 no wrong: ..."),
        ("blue  cat sat mat", b"wrong: blue cat sat mat", "535 wrong: ..."),
        ("username is my cat", b"wrong: username is my cat", "535 wrong: ..."),
        ("my cat, username", b"wrong: username my cat, username", "535 wrong: ... ..."),
        ("a b c", b"wrong: a b c", "535 wrong: ..."),
        ("blue cat sat mat", b"x" * 485 + b" blue cat sat mat", "535 " + "x" * 485 + " ..."),
        ("blue cat sat mat", b"5.7.8 a cat is blue", "535 5.7.8 a cat is blue"),
    ],
)
def test_a_passphrase_that_a_host_repeats_goes_nowhere(password: str, said: bytes, told: str) -> None:
    """Cut by the host or by us, in several lines, or with the name of its user in it."""
    steps = handshake(Manners("relay.example", "no", "username", password, clear_auth=True))
    with pytest.raises(SetupFailed) as failed:
        walk(steps, [Reply(220, b"hi"), Reply(250, b"mx\nAUTH PLAIN"), Reply(535, said)])
    assert failed.value.why == told


@pytest.mark.parametrize("starttls", ["required", "offered", "no"])
def test_password_is_not_said_in_clear(starttls: str) -> None:
    steps = handshake(Manners("relay.example", starttls, "user", "geheim"))
    with pytest.raises(SetupFailed) as failed:
        walk(steps, [Reply(220, b"hi"), Reply(250, b"mx\nAUTH PLAIN")])
    assert failed.value.status == "4.7.0"
    assert failed.value.stage in ("starttls", "auth")


def test_an_old_peer_is_never_asked_for_tls_by_helo() -> None:
    steps = handshake(Manners("relay.example", "required"))
    with pytest.raises(SetupFailed, match="STARTTLS"):
        walk(steps, [Reply(220, b"hi"), Reply(502, b"what"), Reply(250, b"mx\nSTARTTLS")])


@pytest.mark.parametrize(
    ("replies", "stage", "status"),
    [
        ([Reply(554, b"5.7.1 no")], "greeting", "4.7.1"),
        ([Reply(250, b"hi")], "greeting", "4.0.0"),
        ([Reply(220, b"hi"), Reply(451, b"4.3.0 later")], "ehlo", "4.3.0"),
        ([Reply(220, b"hi"), Reply(500, b"what"), Reply(500, b"what")], "ehlo", "4.0.0"),
        ([Reply(220, b"hi"), Reply(250, b"mx\nAUTH PLAIN"), Reply(535, b"5.7.8 no")], "auth", "4.7.8"),
        ([Reply(220, b"hi"), Reply(250, b"mx\nAUTH LOGIN"), Reply(250, b"no 334")], "auth", "4.0.0"),
    ],
)
def test_a_refused_session_is_always_temporary(replies: list[Reply], stage: str, status: str) -> None:
    steps = handshake(Manners("relay.example", "no", "user", "geheim", clear_auth=True))
    with pytest.raises(SetupFailed) as failed:
        walk(steps, replies)
    assert (failed.value.stage, failed.value.status) == (stage, status)
    assert "geheim" not in failed.value.why


def test_words_for_a_failed_handshake() -> None:
    bad = ssl.SSLCertVerificationError(1, "x")
    bad.verify_message = "Hostname mismatch"
    assert tls.why(bad) == "certificate not accepted: Hostname mismatch"
    assert "timed out" in tls.why(TimeoutError())
    assert "lost" in tls.why(ConnectionResetError())


def test_contexts_verify_unless_told_not_to() -> None:
    strict, loose = tls.context(verify=True), tls.context(verify=False)
    assert strict.check_hostname and strict.verify_mode is ssl.CERT_REQUIRED
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not loose.check_hostname and loose.verify_mode is ssl.CERT_NONE
    assert loose.minimum_version is ssl.TLSVersion.TLSv1_2
