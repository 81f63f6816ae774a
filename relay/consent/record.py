"""What makes a record of consent complete: the minimal consent record, as a pure check (CONSENT-2, -3, -5, -6, -7, -9).

The same check serves the import, the API and `consent.give`. A row is a mapping of the contract's column names to
values as they came (text, or JSON values); the answer is a `Record`, or every problem of the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from relay.mail.address import parse_path
from relay.mail.domain import meant_by

REQUIRED = (
    "email", "purpose", "basis", "method", "source", "given_at", "text", "text_language",
    "policy_url", "jurisdiction", "provenance", "sensitive_audience",
)  # fmt: skip
OPTIONAL = (
    "controller", "confirmed_at", "evidence_ip", "evidence_user_agent", "expires_at",
    "sale_ref", "sale_at", "sale_kind", "product_category", "informed_at_collection", "optout_offered_at_collection",
    "supplier", "contract_ref", "third_party_named", "doi_message_id", "doi_sent_at", "doi_ip",
    "published_url", "published_hash", "published_at", "country", "local_rule",
)  # fmt: skip
COLUMNS = frozenset(REQUIRED + OPTIONAL)
_REQUIRED = frozenset(REQUIRED)

BASES = ("consent", "soft_optin", "published_for_marketing", "non_eea_b2b")
METHODS = ("web_form", "double_optin", "paper", "phone", "point_of_sale", "import", "api")
NO_ACT = ("prechecked", "terms_only", "silence")  # CONSENT-3: none of these is an act of the person
SALE_KINDS = ("paid", "gift", "volunteer", "free_tier")
MAX_TEXT_CHARS = 20_000
MAX_VALUE_CHARS = 1_000
CLOCK_SKEW_SECONDS = 300
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 and 9999: no other time can be written

EEA = frozenset((
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE",
    "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
))  # fmt: skip

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")  # RFC 3339 section 5.6
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(?:-[a-zA-Z0-9]{2,8})*")  # RFC 5646 in its usual forms
_COUNTRY = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")  # ISO 3166-1, -2
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TEXT_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_YES = frozenset(("yes", "true", "1", "ja"))
_NO = frozenset(("no", "false", "0", "nee"))
_TIMES = ("given_at", "confirmed_at", "expires_at", "sale_at", "doi_sent_at", "published_at")


class Problem(NamedTuple):
    """One thing wrong with one field; `reason` is a sentence that says what to write instead."""

    field: str
    reason: str


class Rules(NamedTuple):
    """What one tenant may record. `purposes` maps each purpose to the legal entity behind it."""

    purposes: Mapping[str, str]
    kind: str = "company"
    allow_soft_optin: bool = True
    allow_third_party: bool = False
    allow_published: bool = False
    allow_non_eea: bool = False
    free_tier_reason: str = ""
    german_proof: bool = False
    shared_times: bool = False  # a person has looked at this list and let it in (CONSENT-7)


class Record(NamedTuple):
    """A complete record. `email` as given; times are seconds since the epoch (0.0: none); `values` holds every other text."""

    email: str
    domain: str
    purpose: str
    basis: str
    method: str
    given_at: float
    confirmed_at: float
    expires_at: float
    sale_at: float
    controller: str
    sensitive: bool
    values: Mapping[str, str]


def check(row: Mapping[str, object], rules: Rules, *, now: float) -> Record | list[Problem]:
    """The record in `row`, or what is wrong with it, every field at once. `now` is epoch seconds."""
    problems: list[Problem] = []
    values = _texts(row, problems)
    if not values.keys() >= _REQUIRED:
        missing = [
            name for name in REQUIRED if name not in values and not any(known.field == name for known in problems)
        ]
        problems.extend(Problem(name, "is missing: without it this is no proof of consent") for name in missing)
    times = _read_times(values, problems, now)
    parsed = parse_path(values["email"]) if "email" in values else None
    if isinstance(parsed, str):
        problems.append(Problem("email", f"is not an e-mail address: {parsed}"))
    elif parsed is not None and (not parsed.domain or "." not in parsed.domain or parsed.domain[0] == "["):
        problems.append(Problem("email", "is not an e-mail address with a domain name"))
    elif parsed is not None and (meant := meant_by(parsed.domain)):
        problems.append(
            Problem("email", f"is at {parsed.domain}, a typing error for {meant}: ask for the address (REP-4)")
        )
    _check_choices(values, rules, problems)
    for look in (_check_method, _check_basis, _check_sale, _check_provenance):
        look(values, times, rules, problems)
    if problems or parsed is None or isinstance(parsed, str):
        return problems
    return Record(
        email=values["email"],
        domain=parsed.domain,
        purpose=values["purpose"],
        basis=values["basis"],
        method=values["method"],
        given_at=times["given_at"],
        confirmed_at=times.get("confirmed_at", 0.0),
        expires_at=times.get("expires_at", 0.0),
        sale_at=times.get("sale_at", 0.0),
        controller=values.get("controller") or rules.purposes[values["purpose"]],
        sensitive=values["sensitive_audience"] in _YES,
        values=values,
    )


@lru_cache(maxsize=4_096)
def parse_time(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time with an offset; None for anything else.

    Also for what lies in no year of four digits in UTC: it could be kept, and never be written again.
    """
    if not _TIME.fullmatch(text):
        return None
    try:
        at = datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        return None
    return at if FIRST_SECOND <= at <= LAST_SECOND else None


