"""Who got a mailing is forgotten when its time is over, by its invoice date or its last line (GDPR-12, SEED-9)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from relay.mail.mailing import Mailing
from relay.spool.item import IdSource, time_of
from relay.store.history import Event, History, find, forget_before, read
from relay.store.mailings import Periods, Seen, forget, seen_in
from relay.store.thinning import thin

DAY = 86_400.0
SPRING = Mailing("shop", "spring-sale")


def seal(number: int, data: bytes) -> bytes:
    """No encryption, but bound to its row as the real one is."""
    return str(number).encode() + b"|" + bytes(octet ^ 0x5A for octet in data)


def unseal(number: int, blob: bytes) -> bytes:
    name, _, data = blob.partition(b"|")
    assert name == str(number).encode()
    return bytes(octet ^ 0x5A for octet in data)


def at(day: str, hour: int = 9) -> float:
    return datetime.fromisoformat(day).replace(hour=hour, tzinfo=UTC).timestamp()


class Log:
    """A delivery log that is written on any day; messages are named by letters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: dict[str, int] = {}
        self.invoiced: dict[Mailing, float] = {}
        self.chosen: Mapping[str, int] = {}
        self.invoice_days = 92

    async def write(self, day: str, *lines: tuple[str, str, Mailing | None]) -> None:
        """(message, word, mailing): as one process that writes them at nine o'clock and ends."""
        history = History(self.folder, "0", seal)
        history.start()
        for name, word, mailing in lines:
            number = self.ids.setdefault(name, IdSource(len(self.ids)).next(at(day)))
            tenant = mailing.tenant if mailing is not None else "shop"
            first = word in ("accepted", "refused")
            who = (hash_of(name),) if first else ()
            history.add(Event(number, at(day), word, {"tenant": tenant} if first else {}, who, mailing))
        await history.stop()
        assert history.failed == 0

    def run(self, day: str, hour: int = 0) -> int:
        """The job at an hour of a day; how many lines went."""
        periods = Periods(28, self.invoice_days, self.chosen, self.invoiced)
        return forget(self.folder, unseal, periods, at(day, hour))

    def left(self) -> list[str]:
        """Messages of which there is a line, and that are found by their recipient."""
        names = [name for name, number in self.ids.items() if read(self.folder, [number], unseal)]
        assert names == [name for name in names if find(self.folder, [hash_of(name)])]
        assert not [name for name in self.ids if name not in names and find(self.folder, [hash_of(name)])]
        return names


def hash_of(name: str) -> int:
    return sum(map(ord, name)) + 1


async def test_the_addresses_of_a_mailing_go_28_days_after_its_invoice(tmp_path: Path) -> None:
    """The case of the rulebook: invoiced on 1 March, there on the 28th, gone with the run of the 29th."""
    log = Log(tmp_path)
    await log.write("2026-02-20", ("a", "accepted", SPRING), ("a", "finished", SPRING), ("letter", "accepted", None))
    await log.write("2026-03-02", ("b", "accepted", SPRING), ("c", "accepted", Mailing("kerk", "spring-sale")))
    await log.write("2026-03-03", ("b", "finished", SPRING))
    log.invoiced[SPRING] = at("2026-03-01", 0)
    assert log.run("2026-03-28", 23) == 0 and log.left() == ["a", "letter", "b", "c"]
    assert log.run("2026-03-29") == 4 and log.left() == ["letter", "c"]
    assert seen_in(tmp_path, unseal) == {Mailing("kerk", "spring-sale"): Seen(log.ids["c"], at("2026-03-02"), 1)}
    assert log.run("2026-03-29") == 0, "and again, there is nothing to do"


async def test_without_an_invoice_28_days_after_the_last_line(tmp_path: Path) -> None:
    log = Log(tmp_path)
    await log.write("2026-03-01", ("a", "accepted", SPRING), ("b", "accepted", SPRING))
    await log.write("2026-03-04", ("b", "finished", SPRING))
    assert log.run("2026-04-01", 8) == 0, "all of it waits for the last of it"
    assert log.run("2026-04-01", 9) == 3 and list(tmp_path.iterdir()) == []


async def test_what_is_invoiced_later_is_kept_until_then(tmp_path: Path) -> None:
    """Beyond the period of the delivery log, which does not touch it."""
    log = Log(tmp_path)
    await log.write("2026-03-01", ("a", "accepted", SPRING), ("letter", "accepted", None))
    log.invoiced[SPRING] = at("2026-04-20", 0)
    assert forget_before(tmp_path, at("2026-05-01")) == 1
    assert thin(tmp_path, {"shop": at("2026-05-01")}, unseal) == 0
    assert log.run("2026-05-17", 23) == 0 and log.left() == ["a"]
    assert log.run("2026-05-18") == 1


