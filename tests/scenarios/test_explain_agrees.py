"""`zegel explain` and the live gateway say the same of the same mail (OPS-7, PIPE-4)."""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.cli.dryrun import explain_mail
from relay.cli.explain import Asked
from relay.keyring import Keyring
from relay.owner import Owner
from tests.harness.gateway import AGREED, Gateway, _Places, consent_row

LOGINS = ("personal", "marketing", "offers", "transactional", "mailserver")
SENDERS = ("info@sender.example", "news@mail.sender.example", "ceo@bank.example", "")
AGED = {"fading@dest.example": 26, "faded@dest.example": 40}  # months since they agreed, and nobody has mailed them
PEOPLE = (*AGREED, *AGED, "stranger@dest.example", "other@party.example", "Ann+Extra@Dest.Example")
EXTRA = (
    "List-Unsubscribe: <https://sender.example/u/1>",
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    "List-Id: <news.sender.example>",
    "Precedence: bulk",
    "Subject: again",
    "X-Zegel-Class: commercial",
    "X-Zegel-Purpose: newsletter",
    "X-Zegel-Purpose: nothing",
    "Bcc: secret@dest.example",
    "In-Reply-To: <nobody@knows.example>",
    "Sender: boss@sender.example",
    "Content-Type: multipart/signed; boundary=b",
)
BODIES = (
    "Hello.",
    "Your invoice 2026-17 is below. Total 12 euro.",
    "Sale! 20% off everything at https://shop.example/sale. Unsubscribe: https://sender.example/u/1",
    "x" * 1500,
)
QUEUED = re.compile(r"queued as \w+")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    live = Gateway(tmp_path_factory.mktemp("explain"), workers=1)
    for address, months in AGED.items():
        agreed_then(live, address, time.time() - months * 31 * 86_400)
    live.start()
    yield live
    live.stop()