def format_time(at: float) -> str:
    """RFC 3339 in UTC, or "" for 0.0."""
    if not at:
        return ""
    return (
        datetime.fromtimestamp(at, UTC)
        .isoformat(timespec="milliseconds" if at % 1 else "seconds")
        .replace("+00:00", "Z")
    )


def _texts(row: Mapping[str, object], problems: list[Problem]) -> dict[str, str]:
    """The values of a row as stripped texts, without the empty ones."""
    every = [value for value in row.values() if isinstance(value, str)]
    whole = "".join(every)
    if len(every) == len(row) and len(whole) <= MAX_VALUE_CHARS and whole.isprintable() and row.keys() <= COLUMNS:
        # Nearly every row: one look at all of it instead of one at each value.
        return {name: text for name, value in row.items() if (text := str(value).strip())}
    values: dict[str, str] = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        if name not in COLUMNS:
            problems.append(Problem("" if "@" in name else name, "is not a known column"))  # no message says an address
            continue
        if isinstance(value, str):
            text = value.strip()
        elif value is True or value is False:
            text = "yes" if value else "no"
        else:
            problems.append(Problem(name, "must be text"))
            continue
        if name == "text":
            is_bad = len(text) > MAX_TEXT_CHARS or (not text.isprintable() and _TEXT_CONTROL.search(text) is not None)
        else:
            is_bad = len(text) > MAX_VALUE_CHARS or (not text.isprintable() and _CONTROL.search(text) is not None)
        if is_bad:
            problems.append(Problem(name, "is too long or holds a control character"))
        elif text:
            values[name] = text
    return values


def _read_times(values: Mapping[str, str], problems: list[Problem], now: float) -> dict[str, float]:
    times: dict[str, float] = {}
    for name in _TIMES:
        text = values.get(name)
        if text is None:
            continue
        at = parse_time(text)
        if at is None:
            problems.append(Problem(name, "is not an RFC 3339 time with an offset, such as 2026-01-02T10:00:00Z"))
        elif at <= 0 or (at > now + CLOCK_SKEW_SECONDS and name != "expires_at"):
            problems.append(Problem(name, "lies in the future" if at > 0 else "lies before 1970"))
        else:  # a clock that is ahead of ours: what was done is done now, here and in the proof
            times[name] = at if name == "expires_at" else min(at, now)
    return times


def _check_choices(values: dict[str, str], rules: Rules, problems: list[Problem]) -> None:
    purpose = values.get("purpose")
    if purpose is not None and purpose not in rules.purposes:
        problems.append(Problem("purpose", "is not a purpose of this tenant: make it with `zegel purpose add` first"))
    for name in ("sensitive_audience", "informed_at_collection", "optout_offered_at_collection"):
        if name in values:
            values[name] = values[name].lower()
            if values[name] not in _YES and values[name] not in _NO:
                problems.append(Problem(name, "must be yes or no"))
    language = values.get("text_language")
    if language is not None and not _LANGUAGE.fullmatch(language):
        problems.append(Problem("text_language", "is not a language tag such as nl or en"))
    for name in ("jurisdiction", "country"):
        if name in values:
            values[name] = values[name].upper()
            if not _COUNTRY.fullmatch(values[name]):
                problems.append(Problem(name, "is not a country code of two letters such as NL"))


_Look = Callable[[dict[str, str], dict[str, float], Rules, list[Problem]], None]


def _need(values: Mapping[str, str], names: tuple[str, ...], why: str, problems: list[Problem]) -> None:
    problems.extend(Problem(name, f"is needed for {why}") for name in names if name not in values)


