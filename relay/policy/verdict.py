"""A verdict is a value: an action, a reason of reasons.toml, and edits as data (style: never a boolean or an exception)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from relay.mail.edits import Edit
from relay.mail.envelope import MailClass, Stream

STREAM_CLASS: Mapping[Stream, MailClass] = {
    Stream.MARKETING: MailClass.COMMERCIAL,
    Stream.TRANSACTIONAL: MailClass.TRANSACTIONAL,
    Stream.PERSONAL: MailClass.PERSONAL,
}
"""What a stream fixes before any content is seen (CLASS-1)."""


class Stage(StrEnum):
    """When a policy speaks: before the facts, with the facts, or last, when only the limits can still stop the mail."""

    SHAPE = "shape"
    JUDGE = "judge"
    ADMIT = "admit"


class Action(IntEnum):
    """Ordered by strength: the strongest verdict wins (pipeline.py)."""

    ACCEPT = 0
    HOLD = 1
    DEFER = 2
    REJECT = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Classify(NamedTuple):
    """Shape only: what the mail is, for the policies that follow."""

    mail_class: MailClass
    bulk: bool
    confirm: bool
    purpose: str | None  # a purpose of the tenant named by the message; None: the account's


class DropRecipient(NamedTuple):
    """This recipient gets no copy, for `reason`."""

    address: str
    reason: str


class Note(NamedTuple):
    """Something to do after the mail is accepted, for instance `("notice", "recipients.split")` (CC-18, CC-3)."""

    kind: str  # notice | warn | held | near_miss | incident
    reason: str
    number: int = 0


class Park(NamedTuple):
    """Admit only: the mail is accepted and leaves at `due`, seconds since the epoch (THROTTLE-1)."""

    due: float


Change = Edit | Classify | DropRecipient | Note | Park


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one policy says. `reason` is a code of reasons.toml ("" for a plain accept); `detail` fills its `{}` slots."""

    action: Action
    reason: str = ""
    changes: tuple[Change, ...] = ()
    detail: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def accept(*changes: Change, reason: str = "", **detail: str) -> Verdict:
        """Let it pass. At RCPT an accept with a reason is provisional: the end of data decides."""
        return Verdict(Action.ACCEPT, reason, changes, tuple(detail.items())) if changes or reason else ACCEPTED

    @staticmethod
    def reject(reason: str, **detail: str) -> Verdict:
        return Verdict(Action.REJECT, reason, (), tuple(detail.items()))

    @staticmethod
    def defer(reason: str, **detail: str) -> Verdict:
        return Verdict(Action.DEFER, reason, (), tuple(detail.items()))

    @staticmethod
    def hold(reason: str, *changes: Change, **detail: str) -> Verdict:
        return Verdict(Action.HOLD, reason, changes, tuple(detail.items()))


ACCEPTED = Verdict(Action.ACCEPT)