def agreed_then(gateway: Gateway, address: str, at: float) -> None:
    """A consent that was recorded long ago."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    with Owner.open(_Places(gateway.settings), keyring, now=lambda: at) as owner:
        row = {**consent_row(address), "given_at": datetime.fromtimestamp(at, UTC).isoformat()}
        result = owner.call("consent.import_rows", {"tenant": "shop", "rows": [row]})
    assert isinstance(result, dict) and result["imported"] == 1, result


def test_what_has_aged_is_refused_by_both_and_what_fades_goes(gateway: Gateway) -> None:
    """CONSENT-13."""
    raw = written({"author": SENDERS[0], "to": list(AGED), "shown": 0, "extra": EXTRA[:2], "body": BODIES[2]})
    said = {}
    for address in AGED:
        told = explain_mail(gateway.settings, Asked(gateway.logins["marketing"][0], SENDERS[0], (address,)), raw)
        said[address] = (
            told["reply"][:3],
            live_answer(gateway, {"login": "marketing", "sender": SENDERS[0], "to": [address]}, raw)[0],
        )
    (fading, went), (faded, stopped) = said.values()
    assert (fading, went[:3]) == ("250", "250"), said
    assert faded == "550" and stopped.startswith("550 5.7.1 [CONSENT-13]"), said


mails = st.fixed_dictionaries(
    {
        "login": st.sampled_from(LOGINS),
        "sender": st.sampled_from(SENDERS),
        "author": st.sampled_from(
            ("info@sender.example", "ceo@bank.example", "shop@gmail.com", '"x@ing.nl" <a@sender.example>')
        ),
        "to": st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4, unique=True),
        "shown": st.integers(0, 14),
        "extra": st.lists(st.sampled_from(EXTRA), max_size=4, unique=True),
        "body": st.sampled_from(BODIES),
    }
)


def written(mail: dict[str, object]) -> bytes:
    shown = ", ".join(f"guest{number}@party{number}.example" for number in range(int(str(mail["shown"]))))
    lines = [f"From: {mail['author']}", f"To: {', '.join(mail['to'])}", "Subject: hello"]  # type: ignore[arg-type]  # a list of str
    lines += [f"Cc: {shown}"] if shown else []
    lines += [*mail["extra"], "", str(mail["body"])]  # type: ignore[misc]  # a list of str
    return "\r\n".join(lines).encode() + b"\r\n"


def live_answer(gateway: Gateway, mail: dict[str, object], raw: bytes) -> tuple[str, dict[str, str]]:
    """What the gateway says: the reply that ends it, and the refusal of each recipient."""
    refused: dict[str, str] = {}
    with smtplib.SMTP("127.0.0.1", gateway.doors["plain"].port, local_hostname="test") as smtp:
        smtp.login(*gateway.logins[str(mail["login"])])
        code, text = smtp.mail(str(mail["sender"]))
        if code != 250:
            return f"{code} {text.decode()}", refused
        for address in mail["to"]:  # type: ignore[attr-defined]  # a list of str
            code, text = smtp.rcpt(address)
            if code != 250:
                refused[address] = f"{code} {text.decode()}"
        if len(refused) == len(mail["to"]):  # type: ignore[arg-type]  # a list of str
            return next(iter(refused.values())), refused
        code, text = smtp.data(raw)
        return f"{code} {text.decode()}", refused


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mail=mails)
def test_explain_says_what_the_gateway_says(gateway: Gateway, mail: dict[str, object]) -> None:
    raw = written(mail)
    asked = Asked(gateway.logins[str(mail["login"])][0], str(mail["sender"]), tuple(mail["to"]))  # type: ignore[arg-type]  # a list of str
    told = explain_mail(gateway.settings, asked, raw)
    reply, refused = live_answer(gateway, mail, raw)
    assert QUEUED.sub("queued", told["reply"]) == QUEUED.sub("queued", reply)
    stopped = {entry["address"] for entry in told["recipients"] if entry["action"] == "reject"}
    assert refused.keys() <= stopped
    if reply.startswith("250"):
        assert stopped == refused.keys()


HEAD = b"From: info@sender.example\r\nTo: ann@dest.example\r\nSubject: x\r\n"
MANY = tuple(f"p{number}@dest.example" for number in range(501))


@pytest.mark.parametrize(
    ("raw", "to"),
    [
        (HEAD + b"\r\na\0b\r\n", PEOPLE[:1]),
        (HEAD + b"\r\na\rb\r\n", PEOPLE[:1]),
        (HEAD + b"\r\n" + b"hello hello\r\n" * 2_200_000, PEOPLE[:1]),
        (HEAD + "X-Name: Ján\r\n\r\nHello.\r\n".encode(), PEOPLE[:1]),
        (HEAD + b"X-Name: J\xe1n\r\n\r\nHello.\r\n", PEOPLE[:1]),
        (HEAD + b"\r\nHello.\r\n", MANY),
        (HEAD + b"\r\nHello.\r\n", (MANY[0], MANY[0], "p0@DEST.example", *MANY[1:500])),
    ],
    ids=[
        "NUL",
        "bare CR",
        "size",
        "UTF-8 head",
        "Latin-1 head",
        "501st recipient",
        "500 mailboxes and two named again",
    ],
)
def test_explain_refuses_what_the_session_refuses(gateway: Gateway, raw: bytes, to: tuple[str, ...]) -> None:
    """SMTP-5, SMTP-8, SMTP-10, SMTP-24; a client announces SMTPUTF8 where the head is UTF-8."""
    told = explain_mail(gateway.settings, Asked(gateway.logins["personal"][0], "info@sender.example", to), raw)
    stopped = {entry["address"]: entry["reason"] for entry in told["recipients"] if entry["action"] == "reject"}
    stopped |= {entry["address"]: entry["reason"] for entry in told["recipients"] if entry["action"] == "defer"}
    refused: set[str] = set()
    with gateway.connect() as client:
        assert client.login(*gateway.logins["personal"]).startswith("235")
        assert client.ask("MAIL FROM:<info@sender.example>" + (" SMTPUTF8" if "Ján".encode() in raw else "")) == (
            "250 2.1.0 Sender OK"
        )
        refused = {address for address in to if not client.ask(f"RCPT TO:<{address}>").startswith("250")}
        client.ask("DATA")
        client.send(raw + b".\r\n")
        reply = client.reply()
    assert QUEUED.sub("queued", told["reply"]) == QUEUED.sub("queued", reply)
    assert bool(refused or reply[0] != "2") == bool(stopped) and refused <= stopped.keys()


def test_explain_and_the_gateway_name_consent_for_another_list(gateway: Gateway) -> None:
    """CONSENT-4: ann agreed to the newsletter, the login is for the offers; a stranger agreed to nothing (CONSENT-1)."""
    mail = {"login": "offers", "sender": "info@sender.example", "author": "info@sender.example", "shown": 0}
    mail |= {"to": ["ann@dest.example", "stranger@dest.example"], "extra": [], "body": "Sale!"}
    raw = written(mail)
    told = explain_mail(gateway.settings, Asked(gateway.logins["offers"][0], mail["sender"], tuple(mail["to"])), raw)  # type: ignore[arg-type]  # a text and a list of them
    _, refused = live_answer(gateway, mail, raw)
    rules = {entry["address"]: entry["rule"] for entry in told["recipients"]}
    assert rules == {"ann@dest.example": "CONSENT-4", "stranger@dest.example": "CONSENT-1"}
    assert {address: reply[10:].partition("]")[0].lstrip("[") for address, reply in refused.items()} == rules


def test_explain_leaves_nothing_behind(gateway: Gateway) -> None:
    """No token spent, nothing queued, the same answer twice."""
    gateway.settle()  # what other tests have sent
    stamps = b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <one@sender.example>\r\n"
    raw = b"From: info@sender.example\r\nTo: ann@dest.example\r\nSubject: hello\r\n" + stamps + b"\r\nHello.\r\n"
    asked = Asked(gateway.logins["personal"][0], "info@sender.example", ("ann@dest.example",))
    first, second = (explain_mail(gateway.settings, asked, raw) for _ in range(2))
    assert first == second
    assert first["action"] == "accept"
    assert gateway.queued() == 0
