"""Advertising goes only to people whose yes can be shown.

For commercial mail every recipient, person or company, needs a record for exactly this list of exactly this sender:
given, complete, not withdrawn, not expired (CONSENT-1, -2, -4, -11, -13), and confirmed where the country or the tenant asks
for that (CONSENT-8). Customers may be mailed without it about similar things from the same legal entity until 24 months
after the last sale (CONSENT-5); a free account is a sale only where the tenant wrote down why (CONSENT-6). Bought addresses
and company addresses without consent are refused unless the tenant is allowed them (CONSENT-7, -9). Asking for permission
is advertising too: one confirmation mail and one reminder, within 24 hours after the person asked, without images, shop
links or offers (CLASS-7). Addresses are compared exactly but for case (CONSENT-16, in the store). Blocked: no mail (GDPR-9).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.envelope import MailClass, Purpose, Stream, Submission
from relay.mail.signals import confirm_blemishes
from relay.policy.double_optin import PLACES, lacks_confirmation, refused_request
from relay.policy.facts import ConsentState, Fact, Facts, PendingRequest
from relay.policy.options import option
from relay.policy.verdict import DropRecipient, Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = (Fact.CONSENTS, Fact.REQUESTS)
AT_RCPT = True
_BASES = ("consent", "soft_optin", "published_for_marketing", "non_eea_b2b")
_AWAITED = ("consent.unconfirmed", "consent.single_optin")  # a confirmation mail may still go to them
_STOPPED = {"withdrawn": "consent.withdrawn", "objected": "consent.objected", "restricted": "consent.restricted"}


@dataclass(frozen=True, slots=True)
class Settings:
    third_party: str = option("refuse", "Bought addresses with full proof (CONSENT-7).", choices=("refuse", "accept"))
    free_tier_reason: str = option("", "Why a free account counts as a sale here; empty: it does not (CONSENT-6).")
    bases: tuple[str, ...] = option(_BASES[:2], "Grounds that count (CONSENT-9).", choices=_BASES)
    double_optin: tuple[str, ...] = option(("AT", "DE"), "Where consent must be confirmed (CONSENT-8).", choices=PLACES)
    soft_optin_max_age_days: int = option(731, "Days after the last sale that a customer may be mailed (CONSENT-13).")
    confirm_window_hours: int = option(24, "Hours after a request in which a confirmation may be sent (CLASS-7).")
    confirm_mails: int = option(2, "Confirmation mails for one request, the reminder included (CLASS-7).")


def asks(mail: Submission, settings: Settings) -> Sequence[Fact]:
    if mail.confirm:
        return (Fact.REQUESTS,)
    known = mail.mail_class is MailClass.COMMERCIAL and mail.purpose is not None
    return (Fact.CONSENTS,) if known and (mail.message is not None or mail.stream is Stream.MARKETING) else ()


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    if mail.confirm:
        return _confirmation(mail, facts, settings)
    if mail.mail_class is not MailClass.COMMERCIAL:
        return Verdict.accept()
    drops, asked, at_rcpt = [], False, mail.message is None
    if mail.purpose is None:
        return Verdict.accept(reason="consent.purpose_later") if at_rcpt else Verdict.reject("consent.no_purpose")
    requests = facts.values.get(Fact.REQUESTS) if at_rcpt else None  # read there where the recipient has one
    for recipient in mail.recipients:
        state = facts.consents.get(recipient.address)
        reason = _reason(mail, mail.purpose, state, settings)
        if not reason and lacks_confirmation(state, recipient.address, settings.double_optin):
            reason = "consent.single_optin"
        old = isinstance(requests, dict) and _request(mail.now, requests.get(recipient.address), settings)
        if reason in _AWAITED and at_rcpt and not (old or mail.in_company):
            asked = True  # the mail may turn out to be the confirmation that was asked for
        elif reason:
            drops.append(DropRecipient(recipient.address, reason))
    return Verdict.accept(*drops, reason="consent.pending_request" if asked and not drops else "")


def _reason(mail: Submission, purpose: Purpose, state: ConsentState | None, settings: Settings) -> str:
    """Why this record does not let the mail pass; "" when it does."""
    if state is None or state.status == "erased":
        return "consent.missing"
    if state.status in _STOPPED:
        return _STOPPED[state.status]
    if state.purpose and state.purpose != purpose.name:
        return "consent.other_purpose"
    if state.status == "requested":
        return "consent.unconfirmed"
    if state.status not in ("given", "confirmed") or not state.basis or state.given_at <= 0:
        return "consent.unproven"
    if state.basis not in settings.bases:
        return "consent.basis_not_allowed"
    if 0 < state.expires_at <= mail.now:
        return "consent.expired"
    if state.provenance != "own" and settings.third_party == "refuse":
        return "consent.third_party"
    entity = _fold(purpose.controller or mail.account.tenant.legal_name)
    if state.basis == "soft_optin":
        return _soft_optin(mail, purpose, state, entity, settings)
    return "consent.other_controller" if state.controller and entity and _fold(state.controller) != entity else ""


def _soft_optin(mail: Submission, purpose: Purpose, state: ConsentState, entity: str, settings: Settings) -> str:
    if state.sale_at <= 0 or not state.sale_kind:
        return "consent.unproven"
    if state.sale_kind == "free_tier" and not settings.free_tier_reason:
        return "consent.free_tier"
    if state.controller and _fold(state.controller) != entity:
        return "consent.soft_optin_controller"
    category = _fold(purpose.category or mail.account.tenant.category)
    if not category or _fold(state.category) != category:
        return "consent.soft_optin_category"
    return "consent.soft_optin_old" if mail.now - state.sale_at > settings.soft_optin_max_age_days * 86_400 else ""


def _confirmation(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    blemishes = confirm_blemishes(mail.message) if mail.message is not None else frozenset()
    if blemishes:
        return Verdict.reject("consent.confirm_advertising", signals=", ".join(sorted(blemishes)))
    reasons = [(r.address, _request(mail.now, facts.requests.get(r.address), settings)) for r in mail.recipients]
    return Verdict.accept(*(DropRecipient(address, reason) for address, reason in reasons if reason))


def _request(now: float, request: PendingRequest | None, settings: Settings) -> str:
    return refused_request(request, now, settings.confirm_window_hours, settings.confirm_mails)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
