"""What counts and limits: exact across all workers of a node or of all nodes, and over restarts.

`Counters` are a node's own: they answer at once, from memory, and may be called from an event loop. `SharedCounters` are what
sessions and intake use: of this node alone, or of all gateways that share a Redis, which is I/O and is awaited.

Guarantees every implementation gives, whatever dies in between:

- `take` is all or nothing: either every limit is charged or none, and no two callers both get the last unit.
- A limit that was charged is never forgotten by a restart or a killed process; an error is on the side of having charged.
- A parked message has its future capacity reserved, so what comes later cannot overtake it into the same room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from relay.counters.windows import Windows
from relay.policy.facts import Allowance

MINUTE = 60
DAY = 86_400
PARK_HORIZON_SECONDS = 48 * 3600
"""How far ahead capacity may be reserved. A message that would wait longer is refused."""
WARM_UP = "warmup_recipients_per_day"
FIRST_TIME = "first_time_recipients_per_day"
MARK_BYTES = 4
"""Of a recipient, in `Limit.people`."""
SUDDEN = "sudden_change"
CAMPAIGN = "sudden_campaign"
HABITS = frozenset((SUDDEN, CAMPAIGN))
"""What limits nothing, and measures an account against itself."""
URGENT = ":now"
"""Ends the key of a pace that only mail which somebody waits for is asked by, beside the one that counts all mail."""
BEHIND = ":behind:"
"""Begins the end of the key, before the number of a tenant, of the pace that such mail is asked by where it waits anyway."""
AT_ONCE, IN_LINE = -3.0, -4.0
"""As `since`: two paces of which a message is asked by, and charged to, one only. AT_ONCE where no other limit makes it wait,
but one of AT_ONCE that comes after it, else IN_LINE. They come in pairs, narrow before wide: so mail that waits for a limit of
its own, or of its tenant, stands in nobody's way.
"""
SHARED = -1
UNASKED = 10**18
"""A `burst` that nothing fills: what is charged is counted, and never waits for this limit."""
WARM_UP_HORIZON_SECONDS = 14 * 86_400
"""The same for the warm-up of a new account, whose first campaign may need all of it (THROTTLE-3)."""


class Limit(NamedTuple):
    """One limit: at most `amount` units in `period_seconds` for `key`, a tenant or an address or whatever `scope` counts.

    Periods under a day are a rate with room for `burst` units at once (GCRA); a day is a sliding window of 24 hourly
    counters, where `burst` means nothing (THROTTLE-1).

    With `since` it is a warm-up, WARM_UP, of days that begin at that time: `amount` on the first, each day twice as many but for
    `behind` of them, until that is `burst` or more and it limits nothing any more (THROTTLE-3). It says when a message may leave;
    the other limits of the message are charged now, whatever it says. AT_ONCE and IN_LINE as `since` make it no warm-up.

    SUDDEN limits nothing: it counts, and `Allowance.sudden` tells the units of the last hour where they are more than `amount`,
    and more than `burst` times an average day of the 14 before this one, once 14 days are counted (THROTTLE-7). CAMPAIGN is the
    same with the largest day of 90 before this one, once `behind` days are counted.

    With SHARED as `behind` several tenants are counted together: what waits for it is no tenant's own `backlog`.

    With `people`, the marks of the recipients of this message, it counts those that `key` never wrote to before, whatever the
    charge says, once the account is known for `behind` days. Who is written to is known from then on, for a year; not where this
    limit itself makes the message wait.
    """

    name: str  # e.g. "messages_per_minute"
    scope: str  # credential | tenant | client | domain | stream
    key: str
    amount: int
    period_seconds: int  # MINUTE or DAY
    burst: int = 0
    tenant: int = 0
    """Whose limit it is; 0: nobody's, because it counts what several tenants do. Says where in a cluster it lies."""
    since: float = 0.0
    behind: int = 0
    people: bytes = b""


