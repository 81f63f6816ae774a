"""The pipeline: asks every policy in order and folds their verdicts into one ruling. Pure, and the only place that combines.

Theory of operation. There are two decision points over the same policies. At MAIL and RCPT `sender` and `recipient` ask
what needs no content. At the end of data `shape` says what the mail is, the caller gathers the facts that `needs` names,
`judge` decides, the caller charges the limits, `admit` has the last word. A policy sees a frozen submission and returns a
value; only this file acts on it:

- REJECT stops. DEFER and HOLD are remembered and the rest still runs; the strongest wins, the earliest on a tie.
- A dropped recipient is gone for the policies that follow. In atomic mode one drop refuses the mail (PIPE-1).
- An `observe` verdict is written into the trace and changes nothing (PIPE-5).
- A fact that could not be had is answered here, never by the policy (PIPE-3). A crash is always a DEFER.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace

from relay.mail.edits import Edit
from relay.mail.envelope import MailClass, Recipient, Stream, Submission, Tenant
from relay.mail.message import Message
from relay.policy.catalogue import Catalogue, Plan, Step
from relay.policy.facts import NO_FACTS, Fact, Facts, Unavailable
from relay.policy.ruling import Detail, Ruling, TraceEntry
from relay.policy.verdict import STREAM_CLASS, Action, Change, Classify, DropRecipient, Note, Park, Stage, Verdict

_ALLOWED: dict[Stage, frozenset[type]] = {
    Stage.SHAPE: frozenset((Classify, DropRecipient, Edit, Note)),
    Stage.JUDGE: frozenset((DropRecipient, Edit, Note)),
    Stage.ADMIT: frozenset((Park, Note)),
}
_READ = Message(b"", [], 0)  # stands for a content that was judged at intake
_NOBODY: frozenset[str] = frozenset()


class Pipeline:
    """The policies of one gateway. `timer` and `record` (policy, seconds) meter each policy where both are given."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        timer: Callable[[], float] | None = None,
        record: Callable[[str, float], None] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._timer = timer
        self._record = record

    def needs(self, mail: Submission, stage: Stage = Stage.JUDGE, settled: frozenset[str] = _NOBODY) -> frozenset[Fact]:
        """The facts to gather for this mail before `stage`; for a submission without a message those of RCPT.

        CONSENTS, SUPPRESSIONS and REQUESTS are wanted for the recipients that `unsettled` returns.
        """
        plan = self._plan(mail)
        steps = plan.rcpt if mail.message is None else plan.of(stage)
        judged = bool(settled) and mail.message is not None and not unsettled(mail, settled)
        asked: set[Fact] = set()
        for step in steps:
            if step.policy.needs and not (judged and step.policy.at_rcpt):
                asked.update(step.policy.asks(mail, step.settings) if step.policy.asks else step.policy.needs)
        return frozenset(asked)

    def sender(self, mail: Submission) -> Ruling:
        """The answer at MAIL: may this account use this envelope sender (ID-1, SMTP-20). No facts."""
        fold = _Fold(Ruling(_with_stream_class(mail)), NO_FACTS)
        for step in self._plan(mail).sender:
            if step.policy.decide_sender is not None and fold.action is not Action.REJECT:
                self._metered(fold, step, at_mail=True)
        return fold.ruling()

    def recipient(self, mail: Submission, facts: Facts) -> Ruling:
        """The answer at RCPT for a submission with one recipient and no message. HOLD counts as a pass there."""
        fold = _Fold(Ruling(_with_stream_class(mail)), facts)
        return self._run(fold, self._plan(mail).rcpt)

    def recheck(self, mail: Submission, facts: Facts) -> Ruling:
        """The answer directly before delivery (CONSENT-12): RCPT once more, with the class that the mail turned out to have.

        What the content says has been judged and counts as read, so nothing is put off to later.
        """
        return self._run(_Fold(Ruling(replace(mail, message=_READ)), facts), self._plan(mail).rcpt)

    def shape(self, mail: Submission, facts: Facts = NO_FACTS) -> Ruling:
        """End of data, first: what the mail is. The ruling's `mail` is the submission to gather facts for."""
        fold = _Fold(Ruling(_with_stream_class(mail)), facts)
        return self._run(fold, self._plan(mail).shape)

    def judge(self, shaped: Ruling, facts: Facts, settled: frozenset[str] = _NOBODY) -> Ruling:
        """End of data, second: may it go. `settled` are the recipients that RCPT has settled already."""
        if shaped.action is Action.REJECT:
            return shaped
        fold = _Fold(shaped, facts, settled=settled)
        ruling = self._run(fold, self._plan(shaped.mail).judge)
        return ruling if ruling.passes else replace(ruling, notes=_undelivered(ruling.notes))

    def admit(self, judged: Ruling, facts: Facts) -> Ruling:
        """End of data, last: do the limits let it go now. A ruling that does not pass comes back as it is."""
        if not judged.passes:
            return judged
        ruling = self._run(_Fold(judged, facts), self._plan(judged.mail).admit)
        return ruling if ruling.passes else replace(ruling, notes=_undelivered(ruling.notes))

    def settings_of(self, name: str, mail: Submission) -> object | None:
        """The settings of the policy `name` as they hold for this mail's tenant and stream; None where it is off."""
        step = self._plan(mail).named.get(name)
        return None if step is None else step.settings

    def enforces(self, name: str, tenant: Tenant, stream: Stream) -> bool:
        """Whether the policy `name` is more than looked at for this tenant and stream."""
        step = self._catalogue.plan(tenant, stream).named.get(name)
        return step is not None and step.mode == "enforce"

    def _plan(self, mail: Submission) -> Plan:
        return self._catalogue.plan(mail.account.tenant, mail.account.credential.stream)

    def _run(self, fold: _Fold, steps: tuple[Step, ...]) -> Ruling:
        for step in steps:
            if fold.action is Action.REJECT:
                break
            self._metered(fold, step)
        return fold.ruling()

    def _metered(self, fold: _Fold, step: Step, at_mail: bool = False) -> None:
        if self._timer is None or self._record is None:
            fold.take(step, at_mail)
            return
        start = self._timer()
        fold.take(step, at_mail)
        self._record(step.policy.name, self._timer() - start)


