"""The clocks of incidents while the gateway runs: metrics, alarms on the hour, letters, exports at odd hours (GDPR-20 to -23)."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.keyring import Keyring
from relay.observe import incident_metrics, metrics
from relay.observe.alarms import Alarms
from relay.owner import Owner
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.incidents import Incidents, in_office
from relay.settings.model import Settings
from tests.fakes.clock import FakeClock
from tests.harness.gateway import _Places

pytestmark = pytest.mark.anyio
HOUR, DAY = 3_600.0, 86_400.0
NINE = datetime.fromisoformat("2026-03-02T09:00:00+00:00").timestamp()  # a Monday


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World:
    """An owner, and the task that looks."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(NINE)
        self.letters: list[dict[str, Any]] = []
        self.is_full = self.is_barred = False
        data, keys = folder / "data", folder / "keys"
        table = {"server": {"data_dir": str(data), "keys_dir": str(keys), "hostname": "relay.example.org"}}
        self.settings = Settings.model_validate(table)
        self.owner = Owner.open(_Places(self.settings), Keyring.open(keys, create=True), now=self.clock.now)
        for name in ("shop", "kerk"):
            self.owner.call("tenant.add", {"name": name, "legal_name": f"{name.title()} BV", "language": "nl"})
        self.task = self.started()

    def started(self) -> Incidents:
        """As after a start of the gateway."""
        return Incidents(self.settings, self.op, self.submit, clock=self.clock)

    async def op(self, name: str, args: dict[str, Any]) -> Any:
        if self.is_barred and name == "deletion.mailed":
            raise OpUnavailable("store")
        return self.owner.call(name, args, actor="gateway")

    async def submit(self, args: dict[str, Any]) -> None:
        if self.is_full:
            raise OpRefused("storage", "full")
        self.letters.append(args)

    def open(self, tenant: str = "shop") -> str:
        said = {"tenant": tenant, "kind": "loss", "summary": "a list"}
        made: Any = self.owner.call("incident.open", said)
        return str(made["ref"])

    def call(self, op: str, **args: Any) -> Any:
        return self.owner.call(op, args)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.owner.close()
    for tenant in ("shop", "kerk"):
        incident_metrics.OPEN.set(0, (tenant,))


def due(reader: str = "tenant") -> list[float]:
    """How many are past detection, the first alarm, the second, and the deadline."""
    numbers = {tuple(labels): value for labels, value in incident_metrics.NOTICES.dump()}
    return [numbers[reader, past] for past in ("detection", "warning", "urgent", "deadline")]


async def rung(world: World, hours: float, step: float = 300.0) -> list[tuple[str, str, str]]:
    """Alarms by name, labels and time of day, as they begin in so many hours."""
    alarms, told = Alarms(4 * HOUR), []
    end = world.clock.now() + hours * HOUR
    while world.clock.now() < end:
        world.clock.advance(step)
        await world.task.look()
        for change in alarms.look(world.clock.now(), metrics.snapshot()):
            if change.state == "begun" and change.condition.name.startswith("ZegelIncident"):
                told.append(
                    (change.condition.name, change.labels, f"{datetime.fromtimestamp(world.clock.now(), UTC):%H:%M}")
                )
    return told


async def test_an_incident_at_nine_rings_at_21_and_at_5_and_when_the_day_is_over(world: World) -> None:
    world.open()
    told = await rung(world, 25)
    assert [(name, labels, at) for name, labels, at in told if labels == "tenant"] == [
        ("ZegelIncidentWaits", "tenant", "21:00"),
        ("ZegelIncidentUrgent", "tenant", "05:00"),
        ("ZegelIncidentOverdue", "tenant", "09:00"),
    ]
    assert due() == [1, 1, 1, 1] and due("authority") == [1, 0, 0, 0]


async def test_who_is_told_ends_the_alarms_and_a_late_one_was_counted(world: World) -> None:
    ref = world.open()
    world.clock.advance(13 * HOUR)
    await world.task.look()
    assert due() == [1, 1, 0, 0]
    world.call("incident.notify", ref=ref, to="tenant", whom="privacy@shop.example")
    await world.task.look()
    assert due() == [0, 0, 0, 0]
    world.clock.advance(60 * HOUR)
    await world.task.look()
    assert due("authority") == [1, 1, 1, 1]
    world.call("incident.assess", ref=ref, risk="unlikely", why="colleagues")
    await world.task.look()
    assert due("authority") == [0, 0, 0, 0], "then the authority need not hear of it"


