"""Where operations run: alone with the lock, with whose identity, and what is said when that cannot be."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from relay.cli import client
from relay.clock import SystemClock
from relay.keyring import Keyring
from relay.serve.boot import QUEUE
from relay.serve.channel import OpRefused
from relay.spool.cipher import Cipher
from relay.spool.files import QueueFiles
from relay.spool.item import Item
from relay.store import migrate
from tests.relay.cli.conftest import CONFIG, Zegel

ROOT = Path(__file__).parents[3]
NOBODY = 65_534
RAW = b"From: a@shop.example\r\nTo: b@example.net\r\nSubject: x\r\n\r\nhello\r\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes who owns a folder")


def put(
    folder: Path, *, held: str = "", detail: dict[str, str] | None = None, due: float = 0.0, **changes: object
) -> str:
    """One message in the queue files, as a gateway that has stopped left it; its queue id. `changes` of its meta."""

    async def work() -> str:
        keyring = Keyring.open(folder / "keys", create=False)
        cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
        queue = QueueFiles(folder / "data" / QUEUE, cipher, SystemClock(), on_work=lambda: None)
        await queue.start()
        meta = {
            "tenant_id": 1,
            "tenant": "shop",
            "credential": "shop-personal",
            "stream": "personal",
            "class": "personal",
            "purpose": "",
            "confirm": False,
            "from": "a@shop.example",
            "rcpt": [["b@example.net", [], ""], ["c@example.net", [], ""]],
            "ret": "",
            "envid": "",
            "utf8": False,
            "edits": [["prepend", "Received", "from test", "SMTP-22"]],
            "domain": "shop.example",
            "subscriber": "",
            "language": "en",
            "at": 1_790_000_000.0,
        } | ({"held": held, "held_detail": detail or {}} if held else {})
        item = Item(queue.next_id(), meta | changes, RAW, due=due)
        await queue.commit(item)
        await queue.stop()
        return item.queue_id

    return asyncio.run(work())


def test_the_queue_is_ours_while_no_gateway_runs(shop: Zegel, tmp_path: Path) -> None:
    first, second = put(tmp_path), put(tmp_path, due=4_000_000_000.0)
    listed = {row["id"]: row for row in shop.ask("queue", "list")}
    assert set(listed) == {first, second} and listed[first]["recipient_count"] == 2
    assert {row["id"] for row in shop.ask("queue", "list", "--tenant", "shop")} == {first, second}
    stats = shop.ask("queue", "stats")
    assert (stats["ready"], stats["waiting"], stats["held"]) == (1, 1, 0)
    assert type(stats["bytes"]) is int and "." not in shop("queue", "stats").out
    shown = shop.ask("queue", "show", first)
    assert [row["address"] for row in shown["recipients"]] == ["b@example.net", "c@example.net"]
    assert "Received" in shop("queue", "show", first).out
    assert shop.ask("queue", "retry", second)["state"] == "ready"
    assert shop.ask("queue", "delete", first, "--yes")["state"] == "deleted"
    assert [row["id"] for row in shop.ask("queue", "list")] == [second]


def test_a_tenant_that_does_not_exist_has_no_empty_queue(shop: Zegel) -> None:
    shop.ask("tenant", "add", "other", "--language", "en")
    for noun in ("queue", "held"):
        assert shop.ask(noun, "list", "--tenant", "other") == []
        told = shop(noun, "list", "--tenant", "nope", "--json")
        assert (told.code, told.out) == (1, "") and "there is no tenant of that name" in told.err


LATER = 4_000_000_000.0


def test_many_messages_are_tried_at_once_by_whose_they_are(shop: Zegel, tmp_path: Path) -> None:
    """What a limit has parked goes by one command; what is held stays held."""
    office = put(tmp_path, due=LATER)  # a host is away
    news = [put(tmp_path, due=LATER, turn=LATER, credential="shop-newsletter") for _ in range(3)]
    mine = put(tmp_path, due=LATER, turn=LATER)
    put(tmp_path)
    put(tmp_path, held="recipients.ask", due=LATER)

    def late(*words: str) -> set[str]:
        return {row["id"] for row in shop.ask("queue", "list", *words)}

    assert late("--parked") == {*news, mine} and late("--credential", "shop-newsletter") == set(news)
    assert shop("queue", "retry").code == shop("queue", "retry", office, "--all").code == 2
    told = shop("queue", "retry", "--all")
    assert told.code == 2 and "Try 5 messages now" in told.err and "add --yes" in told.err
    assert late("--parked") == {*news, mine}, "nobody has said yes"
    retry = ("queue", "retry", "--yes")
    assert shop.ask(*retry, "--credential", "shop-newsletter", "--limit", "2") == {"retried": 2, "more": True}
    assert late("--parked") == {news[2], mine}
    assert shop.ask(*retry, "--tenant", "shop", "--parked") == {"retried": 2, "more": False}
    assert shop.ask("queue", "stats")["waiting"] == 1
    assert "1 message." in shop(*retry, "--all").out and shop.ask("queue", "stats")["waiting"] == 0
    assert shop.ask(*retry, "--all") == {"retried": 0, "more": False}
    assert "Nothing" in shop(*retry, "--tenant", "shop").out and len(shop.ask("held", "list")) == 1
    for words, said in ((("--tenant", "nope"), "no tenant"), (("--credential", "nope"), "no such credential")):
        told = shop(*retry, *words)
        assert told.code == 1 and said in told.err


def at_a_terminal(answer: str, *words: str | Path) -> int:
    """The exit code of a command whose question is answered so by somebody at a terminal."""
    ours, theirs = os.openpty()
    try:
        os.write(ours, answer.encode())
        command = [sys.executable, "-m", "relay", *map(str, words)]
        return subprocess.run(command, stdin=theirs, capture_output=True, cwd=ROOT, timeout=60, check=False).returncode
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_without_a_dash_gets_the_answer(shop: Zegel, tmp_path: Path) -> None:
    """What was asked for was done, and then came a defect in zegel itself; a password is shown only once."""
    command = [
        sys.executable,
        "-m",
        "relay",
        "credential",
        "add",
        "shop",
        "--stream",
        "marketing",
        "-c",
        str(shop.config),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "iso-8859-15"}
    told = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert (told.returncode, told.stderr) == (0, b"") and b"password" in told.stdout


def test_a_deletion_is_asked_for(shop: Zegel, tmp_path: Path) -> None:
    number = put(tmp_path)
    words = ("queue", "delete", number, "-c", shop.config)
    assert at_a_terminal("n\n", *words) == 1
    assert at_a_terminal("", *words, "--json") == 2, "a program reads the answer and gives none"
    assert len(shop.ask("queue", "list")) == 1
    assert at_a_terminal("y\n", *words) == 0
    assert shop.ask("queue", "list") == []


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_where_nobody_can_be_asked_a_command_says_how_to_do_without(
    shop: Zegel, tmp_path: Path, json: tuple[str, ...]
) -> None:
    """It printed a space where JSON was awaited, and "Aborted."."""
    number = put(tmp_path)
    for words, config in ((("queue", "delete", number), True), (("init", tmp_path / "new"), False)):
        told = shop(*words, *json, stdin="y\n", config=config)
        assert (told.code, told.out) == (2, "") and "add --yes" in told.err, told
    assert len(shop.ask("queue", "list")) == 1 and not (tmp_path / "new").exists()


def test_held_mail_ends_as_released_or_with_a_report(shop: Zegel, tmp_path: Path) -> None:
    first = put(tmp_path, held="classification.many_recipients", detail={"recipients": "20"})
    second = put(tmp_path)
    assert shop.ask("queue", "hold", second)["state"] == "held"
    held = {row["id"]: row["held"] for row in shop.ask("held", "list")}
    assert held == {first: "classification.many_recipients", second: "queue.held_by_operator"}
    for words in (("queue", "list"), ("held", "list"), ("held", "show", second), ("queue", "show", second)):
        told = shop(*words).out
        assert "operator" in told and "queue.held_by_operator" not in told, "people read words, programs the code"
        assert "now" not in told.split(), "what waits for a person has no next attempt"
    assert "20 recipients at once" in shop("held", "show", first).out, "with what fills it"
    assert shop.ask("held", "release", first)["state"] == "ready"
    assert shop.ask("held", "refuse", second)["state"] == "refused"
    assert shop.ask("held", "list") == []
    left = shop.ask("queue", "list")
    assert sorted(row["from"] for row in left) == ["", "a@shop.example"], "the report to the sender has the null sender"


def test_what_people_did_to_a_message_stands_in_its_trace(shop: Zegel, tmp_path: Path) -> None:
    """Without a gateway too: `zegel trace` is where the next person looks."""
    number = put(tmp_path, held="recipients.ask", detail={"addresses": "12"})
    other = put(tmp_path)
    for words in (("held", "release", number), ("queue", "hold", number), ("held", "refuse", number)):
        shop.ask(*words)
    shop.ask("queue", "delete", other, "--yes")
    (told,) = shop.ask("trace", number)
    done = [(event["event"], event["reason"], event["by"]) for event in told["events"] if "by" in event]
    assert done == [
        ("released", "recipients.ask", "operator"),
        ("held", "queue.held_by_operator", "operator"),
        ("refused", "queue.held_by_operator", "operator"),
    ]
    (report,) = [event["report"] for event in told["events"] if event["event"] == "told"]
    found = {entry["id"]: entry["events"][0]["event"] for entry in shop.ask("trace", "a@shop.example")}
    assert found[report] == "made", "who looks for the sender finds what was written to him"
    shown = shop("trace", number).out
    assert "[CC-10] In this mail 12 people see each other's address" in shown
    assert "[PIPE-2] The operator of this server holds the mail" in shown and "by the operator" in shown
    assert "<c@example.net> failed 5.7.1" in shown
    assert [event["event"] for event in shop.ask("trace", other)[0]["events"]] == ["deleted"]


def test_a_lock_that_stays_taken_is_told(shop: Zegel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BUSY_SECONDS", 0.1)
    with (tmp_path / "data" / "owner.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = shop("tenant", "add", "other")
        assert answer.code == 3 and "another process owns" in answer.err
        assert shop.ask("tenant", "list"), "reading needs no lock"
    assert shop("tenant", "add", "other").code == 0


def test_a_socket_that_nobody_listens_on_is_no_gateway(shop: Zegel, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "data" / "control.sock"))
    assert shop("tenant", "add", "other").code == 0


def test_keys_that_are_gone_are_not_made_anew(shop: Zegel, tmp_path: Path) -> None:
    """New keys beside old data would make every address and every mail in it unreadable."""
    shutil.move(tmp_path / "keys" / "keyring.json", tmp_path / "kept.json")
    for words in (("tenant", "add", "other"), ("tenant", "list"), ("queue", "list"), ("trace", "ann@example.net")):
        answer = shop(*words)
        assert answer.code == 3 and "keyring.json" in answer.err, words
    assert not (tmp_path / "keys" / "keyring.json").exists()


def test_a_damaged_database_is_a_sentence(shop: Zegel, tmp_path: Path) -> None:
    (tmp_path / "data" / "zegel.db").write_bytes(b"not a database" * 100)
    answer = shop("tenant", "list")
    assert answer.code == 3 and "Traceback" not in answer.err and answer.err.startswith("zegel: ")


@pytest.fixture
def foreign() -> Iterator[Zegel]:
    """A set-up that belongs to the user nobody, in a folder that anybody may enter."""
    if not all(path.stat().st_mode & 0o005 == 0o005 for path in Path(__file__).resolve().parents):
        pytest.skip("needs a checkout that other users may read, and this one lies in a closed folder")
    base = Path(tempfile.mkdtemp(prefix="zegel-foreign-"))
    base.chmod(0o755)
    (base / "zegel.toml").write_text(CONFIG)
    (base / "zegel.toml").chmod(0o644)  # whatever umask another test left
    made = Zegel(base / "zegel.toml")
    made.ask("tenant", "add", "shop")
    for path in (base, *base.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield made
    shutil.rmtree(base)


def test_data_of_the_version_before_is_told_from_a_bad_disk(shop: Zegel, tmp_path: Path) -> None:
    """The new program is installed, and the gateway was not started with it yet; it was told to look at the disk."""
    mail = tmp_path / "mail.eml"
    mail.write_bytes(RAW)
    explain = (
        "explain",
        mail,
        "--credential",
        "shop-personal",
        "--mail-from",
        "a@shop.example",
        "--rcpt-to",
        "b@example.net",
    )
    asked = (explain, ("limit", "show", "shop"), ("webhook", "list", "shop"))
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'data' / 'zegel.db'}")
    with engine.begin() as connection:
        command.downgrade(migrate.config(connection), "0005")
    for words in asked:
        told = shop(*words)
        assert told.code == 3 and "form of the version before: start the gateway" in told.err, told
        assert "disk" not in told.err
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "head")
        connection.exec_driver_sql("DROP TABLE webhook")
    engine.dispose()
    told = shop("webhook", "list", "shop")
    assert told.code == 3 and "look at the disk" in told.err, "what is not old is not said to be"


def test_a_gateway_of_another_version_is_told(shop: Zegel, monkeypatch: pytest.MonkeyPatch) -> None:
    def old(link: object, op: str, args: object) -> None:
        raise OpRefused("op.unknown", f"there is no operation {op}: see `zegel --help`")

    monkeypatch.setattr(client.Link, "call", old)
    told = shop("audit")
    assert told.code == 3 and "another version" in told.err and "start it again" in told.err


@as_root
def test_root_leaves_every_file_to_the_owner_of_the_folder(foreign: Zegel) -> None:
    folder = foreign.config.parent
    foreign.ask("tenant", "add", "other")
    foreign.ask("domain", "add", "other", "other.example", "--vouched")
    foreign.ask("dkim", "add", "other.example", "--vouched")
    foreign.ask("queue", "list")
    assert {path.stat().st_uid for path in (folder / "data").rglob("*")} == {NOBODY}
    assert {path.stat().st_uid for path in (folder / "keys").rglob("*")} == {NOBODY}
    assert os.geteuid() == 0, "and is root again"


@as_root
def test_root_backs_up_and_restores_for_the_owner_of_the_folder(
    foreign: Zegel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is of who asked for it, in a place that the owner cannot write; what comes back is the owner's."""
    monkeypatch.setenv("ZEGEL_BACKUP_PASSPHRASE", "three blind mice run")
    tmp_path.chmod(0o700)
    folder, file = foreign.config.parent, tmp_path / "monday"
    foreign.ask("backup", file)
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o600)
    assert {path.stat().st_uid for path in (folder / "data").rglob("*")} == {NOBODY}
    for name in ("data", "keys"):
        (folder / name).rename(folder / f"{name}.before")
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, NOBODY, NOBODY)
    foreign.ask("restore", file)
    for name in ("data", "keys"):
        assert {path.stat().st_uid for path in (folder / name).rglob("*")} == {NOBODY}
    foreign.ask("queue", "release", "--yes")
    assert foreign.ask("tenant", "list") and os.geteuid() == 0


@as_root
def test_root_does_not_serve_from_somebody_elses_folder(foreign: Zegel) -> None:
    answer = foreign("serve")
    assert answer.code == 3 and "belongs to nobody" in answer.err


@as_root
def test_another_user_is_told_whom_to_be(foreign: Zegel) -> None:
    assert foreign("tenant", "show", "nobody").code == 1  # imports what this other user may not be able to read
    os.seteuid(1)
    try:
        answer = foreign("tenant", "list")
    finally:
        os.seteuid(0)
    assert answer.code == 3 and "sudo -u nobody" in answer.err
