"""The exception for customers: what a sale must be like for mail without consent (CONSENT-5, -6, -13)."""

from __future__ import annotations

from relay.mail.envelope import Purpose, Submission
from relay.policy.facts import ConsentState

DAY = 86_400


def refused_sale(mail: Submission, purpose: Purpose, state: ConsentState, *, free_tier: bool, max_age_days: int) -> str:
    """Why this sale does not let the mail pass; "" when it does. `free_tier`: a free account counts as a sale."""
    if state.sale_at <= 0 or not state.sale_kind:
        return "consent.unproven"
    if state.sale_kind == "free_tier" and not free_tier:
        return "consent.free_tier"
    if state.controller and fold(state.controller) != controller_of(mail, purpose):
        return "consent.soft_optin_controller"
    category = fold(purpose.category or mail.account.tenant.category)
    if not category or fold(state.category) != category:
        return "consent.soft_optin_category"
    return "consent.soft_optin_old" if mail.now - state.sale_at > max_age_days * DAY else ""


def refused_controller(mail: Submission, purpose: Purpose, state: ConsentState) -> str:
    """Why a consent does not let the mail pass: it was given to somebody else; "" where that is not so."""
    entity = controller_of(mail, purpose)
    return "consent.other_controller" if state.controller and entity and fold(state.controller) != entity else ""


def controller_of(mail: Submission, purpose: Purpose) -> str:
    """The legal entity that the mail is from, for comparison."""
    return fold(purpose.controller or mail.account.tenant.legal_name)


def fold(text: str) -> str:
    """Names and categories are compared without regard to case and spaces."""
    return " ".join(text.casefold().split())
