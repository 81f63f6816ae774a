"""The outbox store: what goes in comes out, sealed, bounded, once per body."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.keyring import Keyring, Kind
from relay.mail.edits import Edit
from relay.store import outbox as module
from relay.store.outbox import Entry, Outbox

RAW = b"From: a@shop.example\r\nSubject: caf\xc3\xa9\r\n\r\nmarker-of-the-body \x00\xff\r\n"
FULL = Entry(
    queue_id="01J8ZK",
    at=1_700_000_000.25,
    tenant="shop",
    credential="news",
    stream="marketing",
    verdict="accept",
    mail_class="commercial",
    rule="CC-8",
    reason="recipients.split",
    reply="250 2.0.0 queued",
    mail_from="b@shop.example",
    recipients=("ann@example.net", "jörg@example.net"),
    incoming=RAW,
    outgoing=b"X: y\r\n" + RAW,
    edits=(Edit("remove", "Bcc", "", "CC-15"),),
    trace=({"policy": "consent", "action": "accept", "rule": "CONSENT-1"},),
    due=1_700_000_100.0,
    stage="delivery",
)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "keys", create=True)


@pytest.fixture
def outbox(tmp_path: Path, keyring: Keyring) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.db", keyring)
    yield opened
    opened.close()


def test_an_entry_comes_back_whole_byte_for_byte(outbox: Outbox) -> None:
    number = outbox.record_copy(FULL)
    stored = outbox.entry(number)
    assert stored is not None
    assert stored.entry == FULL
    assert outbox.entry(number + 1) is None


@pytest.mark.parametrize(
    "raw", [b"", b"\r\nonly a body", b"Only: head\r\n", b"Only: head\r\n\r\n", b"no message at all"]
)
def test_odd_bytes_come_back_as_they_went_in(outbox: Outbox, raw: bytes) -> None:
    stored = outbox.entry(outbox.record_refusal(FULL._replace(incoming=raw, outgoing=b"")))
    assert stored is not None
    assert (stored.entry.incoming, stored.entry.outgoing) == (raw, b"")


def test_nothing_readable_lies_on_the_disk(outbox: Outbox, tmp_path: Path) -> None:
    outbox.record_copy(FULL)
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("outbox.db*"))
    for clear in (b"marker-of-the-body", b"ann@example.net", b"shop.example", b"caf\xc3\xa9"):
        assert clear not in on_disk
    assert (tmp_path / "outbox.db").stat().st_mode & 0o077 == 0


def test_entries_survive_a_rotated_key_and_vanish_with_a_lost_one(
    outbox: Outbox, keyring: Keyring, tmp_path: Path
) -> None:
    first = outbox.record_copy(FULL)
    keyring.rotate(Kind.QUEUE, now=1.0)
    second = outbox.record_copy(FULL._replace(queue_id="02"))
    for number in (first, second):
        assert outbox.entry(number) is not None
    stranger = Outbox(tmp_path / "outbox.db", Keyring.open(tmp_path / "other-keys", create=True))
    assert stranger.entry(first) is None
    assert stranger.entries() == []
    stranger.close()


def test_lists_are_newest_first_filtered_and_paged_without_bodies(outbox: Outbox) -> None:
    for index in range(5):
        outbox.record_copy(FULL._replace(queue_id=f"a{index}"))
        outbox.record_refusal(FULL._replace(queue_id="", verdict="reject"))
    everything = outbox.entries()
    assert [stored.id for stored in everything] == list(range(10, 0, -1))
    assert all(b"marker" not in stored.entry.incoming for stored in everything)
    refused = outbox.entries(verdict="reject", limit=2)
    assert [stored.id for stored in refused] == [10, 8]
    assert [stored.id for stored in outbox.entries(verdict="reject", before=8)] == [6, 4, 2]
    assert outbox.counts() == {"accept": 5, "reject": 5, "defer": 0, "hold": 0, "parked": 0}


def test_a_waiting_entry_goes_when_its_copies_leave_whichever_comes_first(outbox: Outbox) -> None:
    outbox.record_waiting(FULL._replace(verdict="parked", outgoing=b""))
    outbox.record_copy(FULL)
    outbox.record_copy(FULL._replace(recipients=("bob@example.net",)))
    assert outbox.record_waiting(FULL._replace(verdict="parked", outgoing=b"")) == 0
    assert [stored.entry.verdict for stored in outbox.siblings("01J8ZK")] == ["accept", "accept"]


def test_a_split_keeps_its_body_once(outbox: Outbox, tmp_path: Path) -> None:
    body = b"x" * 200_000
    for number in range(40):
        raw = b"To: r%d@example.net\r\n\r\n" % number + body
        outbox.record_copy(FULL._replace(incoming=b"A: b\r\n\r\n" + body, outgoing=raw))
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        assert db.execute("select count(*) from bodies").fetchone() == (1,)
        assert db.execute("select count(*) from entries").fetchone() == (40,)
    db.close()


def test_only_the_newest_stay_and_their_bodies_with_them(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_ENTRIES", 50)
    for number in range(200):
        outbox.record_copy(FULL._replace(incoming=b"A: b\r\n\r\nbody %d" % number, outgoing=b""))
    kept = outbox.entries(limit=1000)
    assert 50 <= len(kept) < 50 + module.TRIM_EVERY
    assert kept[0].id == 200
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        assert db.execute("select count(*) from bodies").fetchone() == (len(kept),)
    db.close()


def test_large_bodies_push_out_the_oldest(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_BYTES", 100_000)
    for number in range(8):
        noise = random.Random(number).randbytes(60_000)
        outbox.record_copy(FULL._replace(incoming=b"A: b\r\n\r\n" + noise, outgoing=b"", queue_id=str(number)))
    kept = outbox.entries()
    assert len(kept) < 8
    assert kept[0].entry.queue_id == "7"
    last = outbox.entry(kept[0].id)
    assert last is not None
    assert len(last.entry.incoming) > 60_000


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("outbox.db*")))


def sealed_in(path: Path) -> list[bytes]:
    """The start of everything sealed in the file, which no page may hold once it was let go."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("select sealed from entries union all select sealed from bodies").fetchall()
    return [sealed[:48] for (sealed,) in rows]


