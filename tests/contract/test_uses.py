"""On what each mail rested, when a consent ages, and when its proof goes (CONSENT-13, CONSENT-15)."""

from __future__ import annotations

import asyncio
import calendar
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from relay.consent.rested import ATTEMPT_SECONDS, Rested
from relay.delivery.outcome import Deferred, Delivered, Failed
from relay.observe import metrics
from relay.portal import proof_page
from relay.serve.channel import OpUnavailable
from relay.serve.used import Uses
from relay.spool.item import Item
from relay.store import schema
from relay.store.generation import CONSENT, Generation
from relay.store.uses import FOLDER, UseFiles
from tests.contract.conftest import START, World

DAY = 86_400.0
ANN, BOB = "ann@example.net", "bob@example.net"
TAKEN = Delivered("2.0.0", "250 ok", "next.hop.test")


META = {"tenant_id": 1, "stream": "marketing", "class": "commercial", "confirm": False}


class Mailing:
    """Delivers, as a worker that writes down by hand."""

    def __init__(self, world: World) -> None:
        self.world = world
        folder = world.settings.server.data_dir / FOLDER
        self.uses = Uses(UseFiles(folder, "0"), Rested(world.settings.storage.database, world.keyring, generation=None))
        self._number = 1 << 20

    def saw(self, *outcomes: tuple[str, Any], purpose: str = "newsletter", **meta: Any) -> str:
        """The id of a mail of which this became."""
        self._number += 1
        rows = [[address, [], ""] for address, _ in outcomes]
        item = Item(
            self._number,
            {
                "tenant_id": 1,
                "stream": "marketing",
                "class": "commercial",
                "confirm": False,
                "purpose": purpose,
                "rcpt": rows,
                **meta,
            },
            b"",
            due=0.0,
        )
        self.uses.saw(item, {index: outcome for index, (_, outcome) in enumerate(outcomes)}, self.world.now)
        return item.queue_id

    def to(self, *addresses: str, **more: Any) -> str:
        number = self.saw(*((address, TAKEN) for address in addresses), **more)
        self.settle()
        return number

    def settle(self) -> None:
        self.uses.flush()
        asyncio.run(self.uses.tell(self._call))

    async def _call(self, op: str, args: dict[str, Any]) -> Any:
        return self.world.call(op, **args)


@pytest.fixture
def mailing(world: World) -> Iterator[Mailing]:
    made = Mailing(world)
    yield made
    made.uses._rested.close()
    made.uses._files.close()


def proof(world: World, address: str = ANN, **more: Any) -> Any:
    return world.call("consent.proof", tenant="shop", address=address, **more)


def mails(world: World, address: str = ANN, **more: Any) -> list[tuple[str, str, int | None, str | None, str | None]]:
    found = proof(world, address, **more)["mails"]
    return [(row["queue_id"], row["purpose"], row["event_id"], row["rule"], row["basis"]) for row in found]


def date(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%d")))


def used_at(world: World, address: str = ANN) -> str:
    with world.lookup() as lookup:
        state = lookup.consents(1, "newsletter", [address])[address]
    return "" if state is None else time.strftime("%Y-%m-%d", time.gmtime(state.used_at))


# -- what a mail rested on ----------------------------------------------------------------------------------------------


def test_each_mail_is_told_with_the_record_that_it_rested_on(world: World, mailing: Mailing) -> None:
    world.give()
    first = mailing.to(ANN, BOB)
    world.now += DAY
    world.give(confirmed_at="2026-01-03T09:00:00Z", method="double_optin", doi_sent_at="2026-01-03T08:00:00Z",
               doi_message_id="<1@gw.example>")  # fmt: skip
    world.now += DAY
    second = mailing.to("Ann@Example.NET")
    assert mails(world) == [
        (first, "newsletter", 1, "CONSENT-1", "consent"),
        (second, "newsletter", 2, "CONSENT-8", "consent"),
    ]
    assert mails(world, at="2026-01-03T00:00:00Z") == mails(world)[:1], "as it was known then"
    assert mails(world, BOB) == [(first, "newsletter", None, None, None)], "nothing stood behind it, and it says so"
    assert mails(world, purpose="offers") == []


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"basis": "soft_optin", "sale_kind": "paid"}, "CONSENT-5"),
        ({"basis": "soft_optin", "sale_kind": "free_tier"}, "CONSENT-6"),
        ({"provenance": "third_party", "supplier": "Lists BV", "contract_ref": "7", "third_party_named": "yes"}, "CONSENT-7"),
        ({"basis": "published_for_marketing", "published_url": "https://b.example", "published_at": "2026-01-01T10:00:00Z"},
         "CONSENT-9"),
    ],
)  # fmt: skip
def test_the_rule_by_which_it_counted(world: World, mailing: Mailing, row: dict[str, str], rule: str) -> None:
    sale = {"sale_ref": "1", "sale_at": "2026-01-01T10:00:00Z", "product_category": "tuin",
            "informed_at_collection": "yes", "optout_offered_at_collection": "yes"}  # fmt: skip
    world.call(
        "tenant.set", name="shop", allow_third_party=True, allow_published=True, free_tier_reason="it leads to a sale"
    )
    world.give(**(sale if row.get("basis") == "soft_optin" else {}), **row, published_hash="ab")
    mailing.to(ANN)
    assert [entry[3] for entry in mails(world)] == [rule]


