"""Whether this process can do its work, and if not, why: for /readyz, for the balancer, for the one who is woken.

Alive means the loop turns; ready means every part can do its share. A part says so itself, or is watched by its heartbeat.
"""

from __future__ import annotations


class Health:
    """What is wrong right now. Reasons are for operators and hold no personal data."""

    def __init__(self) -> None:
        self._wrong: dict[str, str] = {}
        self._beats: dict[str, tuple[float, float]] = {}

    def fail(self, part: str, reason: str) -> None:
        """`part` cannot do its work; a later `reason` of the same part replaces this one."""
        self._wrong[part] = reason

    def recover(self, part: str) -> None:
        self._wrong.pop(part, None)

    def beat(self, part: str, now: float, within_seconds: float) -> None:
        """`part` is at work; unless it says so again within `within_seconds` it counts as stuck. `now` is monotonic."""
        self._beats[part] = (now, within_seconds)

    def retire(self, part: str) -> None:
        """`part` has ended as it should and is expected no more."""
        self._beats.pop(part, None)
        self._wrong.pop(part, None)

    def reasons(self, now: float) -> list[str]:
        """Why this process is not ready, in order of the parts' names; empty when it is."""
        stuck = {
            part: f"silent for {now - last:.0f} s"
            for part, (last, within) in self._beats.items()
            if now - last > within
        }
        return [f"{part}: {reason}" for part, reason in sorted({**stuck, **self._wrong}.items())]
