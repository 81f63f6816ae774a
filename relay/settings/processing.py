"""Who processes, and where: settings of processing, for the register (GDPR-17) and the check of places (GDPR-15, GDPR-16)."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from relay.settings.section import Section, refuse

# Members of the European Economic Area, where data may lie without further ground (GDPR-15; Regulation 2016/679 art. 44).
_EEA = "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE IS LI NO"
EEA = frozenset(_EEA.split())
GROUNDS = {
    "adequacy": "GDPR 45",
    "clauses": "GDPR 46(2)(c), (d)",
    "rules": "GDPR 47",
    "consent": "GDPR 49(1)(a)",
    "derogation": "GDPR 49(1)",
}
"""What lets data leave the EEA, with its place in the law."""
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_WRITE = 'Write "mail.provider.example DE", and outside of the EEA why that is lawful: "alarms.example.com US adequacy: DECISION"'


class Place(NamedTuple):
    """Where a host stands, as somebody declared it. `ground` is one of GROUNDS and `why` names it; "" inside of the EEA."""

    host: str
    country: str
    ground: str = ""
    why: str = ""

    @property
    def is_inside(self) -> bool:
        return self.country in EEA


def parse_place(text: str) -> Place | str:
    """`HOST COUNTRY` or `HOST COUNTRY GROUND: WHICH`; else what is wrong with it."""
    host, _, rest = text.strip().partition(" ")
    country, _, reason = rest.strip().partition(" ")
    host, country = host.strip("[]").lower(), country.upper()
    if not _HOST.fullmatch(host) or not _COUNTRY.fullmatch(country):
        return f"{text!r} is no host with the code of its country"
    place = Place(host, country)
    if place.is_inside:
        return f"{country} is in the EEA, where no ground is needed" if reason.strip() else place
    wrong = ground_problem(reason)
    if wrong:
        return f"{host} is in {country}, outside of the EEA, {wrong}"
    ground, _, why = reason.partition(":")
    return place._replace(ground=ground.strip(), why=why.strip())


def ground_problem(text: str) -> str:
    """Why `text` names no ground for a transfer out of the EEA; "" where it does."""
    ground, colon, why = text.partition(":")
    if not text.strip():
        return "and nothing says why that is lawful"
    if ground.strip() not in GROUNDS:
        return f"and {ground.strip()!r} is none of {', '.join(GROUNDS)}"
    if not colon or not why.strip():
        return f"and it is not said which {ground.strip()}"
    return ""


def _place(text: str) -> str:
    found = parse_place(text)
    if isinstance(found, str):
        raise refuse(found, f"{_WRITE} (GDPR-16)")
    return text


PlaceList = Annotated[tuple[Annotated[str, AfterValidator(_place)], ...], Field(strict=False)]
Line = Annotated[str, Field(max_length=500)]


class Processing(Section):
    """Who processes for the tenants, and in which countries: for the register (docs/register.md)."""

    operator: Line = Field(default="", description="Legal name of who runs this gateway, the processor (GDPR 30(2)).")
    contact: Line = Field(default="", description="How to reach the operator: address, mail, telephone.")
    officer: Line = Field(default="", description="The operator's data protection officer, or representative, if any.")
    endpoints: PlaceList = Field(
        default=(),
        description='Hosts of others that get data: "mail.example.org DE", or "a.example.com US adequacy: WHICH".',
    )
    measures: Annotated[tuple[Line, ...], Field(strict=False, max_length=50)] = Field(
        default=(), description="Security measures beside the gateway's own, one sentence each, for the register."
    )
    sub_processor_notice_days: Annotated[int, Field(ge=0, le=365)] = Field(
        default=30, description="Days between telling of a new sub-processor and its first use (GDPR 28(2))."
    )

    @cached_property
    def places(self) -> dict[str, Place]:
        """`endpoints` by host."""
        found = (parse_place(text) for text in self.endpoints)
        return {place.host: place for place in found if isinstance(place, Place)}
