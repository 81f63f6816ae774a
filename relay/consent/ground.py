"""By which rule a record lets advertising go: for the proof, and for what is written down of each mail (CONSENT-15)."""

from __future__ import annotations

from relay.policy.facts import ConsentState

_GROUNDS = {
    "consent": "CONSENT-1", "soft_optin": "CONSENT-5", "published_for_marketing": "CONSENT-9", "non_eea_b2b": "CONSENT-9",
}  # fmt: skip


def ground(state: ConsentState | None) -> str:
    """The rule by which a record counts; "" where there is none."""
    if state is None:
        return ""
    return ground_of(state.basis, state.provenance, state.sale_kind, state.confirmed_at)


def ground_of(basis: str, provenance: str, sale_kind: str, confirmed_at: float) -> str:
    """The same of the fields that it hangs on."""
    if provenance != "own":
        return "CONSENT-7"
    if basis == "soft_optin" and sale_kind == "free_tier":
        return "CONSENT-6"
    return "CONSENT-8" if basis == "consent" and confirmed_at else _GROUNDS.get(basis, "")