def test_what_is_recorded_after_the_mail_went_changes_nothing(world: World, mailing: Mailing) -> None:
    """The thread asks half a second late, and an hour where the disk was full."""
    world.give()
    number = mailing.saw((ANN, TAKEN))
    world.now += 60.0
    world.call("consent.withdraw", tenant="shop", address=ANN)
    world.now += 3600.0
    mailing.settle()
    assert mails(world) == [(number, "newsletter", 1, "CONSENT-1", "consent")]


def test_who_left_during_an_attempt_had_a_mail_that_rested_on_the_yes_before(world: World, mailing: Mailing) -> None:
    world.give()
    world.now += DAY
    world.call("consent.withdraw", tenant="shop", address=ANN)
    world.now += ATTEMPT_SECONDS - 1
    during = mailing.to(ANN)
    world.now += 2
    after = mailing.to(ANN)
    assert [(row[0], row[2]) for row in mails(world)] == [(during, 1), (after, None)]


def test_only_advertising_that_arrived_is_written_down(world: World, mailing: Mailing) -> None:
    world.give()
    mailing.saw((ANN, TAKEN), **{"class": "transactional"})
    mailing.saw((ANN, TAKEN), confirm=True)
    mailing.saw((ANN, Failed("5.1.1", "550 no", "h", 550)))
    mailing.saw((ANN, Deferred("4.2.0", "450 later", "h", 450)))
    mailing.settle()
    assert mails(world) == [] and not (world.settings.server.data_dir / FOLDER).exists()


def test_a_mail_is_found_after_the_keys_were_rotated(world: World, mailing: Mailing) -> None:
    """UNSUB-20: what was written under an older key is the same person."""
    world.give()
    first = mailing.to(ANN)
    world.call("keys.rotate", kind="hash")
    second = mailing.to(ANN)
    assert [(row[0], row[2]) for row in mails(world)] == [(first, 1), (second, 1)]


def test_no_file_holds_an_address_and_no_other_tenant_sees_it(world: World, mailing: Mailing) -> None:
    world.give()
    mailing.to(ANN)
    world.call("tenant.add", name="other")
    world.call("purpose.add", tenant="other", name="newsletter")
    assert world.call("consent.proof", tenant="other", address=ANN)["mails"] == []
    for path in (world.settings.server.data_dir / FOLDER).iterdir():
        assert b"ann" not in path.read_bytes() and b"newsletter" not in path.read_bytes(), path


def test_what_cannot_be_read_or_written_now_is_written_later(world: World, mailing: Mailing) -> None:
    world.give()
    number = mailing.saw((ANN, TAKEN))
    folder = world.settings.server.data_dir / FOLDER
    folder.write_text("in the way")
    mailing.settle()
    folder.unlink()
    assert mails(world) == []
    rested = mailing.uses._rested

    class Away(Rested):
        def __init__(self) -> None:
            pass

        def of(self, mailed: Any) -> Any:
            raise sqlite3.OperationalError("the database is away")

    mailing.uses._rested = Away()
    mailing.settle()
    mailing.uses._rested = rested
    later = mailing.to(ANN)
    assert [row[0] for row in mails(world)] == [number, later]


