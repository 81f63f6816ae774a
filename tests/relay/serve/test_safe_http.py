"""A tenant's webhook reaches the world and nothing else, whatever its address, its name server or its answers try."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.serve import safe_http
from relay.serve.safe_http import Barred, Request, look_up, post
from relay.serve.webhook import Away, Refused
from relay.serve.webhook import post as to_operator
from relay.settings.endpoint import Networks
from relay.settings.reach import leads_inside, may_reach
from tests.harness.certificates import write_pair
from tests.relay.serve.hook import Hook

CASES = tomllib.loads((Path(__file__).parent / "webhook_addresses.toml").read_text())["case"]
LOOPBACK = Networks(["127.0.0.0/8"])
NOTHING = Networks(())
TABLE = [
    (address, case.get("scheme", "https"), case.get("allowed", []), case["reach"])
    for case in CASES
    for address in case["addresses"]
]


@pytest.mark.parametrize(("address", "scheme", "allowed", "reach"), TABLE)
def test_where_a_webhook_may_go(address: str, scheme: str, allowed: list[str], reach: bool) -> None:
    assert may_reach(address, scheme, Networks(allowed)) is reach


@pytest.mark.parametrize(("address", "scheme", "allowed", "reach"), [row for row in TABLE if ":" not in row[0]])
def test_what_is_told_when_a_webhook_is_made(address: str, scheme: str, allowed: list[str], reach: bool) -> None:
    """The same as when something is sent, and before: for numbers in any spelling."""
    by_number = bool(address.strip()) and " " not in address and not address.startswith("08")
    inside = by_number and not reach and (scheme == "https" or address.startswith("127."))
    assert leads_inside(f"{scheme}://{address}/in", Networks(allowed)) is inside


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://[::1]/", True), ("https://[::ffff:127.0.0.1]:8443/", True), ("https://[fd00::1]/", True),
        ("https://0x7f.1/", True),
        ("https://app.localhost/", True), ("http://127.0.0.1:9/", True), ("https://[2606:4700::6810:84e5]/", False),
        ("https://crm.example.org/", False), ("https://127.0.0.1.nip.io/", False), ("https://1.2.3.4.5/", False),
        ("https://10.example.org/", False), ("http://8.8.8.8/", False),
    ],
)  # fmt: skip
def test_only_what_is_written_as_inside_is_refused_when_it_is_made(url: str, inside: bool) -> None:
    """A name is judged when it is used; what is no address of a webhook is refused as that."""
    assert leads_inside(url, NOTHING) is inside
    assert not leads_inside("http://127.0.0.1:9/", LOOPBACK)


def ask(url: str, body: bytes = b"{}") -> Request:
    return Request(url, {"X-Zegel-Signature": "t=1,v1=00"}, body)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


class Names:
    """A name server that answers with the next of its answers each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0)


