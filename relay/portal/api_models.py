"""Bodies of the API, both ways. Fields of a consent event are the columns of `zegel consent import`, with its meanings.

Types here are wide on purpose: the owner validates an event exactly as it validates an imported row, so that both
roads refuse the same things in the same words. Here only shape and size are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from relay.mail.address import Address, parse_path
from relay.policy.facts import ConsentState, PendingRequest, SuppressionEntry
from relay.portal.problems import field_name, sentence

MAX_ITEMS = 500
MAX_TEXT = 10_000

Short = Annotated[str, Field(max_length=500)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Time = Annotated[str, Field(max_length=40, description="RFC 3339 with an offset", examples=["2026-01-02T10:00:00Z"])]
YesNo = Annotated[
    bool | Literal["yes", "no"], Field(description="yes or no, true or false", union_mode="left_to_right")
]
Email = Annotated[
    str, Field(min_length=3, max_length=320, examples=["ann@example.net"], json_schema_extra={"format": "email"})
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)


def example(**values: Any) -> ConfigDict:
    """For the document of the API."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class WithEmail(Body):
    email: Email

    @field_validator("email")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not isinstance(parse_path(value), Address):
            raise ValueError("this is not a valid e-mail address")
        return value


class ConsentEvent(WithEmail):
    """One thing that happened between a person and a list. Which fields are needed depends on event and basis."""

    model_config = example(
        event="given",
        email="ann@example.net",
        purpose="newsletter",
        basis="consent",
        method="web_form",
        source="https://shop.example/join",
        given_at="2026-01-02T10:00:00Z",
        text="Ja, stuur mij de nieuwsbrief",
        text_language="nl",
        policy_url="https://shop.example/privacy",
        jurisdiction="NL",
        provenance="own",
        sensitive_audience=False,
    )

    event: Literal["requested", "given", "confirmed", "withdrawn"]
    purpose: Short = ""
    basis: Short | None = None
    method: Short | None = None
    source: Short | None = None
    given_at: Time | None = None
    text: Text | None = None
    text_language: Short | None = None
    policy_url: Short | None = None
    jurisdiction: Short | None = None
    provenance: Short | None = None
    sensitive_audience: YesNo | None = None
    controller: Short | None = None
    confirmed_at: Time | None = None
    evidence_ip: Short | None = None
    evidence_user_agent: Short | None = None
    expires_at: Time | None = None
    sale_ref: Short | None = None
    sale_at: Time | None = None
    sale_kind: Short | None = None
    product_category: Short | None = None
    informed_at_collection: YesNo | None = None
    optout_offered_at_collection: YesNo | None = None
    supplier: Short | None = None
    contract_ref: Short | None = None
    third_party_named: Short | None = None
    doi_message_id: Short | None = None
    doi_sent_at: Time | None = None
    doi_ip: Short | None = None
    published_url: Short | None = None
    published_hash: Short | None = None
    published_at: Time | None = None
    country: Short | None = None
    local_rule: Text | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that were given, by name."""
        return self.model_dump(exclude={"event"}, exclude_none=True)


class FieldError(BaseModel):
    field: str
    reason: str


class Misfit(NamedTuple):
    """An item of a list that is no event, and why; the other items do not suffer for it."""

    errors: list[FieldError]


def _or_misfit(value: Any, read: ValidatorFunctionWrapHandler) -> ConsentEvent | Misfit:
    try:
        return read(value)  # type: ignore[no-any-return]  # of ConsentEvent
    except ValidationError as error:
        return _misfit(error)


def _misfit(error: ValidationError) -> Misfit:
    # Never `input` or `ctx`: they repeat what was sent.
    told = {
        field_name(item["loc"][0]) if item["loc"] else "": sentence(item) for item in error.errors(include_url=False)
    }
    return Misfit([FieldError(field=field, reason=reason) for field, reason in told.items()])


Items = Annotated[list[Annotated[ConsentEvent, WrapValidator(_or_misfit)]], Field(min_length=1, max_length=MAX_ITEMS)]


class ConsentEvents(RootModel[ConsentEvent | Items]):
    """One event, or a list of at most 500."""

    @property
    def items(self) -> Sequence[ConsentEvent | Misfit]:
        return self.root if isinstance(self.root, list) else [self.root]


class ItemAnswer(BaseModel):
    """Answer to the item at `index`, from 0."""

    index: int
    ok: bool
    errors: list[FieldError] | None = None


class ConsentReport(BaseModel):
    model_config = example(
        recorded=1,
        refused=1,
        results=[
            {"index": 0, "ok": True},
            {"index": 1, "ok": False, "errors": [{"field": "given_at", "reason": "is needed"}]},
        ],
    )

    recorded: int
    refused: int
    results: list[ItemAnswer]


class Lookup(WithEmail):
    model_config = example(email="ann@example.net", purpose="newsletter")

    purpose: Short


class StopAnswer(BaseModel):
    scope: str
    reason: str
    at: datetime


class ConsentAnswer(BaseModel):
    """`status` is none where nothing is recorded. `stopped_by` beats every consent (CONSENT-11)."""

    model_config = example(
        purpose="newsletter",
        status="given",
        basis="consent",
        given_at="2026-01-02T10:00:00Z",
        event=17,
        stopped_by=[{"scope": "all", "reason": "objection", "at": "2026-03-04T08:15:00Z"}],
    )

    purpose: str
    status: str
    basis: str | None = None
    given_at: datetime | None = None
    confirmed_at: datetime | None = None
    expires_at: datetime | None = None
    requested_at: datetime | None = None
    event: int | None = None
    stopped_by: list[StopAnswer]


class Suppression(WithEmail):
    model_config = example(email="ann@example.net", scope="all", reason="objection")

    scope: Annotated[str, Field(max_length=200, description="all, or the name of a purpose")] = "all"
    reason: Literal["objection", "bounce", "complaint", "restriction"] = "objection"


class SuppressionReport(BaseModel):
    model_config = example(scope="all", reason="objection")

    scope: str
    reason: str


class Removal(WithEmail):
    model_config = example(email="ann@example.net", scope="all", reason="bounce")

    scope: Annotated[str, Field(max_length=200)] = "all"
    reason: Literal["bounce", "complaint", "restriction", "objection"] = "bounce"


class Removed(BaseModel):
    model_config = example(removed=True)

    removed: bool


class ToldOutcome(WithEmail):
    """What became of one recipient of one of your messages after it had left."""

    model_config = example(message="0R3M7K2QX9T1A", email="ann@example.net", outcome="bounced", status="5.1.1")

    message: Annotated[
        str,
        Field(pattern=r"^[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{13}$", description="Its id, of `250 2.0.0 queued as <id>`."),
    ]
    outcome: Literal["bounced", "complained"]
    status: Annotated[
        str | None,
        Field(
            pattern=r"^[245]\.[0-9]{1,3}\.[0-9]{1,3}$",
            description="Of a bounce: the enhanced status (RFC 3463).",
            examples=["5.1.1"],
        ),
    ] = None


def _or_wrong(value: Any, read: ValidatorFunctionWrapHandler) -> ToldOutcome | Misfit:
    try:
        return read(value)  # type: ignore[no-any-return]  # of ToldOutcome
    except ValidationError as error:
        return _misfit(error)


ToldItems = Annotated[list[Annotated[ToldOutcome, WrapValidator(_or_wrong)]], Field(min_length=1, max_length=MAX_ITEMS)]


class ToldOutcomes(RootModel[ToldOutcome | ToldItems]):
    """One outcome, or a list of at most 500."""

    @property
    def items(self) -> Sequence[ToldOutcome | Misfit]:
        return self.root if isinstance(self.root, list) else [self.root]


class OutcomeAnswer(ItemAnswer):
    """`counted` is false where it was told or seen before: then it changes nothing, and telling it again is safe."""

    counted: bool


class OutcomeReport(BaseModel):
    model_config = example(counted=1, refused=0, results=[{"index": 0, "ok": True, "counted": True}])

    counted: int
    refused: int
    results: list[OutcomeAnswer]


class Problem(BaseModel):
    """RFC 9457."""

    model_config = example(
        type="about:blank",
        status=403,
        title="This key may not do that",
        detail="this key lacks the scope consents:write",
    )

    type: str
    status: int
    title: str
    detail: str | None = None
    errors: list[FieldError] | None = None


def consent_report(
    purpose: str, state: ConsentState | None, pending: PendingRequest | None, stops: Sequence[SuppressionEntry]
) -> ConsentAnswer:
    """The answer of a lookup, from what the ledger holds."""
    stopped = [
        StopAnswer(scope=stop.scope, reason=stop.reason, at=datetime.fromtimestamp(stop.at, UTC)) for stop in stops
    ]
    requested = _time(pending.requested_at) if pending else None
    if state is None:
        status = "requested" if pending else "none"
        return ConsentAnswer(purpose=purpose, status=status, requested_at=requested, stopped_by=stopped)
    return ConsentAnswer(
        purpose=purpose,
        status=state.status,
        basis=state.basis or None,
        given_at=_time(state.given_at),
        confirmed_at=_time(state.confirmed_at),
        expires_at=_time(state.expires_at),
        requested_at=requested,
        event=state.event or None,
        stopped_by=stopped,
    )


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