def test_what_finds_no_room_is_counted(world: World, mailing: Mailing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.serve.used.MOST_WAITING", 2)
    world.give()
    (world.settings.server.data_dir / FOLDER).write_text("in the way")
    before = metrics.snapshot()
    for _ in range(5):
        mailing.saw((ANN, TAKEN))
    mailing.settle()
    (world.settings.server.data_dir / FOLDER).unlink()
    mailing.settle()
    assert len(mails(world)) == 2
    assert lost(metrics.snapshot()) - lost(before) == 3


def lost(snapshot: Any) -> float:
    return sum(value for name, value in snapshot["zegel_records_lost_total"] if list(name) == ["use"])


def test_the_thread_writes_what_it_was_given_before_it_ends(world: World) -> None:
    world.give()
    generation = Generation.open(world.settings.server.data_dir)
    rested = Rested(world.settings.storage.database, world.keyring, generation=generation)
    mailing = Mailing(world)
    mailing.uses = Uses(UseFiles(world.settings.server.data_dir / FOLDER, "1"), rested)
    mailing.uses.start()
    number = mailing.saw((ANN, TAKEN))
    asyncio.run(mailing.uses.stop(mailing._call))
    assert [row[0] for row in mails(world)] == [number]
    assert used_at(world) == "2026-01-01"


def test_the_page_tells_of_each_mail(world: World, mailing: Mailing) -> None:
    world.give()
    number = mailing.to(ANN)
    mailing.to(BOB)
    page = proof_page.render(proof(world))
    assert "Welke mails gingen er" in page and number in page and "CONSENT-1" in page
    assert "Niets vastgelegd" in proof_page.render(proof(world, BOB))
    world.call("tenant.set", name="shop", language="en")
    assert "Which mails went" in proof_page.render(proof(world))


# -- ageing -------------------------------------------------------------------------------------------------------------


def test_a_first_use_in_a_month_is_told_once_and_bothers_no_queued_mail(world: World, mailing: Mailing) -> None:
    world.give()
    world.now = date("2026-03-20")
    generation = Generation.open(world.settings.server.data_dir)
    before = generation.read(CONSENT)
    mailing.to(ANN)
    assert used_at(world) == "2026-03-01" and generation.read(CONSENT) == before
    with world.owner._engine.connect() as connection:
        audits = connection.scalar(sa.select(sa.func.count()).select_from(schema.audit))
    mailing.to(ANN)
    assert not mailing.uses._fresh
    world.call("consent.withdraw", tenant="shop", address=ANN)
    assert used_at(world) == "2026-03-01", "what else happens leaves it"
    with world.owner._engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.audit)) == audits + 1, (
            "of the withdrawal"
        )
    assert world.call("consent.show", tenant="shop", address=ANN)["consents"][0]["used_at"] == "2026-03"


def test_an_owner_that_is_away_is_told_later(world: World, mailing: Mailing) -> None:
    world.give()
    world.now = date("2026-03-20")
    mailing.saw((ANN, TAKEN))
    mailing.uses.flush()

    async def away(op: str, args: dict[str, Any]) -> Any:
        raise OpUnavailable(op)

    asyncio.run(mailing.uses.tell(away))
    assert used_at(world) == "2026-01-01"
    mailing.settle()
    assert used_at(world) == "2026-03-01"


def test_a_late_word_of_an_old_use_makes_nobody_older(world: World) -> None:
    world.give()
    world.call(
        "consent.used", keys=[world.keyring.subject_hash("c\x001\x00newsletter\x00" + ANN).hex()], at=date("2026-05-01")
    )
    world.call(
        "consent.used", keys=[world.keyring.subject_hash("c\x001\x00newsletter\x00" + ANN).hex()], at=date("2026-04-01")
    )
    assert used_at(world) == "2026-05-01"
    assert world.refused("consent.used", keys=["nonsense"], at=START) == "args.type"
    assert world.refused("consent.used", keys=["00" * 16] * 501, at=START) == "args.too_many"


def test_the_proof_judges_the_age_as_the_gateway_does(world: World, mailing: Mailing) -> None:
    world.give()
    world.now = date("2027-06-15")
    mailing.to(ANN)
    answers = []
    for day in ("2026-02-01", "2029-06-30", "2029-07-01", "2030-06-30", "2030-07-01"):
        world.now = max(world.now, date(day) + 60.0)
        found = proof(world, at=f"{day}T00:00:00Z")
        (one,) = found["judgements"]
        answers.append((one["counts"], one["reason"] or one["warning"], found["states"][0]["used_at"]))
    assert answers == [
        (True, None, "2026-01"),
        (True, None, "2027-06"),
        (True, "consent.fading", "2027-06"),
        (True, "consent.fading", "2027-06"),
        (False, "consent.unused", "2027-06"),
    ]


