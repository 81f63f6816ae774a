"""Every advertising mail lets its reader leave with one click.

It carries exactly one List-Unsubscribe with exactly one https link and exactly one List-Unsubscribe-Post
(UNSUB-1, -2, -3). The link must be reachable from the internet; it is never tried out (UNSUB-12). One link for several
recipients names nobody, so such a mail gets a link of ours in each copy, or is refused (UNSUB-6). Mail without the pair is
refused, or gets ours where the tenant chose that (UNSUB-16), with a List-Id that stays the same (UNSUB-18). A link that
people can see is looked for in the text, and demanded where the tenant chose that (UNSUB-10). What looks like one of our
placeholders and is none would be a dead link for everybody, and is refused (UNSUB-10). Personal and transactional
mail needs none of this and gets none of it (UNSUB-17).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.edits import Edit
from relay.mail.envelope import MailClass, Submission
from relay.mail.links import find_way_out
from relay.mail.listfields import Pair, list_id, opt_out_pair
from relay.mail.message import Message
from relay.mail.placeholders import WAY_OUT, WAYS_OUT, garbled, has_placeholder, may_hold_mark
from relay.mail.texts import read_texts
from relay.policy.facts import Facts
from relay.policy.options import option
from relay.policy.verdict import Note, Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = ()
_FIELDS = ("List-Unsubscribe", "List-Unsubscribe-Post")


@dataclass(frozen=True, slots=True)
class Settings:
    missing: str = option("refuse", "Advertising without the pair, or a shared link.", choices=("refuse", "inject"))
    existing: str = option("keep", "A correct pair of the sender's own (UNSUB-16).", choices=("keep", "replace"))
    visible_link: str = option("observe", "A way out in the text (UNSUB-10).", choices=("off", "observe", "enforce"))


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    message = mail.message
    if message is None:
        return Verdict.accept()
    if message.count(b"list-id") > 1:
        return Verdict.reject("unsubscribe.list_id_twice")
    if mail.mail_class is not MailClass.COMMERCIAL:
        return Verdict.accept()
    may_fill = may_hold_mark(message)
    unfilled = garbled(" ".join(read_texts(message))) if may_fill else ""
    if unfilled:
        return Verdict.reject("unsubscribe.placeholder_garbled", what=unfilled, mark=WAY_OUT)
    pair = opt_out_pair(message)
    verdict = _pair(mail, message, pair, settings)
    if verdict.reason and not verdict.changes:
        return verdict
    changes = list(verdict.changes)
    is_filled = may_fill and mail.purpose is not None and has_placeholder(message)
    if is_filled:
        changes.append(Edit("placeholders", "", "", "UNSUB-16"))
    if settings.visible_link != "off":
        note = _visible(message, (*pair.uris, *WAYS_OUT) if is_filled else pair.uris)
        if note is not None and note.reason == "unsubscribe.visible_link_missed" and settings.visible_link == "enforce":
            return Verdict.reject("unsubscribe.no_visible_link")
        changes += [note] if note is not None else []
    return Verdict.accept(*changes, reason=verdict.reason)


def _pair(mail: Submission, message: Message, pair: Pair, settings: Settings) -> Verdict:
    """What becomes of the header pair: a refusal without changes, or an accept with the edits."""
    if not pair.present:
        if settings.missing == "inject" and mail.purpose is not None:
            return _own_pair(mail, message, "unsubscribe.injected", "UNSUB-16")
        way_out = find_way_out(read_texts(message))
        return Verdict.reject("unsubscribe.no_header" if way_out.html or way_out.plain else "unsubscribe.missing")
    if settings.existing == "replace" and mail.purpose is not None:
        return _own_pair(mail, message, "unsubscribe.replaced", "UNSUB-16")
    if pair.problem:
        return Verdict.reject(f"unsubscribe.{pair.problem}", **dict(pair.detail))
    if len(mail.recipients) > 1:
        if settings.missing == "refuse" or mail.purpose is None:
            return Verdict.reject("unsubscribe.shared_uri")
        return _own_pair(mail, message, "unsubscribe.split", "UNSUB-6")
    return Verdict.accept()


def _own_pair(mail: Submission, message: Message, reason: str, rule: str) -> Verdict:
    """A token of ours in each copy, in place of what is there; a List-Id where there is none."""
    edits = [Edit("remove", name, "", rule) for name in _FIELDS if message.count(name.lower().encode())]
    tenant, purpose = mail.account.tenant, mail.purpose
    named = list_id(purpose.name, next(iter(tenant.domains), "")) if purpose and not message.count(b"list-id") else ""
    return Verdict.accept(*edits, Edit("unsubscribe", "List-Unsubscribe", named, rule), reason=reason)


def _visible(message: Message, uris: Sequence[str]) -> Note | None:
    way_out = find_way_out(read_texts(message), uris)
    if not (way_out.html or (way_out.html is None and way_out.plain)):
        return Note("warn", "unsubscribe.visible_link_missed")
    if way_out.html and way_out.plain is False and not way_out.plain_has_link:
        return Note("warn", "unsubscribe.plain_without_link")
    return None
