"""Readiness: what is said to be wrong, and what has fallen silent."""

from __future__ import annotations

from relay.observe.health import Health


def test_a_part_is_wrong_until_it_recovers() -> None:
    health = Health()
    assert health.reasons(0.0) == []
    health.fail("spool", "disk is full")
    health.fail("spool", "disk is failing")
    health.fail("directory", "cannot be read")
    assert health.reasons(0.0) == ["directory: cannot be read", "spool: disk is failing"]
    health.recover("spool")
    health.recover("never seen")
    assert health.reasons(0.0) == ["directory: cannot be read"]


def test_silence_is_a_reason_and_a_retired_part_may_be_silent() -> None:
    health = Health()
    health.beat("worker 0", 100.0, 5.0)
    health.beat("worker 1", 100.0, 60.0)
    assert health.reasons(105.0) == []
    assert health.reasons(107.0) == ["worker 0: silent for 7 s"]
    health.beat("worker 0", 107.0, 5.0)
    assert health.reasons(107.0) == []
    health.retire("worker 0")
    health.retire("worker 1")
    assert health.reasons(1e9) == []
