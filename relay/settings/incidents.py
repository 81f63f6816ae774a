"""Clocks of incidents: settings of incidents."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.settings.section import Section

Hours = Annotated[float, Field(gt=0, le=8_760)]
Hour = Annotated[int, Field(ge=0, le=24)]
TwoHours = Annotated[tuple[Hours, ...], Field(strict=False, min_length=2, max_length=2)]


class Incidents(Section):
    """What happens when data went where they should not (docs/incidents.md). Deadlines hold for incidents opened from then on."""

    tenant_hours: Hours = Field(default=24.0, description="Time to tell the tenant, from detection (GDPR-20).")
    tenant_alarm_hours: TwoHours = Field(
        default=(12.0, 20.0),
        description="Ages at which an alarm, then a critical one, says that he was not told (GDPR-20).",
    )
    authority_hours: Hours = Field(default=72.0, description="Time to tell the authority, from detection (GDPR-21).")
    authority_alarm_hours: TwoHours = Field(
        default=(48.0, 66.0), description="The same alarms for the authority, unless risk is unlikely (GDPR-21)."
    )
    burst_hours: Hours = Field(
        default=24.0, description="What one login does again within this time is the same incident, until it was told."
    )
    contact: str = Field(
        default="",
        max_length=500,
        description="Who answers questions about incidents: name, address, telephone; for the drafts.",
    )
    office_from_hour: Hour = Field(
        default=6, description="Hour (UTC) from which, Monday to Friday, an export of consents is no incident."
    )
    office_until_hour: Hour = Field(default=19, description="Hour (UTC) until which it is none.")
    watch_exports: bool = Field(
        default=True, description="Whether an export of consents outside of these hours opens an incident."
    )
    watch_leaks: bool = Field(
        default=True,
        description="Whether mail that the policy leaks only observes opens one, where it would have said no.",
    )
