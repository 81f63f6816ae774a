"""A verdict is a value: an action, a reason of reasons.toml, and edits as data (style: never a boolean or an exception)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from relay.mail.edits import Edit
from relay.mail.envelope import MailClass


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

    kind: str  # notice | warn | near_miss | incident
    reason: str
    number: int = 0


Change = Edit | Classify | DropRecipient | Note


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one policy says. `reason` is a code of reasons.toml ("" for a plain accept); `detail` fills its `{}` slots."""

    action: Action
    reason: str = ""
    changes: tuple[Change, ...] = ()
    detail: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def accept(*changes: Change, reason: str = "") -> Verdict:
        return Verdict(Action.ACCEPT, reason, changes) if changes or reason else ACCEPTED

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
