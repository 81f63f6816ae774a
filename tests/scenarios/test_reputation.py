"""What became of mail changes what may leave: as delivery sees it, and as a tenant tells (REP-1 to -3, THROTTLE-8)."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from email import message_from_string
from typing import Any

from relay.cli.demo_setup import config_text
from tests.harness.gateway import MESSAGE, Gateway, consent_row
from tests.harness.moody import Moody
from tests.harness.post import NEWS, post
from tests.harness.sink import Arrived
from tests.relay.cli.conftest import Zegel, log_as_it_was
from tests.scenarios.conftest import Start, try_again

__all__ = ["log_as_it_was"]  # a command sets the log of its process

OPEN = {"policies": {"throttle": {}}, "limits": {"connections_per_address": 200}}


def dead_or_alive(line: str, message: Arrived) -> bytes | None:
    """Nobody lives at dead...@, and block...@ is refused because of us."""
    to = line.partition("<")[2]
    if line.startswith("RCPT") and to.startswith("dead"):
        return b"550 5.1.1 no such user"
    if line.startswith("RCPT") and to.startswith("block"):
        return b"550 5.7.1 blocked, see https://dnsbl.example"
    return None


def zegel(gateway: Gateway) -> Zegel:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    return Zegel(config)


def standing(gateway: Gateway, scope: str, subject: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = zegel(gateway).ask("reputation", "show", "shop")
    return next(row for row in rows if (row["scope"], row["subject"]) == (scope, subject))


def agree(gateway: Gateway, addresses: list[str]) -> None:
    rows = [consent_row(address) for address in addresses]
    for start in range(0, len(rows), 500):
        answer = gateway.op("consent.import_rows", tenant="shop", rows=rows[start : start + 500])
        assert not answer["refused"], answer


def campaign(gateway: Gateway, to: list[str]) -> list[str]:
    """One mail for each; the first three digits of each answer."""
    replies = []
    for address in to:
        answer = post(gateway, "marketing", [address], NEWS)
        replies.append((answer.reply or answer.refused[address])[:3])
    return replies


def api(gateway: Gateway, key: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{gateway.settings.web.public_url}/api/v1/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def key_of(gateway: Gateway, tenant: str) -> str:
    key = str(gateway.op("apikey.add", tenant=tenant, name="tool")["secret"])
    gateway.until(lambda: api(gateway, key, "limits")[0] == 200, 5.0, "the key is not known")
    return key


def letters(hop: Moody) -> list[str]:
    """Subjects of what the tenant's contact got."""
    found = []
    for arrived in list(hop.arrived):
        message = message_from_string(arrived.raw.decode("utf-8"))
        if message["Auto-Submitted"] == "auto-generated" and "postmaster" in str(message["From"]):
            found.append(str(message["Subject"]))
    return found


def test_a_bought_list_is_paused_and_a_password_reset_is_not(start: Start) -> None:
    """THROTTLE-8: 16 x 5.1.1 in the first 50. What waits is held, nothing is lost, and a person lets it go (REP-1)."""
    gateway, hop = start(workers=2, hop=Moody(answer=dead_or_alive))
    to = [f"{'dead' if number % 3 == 2 else 'alive'}{number}@list.example" for number in range(50)]
    late = [f"late{number}@list.example" for number in range(4)]
    agree(gateway, [*to, *late])
    assert set(campaign(gateway, to)) == {"250"}
    gateway.until(lambda: standing(gateway, "stream", "marketing")["level"] == "paused", 20.0, "nobody was paused")
    shown = standing(gateway, "credential", "marketing")
    assert (shown["level"], shown["bounces"]) == ("paused", 16)
    assert standing(gateway, "stream", "transactional")["level"] == "good"

    came = len(hop.arrived)
    assert campaign(gateway, late) == ["250"] * 4, "it is taken, and waits"
    gateway.until(lambda: gateway.op("queue.stats")["held"] >= 4, 10.0, "nothing is held")
    assert {row["held"] for row in zegel(gateway).ask("held", "list")} == {"reputation.paused"}
    assert post(gateway, "transactional", ["ann@dest.example"], MESSAGE).reply.startswith("250")
    assert hop.until(lambda: any("ann@dest.example" in one.rcpt[0] for one in hop.arrived)), "a reset goes"
    assert not [one for one in hop.arrived[came:] if "late" in one.rcpt[0]]

    assert hop.until(lambda: "Your mail is paused" in letters(hop)), letters(hop)
    assert letters(hop).count("Your mail is paused") == 1, "once"
    assert (
        post(gateway, "transactional", ["dead2@list.example"], MESSAGE)
        .refused["dead2@list.example"]
        .startswith("550 5.1.1 [REP-3]")
    )

    held = gateway.op("queue.stats")["held"]  # the last of the campaign too, if it was queued still at the pause
    done = zegel(gateway).ask("reputation", "release", "shop")
    assert done["released"] >= 2 and (done["leave_at_once"], done["leave_in_turn"]) == (held, 0)
    assert hop.until(lambda: sum("late" in one.rcpt[0] for one in hop.arrived) == 4), "what waited leaves"
    assert standing(gateway, "stream", "marketing")["deliveries"] < 50, "and the window begins anew"
    gateway.settle()