def unsettled(mail: Submission, settled: frozenset[str]) -> tuple[Recipient, ...]:
    """The recipients that the end of data must still judge.

    What RCPT said holds only while the mail is of the class and purpose that its stream fixes (PIPE-1).
    """
    everyone = mail.envelope.recipients
    if not settled or mail.confirm or mail.purpose is not mail.account.purpose:
        return everyone
    if mail.mail_class is not STREAM_CLASS[mail.stream]:
        return everyone
    return tuple(recipient for recipient in everyone if recipient.address not in settled)


def _with_stream_class(mail: Submission) -> Submission:
    """The submission with class and purpose of its stream; our own system mail keeps its class."""
    wanted = STREAM_CLASS[mail.stream]
    if mail.mail_class is MailClass.SYSTEM or (mail.mail_class is wanted and mail.purpose is mail.account.purpose):
        return mail
    return replace(mail, mail_class=wanted, purpose=mail.account.purpose)


def _undelivered(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    """Notes of a mail that stays here: nobody was exposed and nothing was sent otherwise than written."""
    return tuple(note for note in notes if note.kind == "near_miss")


class _Fold:
    """One ruling in the making."""

    __slots__ = (
        *("_broken", "_facts", "_settled"),
        *("action", "detail", "dropped", "due", "edits", "mail", "notes", "reason", "trace"),
    )

    def __init__(self, start: Ruling, facts: Facts, *, settled: frozenset[str] = _NOBODY) -> None:
        self._facts = facts
        self._settled = settled
        self._broken = [fact for fact, value in facts.values.items() if isinstance(value, Unavailable)]
        self.mail = start.mail
        self.action = start.action
        self.reason = start.reason
        self.detail: Detail = start.detail
        self.dropped = start.dropped
        self.edits = list(start.edits)
        self.notes = list(start.notes)
        self.trace = list(start.trace)
        self.due = start.due

    def ruling(self) -> Ruling:
        return Ruling(
            self.mail,
            self.action,
            self.reason,
            self.detail,
            self.dropped,
            tuple(self.edits),
            tuple(self.notes),
            tuple(self.trace),
            self.due,
        )

    def take(self, step: Step, at_mail: bool = False) -> None:
        """Ask one policy and act on its answer."""
        mail = self.mail
        if self._settled and step.policy.at_rcpt:
            left = unsettled(mail, self._settled)
            if not left:
                self.trace.append(TraceEntry(step.policy.name, step.mode, Action.ACCEPT, "pipeline.settled"))
                return
            if len(left) < len(mail.envelope.recipients):
                mail = replace(mail, envelope=mail.envelope._replace(recipients=left))
        verdict, entry = self._ask(step, mail, at_mail)
        if not verdict.changes and verdict.action is Action.ACCEPT:
            self.trace.append(entry)
        elif step.mode == "observe":
            self.trace.append(entry)
            self._observe(verdict)
        else:
            self.trace.append(self._enforce(step, verdict, entry))

    def _ask(self, step: Step, mail: Submission, at_mail: bool) -> tuple[Verdict, TraceEntry]:
        policy, name = step.policy, step.policy.name
        facts, bypassed, error = self._facts, False, ""
        try:
            if step.broken:
                raise ValueError(f"settings of tenant for {name}")
            missing = self._missing(step, mail) if self._broken and policy.needs and not at_mail else []
            instead = step.on_unavailable.of(mail) if missing else ""
            early = self._already(step, mail, missing) if missing else None
            if early is not None:
                verdict = early
            elif instead == "defer":
                verdict = Verdict.defer(f"{name}.unavailable")
            elif instead == "hold":
                verdict = Verdict.hold(f"{name}.unchecked", Note("held", f"{name}.unchecked"))
            elif missing and not policy.stand_in.keys() >= set(missing):
                verdict, bypassed = Verdict.accept(reason=f"{name}.unavailable"), True
            else:
                if missing:
                    facts, bypassed = Facts({**facts.values, **{fact: policy.stand_in[fact] for fact in missing}}), True
                if at_mail and policy.decide_sender is not None:
                    verdict = policy.decide_sender(mail, step.settings)
                else:
                    verdict = policy.decide(mail, facts, step.settings)
                if verdict.changes:
                    _check_changes(policy.stage, verdict.changes)
        except Exception as bug:  # a policy that crashes is a bug, and a bug of ours is never a permanent refusal
            verdict, error = Verdict.defer(f"{name}.crashed"), _place_of(bug)
        if verdict.changes:
            edits = tuple(change for change in verdict.changes if isinstance(change, Edit))
            drops = tuple(change for change in verdict.changes if isinstance(change, DropRecipient))
        else:
            edits, drops = (), ()
        reason = verdict.reason or (drops[0].reason if drops else "") or (f"{name}.unavailable" if bypassed else "")
        entry = TraceEntry(name, step.mode, verdict.action, reason, verdict.detail, edits, drops, bypassed, error)
        if drops and verdict.action is not Action.REJECT and (not step.partial or _all_gone(self.mail, drops)):
            first = self.dropped[0][1] if step.partial and self.dropped else drops[0].reason
            entry = entry._replace(action=Action.REJECT, reason=first, detail=())
        return verdict, entry

    def _missing(self, step: Step, mail: Submission) -> list[Fact]:
        policy = step.policy
        asked = policy.asks(mail, step.settings) if policy.asks else policy.needs
        return [fact for fact in self._broken if fact in asked]

    def _already(self, step: Step, mail: Submission, missing: list[Fact]) -> Verdict | None:
        """The no that what is known so far is enough for: more would not make it a yes."""
        late = {fact: value for fact in missing if isinstance(value := self._facts.values[fact], Unavailable)}
        known = {fact: value.so_far for fact, value in late.items()}
        if None in known.values():
            return None
        verdict = step.policy.decide(mail, Facts({**self._facts.values, **known}), step.settings)
        return verdict if verdict.action in (Action.HOLD, Action.REJECT) else None

    def _observe(self, verdict: Verdict) -> None:
        # What would have been mended or stopped leaves as it is: an exposure is an incident now (CC-20).
        for change in verdict.changes:
            if isinstance(change, Note) and change.kind == "near_miss":
                self.notes.append(change._replace(kind="incident"))

    def _enforce(self, step: Step, verdict: Verdict, entry: TraceEntry) -> TraceEntry:
        for change in verdict.changes:
            if isinstance(change, Edit):
                self.edits.append(change)
            elif isinstance(change, Note):
                self.notes.append(change)
            elif isinstance(change, Classify):
                self._classify(change)
            elif isinstance(change, Park):
                self.due = max(self.due, change.due)
        if entry.drops:
            self._drop(entry.drops, refuse_all=entry.action is Action.REJECT)
        if entry.action > self.action:
            self.action, self.reason, self.detail = entry.action, entry.reason, entry.detail
        return entry

    def _classify(self, change: Classify) -> None:
        purpose = self.mail.purpose
        if change.purpose is not None:
            purpose = self.mail.account.tenant.purposes[change.purpose]
        self.mail = replace(
            self.mail, mail_class=change.mail_class, bulk=change.bulk, confirm=change.confirm, purpose=purpose
        )

    def _drop(self, drops: tuple[DropRecipient, ...], *, refuse_all: bool) -> None:
        reasons = {drop.address: drop.reason for drop in drops}
        envelope = self.mail.envelope
        gone = tuple((r, reasons[r.address]) for r in envelope.recipients if r.address in reasons)
        self.dropped += gone
        if not refuse_all:
            left = tuple(r for r in envelope.recipients if r.address not in reasons)
            self.mail = replace(self.mail, envelope=envelope._replace(recipients=left))


def _all_gone(mail: Submission, drops: tuple[DropRecipient, ...]) -> bool:
    return {recipient.address for recipient in mail.envelope.recipients} <= {drop.address for drop in drops}


def _check_changes(stage: Stage, changes: tuple[Change, ...]) -> None:
    allowed = _ALLOWED[stage]
    for change in changes:
        if type(change) not in allowed:
            raise TypeError(f"{type(change).__name__} in stage {stage.value}")


def _place_of(bug: Exception) -> str:
    """Kind and place of a crash for the operator; its text may hold addresses and stays out."""
    frames = traceback.extract_tb(bug.__traceback__)
    last = frames[-1] if frames else None
    return f"{type(bug).__name__} at {last.filename.rpartition('/')[2]}:{last.lineno}" if last else type(bug).__name__
