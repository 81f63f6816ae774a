"""Every conversation of tests/dialogues/delivery, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.delivery.backoff import Plan
from relay.delivery.connection import Terms, Timeouts
from relay.delivery.job import Job
from relay.delivery.outcome import Deferred, Delivered, Failed, Outcome
from relay.delivery.peers import Peer as NextHop
from relay.delivery.pool import Doors, Pool, PoolSettings
from tests.relay.delivery.conftest import Authority
from tests.relay.delivery.jobs import Letter
from tests.relay.delivery.script import Peer, Script

FILES = sorted((Path(__file__).parents[2] / "dialogues" / "delivery").glob("*.smtp"))
KINDS = {Delivered: "delivered", Deferred: "deferred", Failed: "failed"}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
async def test_dialogue(path: Path, authority: Authority) -> None:
    script = Script.read(path)
    changed = asyncio.Event()
    peer = Peer(script, authority.contexts, changed.set)
    await peer.start()
    waiting = list(script.jobs.values())
    for letter in waiting:
        letter.on_done = changed.set

    def take() -> Job | None:
        return waiting.pop(0) if waiting else None

    pool = Pool(settings_of(script, peer.port, authority), take, doors=Doors(noticed=lambda state: changed.set()))
    pool.wake()
    try:
        async with asyncio.timeout(5):
            while peer.mismatch is None and not is_over(script, peer, waiting, pool):
                await changed.wait()
                changed.clear()
    finally:
        state = pool.state()
        await pool.drain(2)
        await peer.stop()
    assert peer.mismatch is None, peer.mismatch
    assert peer.accepted == len(script.connections)
    for words in script.then:
        if words[0] == "job":
            check_job(script.jobs[int(words[1])], words[2:], waiting)
        else:
            assert [state.peers[0].state, state.peers[0].stage] == [*words[1:], ""][:2]


def is_over(script: Script, peer: Peer, waiting: list[Letter], pool: Pool) -> bool:
    answered = all(script.jobs[number].outcomes is not None for number in script.ending)
    host = [words[1] for words in script.then if words[0] == "host"]
    settled = not host or pool.state().peers[0].state == host[0]
    return answered and settled and peer.played == len(script.connections)


def settings_of(script: Script, port: int, authority: Authority) -> PoolSettings:
    options = script.options
    user = "relay" if "peer user" in options else ""
    hop = NextHop(
        "localhost" if "peer user" in options or "peer implicit" in options else "127.0.0.1",
        port,
        implicit_tls="peer implicit" in options,
        tls="opportunistic" if "peer opportunistic" in options else "verify",
        user=user,
        password="geheim" if user else "",
        ca_file=authority.ca_file,
        clear_auth="peer clear-auth" in options,
    )
    timeouts = Timeouts()._replace(
        **{key[8:]: float(value) for key, value in options.items() if key.startswith("timeout ")}
    )
    return PoolSettings(
        (hop,),
        Terms("relay.example", timeouts, pipelining=options.get("pipelining") != "off"),
        connections=1,
        messages_per_connection=int(options.get("messages-per-connection", 1000)),
        backoff=Plan(first_seconds=float(options.get("backoff", 60.0))),
    )


def check_job(letter: Letter, words: list[str], waiting: list[Letter]) -> None:
    if words == ["waits"]:
        assert letter in waiting
        assert letter.outcomes is None
        return
    assert letter.outcomes is not None
    told: list[Outcome] = letter.outcomes
    if "@" in words[0]:
        told = [letter.outcomes[[r.address for r in letter.recipients].index(words[0])]]
        words = words[1:]
    for outcome in told:
        seen = [KINDS[type(outcome)], outcome.status]
        if isinstance(outcome, Deferred):
            seen += [str(outcome.scope)] + (["doubt"] if outcome.doubt else [])
        elif isinstance(outcome, Failed) and outcome.of_nobody:
            seen.append("of-nobody")
        assert seen == words, outcome


def test_every_misbehaviour_has_its_dialogue() -> None:
    assert len(FILES) >= 40
