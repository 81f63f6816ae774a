"""How often the tenants' API may be asked: settings of api."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.settings.section import Section

PerMinute = Annotated[int, Field(gt=0, le=100_000)]


class Api(Section):
    """/api/v1 for tenants. Over a limit it answers 429 and says when to come back; a list of 500 is one request."""

    key_requests_per_minute: PerMinute = Field(default=600, description="Requests with one key, per gateway.")
    tenant_requests_per_minute: PerMinute = Field(
        default=1_200, description="Requests with all keys of one tenant together, per gateway."
    )
