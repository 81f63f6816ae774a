"""When a sender is warned, slowed down or stopped: settings of reputation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.settings.section import Section

Share = Annotated[float, Field(gt=0, le=1)]
Few = Annotated[int, Field(gt=0, le=1_000)]


class Reputation(Section):
    """From which share of the last 1,000 deliveries on a login, stream, From domain or tenant stands how."""

    bounce_warn: Share = Field(default=0.02, description="Bounces per delivery that warn (REP-1).")
    bounce_review: Share = Field(default=0.05, description="Bounces per delivery that are reviewed (REP-1).")
    bounce_pause: Share = Field(default=0.10, description="Bounces per delivery that pause (REP-1).")
    bounce_deliveries: Few = Field(default=200, description="Deliveries before bounces are judged (REP-1).")
    complaint_review: Share = Field(default=0.001, description="Complaints per delivery that are reviewed (REP-2).")
    complaint_pause: Share = Field(default=0.003, description="Complaints per delivery that pause (REP-2).")
    complaint_deliveries: Few = Field(default=500, description="Deliveries before complaints are judged (REP-2).")
    least_complaints: Annotated[int, Field(gt=0, le=9)] = Field(
        default=2, description="Complaints below which nobody is judged by them (REP-2)."
    )
    unknown_first: Share = Field(
        default=0.30, description="Unknown recipients among the first 50 of a campaign that pause (THROTTLE-8)."
    )
    unknown_last: Share = Field(
        default=0.10, description="Unknown recipients among the last 100 of a campaign that pause (THROTTLE-8)."
    )
