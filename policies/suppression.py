"""Who said stop gets no advertising, whatever list he is on and whatever was imported since.

An opt-out or a spam complaint stops the list that it was given for, or all advertising where it was given for all;
password resets, invoices and personal letters still come (UNSUB-13). It beats every consent record (CONSENT-11). An
address that bounced gets nothing from programs; a letter by a person may still try (REP-3). Who had his data blocked gets
no mail at all: advertising is refused, anything else waits for a person of the tenant (GDPR-9). Objections, complaints
and blocks are compared widely, `jan+nieuws@` being `jan@`; bounces exactly (CONSENT-16; the store does that).

A domain that is a typing error for a mailbox provider's gets no mail of any kind: many of them belong to collectors of such mail,
who report its sender. The refusal says what was meant (REP-4).

An opt-out does not stop the one confirmation mail that the person asked for since (CLASS-7).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.domain import meant_by
from relay.mail.envelope import MailClass, Purpose, Stream, Submission
from relay.policy.facts import Fact, Facts, SuppressionEntry
from relay.policy.options import PerStream, option
from relay.policy.verdict import DropRecipient, Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = (Fact.SUPPRESSIONS, Fact.CONSENTS)
AT_RCPT = True
_REFUSE = PerStream.all("refuse")


@dataclass(frozen=True, slots=True)
class Settings:
    typo_domains: PerStream = option(_REFUSE, "Typing errors as gmial.com (REP-4).", choices=("refuse", "send"))  # noqa: RUF009 a field


def asks(mail: Submission, settings: Settings) -> Sequence[Fact]:
    return NEEDS if _may_be_confirmation(mail) else (Fact.SUPPRESSIONS,)


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    entries = facts.suppressions
    drops: list[DropRecipient] = []
    restricted = asked_again = False
    may_be_confirmation = _may_be_confirmation(mail) and not mail.in_company
    reads = settings.typo_domains.of(mail.stream) == "refuse"
    for recipient in mail.recipients:
        meant = meant_by(recipient.address) if reads else ""
        if meant and mail.message is None:
            return Verdict.reject("suppression.typo", domain=recipient.address.rpartition("@")[2], meant=meant)
        if meant:
            drops.append(DropRecipient(recipient.address, "suppression.typo_dropped"))
            continue
        standing = entries.get(recipient.address)
        if not standing:
            continue
        reason = _reason(mail, standing)
        if reason == "suppression.restricted_hold":
            restricted = True
        elif reason == "suppression.objected" and may_be_confirmation and _asked_again(facts, recipient.address):
            asked_again = True
        elif reason:
            drops.append(DropRecipient(recipient.address, reason))
    if restricted:
        return Verdict.hold("suppression.restricted_hold", *drops)
    if asked_again and not drops:
        return Verdict.accept(reason="suppression.pending_request")
    return Verdict.accept(*drops)


def _reason(mail: Submission, entries: Sequence[SuppressionEntry]) -> str:
    """Why this recipient gets no copy of a mail of this class; "" if nothing that stands covers it."""
    kind, found = mail.mail_class, {entry.reason for entry in entries if _covers(entry, mail.purpose)}
    commercial = kind is MailClass.COMMERCIAL
    if "restriction" in found and kind is not MailClass.SYSTEM:
        return "suppression.restricted" if commercial else "suppression.restricted_hold"
    if commercial and "objection" in found:
        return "suppression.objected"
    if commercial and "complaint" in found:
        return "suppression.complained"
    return "suppression.bounced" if "bounce" in found and kind is not MailClass.PERSONAL else ""


def _covers(entry: SuppressionEntry, purpose: Purpose | None) -> bool:
    if entry.scope == "all" or entry.reason in ("bounce", "restriction"):
        return True
    # A mail of no list is refused by consent when it is advertising; until then every opt-out counts against it.
    return purpose is None or entry.scope == purpose.name


def _may_be_confirmation(mail: Submission) -> bool:
    """At RCPT of a list nobody knows yet whether the mail will be the confirmation that was asked for."""
    return mail.message is None and mail.stream is Stream.MARKETING and mail.purpose is not None


def _asked_again(facts: Facts, address: str) -> bool:
    state = facts.consents.get(address)
    return state is not None and state.status == "requested"
