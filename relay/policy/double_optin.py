"""Double opt-in: which consents count only once they are confirmed (CONSENT-8), and which confirmation mails may go (CLASS-7)."""

from __future__ import annotations

from collections.abc import Collection

from relay.mail.address import narrow
from relay.policy.facts import ConsentState, PendingRequest

EVERYWHERE = "ALL"
PLACES = (
    "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE", "IS", "IT", "LI",
    "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", EVERYWHERE,
)  # fmt: skip
_OTHER_ENDS = {"uk": "GB", "xn--90ae": "BG", "xn--qxam": "GR"}  # all others are ISO 3166-1


def lacks_confirmation(state: ConsentState | None, address: str, countries: Collection[str]) -> bool:
    """Whether a standing record is a single opt-in, and its jurisdiction or the end of its address asks for a double one.

    Either is enough: who lives in Germany may have an address under .com, and who wrote NL for everybody has no proof
    for one under .de. Other grounds than consent have conditions of their own (CONSENT-5, -9).
    """
    if state is None or state.basis != "consent" or state.confirmed_at > 0 or state.status == "confirmed":
        return False
    if EVERYWHERE in countries or state.jurisdiction[:2] in countries:
        return True
    end = narrow(address).rpartition(".")[2]  # a dot of another script, or a wide letter, is the same mailbox
    return _OTHER_ENDS.get(end, end.upper()) in countries


def refused_request(request: PendingRequest | None, now: float, hours: int, mails: int) -> str:
    """Why no confirmation mail may go out on what was asked for; "" when one may."""
    if request is None:
        return "consent.no_request"
    if now - request.requested_at > hours * 3_600:
        return "consent.request_old"
    return "consent.confirm_repeated" if request.mails_sent >= mails else ""