# -- the end of a proof -------------------------------------------------------------------------------------------------


def run(world: World, **more: Any) -> int:
    found = world.call("retention.run", **more)
    return int(found["proofs"])


def test_a_proof_goes_five_years_after_the_last_mail_that_rested_on_it(world: World, mailing: Mailing) -> None:
    """The rulebook's own example, rounded up to the month: withdrawn on 10 January 2020, the last mail the day before."""
    world.now = date("2020-01-02")
    world.give(given_at="2019-06-01T10:00:00Z", evidence_ip="192.0.2.1")
    world.give(email=BOB, given_at="2019-06-01T10:00:00Z")
    world.now = date("2020-01-09")
    mailing.to(ANN)
    world.now = date("2020-01-10")
    world.call("consent.withdraw", tenant="shop", address=ANN)
    world.now = date("2023-05-05")
    mailing.to(BOB)
    world.now = date("2025-01-31")
    assert run(world) == 0 and proof(world)["events"][0]["personal"]["email"] == ANN
    world.now = date("2025-02-01")
    assert run(world) == 1 and run(world) == 0
    found = proof(world)
    assert [event["expired_at"] for event in found["events"] if "expired_at" in event] == ["2025-02-01T00:00:00Z"]
    gone = found["events"][0]
    assert (gone["personal"], gone["evidence"], gone["text"], gone.get("basis")) == (None, None, None, None)
    assert (found["states"], found["judgements"]) == ([], [])
    assert [row["reason"] for row in found["suppressions"]] == ["objection"], "a no has no end"
    assert world.bars(ANN) == {("all", "objection")} and world.status(ANN) == "none"
    checked = world.call("consent.verify", tenant="shop")
    assert checked["ok"] and checked["expired"] >= 1, "its place in the chain stays"
    assert world.status(BOB) == "given" and proof(world, BOB)["events"][0]["personal"]["email"] == BOB
    assert "verwijderd" in proof_page.render(found)
    again = world.load(world.row(given_at="2019-06-01T10:00:00Z"))
    assert again["errors"][0]["reason"] == "objected", "nor does an old list bring it back"


def test_a_yes_that_was_given_again_keeps_its_proof(world: World) -> None:
    world.now = date("2020-01-02")
    world.give(given_at="2019-06-01T10:00:00Z")
    world.now = date("2024-12-30")
    world.give(given_at="2024-12-30T00:00:00Z")
    world.now = date("2026-01-01")
    assert run(world) == 0 and world.status(ANN) == "given"
    world.now = date("2025-12-31")
    assert run(world, proof_years=1) == 0, "the month is rounded up"
    world.now = date("2026-01-01")
    assert run(world, proof_years=1) == 1 and world.status(ANN) == "none"
    assert proof(world)["events"][0]["expired_at"] == "2026-01-01T00:00:00Z"


def test_somebody_who_was_erased_and_came_back_has_no_proof_left_of_before(world: World) -> None:
    world.now = date("2020-01-02")
    world.give(given_at="2019-06-01T10:00:00Z")
    world.call("consent.erase", tenant="shop", address=ANN)
    world.now += DAY
    asked = world.call("consent.request", tenant="shop", address=ANN, purpose="newsletter")
    world.now += DAY
    world.call("consent.confirm", token=asked["token"], ip="192.0.2.7")
    assert world.status(ANN) == "confirmed"
    world.now = date("2025-02-01")
    assert run(world) == 1
    events = proof(world)["events"]
    assert [event["event_id"] for event in events if "expired_at" in event] == [1, 4, 5]
    assert [event for event in events if event["purpose"] or event["personal"]] == []
    assert world.call("consent.verify", tenant="shop")["ok"]


def test_a_batch_is_of_a_bounded_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.owner.retention.BATCH_ROWS", 3)
    world.now = date("2020-01-02")
    for number in range(7):
        world.give(email=f"p{number}@example.net", given_at="2019-06-01T10:00:00Z")
    world.now = date("2025-03-01")
    rounds = []
    while not rounds or rounds[-1]["more"]:
        rounds.append(world.call("retention.run"))
    assert [answer["proofs"] for answer in rounds] == [3, 3, 1]
