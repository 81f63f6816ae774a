"""Advertising goes only to people whose yes can be shown.

For commercial mail every recipient, person or company, needs a record for exactly this list of exactly this sender:
given, complete, not withdrawn, not expired (CONSENT-1, -2, -4, -11, -13), and confirmed where the country or the tenant asks
for that (CONSENT-8). One that no mail has used for 36 months counts no more (CONSENT-13). Customers may be mailed without it
about similar things from the same legal entity until 24 months after the last sale (CONSENT-5); a free account is a sale
only where the tenant wrote down why (CONSENT-6). Bought addresses and company addresses without consent are refused unless
the tenant is allowed them (CONSENT-7, -9): `zegel tenant set` says so, for the import and for the mail at once. Asking for
permission is advertising too: one confirmation mail and one reminder, within 24 hours after the person asked, without images,
shop links or offers (CLASS-7). Addresses are compared exactly but for case (CONSENT-16, in the store). Blocked: no mail (GDPR-9).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.envelope import MailClass, Purpose, Stream, Submission
from relay.mail.signals import confirm_blemishes
from relay.policy.ageing import has_aged
from relay.policy.double_optin import PLACES, lacks_confirmation, refused_request
from relay.policy.facts import ConsentState, Fact, Facts, PendingRequest
from relay.policy.options import option
from relay.policy.soft_optin import refused_controller, refused_sale
from relay.policy.verdict import DropRecipient, Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = (Fact.CONSENTS, Fact.REQUESTS)
AT_RCPT = True
_AWAITED = ("consent.unconfirmed", "consent.single_optin")  # a confirmation mail may still go to them
_STOPPED = {"withdrawn": "consent.withdrawn", "objected": "consent.objected", "restricted": "consent.restricted"}


@dataclass(frozen=True, slots=True)
class Settings:
    double_optin: tuple[str, ...] = option(("AT", "DE"), "Where consent must be confirmed (CONSENT-8).", choices=PLACES)
    soft_optin_max_age_days: int = option(731, "Days after the last sale that a customer may be mailed (CONSENT-13).")
    unused_warn_months: int = option(
        24, "Months without any mail after which a consent is fading (CONSENT-13); 0: never."
    )
    unused_block_months: int = option(
        36, "Months without any mail after which it counts no more (CONSENT-13); 0: never."
    )
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
    drops, asked, fades, at_rcpt = [], False, False, mail.message is None
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
        elif state is not None:
            fades = fades or has_aged(state, mail.now, settings.unused_warn_months)
    if drops or not (asked or fades):
        return Verdict.accept(*drops)
    return Verdict.accept(reason="consent.pending_request" if asked else "consent.fading")


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
    allowed = mail.account.tenant.grounds
    if state.basis not in allowed:
        return "consent.basis_not_allowed"
    if 0 < state.expires_at <= mail.now:
        return "consent.expired"
    if state.provenance != "own" and "third_party" not in allowed:
        return "consent.third_party"
    if state.basis == "soft_optin":
        free, days = "free_tier" in allowed, settings.soft_optin_max_age_days
        reason = refused_sale(mail, purpose, state, free_tier=free, max_age_days=days)
    else:
        reason = refused_controller(mail, purpose, state)
    return reason or ("consent.unused" if has_aged(state, mail.now, settings.unused_block_months) else "")


def _confirmation(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    blemishes = confirm_blemishes(mail.message) if mail.message is not None else frozenset()
    if blemishes:
        return Verdict.reject("consent.confirm_advertising", signals=", ".join(sorted(blemishes)))
    reasons = [(r.address, _request(mail.now, facts.requests.get(r.address), settings)) for r in mail.recipients]
    return Verdict.accept(*(DropRecipient(address, reason) for address, reason in reasons if reason))


def _request(now: float, request: PendingRequest | None, settings: Settings) -> str:
    return refused_request(request, now, settings.confirm_window_hours, settings.confirm_mails)