async def test_open_ones_are_counted_by_tenant_and_forgotten_when_closed(world: World) -> None:
    ref = world.open()
    world.open("kerk")
    await world.task.look()
    counts = {labels[0]: value for labels, value in incident_metrics.OPEN.dump()}
    assert (counts["shop"], counts["kerk"]) == (1, 1)
    world.call("incident.close", ref=ref, reason="x", without_notice="y")
    await world.task.look()
    counts = {labels[0]: value for labels, value in incident_metrics.OPEN.dump()}
    assert (counts["shop"], counts["kerk"]) == (0, 1)


async def test_one_that_the_gateway_opened_rings_until_a_person_looks(world: World) -> None:
    seen = {
        "tenant": "shop",
        "kind": "exposure",
        "credential": "office",
        "reason": "recipients.exposed",
        "first_at": NINE,
    }
    (made,) = world.owner.call("incident.seen", {"rows": [seen]}, actor="gateway")  # type: ignore[misc]
    assert [name for name, *_ in await rung(world, 0.1, 60.0)] == ["ZegelIncidentUnseen"]
    world.call("incident.note", ref=made["ref"], text="I look at it")
    await world.task.look()
    assert incident_metrics.UNSEEN.dump()[0][1] == 0


@pytest.mark.parametrize(
    ("at", "is_in"),
    [
        ("2026-03-02T05:59:59+00:00", False),
        ("2026-03-02T06:00:00+00:00", True),
        ("2026-03-02T18:59:59+00:00", True),
        ("2026-03-02T19:00:00+00:00", False),
        ("2026-03-06T12:00:00+00:00", True),
        ("2026-03-07T12:00:00+00:00", False),
        ("2026-03-08T12:00:00+00:00", False),
    ],
)
def test_office_hours(at: str, is_in: bool) -> None:
    assert in_office(datetime.fromisoformat(at).timestamp(), Settings().incidents) is is_in


async def test_an_export_at_night_is_an_incident_and_one_by_day_is_none(world: World) -> None:
    world.owner.call("consent.export", {"tenant": "shop"}, actor="operator:carla")
    await world.task.look()
    assert world.call("incident.list") == []
    world.clock.advance(14 * HOUR)
    for _ in range(3):
        world.owner.call("consent.export", {"tenant": "shop"}, actor="operator:carla")
        world.clock.advance(15 * 60)
    await world.task.look()
    (made,) = world.call("incident.list")
    assert (made["kind"], made["times"], made["last_at"]) == ("export", 3, NINE + 14.5 * HOUR)
    assert made["detected_at"] == world.clock.now(), (
        "the clock counts from when it was noticed, not from when it was done"
    )
    assert world.call("incident.show", ref=made["ref"])["facts"]["by"] == "operator:carla"
    await world.started().look()
    (again,) = world.call("incident.list")
    assert again["times"] == 3, "after a start the audit is read again, and nothing counts twice"


async def test_exports_can_be_left_alone(world: World) -> None:
    world.clock.advance(14 * HOUR)
    world.owner.call("consent.export", {"tenant": "shop"}, actor="operator:carla")
    own = world.settings.incidents.model_copy(update={"watch_exports": False})
    world.task.settings = world.settings.model_copy(update={"incidents": own})
    await world.task.look()
    assert world.call("incident.list") == []


def read(args: dict[str, Any]) -> Any:
    return email.message_from_bytes(args["raw"].encode(), policy=email.policy.default)


async def test_a_wrong_recipient_gets_a_letter_and_two_reminders(world: World) -> None:
    ref = world.open()
    world.call("deletion.ask", ref=ref, address="eve@other.example", what="a list of members", language="en")
    for days in (0, 2, 5, 9):
        world.clock.jump(NINE + days * DAY - world.clock.now())
        await world.task.look()
        await world.task.look()
    assert [(one["recipient"], one["tenant"]["name"]) for one in world.letters] == [("eve@other.example", "shop")] * 3
    first, second, _ = map(read, world.letters)
    assert "This is a reminder" not in first.get_content() and "This is a reminder" in second.get_content()
    assert "Shop BV" in first.get_content() and "a list of members" in first.get_content()
    (link,) = [line for line in first.get_content().splitlines() if line.startswith("http")]
    assert link.startswith("http://127.0.0.1:8025/deleted/")
    assert link.endswith("?lang=en")
    token = link.rpartition("/")[2].partition("?")[0]
    assert world.call("deletion.confirm", token=token)["changed"] is True


async def test_a_letter_waits_for_the_queue_and_goes_once_when_the_database_is_away(world: World) -> None:
    world.call("deletion.ask", ref=world.open(), address="eve@other.example", what="a list")
    world.is_full = True
    with pytest.raises(OpRefused):
        await world.task.look()
    world.is_full, world.is_barred = False, True
    for _ in range(3):
        with pytest.raises(OpUnavailable):
            await world.task.look()
    world.is_barred = False
    await world.task.look()
    assert len(world.letters) == 1
