"""What a mail is: personal, transactional or commercial, and whether it is bulk.

The stream of the login fixes the class; what the mail shows can only make it stricter, never milder. Advertising for a
charity or an ideal is advertising (CLASS-2), a digest that sells subscriptions too (CLASS-3), and so is a service mail
with an offer or a survey in it (CLASS-4). Pure service mail stays what it is (CLASS-5), and so does a letter from one
person to a few (CLASS-6). Marks of a newsletter count points (CLASS-8); 20 recipients, or 20 nearly equal mails in a
day, are bulk (CLASS-9), and fewer points then make service mail commercial: two of an offer or a campaign, or one less of
all marks. One that a tool adds to all it sends makes none: tickets of a helpdesk have a way out and Precedence too. On a
personal stream the text counts only in bulk mail: forwarding a newsletter is no campaign. A service mail to a crowd waits
for a person (CLASS-10). The sender may state a stricter class (CLASS-11), and may call a mail a confirmation, which consent
then allows only after a request (CLASS-7). A list that the mail names must exist and be the login's own (CONSENT-4).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.mail.envelope import MailClass, Stream, Submission
from relay.mail.message import Message
from relay.mail.notice import is_automatic
from relay.mail.signals import body_signals, head_signals
from relay.mail.texts import read_texts
from relay.policy.facts import Fact, Facts
from relay.policy.options import option
from relay.policy.verdict import STREAM_CLASS, Classify, Stage, Verdict

STAGE = Stage.SHAPE
NEEDS = (Fact.FINGERPRINT,)
STAND_IN = {Fact.FINGERPRINT: 0}
_STRICTNESS = (MailClass.PERSONAL, MailClass.TRANSACTIONAL, MailClass.COMMERCIAL)
_PROMOTION = frozenset(("offer", "survey"))
_OF_CAMPAIGNS = frozenset(("campaign_header", "precedence"))
_OF_OFFERS = _OF_CAMPAIGNS | {"price", "shop_links"}
_PROMOTION_CHOICES = ("commercial", "hold", "ignore")


@dataclass(frozen=True, slots=True)
class Settings:
    commercial_points: int = option(5, "Points that make a mail commercial (CLASS-8).", minimum=2)
    bulk_commercial_points: int = option(
        2,
        "Points of offers, campaign fields and Precedence that make transactional bulk mail commercial (CLASS-9); of all marks "
        "together it takes one fewer than commercial_points: one that a tool adds is in orders and tickets too (CLASS-5).",
        minimum=1,
    )
    bulk_count: int = option(20, "Recipients, or nearly equal mails in 24 hours, that are bulk (CLASS-9).", minimum=2)
    promotion: str = option("commercial", "Service mail with an offer in it (CLASS-4).", choices=_PROMOTION_CHOICES)
    service_recipients: int = option(20, "Recipients from which a service mail is held (CLASS-10).", minimum=2)
    list_unsubscribe: int = option(3, "Points for a List-Unsubscribe field.")
    list_id: int = option(3, "Points for a List-Id field.")
    campaign_header: int = option(3, "Points for a campaign field of a mailing tool.")
    tracking: int = option(3, "Points for a tracking pixel with redirect links.")
    precedence: int = option(2, "Points for Precedence bulk or list.")
    feedback_id: int = option(2, "Points for a Feedback-ID field.")
    marketing_mailer: int = option(2, "Points for the X-Mailer of a mailing tool.")
    opt_out_word: int = option(2, "Points for an opt-out word at a link.")
    price: int = option(2, "Points for a discount or an advertised price, whether or not it asks to buy.")
    shop_links: int = option(1, "Points for more than three links into a shop.")


def asks(mail: Submission, settings: Settings) -> Sequence[Fact]:
    return () if mail.stream is Stream.MARKETING else NEEDS


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    message, account = mail.message, mail.account
    if message is None or mail.mail_class is MailClass.SYSTEM:
        return Verdict.accept()
    purpose = (message.get(b"x-zegel-purpose") or b"").decode("utf-8", "replace")
    if purpose and purpose not in account.tenant.purposes:
        return Verdict.reject("classification.purpose_unknown", purpose=purpose)
    if purpose and account.purpose is not None and account.purpose.name != purpose:
        return Verdict.reject("classification.purpose_conflict", purpose=purpose, fixed=account.purpose.name)
    bulk = len(mail.recipients) >= settings.bulk_count
    if mail.stream is not Stream.MARKETING:
        bulk = bulk or facts.fingerprint >= settings.bulk_count
    stated = (message.get(b"x-zegel-class") or b"").decode("ascii", "replace").lower()
    if stated == "confirm":
        return Verdict.accept(Classify(MailClass.SYSTEM, bulk, True, purpose or None), reason="classification.confirm")
    found, reason, signals = _weigh(mail, message, bulk, settings)
    if stated in _STRICTNESS and _STRICTNESS.index(MailClass(stated)) > _STRICTNESS.index(found):
        found, reason, signals = MailClass(stated), "classification.header", ""
    return _answer(mail, Classify(found, bulk, False, purpose or None), reason, signals, settings)


def _answer(mail: Submission, shape: Classify, reason: str, signals: str, settings: Settings) -> Verdict:
    if reason == "classification.promotion_held":
        return Verdict.hold(reason, shape, signals=signals)
    if shape.mail_class is MailClass.TRANSACTIONAL and len(mail.recipients) >= settings.service_recipients:
        return Verdict.hold("classification.many_recipients", shape, recipients=str(len(mail.recipients)))
    if shape == Classify(mail.mail_class, mail.bulk, mail.confirm, None):
        return Verdict.accept()
    reason = reason or ("classification.bulk" if shape.bulk else "")
    return Verdict.accept(shape, reason=reason, **({"signals": signals} if signals else {}))


def _weigh(mail: Submission, message: Message, bulk: bool, settings: Settings) -> tuple[MailClass, str, str]:
    """Class, reason and the marks found. The text is read only where it can still change the answer."""
    base = STREAM_CLASS[mail.stream]
    if base is MailClass.COMMERCIAL:
        return base, "", ""
    signals = set(head_signals(message))
    if base is MailClass.TRANSACTIONAL or bulk:
        signals |= body_signals(read_texts(message))
    named = ", ".join(sorted(signals))
    if _points(signals, settings) >= settings.commercial_points:
        return MailClass.COMMERCIAL, "classification.points", named
    if base is MailClass.TRANSACTIONAL:
        own = signals - {"precedence"} if is_automatic(message) and "marketing_mailer" not in signals else signals
        offered = _points(own & (_OF_OFFERS if "offer" in own else _OF_CAMPAIGNS), settings)
        many = _points(own, settings) >= settings.commercial_points - 1 or offered >= settings.bulk_commercial_points
        if bulk and many:
            return MailClass.COMMERCIAL, "classification.bulk_points", named
        if signals & _PROMOTION and settings.promotion != "ignore":
            reason = f"classification.promotion{'_held' if settings.promotion == 'hold' else ''}"
            return base if settings.promotion == "hold" else MailClass.COMMERCIAL, reason, named
    return base, "", ""


def _points(signals: Iterable[str], settings: Settings) -> int:
    return sum(getattr(settings, signal) for signal in signals if signal not in _PROMOTION)
