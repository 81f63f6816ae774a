"""What is known of messages in the middle of a pass over their recipients: between the scheduler and people's commands."""

from __future__ import annotations

from relay.delivery.outcome import Failed, Outcome
from relay.delivery.render import Bases


class Pass:
    """One pass over the recipients of a message: `settled` holds what earlier rounds said, `round` what this one says."""

    __slots__ = ("bases", "open", "recoded", "round", "settled")

    def __init__(self) -> None:
        self.settled: dict[int, Outcome] = {}
        self.round: dict[int, Outcome] = {}
        self.open = 0  # attempts without outcome
        self.recoded: frozenset[str] = frozenset()  # see Recorder.concluded; of this round
        self.bases: Bases = {}


class Passes(dict[int, Pass]):
    """Those of one process, by message id. Between two rounds a message stands in the queue, and a person may end it there."""

    def failed(self, number: int) -> dict[int, Failed]:
        """Who was refused for good in earlier rounds, which no row of the queue tells yet; by index of the recipient."""
        current = self.get(number)
        settled = current.settled if current is not None else {}
        return {index: outcome for index, outcome in settled.items() if isinstance(outcome, Failed)}

    def forget(self, number: int) -> None:
        """The message is over."""
        self.pop(number, None)
