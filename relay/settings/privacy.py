"""How long what is kept: settings of privacy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.settings.section import Section

Days = Annotated[int, Field(gt=0, le=36_500)]
Months = Annotated[int, Field(gt=0, le=1_200)]
Years = Annotated[int, Field(gt=0, le=100)]


class Privacy(Section):
    """How long personal data are kept, and what logs show."""

    address_in_logs: Literal["hash", "clear"] = Field(
        default="hash", description="hash: keyed hash and domain; clear: the address itself (OPS-2)."
    )
    client_address_in_received: Literal["hide", "show"] = Field(
        default="hide", description="Whether Received shows the sender's own IP address to recipients (SMTP-22)."
    )
    delivery_log_days: Days = Field(default=28, description="Outcome of each delivery, and captured mail (GDPR-14).")
    campaign_addresses_days: Days = Field(
        default=28, description="Delivery log of a mailing, from its invoice date, else from its last line (GDPR-12)."
    )
    campaign_invoice_days: Days = Field(
        default=92, description="So long after its last line a mailing may be invoiced; later counts as then (GDPR-12)."
    )
    security_log_days: Days = Field(default=90, description="Logins and changes by people (GDPR-14).")
    consent_ip_months: Months = Field(default=24, description="IP addresses in proofs of consent (GDPR-14).")
    consent_proof_years: Years = Field(
        default=5, description="Proof of consent and which mails rested on it, after the last of them (CONSENT-15)."
    )
    bounce_suppression_days: Annotated[Days, Field(le=90)] = Field(
        default=90, description="Suppression after a hard bounce, 90 at most (REP-3)."
    )