async def test_a_name_that_is_used_again_is_another_mailing(tmp_path: Path) -> None:
    log = Log(tmp_path)
    await log.write("2026-03-01", ("a", "accepted", SPRING))
    await log.write("2026-03-30", ("b", "accepted", SPRING), ("a", "finished", SPRING))
    log.invoiced[SPRING] = at("2026-03-01", 0)
    assert log.run("2026-03-31", 12) == 2 and log.left() == ["b"]
    assert seen_in(tmp_path, unseal)[SPRING].began == at("2026-03-29", 0)
    assert log.run("2026-04-27", 8) == 0 and log.run("2026-04-27", 9) == 1


async def test_an_invoice_long_before_the_mail_deletes_nothing_early(tmp_path: Path) -> None:
    """A year that was typed wrong, or a prepaid mailing."""
    log = Log(tmp_path)
    await log.write("2026-03-01", ("a", "accepted", SPRING))
    log.invoiced[SPRING] = at("2025-03-01", 0)
    assert log.run("2026-03-10") == 0
    assert log.run("2026-03-29", 9) == 1


async def test_an_invoice_far_ahead_keeps_nobody_for_longer_than_the_operator_allows(tmp_path: Path) -> None:
    log = Log(tmp_path)
    await log.write("2026-03-01", ("a", "accepted", SPRING))
    log.invoiced[SPRING] = at("2036-03-01", 0)
    log.invoice_days = 10
    assert log.run("2026-04-08", 8) == 0
    assert log.run("2026-04-08", 9) == 1


async def test_a_name_without_end_keeps_no_day_for_ever(tmp_path: Path) -> None:
    """A series that welcomes one person a day has no last mail."""
    log, welcome = Log(tmp_path), Mailing("shop", "welcome")
    log.invoice_days = 10
    await log.write("2026-03-01", ("a", "accepted", welcome))
    await log.write("2026-04-07", ("b", "accepted", welcome))
    assert log.run("2026-04-08") == 0
    assert log.run("2026-04-09") == 1 and log.left() == ["b"]


async def test_a_tenant_may_keep_its_mailings_for_less_long(tmp_path: Path) -> None:
    log, other = Log(tmp_path), Mailing("kerk", "spring-sale")
    await log.write("2026-03-01", ("a", "accepted", SPRING), ("b", "accepted", other))
    log.chosen = {"shop": 7, "kerk": 3_650}
    assert log.run("2026-03-08", 8) == 0
    assert log.run("2026-03-08", 9) == 1 and log.left() == ["b"]
    assert log.run("2026-03-29", 9) == 1, "never longer than the operator"


async def test_a_day_that_is_not_over_is_left_to_who_writes_it(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.chosen = {"shop": 1}
    log.invoiced[SPRING] = at("2026-03-01", 0)
    await log.write("2026-03-01", ("a", "accepted", SPRING))
    await log.write("2026-03-02", ("a", "finished", SPRING))
    assert log.run("2026-03-02", 12) == 1 and log.run("2026-03-03", 0) == 0
    assert log.run("2026-03-03", 2) == 1 and log.left() == []


async def test_many_mailings_in_one_file_each_go_in_their_own_time(tmp_path: Path) -> None:
    """More than numbers are remembered: a mailing that gets a second row is the same mailing."""
    log = Log(tmp_path)
    mailings = [Mailing("shop", f"m{number}") for number in range(1_200)]
    for _ in range(2):
        await log.write("2026-03-01", *((f"{one.name}.", "accepted", one) for one in mailings))
    log.invoiced = {one: at("2026-03-01", 0) for one in mailings}
    log.invoiced[mailings[7]] = at("2026-03-02", 0)
    assert all(seen.mails == 2 for seen in seen_in(tmp_path, unseal).values())
    assert log.run("2026-03-29") == 2_398
    assert seen_in(tmp_path, unseal, "shop").keys() == {mailings[7]} and seen_in(tmp_path, unseal, "kerk") == {}


async def test_no_name_and_no_trace_of_the_deleted_stays_in_the_file(tmp_path: Path) -> None:
    log = Log(tmp_path)
    await log.write("2026-03-01", ("a", "accepted", SPRING), ("b", "accepted", Mailing("kerk", "stays")))
    (path,) = tmp_path.glob("*.history")
    sealed = seal(log.ids["a"], b'{"tenant":"shop"}')
    assert sealed in path.read_bytes() and b"spring-sale" not in path.read_bytes()
    log.invoiced[SPRING] = at("2026-03-01", 0)
    assert log.run("2026-03-29") == 1
    assert sealed not in path.read_bytes() and log.left() == ["b"]


def test_the_ids_of_messages_tell_when_a_mailing_began() -> None:
    number = IdSource(3).next(at("2026-03-01"))
    assert Seen(number, 0.0, 0).began == time_of(number) == at("2026-03-01")