def test_a_receiver_gets_what_was_sent_under_its_own_name(hook: Hook) -> None:
    port = hook.url.rpartition(":")[2]
    names = Names(["127.0.0.1"])
    post(ask(f"http://crm.example.org:{port}/in?team=1", b'{"a":1}'), LOOPBACK, resolve=names)
    (came,) = hook.came
    assert (came.path, came.body, came.headers["Host"]) == ("/in?team=1", b'{"a":1}', f"crm.example.org:{port}")
    assert names.asked == ["crm.example.org"], "looked up once"


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], []],
    ids=str,
)
def test_a_name_that_leads_inside_is_not_connected_to(
    hook: Hook, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad address among good ones is enough: whoever says so is not to be trusted with the choice."""

    def connect(*_: object, **__: object) -> socket.socket:
        raise AssertionError("connected")

    monkeypatch.setattr(safe_http.socket, "create_connection", connect)
    with pytest.raises(Barred) as caught:
        post(ask(hook.url.replace("http:", "https:")), NOTHING, resolve=Names(answers))
    assert "127" not in str(caught.value) and hook.came == []


def test_nobody_learns_which_names_there_are_inside(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """`db.internal` cannot be resolved, or lies in a private network: the list of webhooks told which of the two."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror

    with pytest.raises(Barred) as inside:
        post(ask("https://db.internal/"), NOTHING, resolve=Names(["10.1.2.3"]))
    monkeypatch.setattr(safe_http.socket, "getaddrinfo", unknown)
    with pytest.raises(Away) as nowhere:
        post(ask("https://db2.internal/"), NOTHING)
    assert str(inside.value) == str(nowhere.value)


def test_a_name_that_changes_after_it_was_judged_wins_nothing(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: what is connected to is the very address that was judged, not the name."""
    seen: list[object] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        seen.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(safe_http.socket, "create_connection", connect)
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    with pytest.raises(Away):
        post(ask("https://rebind.example.org/"), NOTHING, resolve=names)
    assert seen == [("8.8.8.8", 443)] and names.asked == ["rebind.example.org"] and hook.came == []


@pytest.mark.parametrize("host", ["0x7f000001", "2130706433", "127.1", "0177.0.0.1", "localhost"])
def test_odd_spellings_of_this_machine_are_judged_by_what_they_mean(host: str) -> None:
    with pytest.raises(Barred):
        post(ask(f"https://{host}/"), NOTHING, resolve=_as_numbers)


def _as_numbers(host: str, port: int) -> list[str]:
    # What the resolver of the system makes of such a number; the guard of the tests lets only plain ones through.
    return look_up("localhost" if host == "localhost" else socket.inet_ntoa(socket.inet_aton(host)), port)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(hook: Hook, code: int) -> None:
    hook.answers = [code]
    with pytest.raises(Refused, match=f"HTTP {code}"):
        post(ask(hook.url), LOOPBACK)
    assert [came.path for came in hook.came] == ["/"]


@pytest.mark.parametrize(
    ("code", "kind"), [(400, Refused), (404, Refused), (410, Refused), (429, Away), (500, Away), (503, Away)]
)
def test_an_answer_is_one_of_two_kinds(hook: Hook, code: int, kind: type[Exception]) -> None:
    hook.answers = [code]
    with pytest.raises(kind, match=f"HTTP {code}"):
        post(ask(hook.url), LOOPBACK)


@pytest.mark.parametrize("code", [101, 102, 103])
def test_a_promise_of_an_answer_is_none(code: int) -> None:
    """Early Hints, and then a refusal: that was taken for a 2xx, and the tool never heard of who left."""
    answer = b"HTTP/1.1 %d Wait\r\n\r\nHTTP/1.1 500 No\r\n\r\n" % code
    with served(answer) as (port, _), pytest.raises(Away, match=f"HTTP {code}"):
        post(ask(f"http://127.0.0.1:{port}"), LOOPBACK)
    with served(answer) as (port, _), pytest.raises(Away, match=f"HTTP {code}"):
        to_operator(f"http://127.0.0.1:{port}", "key", b"{}", at=1, key="id1")


@contextlib.contextmanager
def served(answer: bytes, *, forever: bytes = b"", before: float = 0.0) -> Iterator[tuple[int, list[int]]]:
    """A server that writes `answer` after a request, then `forever` again and again; the octets that it could write."""
    listener = socket.create_server(("127.0.0.1", 0))
    written: list[int] = [0]

    def serve() -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(answer)
                while forever:
                    written[0] += peer.send(forever)
                    time.sleep(before)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], written
    listener.close()
    thread.join(5)


def test_of_a_huge_answer_only_the_head_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"
    with served(head, forever=b"x" * 65_536) as (port, written):
        post(ask(f"http://127.0.0.1:{port}/"), LOOPBACK)
    assert written[0] < 16_000_000


@pytest.mark.parametrize("forever", [b"X-A: b\r\n", b"x" * 4096], ids=["fields", "one line"])
def test_a_head_without_end_is_given_up(forever: bytes) -> None:
    with served(b"HTTP/1.1 200 OK\r\n", forever=forever) as (port, _):
        with pytest.raises(Away):
            post(ask(f"http://127.0.0.1:{port}/"), LOOPBACK)


def test_what_speaks_no_http_is_away() -> None:
    with served(b"220 mail.example ESMTP\r\n") as (port, _), pytest.raises(Away, match="BadStatusLine"):
        post(ask(f"http://127.0.0.1:{port}/"), LOOPBACK)


def test_one_that_drips_is_cut_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_http, "TOTAL_SECONDS", 0.5)
    with served(b"HTTP/1.1 200", forever=b" ", before=0.05) as (port, _), pytest.raises(Away):
        post(ask(f"http://127.0.0.1:{port}/"), LOOPBACK)


def test_after_its_deadline_nothing_is_sent(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that takes long: by then the event may have gone another way, and a later one too."""
    monkeypatch.setattr(safe_http, "TOTAL_SECONDS", 0.0)
    with pytest.raises(Away, match="TimeoutError"):
        post(ask(hook.url), LOOPBACK)
    assert hook.came == []


def test_over_tls_the_certificate_must_be_of_the_name(tmp_path: Path) -> None:
    write_pair(tmp_path / "crt", tmp_path / "key", "crm.example.org")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "crt"))
    hook = Hook(tls=server)
    port = hook.url.rpartition(":")[2]
    try:
        names = Names(["127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"])
        post(ask(f"https://crm.example.org:{port}/x"), LOOPBACK, resolve=names, context=trusting)
        assert [came.path for came in hook.came] == ["/x"]
        for url, context in (
            (f"https://other.example.org:{port}/", trusting),
            (f"https://crm.example.org:{port}/", None),
        ):
            with pytest.raises(Away, match="SSLCertVerificationError"):
                post(ask(url), LOOPBACK, resolve=names, context=context)
        assert len(hook.came) == 1
    finally:
        hook.close()