def _check_method(values: dict[str, str], times: dict[str, float], rules: Rules, problems: list[Problem]) -> None:
    method = values.get("method")
    if method in NO_ACT:
        problems.append(Problem("method", f"{method} is no act of the person, so it is no consent (CONSENT-3)"))
    elif method is not None and method not in METHODS:
        problems.append(Problem("method", f"is unknown: write one of {', '.join(METHODS)}"))
    if method == "double_optin":
        _need(values, ("confirmed_at", "doi_message_id", "doi_sent_at"), "method double_optin", problems)
        if times.get("doi_sent_at", 0.0) > times.get("confirmed_at", float("inf")):
            problems.append(Problem("confirmed_at", "lies before the confirmation mail was sent"))
    elif method == "web_form" and rules.german_proof:
        _need(values, ("evidence_ip", "evidence_user_agent"), "web forms of this tenant (german_proof)", problems)
    if 0.0 < times.get("confirmed_at", 0.0) < times.get("given_at", 0.0):
        problems.append(Problem("confirmed_at", "lies before given_at"))
    if 0.0 < times.get("expires_at", 0.0) <= times.get("given_at", 0.0):
        problems.append(Problem("expires_at", "lies before given_at"))


def _check_basis(values: dict[str, str], times: dict[str, float], rules: Rules, problems: list[Problem]) -> None:
    basis = values.get("basis")
    if basis is not None and basis not in BASES:
        problems.append(Problem("basis", f"is unknown: write one of {', '.join(BASES)}"))
    elif basis == "published_for_marketing":
        if not rules.allow_published:
            problems.append(Problem("basis", "published_for_marketing is switched off for this tenant (CONSENT-9)"))
        _need(values, ("published_url", "published_hash", "published_at"), "basis published_for_marketing", problems)
    elif basis == "non_eea_b2b":
        if not rules.allow_non_eea:
            problems.append(Problem("basis", "non_eea_b2b is switched off for this tenant (CONSENT-9)"))
        _need(values, ("country", "local_rule"), "basis non_eea_b2b", problems)
        if values.get("country", "")[:2] in EEA:
            problems.append(Problem("country", "lies in the EEA, where basis non_eea_b2b does not hold"))


def _check_sale(values: dict[str, str], times: dict[str, float], rules: Rules, problems: list[Problem]) -> None:
    kind = values.get("sale_kind")
    if kind is not None and kind not in SALE_KINDS:
        problems.append(Problem("sale_kind", f"is unknown: write one of {', '.join(SALE_KINDS)}"))
    if values.get("basis") != "soft_optin":
        return
    if not rules.allow_soft_optin:
        problems.append(Problem("basis", "soft_optin is switched off for this tenant (CONSENT-5)"))
    names = (
        "sale_ref",
        "sale_at",
        "sale_kind",
        "product_category",
        "informed_at_collection",
        "optout_offered_at_collection",
    )
    _need(values, names, "basis soft_optin (CONSENT-5)", problems)
    for name in names[4:]:
        if values.get(name) in _NO:
            problems.append(
                Problem(name, "must be yes: without it the exception for customers does not hold (CONSENT-5)")
            )
    if kind in ("gift", "volunteer") and rules.kind != "charity":
        problems.append(Problem("sale_kind", f"{kind} counts for a tenant of kind charity only (CONSENT-5)"))
    if kind == "free_tier" and not rules.free_tier_reason:
        problems.append(
            Problem("sale_kind", "free_tier is switched off: set free_tier_reason on the tenant first (CONSENT-6)")
        )
    if values.get("provenance") == "third_party":
        problems.append(
            Problem("provenance", "basis soft_optin needs the tenant's own sale, not a third party's (CONSENT-5)")
        )


def _check_provenance(values: dict[str, str], times: dict[str, float], rules: Rules, problems: list[Problem]) -> None:
    provenance = values.get("provenance")
    if provenance is None or provenance == "own":
        return
    if provenance != "third_party":
        problems.append(Problem("provenance", "must be own or third_party"))
        return
    if not rules.allow_third_party:
        problems.append(Problem("provenance", "third_party is switched off for this tenant (CONSENT-7)"))
    _need(values, ("supplier", "contract_ref", "third_party_named"), "provenance third_party (CONSENT-7)", problems)
    if values.get("third_party_named", "").lower() in _NO:
        problems.append(
            Problem("third_party_named", "must be yes: the text must name the buyer or its category (CONSENT-7)")
        )