def test_queued_mail_of_who_is_paused_meanwhile_is_held_before_it_leaves(start: Start) -> None:
    """The rest of a campaign that is queued already does not leave after its beginning has shown what it is."""
    busy = [b"451 4.3.0 later"]

    def answer(line: str, message: Arrived) -> bytes | None:
        return busy[0] if "<rest" in line and busy else dead_or_alive(line, message)

    gateway, hop = start(hop=Moody(answer=answer))
    first = [f"dead{number}@list.example" for number in range(16)]
    rest = [f"rest{number}@list.example" for number in range(5)]
    agree(gateway, [*first, *rest])
    assert set(campaign(gateway, [*rest, *first])) == {"250"}
    gateway.until(lambda: standing(gateway, "stream", "marketing")["level"] == "paused", 20.0, "nobody was paused")

    def is_held() -> bool:
        try_again(gateway)
        return bool(gateway.op("queue.stats")["held"] == 5)

    gateway.until(is_held, 20.0, "what is tried again is not held")
    busy.clear()
    gateway.signal(signal.SIGTERM)
    gateway.wait()
    assert {row["held"] for row in zegel(gateway).ask("held", "list")} == {"reputation.paused"}
    # Without a gateway a person may release too; it leaves when there is one.
    done = zegel(gateway).ask("reputation", "release", "shop", "--stream", "marketing")
    assert done["released"] == 1 and done["leave_at_once"] == 0, "its login is paused as well"
    done = zegel(gateway).ask("reputation", "release", "shop", "--credential", "marketing")
    assert done["released"] == 1 and done["leave_at_once"] == 5
    gateway.start()
    assert hop.until(lambda: sum("<rest" in one.rcpt[0] for one in hop.arrived) == 5), "it is let go at the start"
    gateway.settle(20.0)


