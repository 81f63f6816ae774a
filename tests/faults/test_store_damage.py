"""The shared database is damaged, deleted or replaced under a running gateway (PIPE-3).

Senders hear 4xx or are served as before, no process dies, somebody is told, the queue goes on, and when the file is back
so is the gateway, with every opt-out it had.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.keyring import Keyring
from relay.owner import Owner
from relay.settings.model import Settings
from relay.store import StoreUnavailable
from tests.faults.disk import Disk
from tests.harness.client import Client, Closed
from tests.harness.gateway import MESSAGE, PACE, SENDER, Gateway, _Places, consent_row
from tests.harness.moody import Moody
from tests.harness.processes import children
from tests.harness.web import ask

PEOPLE = [f"p{number}@dest.example" for number in range(2_000)]
NEWS = (
    b"From: Shop <info@sender.example>\r\nTo: list@dest.example\r\nSubject: News\r\n"
    b"List-Unsubscribe: <https://sender.example/leave/a>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    b"News. Unsubscribe: https://sender.example/leave/a\r\n"
)
TROUBLE_ROUNDS = 40


def owner_of(settings: Settings) -> Owner:
    return Owner.open(_Places(settings), Keyring.open(settings.server.keys_dir, create=False))


def import_people(settings: Settings) -> None:
    """Before the start, so that the database has pages that nobody has read yet."""
    with owner_of(settings) as owner:
        for start in range(0, len(PEOPLE), 500):
            rows = [consent_row(address) for address in PEOPLE[start : start + 500]]
            owner.call("consent.import_rows", {"tenant": "shop", "rows": rows})


class Shop:
    """A gateway with a next hop that can be away, and what senders were told."""

    def __init__(self, folder: Path, **tables: Any) -> None:
        self.hop = Moody()
        delivery = {"smarthosts": [f"smtp://127.0.0.1:{self.hop.port}"], "retry_after_seconds": [1.0, 1.0, 1800.0]}
        self.gateway = Gateway(folder, workers=2, policies={"throttle": PACE}, delivery=delivery, **tables)
        self.database = self.gateway.settings.database_path
        self.accepted: set[str] = set()
        import_people(self.gateway.settings)
        self.gateway.start()

    def close(self) -> None:
        self.gateway.stop()
        self.hop.close()

    def send(self, login: str, to: str) -> str:
        """The last reply of one transaction; every reply on the way there is a promise or a 4xx."""
        raw = (NEWS if login == "marketing" else MESSAGE).replace(b"Subject: ", f"X-To: {to}\r\nSubject: ".encode())
        client: Client
        with self.gateway.connect() as client:
            reply = client.login(*self.gateway.logins[login])
            for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{to}>", "DATA"):
                if reply[0] in "23":
                    reply = client.ask(command)
            if reply.startswith("354"):
                client.send(raw + b".\r\n")
                reply = client.reply()
        if reply.startswith("250"):
            self.accepted.add(to)
        return reply

    def try_to_send(self, login: str, to: str) -> str:
        """As `send`, while a process may be starting."""
        try:
            return self.send(login, to)
        except (Closed, OSError) as error:
            return f"closed {error}"

    def ready(self) -> Any:
        return json.loads(ask(self.gateway, "/readyz")[1])

    def children(self) -> set[int]:
        assert self.gateway.process is not None
        return set(children(self.gateway.process.pid))

    def log(self) -> str:
        return (self.gateway.folder / "gateway.log").read_text()

    def arrived(self) -> list[str]:
        lines = [line for message in self.hop.arrived for line in message.head.splitlines()]
        return sorted(line.removeprefix("X-To: ") for line in lines if line.startswith("X-To: "))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


Undo = Callable[[], None]


def in_place(path: Path, change: Callable[[int, Any], None]) -> Undo:
    """Change the file under its readers, as a tool that opens it for writing does; what undoes that writes it back."""
    whole = path.read_bytes()
    with path.open("r+b") as file:
        change(len(whole), file)

    def undo() -> None:
        with path.open("r+b") as file:
            file.write(whole)
            file.truncate(len(whole))

    return undo


def garbage(size: int, file: Any) -> None:
    file.seek(size // 4)
    file.write(os.urandom(size // 2))


def away(path: Path) -> Undo:
    aside = path.with_name("aside.db")
    path.rename(aside)
    return lambda: aside.replace(path) and None


def other(path: Path) -> Undo:
    elsewhere = path.with_name("other.db")
    with sqlite3.connect(elsewhere) as made:
        made.execute("CREATE TABLE other(x)")
    made.close()
    undo = away(path)
    elsewhere.replace(path)
    return undo


DAMAGES: dict[str, Callable[[Path], Undo]] = {
    "truncated to nothing": lambda path: in_place(path, lambda size, file: file.truncate(0)),
    "truncated to half": lambda path: in_place(path, lambda size, file: file.truncate(size // 2)),
    "overwritten in the middle": lambda path: in_place(path, garbage),
    "overwritten in the middle of pages": lambda path: in_place(
        path, lambda size, file: [file.seek(at) and file.write(os.urandom(2_000)) for at in range(6_000, size, 4_096)]
    ),
    "deleted": away,
    "replaced": other,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_costs_nobody_a_mail(shop: Shop, damage: str) -> None:
    gateway, children = shop.gateway, shop.children()
    assert shop.send("marketing", PEOPLE[0]).startswith("250")
    gateway.op("consent.withdraw", tenant="shop", address=PEOPLE[1])
    shop.hop.down()
    assert shop.send("personal", "waits@dest.example").startswith("250")
    undo = DAMAGES[damage](shop.database)
    replies: list[str] = []
    for number in range(TROUBLE_ROUNDS):
        for login in ("marketing", "personal", "transactional"):
            replies.append(shop.try_to_send(login, PEOPLE[10 + number * 40]))
    assert {reply[:1] for reply in replies} <= {"2", "4"}, sorted({reply[:40] for reply in replies})
    gateway.until(lambda: not shop.ready()["ready"], 5.0, "nobody is told")
    assert gateway.metric("zegel_store_usable") == 0.0
    assert gateway.attempt("consent.show", tenant="shop", address=PEOPLE[0]) is None, "what it says is worth nothing"
    assert '"store.failed"' in shop.log()
    shop.hop.up()
    undo()
    gateway.until(lambda: shop.ready()["ready"], 20.0, f"not ready again: {shop.ready()}")
    assert shop.children() == children, "a process died"
    assert gateway.metric("zegel_store_usable") == 1.0
    assert shop.send("marketing", PEOPLE[2]).startswith("250")
    assert shop.send("marketing", PEOPLE[1]).startswith("550"), "an opt-out was lost"
    gateway.settle(20.0)
    assert set(shop.arrived()) == shop.accepted
    assert not [line for line in shop.log().splitlines() if "crashed" in line]


def test_a_worker_that_starts_without_the_database_lets_everybody_wait(shop: Shop) -> None:
    """It starts, says 451 at AUTH, sends nothing back of what it took over, and comes to itself when the file does."""
    gateway = shop.gateway
    shop.hop.down()
    for number in range(4):  # some for each worker
        assert shop.send("personal", f"waits{number}@dest.example").startswith("250")
    undo = away(shop.database)
    before = shop.children()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    gateway.until(lambda: len(shop.children() - before) == 3, 20.0, "not started again")
    gateway.until(lambda: ask(gateway, "/healthz")[0] == 200, 20.0, "the web process does not start")
    assert {shop.try_to_send("marketing", PEOPLE[0])[:9] for _ in range(10)} == {"451 4.3.0"}
    started = shop.children()
    gateway.until(lambda: sum("logins get 451" in reason for reason in shop.ready()["reasons"]) == 1, 10.0, "not said")
    status = ask(gateway, "/api/v1/consents/lookup", b"{}", key="anything")[0]
    assert status == 503, "a key that nobody can look up is not refused"
    shop.hop.up()
    undo()
    gateway.until(lambda: shop.ready()["ready"], 20.0, f"not ready again: {shop.ready()}")
    assert shop.children() == started
    assert shop.send("marketing", PEOPLE[0]).startswith("250")
    gateway.settle(30.0)
    assert set(shop.arrived()) == shop.accepted


def test_a_gateway_that_had_a_database_does_not_begin_anew_without_it(shop: Shop) -> None:
    """A new one would refuse every login for good, and know of no opt-out."""
    shop.gateway.stop()
    for name in ("gone", "empty"):
        undo = away(shop.database)
        if name == "empty":
            shop.database.touch()
        with pytest.raises(StoreUnavailable, match="back from a backup"):
            owner_of(shop.gateway.settings)
        assert not shop.database.exists() or not shop.database.stat().st_size
        undo()
    owner_of(shop.gateway.settings).close()


def test_a_disk_that_fails_under_the_database_lets_everybody_wait(tmp_path: Path, failing_disk: Disk) -> None:
    """Every read is an error (EIO), and no file can be looked at. With another disk in its place it needs a start."""
    shop = Shop(tmp_path, storage={"database": f"sqlite:///{failing_disk.place / 'zegel.db'}"})
    try:
        gateway, children = shop.gateway, shop.children()
        gateway.op("consent.withdraw", tenant="shop", address=PEOPLE[1])
        shop.hop.down()
        assert shop.send("personal", "waits@dest.example").startswith("250")
        failing_disk.cut()
        replies = [shop.try_to_send("marketing", PEOPLE[number * 40]) for number in range(TROUBLE_ROUNDS)]
        assert {reply[:1] for reply in replies} <= {"2", "4"}, sorted({reply[:40] for reply in replies})
        gateway.until(lambda: not shop.ready()["ready"], 5.0, "nobody is told")
        assert shop.children() == children, "a process died"
        assert gateway.process is not None
        gateway.process.terminate()
        gateway.wait()
        failing_disk.unmount()
        failing_disk.mount()
        shop.hop.up()
        gateway.start()
        gateway.until(lambda: shop.ready()["ready"], 20.0, f"not ready: {shop.ready()}")
        assert shop.send("marketing", PEOPLE[1]).startswith("550"), "an opt-out was lost"
        gateway.settle(20.0)
        assert set(shop.arrived()) == shop.accepted
    finally:
        shop.close()
