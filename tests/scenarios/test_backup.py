"""A backup made under load and put back elsewhere: nothing acknowledged before it is lost, and nobody who left gets mail."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.backup import sealed
from relay.cli.demo_setup import config_text
from relay.spool.segment import LARGE_BYTES
from tests.harness.gateway import MESSAGE, PACE, SENDER, Gateway, consent_row
from tests.harness.moody import Moody
from tests.harness.post import mail
from tests.relay.cli.conftest import Zegel
from tests.scenarios.conftest import Start

PASSPHRASE = "three blind mice run"
INJECT = {"unsubscribe": {"missing": "inject"}}
NEWS = (
    b"From: Shop <info@sender.example>\r\nTo: list@dest.example\r\nSubject: News\r\n\r\n"
    b"News. Unsubscribe: {unsubscribe}\r\n"
)


class Elsewhere(Gateway):
    """An empty machine with the same config but for its folders and ports."""

    def __init__(self, folder: Path, before: Gateway, **tables: Any) -> None:
        folder.mkdir()
        super().__init__(folder, workers=before.settings.server.workers, **tables)
        self.logins = before.logins
        self.sink.close()

    def _found(self) -> None:
        """Nothing is here."""


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEGEL_BACKUP_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(sealed, "LOG2_N", 10)  # of the commands in this process


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Any]:
    made: list[Gateway] = []

    def make(before: Gateway, hop: Moody) -> Gateway:
        delivery = {"smarthosts": [f"smtp://127.0.0.1:{hop.port}"], "retry_after_seconds": [1.0, 1.0, 1800.0]}
        made.append(
            Elsewhere(tmp_path / f"other{len(made)}", before, delivery=delivery, policies={"throttle": PACE, **INJECT})
        )
        return made[-1]

    yield make
    for gateway in made:
        gateway.stop()


def command(gateway: Gateway) -> Zegel:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    return Zegel(config)


def arrived(hop: Moody) -> list[str]:
    return [line.partition("<")[2].partition(">")[0] for message in hop.arrived for line in message.rcpt]


class Senders:
    """Threads that post one mail after the other; `acknowledged` is what was promised, in order."""

    def __init__(self, gateway: Gateway, threads: int = 4) -> None:
        self.acknowledged: list[str] = []
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        count = 0
        with self._gateway.connect(seconds=60.0) as client:
            client.login(*self._gateway.logins["transactional"])
            while not self._stop.is_set():
                count += 1
                address = f"n{number}-{count}@dest.example"
                body = b"x" * 70 + b"\r\n"
                large = body * (LARGE_BYTES // 72 + 1) if count % 20 == 0 else b""
                for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{address}>", "DATA"):
                    assert client.ask(line)[0] in "23"
                client.send(MESSAGE + large + b".\r\n")
                if client.reply().startswith("250"):
                    self.acknowledged.append(address)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_backup_under_load_is_put_back_elsewhere(start: Start, elsewhere: Any, tmp_path: Path) -> None:
    gateway, hop = start(workers=2, policies=INJECT)
    people = ("leaver", "stays", "gap", "told")
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(f"{name}@dest.example") for name in people])
    senders = Senders(gateway)
    gateway.until(lambda: len(senders.acknowledged) > 100, 30.0, "no load")
    hop.down()
    for name in people:
        assert mail(gateway, "marketing", f"{name}@dest.example", NEWS).startswith("250")
    gateway.op("consent.withdraw", tenant="shop", address="leaver@dest.example")
    gateway.until(lambda: len(senders.acknowledged) > 300, 30.0, "no load")
    promised = set(senders.acknowledged)
    began = time.time()
    made = command(gateway).ask("backup", tmp_path / "monday")
    ended = time.time()
    assert began <= made["cut_at"] <= ended
    gateway.until(lambda: len(senders.acknowledged) > len(promised) + 100, 30.0, "the load did not go on")
    senders.stop()
    hop.up()
    gateway.op("consent.withdraw", tenant="shop", address="told@dest.example")  # the operator will know from the tool
    gateway.until(lambda: len(hop.arrived) > 150, 30.0, "nothing leaves")
    assert gateway.process is not None
    gateway.process.terminate()
    gateway.wait()
    before = set(arrived(hop))
    hop.arrived.clear()

    other = elsewhere(gateway, hop)
    zegel = command(other)
    back = zegel.ask("restore", tmp_path / "monday")
    assert back["cut_at"] == made["cut_at"] and back["messages"] == made["messages"] > 200
    assert zegel.ask("backup", tmp_path / "tuesday")["messages"] == made["messages"], (
        "what is not released yet is in it"
    )
    other.start()
    # New letters go, the restored queue and marketing wait.
    assert mail(other, "transactional", "new@dest.example").startswith("250")
    assert mail(other, "marketing", "stays@dest.example", NEWS).startswith("250")
    other.until(lambda: "new@dest.example" in arrived(hop), 20.0, "new mail does not leave")
    assert any("queue release" in note for note in other.op("ready.notes"))
    assert arrived(hop) == ["new@dest.example"]
    for asked in (("queue", "list"), ("queue", "stats"), ("held", "list")):  # which look elsewhere, and must say so
        assert f"a restore waits for `zegel queue release`: {made['messages']} messages" in zegel(*asked).out
    assert mail(other, "marketing", "leaver@dest.example", NEWS).startswith("550")
    # Told of the gap, the operator enters who left meanwhile, and lets it go.
    refused = zegel("queue", "release")
    assert refused.code == 2 and "nothing is known here" in refused.out and "opted out" in refused.out
    assert "a stolen password too" in refused.out, "what was revoked since the backup is valid again"
    zegel.ask("suppression", "add", "shop", "told@dest.example")
    released = zegel.ask("queue", "release", "--yes")
    assert released["messages"] == made["messages"]
    missing = promised - before
    other.until(lambda: missing <= set(arrived(hop)), 60.0, "something that was acknowledged is lost")
    other.until(lambda: "gap@dest.example" in arrived(hop), 20.0, "marketing does not go after the release")
    got = arrived(hop)
    assert "leaver@dest.example" not in got and "told@dest.example" not in got
    assert zegel("queue", "release", "--yes").code == 1
    assert other.metric("zegel_queue_corrupt_rows") == 0.0
    assert zegel.ask("consent", "verify", "shop")["ok"]


def quiet(start: Start) -> tuple[Gateway, Moody]:
    """A gateway with mail that waits, large mail too, and some history."""
    gateway, hop = start(workers=1)
    for number in range(20):
        assert mail(gateway, "transactional", f"d{number}@dest.example").startswith("250")
    gateway.settle()
    hop.down()
    for number in range(30):
        raw = MESSAGE + (b"y" * 70 + b"\r\n") * (3000 if number % 10 == 0 else 1)
        assert mail(gateway, "transactional", f"w{number}@dest.example", raw).startswith("250")
    return gateway, hop


def test_what_cannot_be_is_said_and_changes_nothing(
    start: Start, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, hop = quiet(start)
    zegel, file = command(gateway), tmp_path / "monday"
    monkeypatch.setenv("ZEGEL_BACKUP_PASSPHRASE", "short")
    assert zegel("backup", file).code == 2 and not file.exists()
    monkeypatch.delenv("ZEGEL_BACKUP_PASSPHRASE")
    nobody = zegel("backup", file)
    assert nobody.code == 2 and "--passphrase-file" in nobody.err
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE + "\n")
    told = zegel("backup", file, "--passphrase-file", secret)
    assert told.code == 0 and "waiting in it: 30 messages" in told.out
    assert file.stat().st_mode & 0o777 == 0o600
    again = zegel("backup", file, "--passphrase-file", secret)
    assert again.code == 1 and "nothing is overwritten" in again.err
    assert b"dest.example" not in file.read_bytes()
    old = tmp_path / "old"
    with old.open("wb") as made:
        sealed.SealedWriter(made, PASSPHRASE, said={"delete_after": "2026-01-01"}).finish()
    plain = zegel.ask("backup", tmp_path / "tuesday", "--passphrase-file", secret)
    assert (plain["deleted"], old.exists()) == ([], True), "nothing goes unasked"
    due = zegel("backup", tmp_path / "wednesday", "--passphrase-file", secret, "--delete-due")
    assert due.code == 0 and "deleted, its time was over" in due.out and file.exists() and not old.exists()
    data, keys = gateway.settings.server.data_dir, gateway.settings.server.keys_dir
    (tmp_path / "elsewhere").symlink_to(data)
    for place in (data, data / "history", keys, tmp_path / "elsewhere"):  # it would copy itself for ever
        inside = zegel("backup", place / "tuesday", "--passphrase-file", secret)
        assert inside.code == 2 and "choose another place" in inside.err
        assert not list(place.glob("tuesday*"))
    full = zegel("restore", file, "--passphrase-file", secret)
    assert full.code == 1 and "runs on" in full.err

    other = elsewhere(gateway, hop)
    there = command(other)
    secret.write_text(PASSPHRASE + "x\n")
    wrong = there("restore", file, "--passphrase-file", secret)
    assert wrong.code == 1 and "not made with this passphrase" in wrong.err
    secret.write_text(PASSPHRASE)
    octets = file.read_bytes()
    for changed, words in (
        (octets[: len(octets) // 2], "cut off"),
        (octets[: len(octets) // 2] + b"\0" + octets[len(octets) // 2 + 1 :], "was changed"),
    ):
        (tmp_path / "bad").write_bytes(changed)
        bad = there("restore", tmp_path / "bad", "--passphrase-file", secret)
        assert bad.code == 1 and words in bad.err and "nothing was restored" in bad.err
        data, keys = other.settings.server.data_dir, other.settings.server.keys_dir
        assert list(data.iterdir()) == [] and list(keys.iterdir()) == []
    (data / "notes.txt").write_text("mine")
    strange = there("restore", file, "--passphrase-file", secret)
    assert strange.code == 1 and "notes.txt" in strange.err and (data / "notes.txt").read_text() == "mine"


def content(gateway: Gateway) -> dict[str, bytes]:
    """Everything that a restore puts in place, but the note of it."""
    found = {}
    for folder in (gateway.settings.server.data_dir, gateway.settings.server.keys_dir):
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "restored.json":
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_a_restore_that_is_killed_at_any_move_is_finished_by_the_next(
    start: Start, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, hop = quiet(start)
    command(gateway).ask("backup", tmp_path / "monday")
    whole = elsewhere(gateway, hop)
    command(whole).ask("restore", tmp_path / "monday")
    expected = content(whole)
    rename, moves = Path.rename, 0

    class Killed(BaseException):
        """The process ends here."""

    for number in range(100):
        other = elsewhere(gateway, hop)
        left = number

        def move(path: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return rename(path, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", move)
            try:
                command(other)("restore", tmp_path / "monday")
            except (Killed, AssertionError):
                moves += 1
            else:
                break
        stopped = command(other)("tenant", "list")
        assert stopped.code == 3 and "broken off" in stopped.err, "nothing works on half of the data"
        assert command(other).ask("restore", tmp_path / "monday")["finished"]
        assert content(other) == expected
        assert command(other).ask("tenant", "list")
    assert moves > 4


def run(gateway: Gateway, *words: str | Path) -> subprocess.Popen[bytes]:
    command(gateway)
    line = [sys.executable, "-m", "relay", *map(str, words), "-c", str(gateway.folder / "zegel.toml"), "--json"]
    return subprocess.Popen(line, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_kills_in_the_middle_of_either_leave_nothing_behind(start: Start, elsewhere: Any, tmp_path: Path) -> None:
    gateway, hop = quiet(start)
    file, dice = tmp_path / "safe" / "monday", random.Random(7)
    file.parent.mkdir()
    queue = gateway.settings.server.data_dir / "queue"
    killed = 0
    for _ in range(8):
        with run(gateway, "backup", file) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3 + dice.random() * 1.2)
                raise subprocess.TimeoutExpired("it was quicker", 0)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        if file.exists():
            file.unlink()
        assert gateway.op("ready") == []
        gateway.until(lambda: not list(queue.glob("backup-*")), 15.0, "a killed backup leaves bodies behind")
    with run(gateway, "backup", file) as process:
        out, err = process.communicate(timeout=60.0)
        assert process.returncode == 0, err
        made = json.loads(out)
    assert made["messages"] == 30 and os.listdir(file.parent) == ["monday"] and killed > 2
    other = elsewhere(gateway, hop)
    for _ in range(8):
        with run(other, "restore", file) as process:
            time.sleep(0.3 + dice.random() * 1.2)
            process.send_signal(signal.SIGKILL)
        folder = other.settings.server.data_dir
        if folder.exists() and (folder / "zegel.db").exists() and not (folder / ".restore").exists():
            break  # it was quicker
    else:
        with run(other, "restore", file) as process:
            _, err = process.communicate(timeout=60.0)
            assert process.returncode == 0, err
    other.start()
    assert command(other).ask("queue", "release", "--yes")["messages"] == 30
    hop.up()
    other.until(lambda: {f"w{n}@dest.example" for n in range(30)} <= set(arrived(hop)), 30.0, "mail is lost")
    other.settle()
    assert len([to for to in arrived(hop) if to.startswith("w")]) == 30, "each once"
