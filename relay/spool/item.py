"""What the queue holds: one accepted message with its envelope, its edits and what became of each recipient."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import orjson

from relay.clock import ID_EPOCH
from relay.mail.edits import Edit
from relay.mail.envelope import Recipient
from relay.mail.mailing import Mailing, name_of
from relay.mail.message import Message

RANKS = {"personal": 0, "transactional": 0, "marketing": 1}
"""Streams that must not wait behind a campaign have rank 0 (design.md section 3, fair claims)."""


class Fate(IntEnum):
    """What became of one recipient so far."""

    WAITING = 0
    DELIVERED = 1
    FAILED = 2


class Item:
    """One queued message. `raw` is None while only the disk holds it.

    `meta` is a JSON object (see `Item.make`); times are wall-clock seconds; `due` is when the next attempt may start.
    `fates` runs beside `meta["rcpt"]`. `segment`, `first` and `seq` say where its message row and its newest row lie.
    """

    __slots__ = (
        "body_hash",
        "due",
        "fates",
        "first",
        "generation",
        "id",
        "message",
        "meta",
        "rank",
        "raw",
        "segment",
        "seq",
        "state",
        "tenant",
    )

    def __init__(self, id: int, meta: dict[str, Any], raw: bytes | None, *, due: float) -> None:
        self.id = id
        self.meta = meta
        self.raw = raw
        self.due = due
        self.tenant: int = meta["tenant_id"]
        self.rank: int = RANKS[meta["stream"]]
        self.fates: list[Fate] = [Fate.WAITING] * len(meta["rcpt"])
        self.state: dict[str, Any] = {}
        self.segment: Any = None
        self.first = self.seq = 0
        self.message: Message | None = None  # parsed, while in memory
        self.generation = -1  # of the consent store when it was judged last; -1: ask before the next attempt
        self.body_hash = ""

    @classmethod
    def load(cls, id: int, meta: bytes, raw: bytes | None, *, due: float) -> Item:
        """The message that `dump` wrote."""
        return cls(id, orjson.loads(meta), raw, due=due)

    @property
    def queue_id(self) -> str:
        return encode_id(self.id)

    @property
    def recipients(self) -> list[Recipient]:
        return [Recipient(address, tuple(notify), orcpt) for address, notify, orcpt in self.meta["rcpt"]]

    @property
    def edits(self) -> list[Edit]:
        """Those that the policies asked for, then those that a person added when he released it (CC-10)."""
        return [Edit(*edit) for edit in (*self.meta["edits"], *self.state.get("edits", ()))]

    @property
    def mailing(self) -> Mailing | None:
        """The mailing that it is of; of other streams than marketing none."""
        meta = self.meta
        if meta["stream"] != "marketing":
            return None
        listed = meta["purpose"] or meta["credential"]
        return Mailing(meta["tenant"], name_of(meta.get("tag", ""), listed, meta["at"]))

    @property
    def held(self) -> str:
        """The reason it is held for, or ""."""
        return str(self.state.get("held", self.meta.get("held", "")))

    @property
    def began(self) -> float:
        """When its time on the road began: when it was accepted, or its turn came where it was parked, or a person let it go."""
        return float(self.state.get("let_go", self.meta.get("turn", self.meta["at"])))

    def parsed(self) -> Message:
        """The message, indexed once while it is in memory. `raw` must be there."""
        if self.message is None:
            assert self.raw is not None
            message = Message.split(self.raw)
            assert isinstance(message, Message), "it was one when it was accepted"
            self.message = message
        return self.message

    def forget_body(self) -> None:
        """Only the disk holds it from now on."""
        self.raw = self.message = None

    def dump(self) -> bytes:
        return orjson.dumps(self.meta)

    def dump_state(self) -> bytes:
        """The part that changes over attempts, and which row it belongs to."""
        return orjson.dumps({**self.state, "fates": self.fates, "due": self.due, "of": self.first})

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `dump_state` wrote, parsed."""
        self.fates = [Fate(fate) for fate in state.pop("fates")]
        self.due = state.pop("due")
        self.first = state.pop("of")
        self.state = state


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base 32: no I, L, O, U
_VALUES = {char: index for index, char in enumerate(_ALPHABET)}


_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def encode_id(number: int) -> str:
    """13 characters for a 63-bit id; sorts as the number does."""
    pairs = [_PAIRS[(number >> shift) & 1023] for shift in (50, 40, 30, 20, 10, 0)]
    return _ALPHABET[(number >> 60) & 31] + "".join(pairs)


def decode_id(text: str) -> int | None:
    """The number behind a queue id, or None where the text is no queue id."""
    text = text.upper()
    if len(text) != 13 or any(char not in _VALUES for char in text):
        return None
    number = 0
    for char in text:
        number = number << 5 | _VALUES[char]
    return number if number < 1 << 63 else None


class IdSource:
    """Queue ids: 41 bits of milliseconds since 2024, 12 bits of `node`, 10 bits of count.

    A node number is held by a lock (adopt.claim_node), so ids are unique on the machine.
    """

    EPOCH = ID_EPOCH

    def __init__(self, node: int) -> None:
        self._node = (node & 0xFFF) << 10
        self._last = 0
        self._count = 0

    def next(self, now: float) -> int:
        """A new id, larger than every one before it from this source."""
        stamp = max(int((now - self.EPOCH) * 1000), self._last)
        if stamp == self._last:
            self._count += 1
            if self._count >= 1024:
                stamp, self._count = stamp + 1, 0
        else:
            self._count = 0
        self._last = stamp
        return stamp << 22 | self._node | self._count


def time_of(number: int) -> float:
    """When an id was made, in seconds since the epoch."""
    return (number >> 22) / 1000 + IdSource.EPOCH


def last_id(moment: float) -> int:
    """The largest id that may have been made up to then, by whatever process; below 0 where none was."""
    return ((int((moment - IdSource.EPOCH) * 1000) + 1) << 22) - 1
