"""What changes while a session is open: accounts, stores, certificates, the gateway itself."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator

import pytest

from relay.policy.catalogue import ORDER
from tests.harness.certificates import write_pair
from tests.harness.gateway import MESSAGE, PACE, SENDER, Gateway

Start = Callable[..., Gateway]
NEWS = (
    b"From: info@sender.example\r\nTo: ann@dest.example\r\nSubject: News\r\n"
    b"List-Unsubscribe: <https://shop.example/u/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    b"News\r\n\r\nUnsubscribe: https://shop.example/u/1\r\n"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One worker, and a policy with a bug in it; each test leaves it as it was."""
    order = [*ORDER[:-2], "tripwire", *ORDER[-2:]]
    tables = {"pipeline": {"order": order}, "throttle": PACE, "tripwire": {"mode": "enforce"}}
    gateway = Gateway(tmp_path_factory.mktemp("house"), workers=1, policies=tables)
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def _credential(gateway: Gateway, tenant: str, name: str) -> tuple[str, str]:
    made = gateway.op("credential.add", tenant=tenant, name=name, stream="personal")
    login = (made["username"], made["password"])

    def works() -> bool:
        with gateway.connect() as client:
            return client.login(*login).startswith("235")

    gateway.until(works, 5.0, "the new login does not work")
    return login


def _until_refused(gateway: Gateway, login: tuple[str, str]) -> None:
    """The (one) worker has the new directory when it does not take the login."""

    def refused() -> bool:
        with gateway.connect() as client:
            return not client.login(*login).startswith("235")

    gateway.until(refused, 10.0, "the login is still taken")


def test_a_revoked_login_ends_its_open_session(house: Gateway) -> None:
    gateway = house
    gateway.settle()  # what other tests sent has arrived
    gateway.sink.clear()
    login = _credential(gateway, "shop", "shortlived")
    with gateway.connect() as idle, gateway.connect() as busy:
        assert idle.login(*login).startswith("235")
        assert busy.login(*login).startswith("235")
        busy.envelope(SENDER, "ann@dest.example")
        gateway.op("credential.revoke", name="shortlived")
        _until_refused(gateway, login)
        assert idle.ask(f"MAIL FROM:<{SENDER}>").startswith("421 4.7.0")
        assert idle.is_closed()
        busy.send(MESSAGE + b".\r\n")
        assert busy.reply().startswith("421 4.7.0")
        assert busy.is_closed()
    assert gateway.queued() == 0
    assert not gateway.sink.arrived


def test_a_suspended_tenant_cannot_go_on(house: Gateway) -> None:
    gateway = house
    gateway.op("tenant.add", name="brief", legal_name="Brief BV", language="en")
    login = _credential(gateway, "brief", "brief")
    with gateway.connect() as client:
        assert client.login(*login).startswith("235")
        gateway.op("tenant.suspend", name="brief", reason="abuse")
        _until_refused(gateway, login)
        assert client.ask(f"MAIL FROM:<{SENDER}>").startswith("421 4.7.0 [THROTTLE-9]")
        assert client.is_closed()


def test_a_store_that_is_down_stops_advertising_and_lets_service_mail_pass(house: Gateway) -> None:
    """PIPE-3: 451 for the newsletter, 250 and a count for the password reset."""
    gateway = house
    db = sqlite3.connect(gateway.settings.database_path, isolation_level=None)
    tables = [row[0] for row in db.execute("select name from sqlite_master where type = 'table'")]
    lost = [name for name in tables if name.startswith(("consent_state", "state", "suppression"))]
    assert lost, tables
    for name in lost:
        db.execute(f"alter table {name} rename to lost_{name}")
    try:
        _mail_without_store(gateway)
    finally:
        for name in lost:
            db.execute(f"alter table lost_{name} rename to {name}")
        db.close()
    gateway.settle(20.0)