def test_what_is_older_than_the_delivery_log_goes_from_every_page(
    outbox: Outbox, keyring: Keyring, tmp_path: Path
) -> None:
    """GDPR-3, GDPR-14; also when the outbox was closed long ago, for mail is delivered by now."""
    path = tmp_path / "outbox.db"
    body = b"A: b\r\n\r\n" + random.Random(1).randbytes(60_000)
    for number, at in enumerate((100.0, 199.0, 200.0)):
        outbox.record_copy(FULL._replace(queue_id=str(number), at=at, outgoing=body + b"%d" % (at >= 200)))
    old = sealed_in(path)
    assert len(old) == 3 + 3, "bodies: of what came in, and two of what left"
    outbox.close()
    assert module.forget_before(path, keyring, 100.0, {}) == 0
    assert module.forget_before(path, keyring, 200.0, {}) == 2
    kept = sealed_in(path)
    assert len(kept) == 1 + 2 and set(kept) < set(old)
    raw = on_disk(tmp_path)
    assert [one in raw for one in old] == [one in kept for one in old]
    assert module.forget_before(path, keyring, 201.0, {}) == 1
    raw = on_disk(tmp_path)
    assert sealed_in(path) == [] and not any(one in raw for one in old)


def test_a_tenant_that_keeps_its_delivery_log_for_less_long_loses_captured_mail_as_soon(
    outbox: Outbox, keyring: Keyring, tmp_path: Path
) -> None:
    """GDPR-13. Whose a mail is that cannot be opened nobody knows: it goes with the last."""
    for tenant in ("shop", "kerk"):
        outbox.record_copy(FULL._replace(queue_id=tenant, tenant=tenant, at=150.0))
    assert outbox.forget(100.0, {"shop": 150.0}) == 0
    strangers = Keyring.open(tmp_path / "other-keys", create=True)
    assert module.forget_before(tmp_path / "outbox.db", strangers, 100.0, {"shop": 200.0}) == 0
    assert outbox.forget(100.0, {"shop": 200.0, "school": 300.0}) == 1
    assert [stored.entry.tenant for stored in outbox.entries()] == ["kerk"]
    assert module.forget_before(tmp_path / "outbox.db", strangers, 151.0, {}) == 1


def test_where_nothing_was_captured_nothing_is_made(keyring: Keyring, tmp_path: Path) -> None:
    assert module.forget_before(tmp_path / "outbox.db", keyring, 1e12, {}) == 0
    assert on_disk(tmp_path) == b"" and not (tmp_path / "outbox.db").exists()


def test_two_writers_share_the_file(outbox: Outbox, keyring: Keyring, tmp_path: Path) -> None:
    second = Outbox(tmp_path / "outbox.db", keyring)
    for number in range(20):
        (outbox if number % 2 else second).record_copy(FULL._replace(queue_id=str(number)))
    assert [stored.entry.queue_id for stored in second.entries()] == [str(number) for number in range(19, -1, -1)]
    second.close()
