"""What the scheduler has done by others: asking again, reports, the delivery log, bugs, and the retry plan of a message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from relay.delivery.outcome import Outcome
from relay.delivery.retry import RetryPlan
from relay.recheck import Standing
from relay.spool.item import Item


class Recheck(Protocol):
    """Asks consent and suppression again (CONSENT-12)."""

    def __call__(self, item: Item, waiting: Sequence[int]) -> Standing:
        """What stands in the way."""
        ...

    def is_fresh(self, item: Item) -> bool:
        """Cheap: the last answer still holds."""
        ...


class Reporter(Protocol):
    """Makes the reports that a concluded attempt calls for, as messages for the queue (OUT-12)."""

    def __call__(self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, until: float = 0.0) -> list[Item]:
        """`until`: its sender is to be told of a delay, and when that ends (epoch seconds); 0.0: not."""
        ...


class Recorder(Protocol):
    """Writes the delivery log (`zegel trace`)."""

    def concluded(
        self, item: Item, outcomes: dict[int, Outcome], *, gave_up: bool, recoded: Collection[str] = ()
    ) -> None:
        """A round is over, or the message is held. `recoded`: the rules by which what was delivered was re-encoded on the way."""
        ...

    def postponed(self, item: Item, why: str) -> None:
        """It waits until `item.due`, untried; `why` is a code of reasons.toml."""
        ...


class Hands(NamedTuple):
    """One of each, for one scheduler."""

    recheck: Recheck
    report: Reporter
    record: Recorder
    crashed: Callable[[BaseException], None]
    plans: Callable[[Item], RetryPlan]
