"""Outsiders do not see each other's address.

Counted is what readers see: all addresses in To, Cc, Resent-To and Resent-Cc, in a Reply-To with several, and inside names (CC-1,
-2, -7, -19), less the sender's own, and the guests of an invitation (CC-13). People of one organisation may see each other; users
of a mailbox provider are parties of their own (CC-5, -6). Advertising and bulk mail may show one outsider at most; letters and
service mail earn a warning from 5 and action from 10 outsiders of two or more parties (CC-3). For a sensitive audience 2 is the
limit (CC-4). A letter or service mail that answers one in which all its readers saw each other exposes nobody; one that answers a
mail not known here doubles the numbers for letters. Neither opens a door to advertising or bulk service mail (CC-11).

Then: a copy for each (CC-8), hidden recipients (CC-9), a question to the sender (CC-10) or a refusal; he is told (CC-18), and it
is kept as a near miss, or an incident where this policy observes (CC-20). A signature over the addresses cannot be mended and is
refused, and so is as much in Reply-To, which stays; encrypted mail waits for a person (CC-12). Guests stand in the content: the
sender is asked, advertising refused (CC-13). A list address is one (CC-14). Signatures by others that break are renamed (CC-17).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.calendar import guests
from relay.mail.edits import hide, split
from relay.mail.envelope import MailClass, Submission
from relay.mail.message import Malformed, Message
from relay.mail.mime import structure
from relay.mail.visible import Unreadable, reply_addresses, visible_addresses
from relay.policy.exposure import choices, outside, reaches
from relay.policy.facts import Fact, Facts
from relay.policy.options import PerClass, option
from relay.policy.verdict import Action, Note, Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = (Fact.THREAD,)
STAND_IN = {Fact.THREAD: None}
_CHOICES = ("split", "hide", "ask", "reject")
_SPLIT = PerClass.all("split")


@dataclass(frozen=True, slots=True)
class Settings:
    exposed: PerClass = option(_SPLIT, "What happens with exposed recipients.", choices=_CHOICES)  # noqa: RUF009 a field
    ask_as_written: str = option(
        "invitations",
        "Which mail a sender who is asked may let go as written (CC-10).",
        choices=("never", "invitations", "always"),
    )
    warn_from: int = option(
        5, "Outsiders in a personal or transactional mail that earn a warning (CC-3).", minimum=2, at_most="act_from"
    )
    act_from: int = option(10, "Outsiders in a personal or transactional mail that call for action (CC-3).", minimum=2)
    bulk_act_from: int = option(
        2, "The same in commercial and bulk mail and for sensitive audiences (CC-4).", minimum=2
    )
    party_groups: tuple[str, ...] = option((), 'One party, as in ["klant.nl klant.com"] (CC-5).', domains=True)
    freemail: tuple[str, ...] = option((), "More providers whose users share nothing else (CC-6).", domains=True)


def asks(mail: Submission, settings: Settings) -> Sequence[Fact]:
    """The parent is looked up only for a reply that shows enough addresses to matter."""
    message = mail.message
    if message is None or (message.get(b"in-reply-to") is None and message.get(b"references") is None):
        return ()
    seen = visible_addresses(message)
    return NEEDS if not isinstance(seen, Unreadable) and len(seen) >= settings.bulk_act_from else ()


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    message = mail.message
    if message is None or mail.mail_class is MailClass.SYSTEM:
        return Verdict.accept()
    seen = visible_addresses(message)
    if isinstance(seen, Unreadable):
        return Verdict.reject(seen.reason, field=seen.field)
    seen |= guests(message)
    if len(seen) < settings.bulk_act_from:
        return Verdict.accept()
    strangers = outside(mail, message, seen, settings)
    count = len(strangers.addresses)
    if not reaches(strangers, settings.bulk_act_from):
        return Verdict.accept()
    is_ad = mail.mail_class is MailClass.COMMERCIAL
    strict = is_ad or mail.bulk or mail.account.tenant.sensitive_audience
    campaign = is_ad or (mail.bulk and mail.mail_class is not MailClass.PERSONAL)
    warn_from, act_from = settings.warn_from, settings.bulk_act_from if strict else settings.act_from
    if not campaign and asks(mail, settings):
        if facts.thread is not None and strangers.addresses <= facts.thread.seen:
            return Verdict.accept()
        if mail.mail_class is MailClass.PERSONAL and facts.thread is None:
            warn_from, act_from = 2 * warn_from, act_from if strict else 2 * act_from
    if count >= act_from:
        return _act(mail, message, count, settings, limit=act_from)
    warning = Note("warn", "recipients.warn", count)
    return Verdict.accept(warning, reason="recipients.warn") if count >= warn_from else Verdict.accept()


def _act(mail: Submission, message: Message, count: int, settings: Settings, *, limit: int) -> Verdict:
    action, near_miss = settings.exposed.of(mail), Note("near_miss", "recipients.exposed", count)
    made, addresses = structure(message), str(count)
    if isinstance(made, Malformed):
        return Verdict.reject(made.reason)
    if reaches(outside(mail, message, guests(message), settings), limit):
        if action == "reject" or mail.mail_class is MailClass.COMMERCIAL:
            return Verdict(Action.REJECT, "recipients.guests", (near_miss,), (("addresses", addresses),))
        return _hold("recipients.invitation", near_miss, choices(mail, settings, invitation=True))
    if action == "reject" or reaches(outside(mail, message, reply_addresses(message), settings), limit):
        return Verdict(Action.REJECT, "recipients.exposed", (near_miss,), (("addresses", addresses),))
    if made.is_encrypted:
        return _hold("recipients.encrypted", near_miss, "")
    if made.header_protected:
        return Verdict(Action.REJECT, "recipients.header_protected", (near_miss,), (("addresses", addresses),))
    if action == "ask":
        return _hold("recipients.ask", near_miss, choices(mail, settings))
    hides = action == "hide" and not mail.account.tenant.sensitive_audience  # hidden is one click from shown (CC-4)
    reason, changes = ("recipients.hidden", hide) if hides else ("recipients.split", split)
    return Verdict.accept(*changes(message.fields), near_miss, Note("notice", reason, count), reason=reason)


def _hold(reason: str, near_miss: Note, offers: str) -> Verdict:
    held = Note("held", reason, near_miss.number)
    return Verdict.hold(
        reason, near_miss, held, addresses=str(near_miss.number), **({"offers": offers} if offers else {})
    )