class CountersUnavailable(Exception):
    """The counters of all nodes do not answer, not in time or not as they should. `kind` is for logs and holds no data."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


DAMAGED_KEY = "DamagedKey"
"""The `kind` that concerns one key and not the counters: it holds what nobody of ours has written."""


Charge = tuple[Limit, int]
"""A limit and how many units of it."""


class Counters(Protocol):
    """Limits and counts. `now` is wall time in seconds: limits outlive the machine's own uptime."""

    def take(self, charges: Sequence[Charge], now: float, *, park: bool, max_parked: int = 0) -> Allowance:
        """Charge every limit or none.

        `park=False`: granted when all have room now; else refused, with `due` the time when the strictest frees, 0.0 if it
        never does because the charge is larger than the limit. `park=True`: reserves future capacity, granted with `due`
        when the message may leave; refused where that is beyond PARK_HORIZON_SECONDS, or where more than `max_parked` units
        (0: any number) would wait. A charge above a whole daily limit pays for as many days as it takes and leaves with
        the last. `limit`, `scope` and `allowed` name what bit, "" if nothing did; `backlog` is the units that wait of
        limits that are the tenant's own: what others have waiting neither counts nor is told.
        """
        ...

    def give_back(self, charges: Sequence[Charge], now: float, allowance: Allowance) -> None:
        """Undo a `take` of a moment ago that granted `allowance`: its message was not taken after all, by our own fault.

        Who was met stays met. What others charged in between stays charged.
        """
        ...

    def peek(self, charges: Sequence[Charge], now: float, *, park: bool = False, max_parked: int = 0) -> Allowance:
        """What `take` would answer now, without charging and without a lock; may be behind by one charge in flight."""
        ...

    def used(self, limit: Limit, now: float) -> int:
        """Units of `limit` that are taken at `now`, for people to look at."""
        ...

    def hit(self, key: str, window_seconds: float, now: float, amount: int = 1) -> int:
        """Count `amount` more of `key` and return how many there were in the last `window_seconds`, these included.

        The window slides in 24 steps. Always call a key with the same window.
        """
        ...

    def hits(self, keys: Sequence[str], window_seconds: float, now: float, amount: int = 1) -> list[int]:
        """`hit` of each key, in one step. All begin with the same text in braces, which says where in a cluster they lie.

        A negative `amount` takes back what was counted a moment ago; no count falls below 0 for it.
        """
        ...

    def count(self, key: str, window_seconds: float, now: float) -> int:
        """What `hit` would return, without counting."""
        ...

    def block(self, key: str, until: float, now: float) -> None:
        """Remember that `key` is blocked until `until`; an earlier end does not shorten a block (THROTTLE-10)."""
        ...

    def blocked_until(self, key: str, now: float) -> float:
        """When the block of `key` ends; 0.0 if it is not blocked at `now`."""
        ...

    def reset(self, *keys: str | Limit) -> None:
        """Forget what was counted, charged, reserved or blocked for these."""
        ...


class Presence(Protocol):
    """Who is present in this node's workers. A connection is the node's own load, so no other node is asked."""

    def enter(self, key: str, member: int, now: float) -> int:
        """One more of `key` is present in worker number `member` (0 to 71); returns how many are, in all workers."""
        ...

    def leave(self, key: str, member: int, now: float) -> int:
        """One less; returns how many are left in all workers."""
        ...

    def present(self, key: str, now: float) -> int:
        """How many are, in all workers."""
        ...

    def vacate(self, member: int) -> None:
        """Nothing is present in worker `member` any more: it has ended or been killed."""
        ...


class NodeCounters(Counters, Presence, Protocol):
    """All that a node counts for itself."""

    @property
    def windows(self) -> Windows: ...


class SharedCounters(Protocol):
    """Counters as sessions and intake use them. What cannot be had is settled inside: no method raises for want of Redis."""

    def take(
        self, charges: Sequence[Charge], now: float, *, once: int, park: bool, max_parked: int = 0
    ) -> Allowance | Awaitable[Allowance]:
        """As `Counters.take`, charged once for the id `once`, however often it has to be asked for. A value where no wait is
        needed, so that it costs none.
        """
        ...

    def give_back(self, charges: Sequence[Charge], now: float, allowance: Allowance, *, once: int) -> None:
        """As `Counters.give_back`, without a wait. What cannot be given back stays charged."""
        ...

    def unseen(self, keys: Sequence[str], window_seconds: float, now: float) -> None:
        """Take back one `seen` of a moment ago, without a wait."""
        ...

    def seen(self, keys: Sequence[str], window_seconds: float, now: float) -> list[int]:
        """As `Counters.hits`, without a wait: what others have counted may be behind by what was counted in the last moment."""
        ...

    async def hit(self, keys: Sequence[str], window_seconds: float, now: float) -> list[int]:
        """As `Counters.hit`, of each key."""
        ...

    async def block(self, key: str, until: float, now: float) -> None: ...

    async def blocked_until(self, keys: Sequence[str], now: float) -> float:
        """The latest end of the blocks of `keys`; 0.0 if none is blocked at `now`."""
        ...

    async def reset(self, *keys: str | Limit) -> None: ...

    @property
    def windows(self) -> Windows:
        """What became of the mail of senders."""
        ...

    async def used(self, limit: Limit, now: float) -> int:
        """As `Counters.used`, for people to look at."""
        ...

    async def count(self, key: str, window_seconds: float, now: float) -> int:
        """As `Counters.count`, for people to look at."""
        ...

    async def room(self, limit: Limit, now: float) -> float:
        """When `limit` lets one more unit through; 0.0: now, or never."""
        ...

    async def waiting(self, limit: Limit, now: float) -> int:
        """Units that are charged for later, those of parked mail."""
        ...
