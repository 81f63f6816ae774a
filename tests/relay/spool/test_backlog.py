"""What waits, in memory: order, memory, and nothing forgotten."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.spool.backlog import Backlog, reference, split_reference
from tests.harness.many import examples

NOW = 1_767_225_600.5


@given(st.integers(0, (1 << 24) - 1), st.integers(0, (1 << 40) - 1))
def test_a_reference_gives_back_its_parts(segment: int, seq: int) -> None:
    ref = reference(segment, seq)
    assert ref < 1 << 64 and split_reference(ref) == (segment, seq)


waits = st.lists(st.tuples(st.floats(-10, 500_000), st.integers(0, 1), st.integers(1, 3)), max_size=60)


@settings(max_examples=examples(60), deadline=None)
@given(waits, st.lists(st.floats(0.1, 100_000), max_size=20))
def test_everything_ripens_once_and_never_early(entries: list[tuple[float, int, int]], steps: list[float]) -> None:
    backlog = Backlog()
    due = {number: NOW + wait for number, (wait, _, _) in enumerate(entries)}
    for number, (wait, rank, tenant) in enumerate(entries):
        backlog.push(number, rank, tenant, due=NOW + wait, now=NOW)
    now, left = NOW, []
    for step in [*steps, 1_000_000.0]:
        now += step
        backlog.ripen(now)
        for rank in (0, 1):
            for tenant in list(backlog.lines[rank]):
                refs = backlog.take(rank, tenant, 1000)
                assert all(due[ref] <= now and entries[ref][1:] == (rank, tenant) for ref in refs)
                left += refs
    assert sorted(left) == sorted(due) and len(backlog) == 0


@settings(max_examples=40, deadline=None)
@given(waits, st.data())
def test_one_taken_out_is_gone_and_the_others_are_not(
    entries: list[tuple[float, int, int]], data: st.DataObject
) -> None:
    backlog = Backlog()
    for number, (wait, rank, tenant) in enumerate(entries):
        backlog.push(number, rank, tenant, due=NOW + wait, now=NOW)
    gone = data.draw(st.integers(0, max(0, len(entries))))
    found = backlog.discard(gone)
    assert (found is not None) == (gone < len(entries))
    if found is not None:
        (place, due) = found
        assert place == entries[gone][1:] and (due == 0.0 or 0 <= due - (NOW + entries[gone][0]) <= 1)
    left = {ref for _, arrays in backlog.references() for refs in arrays for ref in refs}
    assert left == set(range(len(entries))) - {gone} and len(backlog) == len(left)
    assert backlog.discard(gone) is None


def test_what_is_given_back_leaves_first() -> None:
    backlog = Backlog()
    for ref in range(10):
        backlog.push(ref, 0, 1, due=0.0, now=NOW)
    refs = backlog.take(0, 1, 4)
    backlog.give_back(refs[1:], 0, 1)
    assert list(backlog.take(0, 1, 100)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_200_000_parked_over_five_days_take_little_memory() -> None:
    backlog = Backlog()
    tracemalloc.start()
    for number in range(200_000):
        backlog.push(number, 1, number % 1000, due=NOW + number * 2.16, now=NOW)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / 200_000 < 60
