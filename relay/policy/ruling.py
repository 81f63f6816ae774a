"""A ruling: what all policies together say of one submission, with the trace of who said what and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from relay.mail.edits import Edit, apply
from relay.mail.envelope import Recipient, Submission
from relay.mail.message import name_of, value_of
from relay.mail.reply import reply_line, rule_of
from relay.policy.verdict import Action, DropRecipient, Note

Detail = tuple[tuple[str, str], ...]


class TraceEntry(NamedTuple):
    """What one policy said. In mode "observe" nothing of it took effect. `error` says where a crash was, never with what."""

    policy: str
    mode: str  # enforce | observe
    action: Action
    reason: str = ""
    detail: Detail = ()
    edits: tuple[Edit, ...] = ()
    drops: tuple[DropRecipient, ...] = ()
    bypassed: bool = False  # a fact was missing and on_unavailable let the mail pass (PIPE-3)
    error: str = ""

    @property
    def rule(self) -> str:
        """The rule behind the reason, or else behind the first edit."""
        return rule_of(self.reason) or (self.edits[0].rule if self.edits else "")

    def as_json(self) -> dict[str, object]:
        """The entry as the contract's `explain --json` prints it."""
        return {
            "policy": self.policy,
            "mode": self.mode,
            "action": self.action.word,
            "rule": self.rule,
            "reason": self.reason,
            "edits": [edit._asdict() for edit in self.edits],
        }


class Outcome(NamedTuple):
    """What becomes of one recipient. For the sender's own eyes: it names who stood in the way."""

    address: str
    action: str
    rule: str
    reason: str


_AWAITING = ("consent.pending_request", "suppression.pending_request")


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer to a submission. `mail` has the recipients that are left, the class and the purpose in force.

    `edits` are in the order in which they are applied; `due` is when a parked mail may leave (0.0: at once).
    """

    mail: Submission
    action: Action = Action.ACCEPT
    reason: str = ""
    detail: Detail = ()
    dropped: tuple[tuple[Recipient, str], ...] = ()
    edits: tuple[Edit, ...] = ()
    notes: tuple[Note, ...] = ()
    trace: tuple[TraceEntry, ...] = field(default=())
    due: float = 0.0

    @property
    def passes(self) -> bool:
        """The mail is taken, to be sent or to be held: the reply is 250."""
        return self.action <= Action.HOLD

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Who gets a copy."""
        return self.mail.envelope.recipients

    @property
    def settled(self) -> bool:
        """At RCPT: every policy let the recipient pass without a word, so the end of data need not ask again (PIPE-1)."""
        return self.action is Action.ACCEPT and not any(entry.reason for entry in self.trace)

    @property
    def awaits_confirmation(self) -> bool:
        """At RCPT: only the confirmation that the recipient asked for may reach him (CLASS-7)."""
        return any(entry.reason in _AWAITING and entry.mode == "enforce" for entry in self.trace)

    @property
    def bypassed(self) -> tuple[str, ...]:
        """Policies that could not look and let the mail pass (PIPE-3, counted by the caller)."""
        return tuple(entry.policy for entry in self.trace if entry.bypassed)

    def reply(self, language: str, public_url: str) -> str:
        """The reply line for a ruling that does not pass; the queue writes the others."""
        return reply_line(self.reason, self.detail, language, public_url)

    def outcomes(self) -> list[Outcome]:
        """Every recipient with what becomes of it, refused ones first."""
        rows = [Outcome(gone.address, "reject", rule_of(reason), reason) for gone, reason in self.dropped]
        names = {gone.address for gone, _ in self.dropped}
        reason = self.reason
        if self.dropped and self.action is Action.REJECT:
            reason = "pipeline.atomic"
        for left in self.recipients:
            if left.address not in names:
                rows.append(Outcome(left.address, self.action.word, rule_of(reason), reason))
        return rows

    def as_json(self, language: str, public_url: str) -> dict[str, object]:
        """The ruling as `explain --json` prints it; `headers_after` without the edits that differ per copy."""
        message = self.mail.message
        fields = [] if message is None else apply(message.fields, self.edits)
        return {
            "action": self.action.word,
            "reply": "250 2.0.0 queued" if self.passes else self.reply(language, public_url),
            "recipients": [outcome._asdict() for outcome in self.outcomes()],
            "policies": [entry.as_json() for entry in self.trace],
            "headers_after": [[_text(name_of(raw)), _text(value_of(raw))] for _, raw in fields],
        }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