def test_what_a_tenant_tells_counts_once_and_only_of_its_own_mail(start: Start) -> None:
    """POST /api/v1/outcomes: bounces and complaints that came back as mail."""
    gateway, hop = start()
    gateway.op("tenant.add", name="other")
    key, other = key_of(gateway, "shop"), key_of(gateway, "other")
    people = [f"p{number}@list.example" for number in range(3)]
    agree(gateway, people)
    ids = [post(gateway, "marketing", [address], NEWS).queue_id for address in people]
    personal = post(gateway, "personal", ["ann@dest.example"], MESSAGE).queue_id
    assert hop.until(lambda: len(hop.arrived) >= 4)
    bounce = {"message": ids[0], "email": people[0], "outcome": "bounced", "status": "5.1.1"}
    gateway.until(lambda: api(gateway, key, "outcomes", bounce)[0] == 200, 5.0, "the delivery log does not know it")
    again = api(gateway, key, "outcomes", [bounce, {**bounce, "email": "P0@LIST.example"}])
    assert again[0] == 200 and [one["counted"] for one in again[1]["results"]] == [False, False]
    complaint = {"message": ids[1].lower(), "email": people[1], "outcome": "complained"}
    gateway.until(lambda: api(gateway, key, "outcomes", complaint)[1]["counted"] == 1, 5.0, "nor this one")

    wrong = [
        {**bounce, "message": ids[1]},  # it did not go to that address
        {**bounce, "message": "0R3M7K2QX9T1A"},
        {**bounce, "status": "4.2.2"},
        {"message": ids[2], "email": people[2], "outcome": "bounced"},
        {**bounce, "outcome": "delivered"},
        {"message": "x", "email": "nobody", "outcome": "complained"},
        "nothing",
        {"message": ids[2], "email": people[2], "outcome": "bounced", "status": "5.1.1"},
    ]
    answers: list[tuple[int, Any]] = []

    def last_is_taken() -> bool:
        answers.append(api(gateway, key, "outcomes", wrong))
        return answers[-1][0] == 207

    gateway.until(last_is_taken, 5.0, "the delivery log does not know the last")
    told = answers[-1][1]
    assert [one["ok"] for one in told["results"]] == [False] * 7 + [True]
    fields = [one["errors"][0]["field"] for one in told["results"][:5]]
    assert fields == ["email", "message", "status", "status", "outcome"]
    assert "@" not in json.dumps(told)
    assert api(gateway, other, "outcomes", complaint)[0] == 422, "of another's mail nobody tells anything"
    assert api(gateway, key, "outcomes", [bounce] * 501)[0] == 422
    assert api(gateway, "zk_nobody", "outcomes", bounce)[0] == 401

    gateway.until(
        lambda: (
            (standing(gateway, "stream", "marketing")["bounces"], standing(gateway, "tenant", "shop")["complaints"])
            == (2, 1)
        ),
        5.0,
        "it was not counted, or more than once",
    )
    assert standing(gateway, "stream", "marketing")["deliveries"] == 3, "a later bounce is no delivery of its own"
    assert "REP-3" in post(gateway, "transactional", [people[0]], MESSAGE).refused[people[0]]
    assert "550" in post(gateway, "marketing", [people[1]], NEWS).refused[people[1]], "who complains has left (FB-6)"
    assert post(gateway, "personal", [people[0]], MESSAGE).reply.startswith("250"), "a letter may still try (REP-3)"

    bounced = {"message": personal, "email": "ann@dest.example", "outcome": "bounced", "status": "5.1.1"}
    gateway.until(lambda: api(gateway, key, "outcomes", bounced)[1].get("counted") == 1, 5.0, "nor its letter")
    assert post(gateway, "transactional", ["ann@dest.example"], MESSAGE).reply.startswith("250"), (
        "not for personal mail"
    )
    assert api(gateway, other, "reputation")[1][-1]["deliveries"] == 0
    mine = api(gateway, key, "reputation")[1]
    assert {row["scope"] for row in mine} == {"credential", "stream", "domain", "tenant"}


def test_a_sender_who_is_reviewed_keeps_a_part_of_his_limits(start: Start) -> None:
    """REP-1: 60 in 1,000; the pace of his login is a quarter, and its metric tells."""
    pace = {"transactional_messages_per_minute": 40}
    bounds = {"bounce_deliveries": 20, "bounce_review": 0.05, "bounce_warn": 0.02, "bounce_pause": 0.9}
    gateway, _ = start(workers=2, hop=Moody(answer=dead_or_alive), policies={"throttle": pace}, reputation=bounds)
    for number in range(20):
        to = f"{'dead' if number % 3 == 0 else 'alive'}{number}@list.example"
        post(gateway, "transactional", [to], MESSAGE)
    gateway.until(lambda: standing(gateway, "stream", "transactional")["level"] == "review", 20.0, "nobody is reviewed")
    shown = zegel(gateway).ask("limit", "show", "shop", "messages_per_minute", "--credential", "transactional")
    assert shown[0]["allowed"] == 10
    parked = [post(gateway, "transactional", [f"x{n}@list.example"], MESSAGE) for n in range(12)]
    gateway.until(
        lambda: gateway.op("queue.stats")["waiting"] >= 2,
        5.0,
        "of 40 there would be room for all of them, of a quarter there is not",
    )
    assert all(answer.reply.startswith("250") for answer in parked)
    gateway.until(lambda: 0.2 < gateway.metric('zegel_bounce_ratio{tenant="shop"}') <= 0.35, 15.0, "no ratio")
    senders = 'zegel_reputation_senders{level="review",tenant="shop"}'
    gateway.until(lambda: gateway.metric(senders) >= 2.0, 15.0, "no metric")
    assert gateway.metric('zegel_outcomes_total{outcome="unknown"}') == 7.0
