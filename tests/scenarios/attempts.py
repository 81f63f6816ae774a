"""A town of senders whose limits overlap, gateways that let them in, and what came of their attempts, limit by limit.

Every login aims at one limit and meets all the others. A minute's limit L is L at once and then L a minute (the stated burst), so
in any span of s seconds no more than L + L x s / 60 may be handed in and leave; in what a limit of a day counts, no more than L.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from relay.counters.contract import DAY, FIRST_TIME, MINUTE, Limit
from relay.keyring import Keyring
from relay.owner import Owner
from tests.harness.gateway import Gateway, _Places, add_login, consent_row
from tests.harness.redis import until
from tests.harness.senders import Arrival, Attempt, Line

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0
PACE, DAILY = "messages_per_minute", "recipients_per_day"
ENOUGH = 0.8  # of what may pass
READERS, STRANGERS = "reader*@dest.example", "p*@party*.example"
CONSENTS = 40
CONNECTIONS = 12  # of each login, over all gateways
SHARED_ADDRESS = "192.0.2.200"
NEVER_BITES = 100_000_000


class Login(NamedTuple):
    name: str
    tenant: str
    stream: str
    domain: str
    most: int = 1  # recipients of one message
    address: str = ""  # "": each connection has one of its own


LOGINS = (
    Login("ann", "shop", "personal", "shop.example"),
    Login("bob", "shop", "personal", "shop.example", 3),
    Login("cat", "shop", "personal", "shop.example"),
    Login("app", "shop", "transactional", "shop.example"),
    Login("crm", "shop", "transactional", "shop.example"),
    Login("news", "shop", "marketing", "shop.example", 3),
    Login("dan", "shop", "personal", "second.example"),
    Login("eve", "shop", "personal", "second.example"),
    Login("fay", "shop", "personal", "shop.example", address=SHARED_ADDRESS),
    Login("gus", "club", "personal", "club.example", address=SHARED_ADDRESS),
    Login("till", "store", "transactional", "store.example"),
    Login("desk", "store", "personal", "store.example"),
    Login("hal", "club", "personal", "club.example", 3),
    Login("ivy", "club", "transactional", "club.example", 3),
)
TENANTS = {"shop": ("shop.example", "second.example"), "store": ("store.example",), "club": ("club.example",)}


class Bound(NamedTuple):
    """One limit and whose mail it counts. That of a client is set for every address, in the config."""

    name: str
    tenant: str
    scope: str
    subject: str
    amount: int
    logins: tuple[str, ...]
    free: tuple[str, ...] | None = None  # those of the logins that meet no other limit; None: all

    @property
    def title(self) -> str:
        return f"{self.name} of {self.scope} {self.subject or self.tenant}"


def bounds(attempts: int) -> list[Bound]:
    """Limits that so many attempts reach, with an outage too: those of a minute soon, those of a day after a third."""
    each = attempts // len(LOGINS) * 5 // 8
    pace = max(8, each // 12)
    return [
        Bound(PACE, "shop", "credential", "ann", pace, ("ann",)),
        Bound(DAILY, "shop", "credential", "bob", each, ("bob",)),
        Bound(FIRST_TIME, "shop", "credential", "cat", each // 2, ("cat",)),
        Bound(PACE, "shop", "stream", "transactional", max(60, each // 6), ("app", "crm")),
        Bound(DAILY, "shop", "stream", "marketing", each, ("news",)),
        Bound(PACE, "shop", "domain", "second.example", pace, ("dan", "eve")),
        Bound(PACE, "shop", "client", SHARED_ADDRESS, each // 4, ("fay", "gus"), ("fay",)),
        Bound(PACE, "store", "tenant", "", max(60, each // 6), ("till", "desk")),
        Bound(DAILY, "club", "tenant", "", 2 * each, ("gus", "hal", "ivy")),
        Bound(PACE, "shop", "credential", "eve", pace // 4, ("eve",), ()),
    ]


class Town(Gateway):
    """A gateway that knows the town: founded, or a copy of one that has not begun."""

    def __init__(
        self, folder: Path, attempts: int, *, sink: int = 1, workers: int = 1, like: Town | None = None, **storage: Any
    ) -> None:
        self.bounds = bounds(attempts)
        self._like = like
        folder.mkdir(parents=True)
        (client,) = (one.amount for one in self.bounds if one.scope == "client")
        scopes = ("personal", "transactional", "marketing", "stream", "tenant", "domain")
        throttle = {f"{scope}_{PACE}": NEVER_BITES for scope in scopes}
        throttle |= {f"client_{PACE}": client, "warmup_recipients": 0, "sudden_times": 0}
        throttle |= {f"{stream}_{FIRST_TIME}": 0 for stream in ("personal", "transactional")}
        throttle["max_parked_recipients"] = max(20, attempts // len(LOGINS) // 8)
        policies = {"throttle": throttle, "classification": {"bulk_count": NEVER_BITES}}
        super().__init__(
            folder,
            workers=workers,
            storage=storage,
            policies={**policies, "unsubscribe": {"missing": "inject", "visible_link": "off"}},
            delivery={"smarthosts": [f"smtp://127.0.0.1:{sink}"]},
            limits={"connections_per_address": 1000},
        )

    def _found(self) -> None:
        if self._like is not None:
            there, here = self._like.settings.server, self.settings.server
            shutil.copytree(there.data_dir, here.data_dir)
            shutil.copytree(there.keys_dir, here.keys_dir)
            self.logins = self._like.logins
            return
        keyring = Keyring.open(self.settings.server.keys_dir, create=True)
        with Owner.open(_Places(self.settings), keyring) as owner:
            for tenant, domains in TENANTS.items():
                row = {"name": tenant, "legal_name": f"{tenant} BV", "language": "en", "refusal_letters": False}
                owner.call("tenant.add", row)
                for domain in domains:
                    owner.call("domain.add", {"tenant": tenant, "domain": domain, "vouched": True})
                    owner.call("dkim.add", {"domain": domain, "vouched": True})
            titles = {"title_nl": "Nieuws", "title_en": "News"}
            owner.call("purpose.add", {"tenant": "shop", "name": "newsletter", **titles})
            rows = [consent_row(READERS.replace("*", str(number))) for number in range(CONSENTS)]
            assert not owner.call("consent.import_rows", {"tenant": "shop", "rows": rows})["refused"]
            for login in LOGINS:
                purpose = {"purpose": "newsletter"} if login.stream == "marketing" else {}
                properties = {"tenant": login.tenant, "stream": login.stream, **purpose}
                self.logins[login.name] = add_login(owner, login.name, **properties)
            for bound in self.bounds:
                if bound.scope != "client":
                    where = {bound.scope: bound.subject} if bound.subject else {}
                    row = {"tenant": bound.tenant, "name": bound.name, "value": bound.amount, **where}
                    owner.call("limit.set", row)

    def lines(self, place: int, count: int) -> list[Line]:
        """The connections to this gateway, which is number `place`: `count` of each login."""
        (first_time,) = (one for one in self.bounds if one.name == FIRST_TIME)
        strangers = first_time.amount * 3 // 2  # after them come those that were met
        made: list[Line] = []
        for index, login in enumerate(LOGINS):
            username, password = self.logins[login.name]
            people = (READERS, CONSENTS) if login.stream == "marketing" else (STRANGERS, strangers)
            for number in range(count):
                made.append(
                    {
                        "port": self.doors["proxy"].port,
                        "address": login.address or f"10.{place}.{index}.{number + 1}",
                        "login": login.name,
                        "username": username,
                        "password": password,
                        "sender": f"{login.name}@{login.domain}",
                        "people": people[0],
                        "of": people[1],
                        "most": login.most,
                    }
                )
        return made


class Crowd:
    """The process that sends and receives: see tests.harness.senders."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.harness.senders"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self.port = int(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert not answer["odd"], answer
        return answer

    def wait(self, what: str, count: int) -> None:
        """Until there are so many `attempts`, `least` attempts of each login, or `arrivals`."""
        seconds = PATIENCE_SECONDS * (1 + count / 1000)
        until(lambda: self.ask("count")[what] >= count, seconds, f"not {count} {what}: {self.ask('count')}")

    def finish(self, count: int) -> None:
        """Until so many attempts are through, and every login had its part of them."""
        self.wait("attempts", count)
        self.wait("least", count // len(LOGINS) * 3 // 4)

    def more(self, count: int) -> None:
        """Until so many more attempts are through."""
        self.wait("attempts", self.ask("count")["attempts"] + count)

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.wait(60)
        self._process.stdout.close()


@dataclass
class Story:
    """What was tried, what was answered and what arrived."""

    attempts: list[Attempt]
    arrivals: list[Arrival]
    waiting: int  # messages still parked at the end
    dues: dict[str, float] = field(default_factory=dict)  # when some parked ones may leave, by their id in the queue

    @property
    def accepted(self) -> dict[int, Attempt]:
        return {one.number: one for one in self.attempts if one.code == "250"}


class Figure(NamedTuple):
    """What passed of one limit. `at_once`: the most that ever passed beyond the pace; of a day, all."""

    bound: Bound
    passed: int
    at_once: int
    tried: int  # of what the limit counts
    free: int  # messages of those tried whom nothing else keeps from it
    seconds: float

    @property
    def text(self) -> str:
        limit, passed = self.bound.amount, f"passed {self.passed} of {self.tried} in {self.seconds:.0f} s"
        if self.bound.name == PACE:
            return (
                f"{self.bound.title}: limit {limit} a minute, burst {limit}, beyond the pace {self.at_once}, {passed}"
            )
        return f"{self.bound.title}: limit {limit}, {passed}"


def told(crowd: Crowd, towns: Sequence[Town], folder: Path) -> Story:
    """End the attempts; wait until everything whose turn has come is delivered, and some that were parked after that too."""
    crowd.ask("stop")
    until(lambda: not any(_busy(town) for town in towns), PATIENCE_SECONDS, "mail is on its way for ever")
    dues = {row["id"]: row["due"] for town in towns for row in town.op("queue.list", limit=1000)}
    soon = sum(due < time.time() + 30 for due in dues.values())
    before = crowd.ask("count")["arrivals"]
    crowd.wait("arrivals", before + min(soon, 2))
    looks: list[tuple[int, int]] = []
    until(lambda: _looked(crowd, towns, looks), PATIENCE_SECONDS, "something leaves at every look")
    ((arrived, waiting),) = looks
    crowd.ask({"tell": str(folder / "told.json")})
    raw = json.loads((folder / "told.json").read_text())
    arrivals = [Arrival(*one) for one in raw["arrivals"][:arrived]]
    return Story([Attempt(*one) for one in raw["attempts"]], arrivals, waiting, dues)


def _looked(crowd: Crowd, towns: Sequence[Town], looks: list[tuple[int, int]]) -> bool:
    """One look at what has arrived and what waits; False where something left meanwhile."""
    arrived = crowd.ask("count")["arrivals"]
    waiting = sum(int(town.op("queue.stats")["waiting"]) for town in towns)
    if any(_busy(town) for town in towns) or crowd.ask("count")["arrivals"] != arrived:
        return False
    looks.append((arrived, waiting))
    return True


def _busy(town: Town) -> int:
    stats = town.op("queue.stats")
    assert not stats["held"] and not stats["frozen"], stats
    return int(stats["ready"]) + int(stats["in_flight"])


def check_honest(story: Story) -> None:
    """What was accepted is delivered once to each recipient, and not before its turn, or waits; nothing else arrives."""
    accepted = story.accepted
    got: dict[int, list[str]] = {}
    for arrival in story.arrivals:
        got.setdefault(arrival.number, []).extend(arrival.recipients)
    assert set(got) <= set(accepted), "delivered, and never accepted"
    for number, people in got.items():
        assert len(people) == len(set(people)) == accepted[number].recipients, (accepted[number], people)
    assert len(accepted) - len(got) == story.waiting, "accepted, and neither delivered nor parked"
    first = {accepted[one.number].queue_id: one.at for one in reversed(story.arrivals)}
    late = [first[name] - due for name, due in story.dues.items() if name in first]
    last = max(one.at for one in story.arrivals)
    assert late or not any(due < last for due in story.dues.values()), "nothing parked has left while we looked"
    assert all(seconds >= 0 for seconds in late), f"left before its turn: {min(late)}"


def figure(story: Story, bound: Bound, allowed: int) -> Figure:
    """What passed: messages of a minute's limit, recipients of a day's, people of those who were never written to.

    `allowed`: the pace, which an outage makes faster.
    """
    own = [one for one in story.attempts if one.login in bound.logins]
    accepted = {one.number: one for one in own if one.code == "250"}
    spans = [(accepted[one.number].sent, one) for one in story.arrivals if one.number in accepted]
    seconds = max(one.replied for one in own) - min(one.sent for one in own)
    tried = len(own) if bound.name != DAILY else sum(one.recipients for one in own)
    free = len(own) if bound.free is None else sum(one.login in bound.free for one in own)
    if bound.name == PACE:
        first: dict[int, tuple[float, float]] = {}
        for sent, one in spans:
            first.setdefault(one.number, (sent, one.at))
        return Figure(bound, len(first), most_at_once(list(first.values()), allowed), tried, free, seconds)
    people = [address for _, one in spans for address in one.recipients]
    passed = len(set(people)) if bound.name == FIRST_TIME else len(people)
    return Figure(bound, passed, passed, tried, free, seconds)


def most_at_once(passed: Sequence[tuple[float, float]], amount: int) -> int:
    """The most messages beyond the pace in any span: handed in and gone within it, less `amount` for each of its minutes.

    `passed`: (handed in, gone). The spans begin at 300 of these moments, or all.
    """
    begins = sorted(sent for sent, _ in passed)
    by_end = sorted(passed, key=lambda one: one[1])
    most = 0.0
    for begin in begins[:: max(1, len(begins) // 300)]:
        count = 0
        for sent, gone in by_end:
            if sent >= begin:
                count += 1
                most = max(most, count - amount * (gone - begin) / MINUTE)
    return -int(-most // 1)


def check_bound(got: Figure, allowed: int, unheard: int = 0) -> None:
    """Never more than `allowed`, and `unheard` that a new primary had not heard of; but nearly what the limit lets through."""
    limit, title = got.bound.amount, got.bound.title
    assert got.at_once <= allowed + unheard, f"{title}: {got.at_once} passed, of {allowed} and {unheard}: {got}"
    assert got.tried > got.passed, f"{title} never bit: {got}"
    # On a slow machine there are fewer attempts in a minute than the limit has room for.
    due = min(limit * (1 + got.seconds / MINUTE), got.free) if got.bound.name == PACE else limit
    assert got.passed >= ENOUGH * due, f"{title}: only {got.passed} passed of {due:.0f}: {got}"


def limit_of(bound: Bound, tenant: int) -> Limit:
    """The limit of a day as the gateways count it."""
    key = {"credential": f"c:{bound.subject}", "stream": f"s:{tenant}:{bound.subject}", "tenant": f"t:{tenant}"}
    return Limit(bound.name, bound.scope, key[bound.scope], bound.amount, DAY, 0, tenant)