def _mail_without_store(gateway: Gateway) -> None:
    name = 'zegel_policy_bypass_total{policy="suppression"}'
    before = gateway.metric(name)
    with gateway.connect() as client:
        assert client.login(*gateway.logins["marketing"]).startswith("235")
        assert client.ask(f"MAIL FROM:<{SENDER}>").startswith("250")
        reply = client.ask("RCPT TO:<ann@dest.example>")
        if reply.startswith("250"):
            assert client.ask("DATA").startswith("354")
            client.send(NEWS + b".\r\n")
            reply = client.reply()
        assert reply.startswith("451 4.3.0"), reply
    with gateway.connect() as client:
        assert client.login(*gateway.logins["transactional"]).startswith("235")
        client.envelope(SENDER, "ann@dest.example")
        client.send(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.0.0")
    gateway.until(lambda: gateway.metric(name) == before + 1.0, 5.0, "the bypass is not counted")


def test_a_renewed_certificate_is_taken_without_dropping_sessions(own: Start) -> None:
    """SMTP-2: SIGHUP; a pair that does not fit leaves the old one in force."""
    gateway = own(workers=2)

    def shown(door: str) -> bytes:
        with gateway.connect(door) as client:
            if door == "starttls":
                client.reply()
                client.ask("STARTTLS")
                client.start_tls()
            return client.certificate

    old = shown("implicit")
    assert shown("starttls") == old
    with gateway.connect("implicit") as session:
        assert session.login(*gateway.logins["personal"]).startswith("235")
        write_pair(gateway.certificate, gateway.key, rsa=True)
        gateway.signal(signal.SIGHUP)
        for door in ("implicit", "starttls"):
            gateway.until(
                lambda door=door: all(shown(door) != old for _ in range(6)), 10.0, f"{door}: the old certificate"
            )
        new = shown("implicit")
        gateway.certificate.write_text("no certificate")
        refused = gateway.folder / "gateway.log"
        before = refused.read_text().count("reload")
        gateway.signal(signal.SIGHUP)
        gateway.until(lambda: refused.read_text().count("reload") > before, 10.0, "nothing is said of the bad pair")
        assert shown("implicit") == new
        session.envelope(SENDER, "ann@dest.example")
        session.send(MESSAGE + b".\r\n")
        assert session.reply().startswith("250 2.0.0")


def test_draining_ends_what_has_begun(own: Start) -> None:
    """SIGTERM: the idle hear 421, a message under way is taken, one that does not end is refused; nothing is lost."""
    gateway = own(server={"drain_timeout_seconds": 2.0})
    with gateway.connect() as idle, gateway.connect() as busy, gateway.connect() as stuck:
        for client in (idle, busy, stuck):
            assert client.login(*gateway.logins["personal"]).startswith("235")
        busy.envelope(SENDER, "ann@dest.example")
        stuck.envelope(SENDER, "bob@dest.example")
        busy.send(MESSAGE[:40])
        stuck.send(MESSAGE[:40])
        gateway.signal(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2")
        assert idle.is_closed()
        busy.send(MESSAGE[40:] + b".\r\n")
        assert busy.reply().startswith("250 2.0.0")
        assert busy.reply().startswith("421 4.3.2")
        assert stuck.reply().startswith("421 4.3.2")
        assert stuck.is_closed()
    assert gateway.wait() == 0
    if not gateway.sink.arrived:
        gateway.start()
    arrived = gateway.sink.wait(1)
    assert [one.rcpt for one in arrived] == [["RCPT TO:<ann@dest.example>"]]


def test_a_crash_in_one_session_touches_no_other(house: Gateway) -> None:
    """A policy with a bug: its mail waits with 451, never refused for good; other sessions of the worker go on."""
    gateway = house
    with gateway.connect() as unlucky, gateway.connect() as other:
        assert unlucky.login(*gateway.logins["personal"]).startswith("235")
        assert other.login(*gateway.logins["personal"]).startswith("235")
        other.envelope(SENDER, "ann@dest.example")
        for _ in range(3):
            unlucky.envelope(SENDER, "ann@dest.example")
            unlucky.send(MESSAGE.replace(b"Order", b"trip") + b".\r\n")
            reply = unlucky.reply()
            assert reply.startswith("451 4.3.0")
            assert "Zero" not in reply
        other.send(MESSAGE + b".\r\n")
        assert other.reply().startswith("250 2.0.0")
        unlucky.envelope(SENDER, "ann@dest.example")
        unlucky.send(MESSAGE + b".\r\n")
        assert unlucky.reply().startswith("250 2.0.0")


def test_many_sessions_at_once_get_their_own_answers(gateway: Gateway) -> None:
    gateway.sink.clear()
    wrong: list[str] = []

    def send(number: int) -> None:
        with gateway.connect("starttls" if number % 3 == 0 else "plain") as client:
            if number % 3 == 0:
                client.reply()
                client.ask("STARTTLS")
                client.start_tls()
                client.ask("EHLO client.test")
                said = client.login_again(*gateway.logins["personal"])
            else:
                said = client.login(*gateway.logins["personal"])
            for turn in range(3):
                client.envelope(SENDER, f"r{number}.{turn}@dest.example")
                client.send(MESSAGE + b".\r\n")
                said = client.reply()
                if not said.startswith("250 2.0.0"):
                    wrong.append(said)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    arrived = gateway.sink.wait(45)
    gateway.settle()
    expected = sorted(f"RCPT TO:<r{n}.{turn}@dest.example>" for n in range(15) for turn in range(3))
    assert sorted(one.rcpt[0] for one in arrived) == expected


@pytest.mark.parametrize(
    "evil", ["News\r\nX-Evil: 1", "News\nX-Evil: 1", "News\rX-Evil: 1", "News\u2028X-Evil: 1", "\0"]
)
def test_names_of_tenants_and_lists_put_no_field_into_a_mail(house: Gateway, evil: str) -> None:
    """SMTP-24: such a title is refused when it is given, or harmless where it is written."""
    gateway = house
    number = abs(hash(evil)) % 10_000
    tenant = gateway.attempt("tenant.set", name="shop", legal_name=evil, postal_address=evil)
    listed = gateway.attempt("purpose.add", tenant="shop", name=f"list{number}", title_nl=evil, title_en=evil)
    if tenant is None and listed is None:
        return
    gateway.sink.clear()
    with gateway.connect() as client:
        assert client.login(*gateway.logins["marketing"]).startswith("235")
        client.envelope(SENDER, "ann@dest.example")
        client.send(NEWS.replace(b"List-Unsubscribe", b"X-None") + b".\r\n")
        client.reply()
    gateway.settle()
    assert all("\nX-Evil" not in one.head and "\rX-Evil" not in one.head for one in gateway.sink.arrived)
