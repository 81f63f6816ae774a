"""The pool: how many connections, which host, when jobs are asked for, and that each job is answered once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from relay.delivery.backoff import Plan
from relay.delivery.connection import Terms, Timeouts
from relay.delivery.outcome import Deferred, Delivered, Failed, Scope
from relay.delivery.peers import Peer
from relay.delivery.pool import Doors, PeerState, Pool, PoolSettings, check_peers
from tests.harness.ports import free_port
from tests.relay.delivery.conftest import Authority
from tests.relay.delivery.jobs import HEAD, Letter
from tests.relay.delivery.sink import Sink, dice

TERMS = Terms("relay.example", Timeouts()._replace(quit=1.0))
SLOW = Plan(first_seconds=60.0)
QUICK = Plan(first_seconds=0.001, longest_seconds=0.01, login_seconds=0.001)


class Bench:
    """A pool with a queue for a scheduler. `taken` counts calls of `take`."""

    def __init__(self, ports: Sequence[int], *, terms: Terms = TERMS, plan: Plan = SLOW, **settings: int) -> None:
        self.queue: deque[Letter] = deque()
        self.taken = 0
        self.bugs: list[Exception] = []
        self.notices: list[PeerState] = []
        self.changed = asyncio.Event()
        peers = tuple(Peer("127.0.0.1", port) for port in ports)
        made = PoolSettings(peers, terms, backoff=plan, **settings)
        self.pool = Pool(made, self.take, doors=Doors(noticed=self.note, crashed=self.crash))

    def take(self) -> Letter | None:
        self.taken += 1
        self.changed.set()
        return self.queue.popleft() if self.queue else None

    def note(self, state: PeerState) -> None:
        self.notices.append(state)
        self.changed.set()

    def crash(self, bug: Exception) -> None:
        self.bugs.append(bug)
        self.changed.set()

    def send(self, *letters: Letter) -> list[Letter]:
        for letter in letters:
            letter.on_done = self.changed.set
            self.queue.append(letter)
        self.pool.wake()
        return list(letters)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not true():
                await self.changed.wait()
                self.changed.clear()

    async def answered(self, letters: Sequence[Letter]) -> None:
        await self.until(lambda: all(letter.outcomes is not None for letter in letters))


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as made:
        yield made


def is_delivered(letter: Letter) -> bool:
    return letter.outcomes is not None and all(isinstance(outcome, Delivered) for outcome in letter.outcomes)


def only(letter: Letter) -> Delivered | Deferred | Failed:
    assert letter.outcomes is not None and len(letter.outcomes) == 1
    return letter.outcomes[0]


async def test_no_connection_without_work(sink: Sink) -> None:
    bench = Bench([sink.port])
    assert bench.pool.state().opened == 0
    await bench.pool.drain(1)
    assert (sink.accepted, bench.taken) == (0, 0)


async def test_one_mail_needs_one_connection_and_the_next_uses_it(sink: Sink) -> None:
    bench = Bench([sink.port])
    for _ in range(3):
        await bench.answered(bench.send(Letter()))
    assert bench.pool.state().opened <= 2
    assert bench.pool.state().busy == 0
    await bench.pool.drain(1)
    assert len(sink.messages) == 3


async def test_a_burst_grows_to_the_limit_and_no_further(sink: Sink) -> None:
    bench = Bench([sink.port], connections=4)
    sink.release.clear()
    letters = bench.send(*(Letter([f"u{i}@dest.example"]) for i in range(40)))
    await bench.until(lambda: len(bench.queue) <= 40 - 8)  # four on their way, four behind them
    assert bench.pool.state().busy == 4
    sink.release.set()
    await bench.answered(letters)
    assert sink.most == 4
    assert all(map(is_delivered, letters))
    await bench.pool.drain(1)
    assert len(sink.messages) == 40


async def test_take_is_asked_only_when_a_message_can_begin(sink: Sink) -> None:
    bench = Bench([sink.port], connections=1)
    sink.release.clear()
    letters = bench.send(*(Letter() for _ in range(5)))
    await asyncio.wait_for(sink.held.wait(), 5)
    assert len(bench.queue) == 3  # one at the peer, one behind it; the rest stays with the scheduler
    sink.release.set()
    await bench.answered(letters)
    await bench.pool.drain(1)


async def test_a_dead_host_gets_no_jobs_and_the_second_host_does(sink: Sink) -> None:
    bench = Bench([free_port(), sink.port])
    letters = bench.send(Letter(), Letter())
    await bench.answered(letters)
    assert all(map(is_delivered, letters))
    first, second = bench.pool.state().peers
    assert (first.state, first.stage, first.failures) == ("waiting", "connect", 1)
    assert first.retry_seconds > 55
    assert (second.state, second.failures) == ("usable", 0)
    assert [notice.name for notice in bench.notices] == [first.name]
    await bench.pool.drain(1)


async def test_no_usable_host_means_take_is_never_called() -> None:
    bench = Bench([free_port(), free_port()])
    (letter,) = bench.send(Letter())
    await bench.until(lambda: len(bench.notices) == 2)
    bench.pool.wake()
    await bench.pool.drain(1)
    assert bench.taken == 0
    assert letter.outcomes is None
    assert not bench.pool.state().usable


async def test_a_host_that_comes_back_is_found_without_a_new_wake(sink: Sink) -> None:
    port = free_port()
    bench = Bench([port], plan=QUICK)
    (letter,) = bench.send(Letter())
    await bench.until(lambda: len(bench.notices) == 2)
    late = Sink()
    late.port = port
    async with late:
        await bench.answered([letter])
        await bench.until(lambda: bench.pool.state().peers[0].state == "usable")
        await bench.pool.drain(1)
    assert is_delivered(letter)


async def test_drain_finishes_what_is_on_its_way_and_takes_nothing_more(sink: Sink) -> None:
    bench = Bench([sink.port], connections=1)
    sink.release.clear()
    letters = bench.send(*(Letter() for _ in range(5)))
    await asyncio.wait_for(sink.held.wait(), 5)
    draining = asyncio.get_running_loop().create_task(bench.pool.drain(5))
    await asyncio.sleep(0)
    sink.release.set()
    await draining
    assert [is_delivered(letter) for letter in letters] == [True, True, False, False, False]
    assert [letter.outcomes for letter in letters[2:]] == [None] * 3
    assert bench.pool.state().busy == 0


async def test_drain_cuts_after_its_time_and_says_what_is_in_doubt(sink: Sink) -> None:
    bench = Bench([sink.port], connections=1)
    sink.release.clear()
    letters = bench.send(Letter(), Letter(), Letter())
    await asyncio.wait_for(sink.held.wait(), 5)
    await bench.pool.drain(0.05)
    first, second = only(letters[0]), only(letters[1])
    assert isinstance(first, Deferred) and first.doubt and first.scope is Scope.MESSAGE
    assert isinstance(second, Deferred) and not second.doubt and second.scope is Scope.HOST
    assert letters[2].outcomes is None


async def test_close_answers_every_job_before_it_returns(sink: Sink) -> None:
    bench = Bench([sink.port], connections=3)
    sink.release.clear()
    letters = bench.send(*(Letter() for _ in range(3)))
    await asyncio.wait_for(sink.held.wait(), 5)
    taken = [letter for letter in letters if letter not in bench.queue]
    bench.pool.close()
    assert all(isinstance(only(letter), Deferred) for letter in taken)
    await bench.pool.drain(1)


async def test_a_bug_in_render_defers_that_job_and_rings(sink: Sink) -> None:
    bench = Bench([sink.port])
    bad, good = bench.send(Letter(answer=RuntimeError("no key")), Letter())
    await bench.answered([bad, good])
    outcome = only(bad)
    assert isinstance(outcome, Deferred) and outcome.status == "4.3.0"
    assert "no key" not in outcome.reply
    assert [str(bug) for bug in bench.bugs] == ["no key"]
    assert is_delivered(good)
    await bench.pool.drain(1)


@pytest.mark.parametrize("answer", [Failed("5.6.3", "signed", ""), Deferred("4.7.5", "key missing", "")])
async def test_what_render_answers_is_the_outcome_and_the_peer_hears_nothing(
    sink: Sink, answer: Failed | Deferred
) -> None:
    bench = Bench([sink.port])
    letters = bench.send(*(Letter(["a@d.example", "b@d.example"], answer=answer) for _ in range(30)), Letter())
    await bench.answered(letters)
    assert all(letter.outcomes == [answer, answer] for letter in letters[:-1])
    assert is_delivered(letters[-1])
    await bench.pool.drain(1)
    assert len(sink.messages) == 1


async def test_whose_address_has_no_way_hears_of_that_where_there_is_no_copy_either(sink: Sink) -> None:
    bench = Bench([sink.port])  # which takes no SMTPUTF8
    head, late = Failed("5.6.9", "head", ""), Deferred("4.7.5", "key missing", "")
    failed, waits = bench.send(*(Letter(["a@d.example", "jörg@d.example"], answer=answer) for answer in (head, late)))
    await bench.answered([failed, waits])
    assert failed.outcomes is not None and failed.outcomes[0] == head
    assert isinstance(failed.outcomes[1], Failed) and failed.outcomes[1].status == "5.6.7"
    assert waits.outcomes == [late, late]
    await bench.pool.drain(1)


async def test_a_bug_in_done_does_not_reach_the_next_job(sink: Sink) -> None:
    bench = Bench([sink.port], connections=1)
    bad, good = Letter(), Letter()
    bench.send(bad, good)

    def crash() -> None:
        raise RuntimeError("in done")

    bad.on_done = crash
    await bench.answered([bad, good])
    assert is_delivered(good)
    assert [str(bug) for bug in bench.bugs] == ["in done"]
    await bench.pool.drain(1)


async def test_render_gets_the_features_of_the_peer_once(sink: Sink) -> None:
    bench = Bench([sink.port])
    (letter,) = bench.send(Letter())
    await bench.answered([letter])
    (features,) = letter.seen
    assert (features.pipelining, features.eightbitmime, features.smtputf8, features.size) == (
        True,
        True,
        False,
        50_000_000,
    )
    assert not features.tls
    await bench.pool.drain(1)


async def test_wake_from_within_done_is_safe(sink: Sink) -> None:
    bench = Bench([sink.port], connections=2)
    letters = [Letter() for _ in range(20)]

    def next_one() -> None:
        left = [letter for letter in letters if letter.outcomes is None and letter not in bench.queue]
        bench.changed.set()
        if left and not bench.queue:
            bench.queue.append(left[0])
            bench.pool.wake()

    for letter in letters:
        letter.on_done = next_one
    bench.queue.append(letters[0])
    bench.pool.wake()
    await bench.answered(letters)
    assert all(map(is_delivered, letters))
    await bench.pool.drain(1)


async def test_idle_connection_says_quit_after_its_time(sink: Sink) -> None:
    bench = Bench([sink.port], terms=Terms("relay.example", idle_seconds=0.05))
    await bench.answered(bench.send(Letter()))
    async with asyncio.timeout(5):
        while sink.sessions or bench.pool.state().idle:  # it may see the end a moment later than the host
            await asyncio.sleep(0.01)
    assert bench.pool.state().peers[0].state == "usable"
    await bench.answered(bench.send(Letter()))
    assert len(sink.messages) == 2
    await bench.pool.drain(1)


async def test_idle_connection_that_the_peer_closed_is_replaced(sink: Sink) -> None:
    bench = Bench([sink.port], connections=1)
    await bench.answered(bench.send(Letter()))
    for transport in list(sink.sessions):
        transport.abort()
    (letter,) = bench.send(Letter())
    await bench.answered([letter])
    outcome = only(letter)  # it may have been written into the closing connection: then it was not a try
    assert isinstance(outcome, Delivered) or (isinstance(outcome, Deferred) and outcome.scope is Scope.HOST)
    (again,) = bench.send(Letter())
    await bench.answered([again])
    assert is_delivered(again)
    assert bench.pool.state().peers[0].failures == 0
    await bench.pool.drain(1)


async def test_check_tells_what_is_wrong_with_each_host(sink: Sink, authority: Authority) -> None:
    dead = free_port()
    peers = [
        Peer("127.0.0.1", sink.port),
        Peer("127.0.0.1", dead),
        Peer("localhost", sink.port, user="u", password="x"),
    ]
    fine, refused, bare = await check_peers(peers, TERMS)
    assert (fine.why, fine.features.pipelining) == ("", True)
    assert refused.stage == "connect" and "refused" in refused.why
    assert bare.stage == "starttls" and "STARTTLS" in bare.why
    assert sink.messages == []


async def test_check_of_a_pool_leaves_its_state_alone(sink: Sink) -> None:
    bench = Bench([sink.port, free_port()])
    fine, refused = await bench.pool.check()
    assert (fine.why, refused.stage) == ("", "connect")
    assert [peer.failures for peer in bench.pool.state().peers] == [0, 0]
    assert bench.taken == 0
    await bench.pool.drain(1)


@pytest.mark.parametrize("ehlo", [b"250-x\r\n250 PIPELINING\r\n", b"250 x\r\n"], ids=["pipelined", "lock-step"])
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_peer_does_each_job_has_one_outcome_and_the_truth_is_told(seed: int, ehlo: bytes) -> None:
    """Twelve kinds of mischief by dice: what counts as delivered is at the peer, what may be there is in doubt."""
    async with Sink(ehlo=ehlo, mischief=dice(seed, 0.04)) as sink:
        bench = Bench([sink.port], connections=3, plan=QUICK, messages_per_connection=20)
        letters = bench.send(*(Letter([f"u{i}@d.example"], body=b"%d\r\n" % i) for i in range(150)))
        await bench.answered(letters)
        await bench.pool.drain(2)
        got = [int(message[len(HEAD) :]) for message in sink.messages if message]  # a lone dot is no message
        assert len(got) == len(set(got)), "a message arrived twice in one attempt each"
        for number, letter in enumerate(letters):
            outcome = only(letter)
            if number in got:
                assert isinstance(outcome, Delivered) or (isinstance(outcome, Deferred) and outcome.doubt), outcome
            else:
                assert not isinstance(outcome, Delivered), outcome
        assert len(got) > 30
        assert bench.bugs == []
