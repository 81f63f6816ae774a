"""Outsiders do not see each other's address.

What counts is what readers see: every address in To, Cc, Resent-To and Resent-Cc, in a Reply-To with several, and inside
names (CC-1, -2, -7, -19), less the sender's own. People of one organisation may see each other; users of a mailbox provider
are each their own party (CC-5, -6). Advertising and bulk mail may show one outsider at most; letters and service mail earn
a warning from 5 and action from 10 outsiders of two or more parties (CC-3). For a sensitive audience the limit is always 2
and every reader gets a copy of their own (CC-4). A letter or service mail that answers one in which all its readers saw each
other is no exposure; one that answers a mail not known here doubles the numbers for letters. Neither opens a door to
advertising or bulk service mail (CC-11). A list address in To is one address (CC-14).

What happens: a copy for each (CC-8), hidden recipients (CC-9), the mail waits (CC-10), or a refusal. The sender is told
(CC-18) and each case is kept as a near miss, or as an incident where this policy only observes (CC-20). A
signature over the addresses cannot be mended and is refused, and so is as much in Reply-To, which stays; an encrypted mail
waits for a person (CC-12). Signatures by others that the change breaks are renamed (CC-17).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.address import narrow
from relay.mail.edits import hide, split
from relay.mail.envelope import MailClass, Submission
from relay.mail.insiders import internal_names
from relay.mail.message import Malformed, Message
from relay.mail.mime import structure
from relay.mail.visible import Audience, Unreadable, audience, own_addresses, reply_addresses, visible_addresses
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
    if len(seen) < settings.bulk_act_from:
        return Verdict.accept()
    outside = _outside(mail, message, seen, settings)
    count = len(outside.addresses)
    if count < settings.bulk_act_from or len(outside.parties) < 2:
        return Verdict.accept()
    strict = mail.mail_class is MailClass.COMMERCIAL or mail.bulk or mail.account.tenant.sensitive_audience
    # A letter to all of a large thread is bulk by its number alone, and shows nobody anew.
    campaign = mail.mail_class is MailClass.COMMERCIAL or (mail.bulk and mail.mail_class is not MailClass.PERSONAL)
    warn_from, act_from = settings.warn_from, settings.bulk_act_from if strict else settings.act_from
    if not campaign and asks(mail, settings):
        if facts.thread is not None and outside.addresses <= facts.thread.seen:
            return Verdict.accept()
        if mail.mail_class is MailClass.PERSONAL and facts.thread is None:
            warn_from, act_from = 2 * warn_from, act_from if strict else 2 * act_from
    if count >= act_from:
        return _act(mail, message, count, settings, limit=act_from)
    warning = Note("warn", "recipients.warn", count)
    return Verdict.accept(warning, reason="recipients.warn") if count >= warn_from else Verdict.accept()


def _outside(mail: Submission, message: Message, seen: frozenset[str], settings: Settings) -> Audience:
    account = mail.account
    own = own_addresses(message) | {narrow(mail.envelope.mail_from), narrow(account.credential.username)}
    own |= set(map(narrow, account.credential.from_addresses))
    groups = {domain: group for group in settings.party_groups for domain in group.split()}
    return audience(seen - own, internal_names(account.tenant), groups, settings.freemail)


def _act(mail: Submission, message: Message, count: int, settings: Settings, *, limit: int) -> Verdict:
    action, near_miss = settings.exposed.of(mail), Note("near_miss", "recipients.exposed", count)
    if action == "hide" and mail.account.tenant.sensitive_audience:
        action = "split"  # hidden recipients are one click from shown ones; a copy each is not (CC-4)
    detail = (("addresses", str(count)),)
    made = structure(message)
    if isinstance(made, Malformed):
        return Verdict.reject(made.reason)
    left = _outside(mail, message, reply_addresses(message), settings)
    if action == "reject" or (len(left.addresses) >= limit and len(left.parties) > 1):
        return Verdict(Action.REJECT, "recipients.exposed", (near_miss,), detail)
    if made.is_encrypted:
        return Verdict.hold(
            "recipients.encrypted", near_miss, Note("held", "recipients.encrypted", count), addresses=str(count)
        )
    if made.header_protected:
        return Verdict(Action.REJECT, "recipients.header_protected", (near_miss,), detail)
    if action == "ask":
        return Verdict.hold("recipients.ask", near_miss, Note("held", "recipients.ask", count), addresses=str(count))
    reason = "recipients.hidden" if action == "hide" else "recipients.split"
    changes = hide(message.fields) if action == "hide" else split(message.fields)
    return Verdict.accept(*changes, near_miss, Note("notice", reason, count), reason=reason)
