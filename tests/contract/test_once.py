"""Idempotency keys at the owner: taken once, kept a day, given back by who ends, taken over from who does not."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from relay.owner import Owner, OwnerError
from tests.contract.conftest import World

KEY, REQUEST, OTHER = "0a" * 32, "0b" * 32, "0c" * 32
ANSWER = base64.b64encode(b"sealed").decode()


def begin(world: World, *, key: str = KEY, request: str = REQUEST) -> Any:
    return world.call("once.begin", tenant="shop", key=key, request=request)


def finish(world: World, run: float) -> Any:
    return world.call("once.finish", tenant="shop", key=KEY, run=run, status=207, answer=ANSWER)


def test_the_first_holds_the_key_until_it_ends(world: World) -> None:
    first = begin(world)
    assert first == {"state": "new", "run": world.now, "again": False}
    world.now += 119
    assert begin(world) == {"state": "running"}
    assert begin(world, request=OTHER) == {"state": "other"}
    assert begin(world, key=OTHER)["state"] == "new", "another key is another request"
    assert finish(world, first["run"]) == {"kept": True}
    done = {"state": "done", "status": 207, "answer": ANSWER}
    assert begin(world) == done and begin(world, request=OTHER) == {"state": "other"}
    world.owner.close()
    world.owner = Owner.open(world.settings, world.keyring, now=lambda: world.now)
    assert begin(world) == done, "after a restart too"


def test_a_run_that_does_not_end_is_taken_over_and_its_late_answer_is_not_kept(world: World) -> None:
    first = begin(world)
    world.now += 120
    second = begin(world)
    assert second == {"state": "new", "run": world.now, "again": True}
    assert finish(world, first["run"]) == {"kept": False}
    assert world.call("once.drop", tenant="shop", key=KEY, run=first["run"], forget=True) == {"kept": False}
    assert begin(world) == {"state": "running"}
    assert finish(world, second["run"]) == {"kept": True}
    assert finish(world, second["run"]) == {"kept": False}, "an answer stays as it was"


def test_a_run_that_failed_frees_the_key_for_the_same_request_and_one_that_did_nothing_for_any(world: World) -> None:
    run = begin(world)["run"]
    world.call("once.drop", tenant="shop", key=KEY, run=run)
    assert begin(world, request=OTHER) == {"state": "other"}
    run = begin(world)
    assert run["again"] is True
    world.call("once.drop", tenant="shop", key=KEY, run=run["run"], forget=True)
    assert begin(world, request=OTHER)["again"] is False


def test_a_day_later_the_key_is_free_and_the_answer_gone(world: World) -> None:
    finish(world, begin(world)["run"])
    world.now += 86_400 - 1
    assert begin(world)["state"] == "done"
    world.now += 1
    assert begin(world, request=OTHER)["state"] == "new", "whether the upkeep has come by or not"
    world.now += 86_401
    assert world.call("retention.run")["answers"] == 1


@pytest.mark.parametrize(
    ("op", "change"),
    [
        ("once.begin", {"key": "0a"}),
        ("once.begin", {"request": "a\nb"}),
        ("once.finish", {"answer": "*"}),
        ("once.finish", {"status": 100}),
        ("once.drop", {"run": "x"}),
    ],
)
def test_what_is_no_run_is_refused(world: World, op: str, change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"tenant": "shop", "key": KEY, "request": REQUEST}
    if op != "once.begin":
        del given["request"]
        given["run"] = 1.0
    if op == "once.finish":
        given |= {"status": 200, "answer": ANSWER}
    assert world.refused(op, **given | change).startswith("args.")


def test_a_request_that_was_cut_off_is_not_recorded_twice(world: World) -> None:
    args = {"tenant": "shop", "address": "ann@example.net", "purpose": "newsletter", "source": "form"}
    tokens = [world.call("consent.request", **args, once=again)["token"] for again in (False, True, True)]
    proof = world.call("consent.proof", tenant="shop", address="ann@example.net")
    assert [event["event"] for event in proof["events"]] == ["requested"]
    world.call("consent.request", **args | {"source": "fair"}, once=True)
    world.call("consent.request", **args)
    proof = world.call("consent.proof", tenant="shop", address="ann@example.net")
    assert len(proof["events"]) == 3, "what differs, or was asked again, is another event"
    assert world.call("consent.confirm", token=tokens[-1])["tenant"] == "shop"


def test_no_other_tenant_ends_a_run(world: World) -> None:
    world.call("tenant.add", name="rival")
    run = begin(world)["run"]
    assert world.call("once.drop", tenant="rival", key=KEY, run=run, forget=True) == {"kept": False}
    with pytest.raises(OwnerError):
        world.call("once.begin", tenant="nobody", key=KEY, request=REQUEST)
