"""The register of processing (GDPR 30), from the settings, the data map and what the owner knows, in one language."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from relay.settings.model import Settings
from relay.settings.processing import EEA, GROUNDS
from relay.settings.whereabouts import is_own, reached

HERE = Path(__file__).parent
LANGUAGES = ("nl", "en")
Found = Mapping[str, Any]


def register(settings: Settings, found: Found, language: str) -> dict[str, Any]:
    """The document; `found` is the answer of the operation `register.show`. Times in it are RFC 3339."""
    texts = tomllib.loads((HERE / "register.toml").read_text("utf-8"))
    words: dict[str, str] = texts[language]
    return {
        "made_at": _time(found["made_at"]),
        "language": language,
        "processor": _processor(settings),
        "controllers": [_controller(one, words) for one in found["controllers"]],
        "data": [*_data(settings, texts, language)],
        "recipients": [*_recipients(settings, found, words)],
        "sub_processors": [_other(one) for one in found["sub_processors"]],
        "sub_processor_notice_days": settings.processing.sub_processor_notice_days,
        "transfers": [*_transfers(settings, found, words)],
        "measures": [*(one[language] for one in texts["measure"]), *settings.processing.measures],
        "missing": [*_missing(settings, found, words)],
    }


def words_of(language: str) -> dict[str, str]:
    """Headings and words of the page and the table."""
    words: dict[str, str] = tomllib.loads((HERE / "register.toml").read_text("utf-8"))[language]
    return words


def _processor(settings: Settings) -> dict[str, Any]:
    own = settings.processing
    return {
        "name": own.operator or None,
        "contact": own.contact or None,
        "officer": own.officer or None,
        "host": settings.server.hostname,
        "region": settings.server.region,
    }


def _controller(one: Found, words: Mapping[str, str]) -> dict[str, Any]:
    streams = ", ".join(words[f"stream_{stream}"] for stream in one["streams"])
    doing = [words["do_relay"].format(streams=streams)] if streams else []
    held = one["instruction"]
    return {
        **{name: one[name] for name in ("name", "legal_name", "contact", "postal_address", "kind", "category")},
        "since": _time(one["since"]),
        "processing": [*doing, words["do_consent"], words["do_reputation"]],
        "purposes": one["purposes"],
        "people": words["people_text"],
        "special": words["special_yes" if one["sensitive_audience"] else "special_no"],
        "domains": one["domains"],
        "webhooks": one["webhooks"],
        "instruction": {**held, "at": _time(held["at"])},
    }


def _data(settings: Settings, texts: Found, language: str) -> Iterator[dict[str, Any]]:
    """What is held of people, kind by kind: from the data map, and what lies outside of the database."""
    data_map = tomllib.loads(resources.files("relay.store").joinpath("datamap.toml").read_text("utf-8"))
    slots = {
        **settings.privacy.model_dump(),
        "give_up_after_hours": settings.delivery.give_up_after_hours,
        "hold_review_hours": settings.limits.hold_review_hours,
    }
    for kind in texts["kind"]:
        classes, bases = _classes(data_map, kind["tables"])
        yield {
            "what": kind[language],
            "basis": [texts["basis"][name][language] for name in bases],
            "period": [texts["retention"][name][language].format(**slots) for name in classes],
            "tables": kind["tables"],
        }
    for place in texts["outside"]:
        yield {
            "what": place[language].format(**slots),
            "basis": [texts["basis"][place["basis"]][language]],
            "period": [place[f"period_{language}"].format(**slots)],
            "tables": [],
        }


def _classes(data_map: Found, tables: list[str]) -> tuple[list[str], list[str]]:
    """Retention classes and bases of these tables; each once, in order."""
    classes: dict[str, None] = {}
    bases: dict[str, None] = {}
    for table in (data_map["tables"][name] for name in tables):
        own = [said for said in table["columns"].values() if isinstance(said, dict)]
        classes |= dict.fromkeys([table["retention"], *(said["retention"] for said in own if "retention" in said)])
        bases |= dict.fromkeys([table["basis"], *(said["basis"] for said in own if "basis" in said)])
    return list(classes), list(bases)


def _recipients(settings: Settings, found: Found, words: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Everybody who gets data: next hops and stores by the settings, what else is declared, recipients, tenants' programs."""
    places, told = settings.processing.places, set()
    for one in reached(settings):
        if one.host in told:
            continue
        told.add(one.host)
        place = places.get(one.host)
        own = words["own"].format(region=settings.server.region) if is_own(settings, one.host) else words["undeclared"]
        yield _recipient(one.host, words[f"what_{one.what}"], place.country if place else own)
    for host, place in places.items():
        if host not in told:
            yield _recipient(host, words["what_other"], place.country)
    yield _recipient(words["to_receivers"], words["to_receivers_what"], words["by_tenant"])
    for tenant in found["controllers"]:
        for hook in tenant["webhooks"]:
            who = words["to_webhook"].format(tenant=tenant["legal_name"], host=hook["host"])
            yield _recipient(who, words["to_webhook_what"], words["by_tenant"])


def _recipient(who: str, what: str, country: str) -> dict[str, Any]:
    return {"who": who, "what": what, "country": country}


def _other(one: Found) -> dict[str, Any]:
    times = ("announced_at", "from_at", "until_at")
    return {**one, **{name: _time(one[name]) if one[name] else None for name in times}}


def _transfers(settings: Settings, found: Found, words: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Whoever outside of the EEA gets data, with the ground: empty unless somebody declared one (GDPR-16)."""
    what = {one.host: words[f"what_{one.what}"] for one in reached(settings)}
    for place in settings.processing.places.values():
        if not place.is_inside:
            use, ground = what.get(place.host, words["what_other"]), f"{place.ground}: {place.why}"
            yield _transfer(words, place.host, use, place.country, ground)
    for one in found["sub_processors"]:
        if one["country"] not in EEA and one["state"] != "ended":
            yield _transfer(words, one["name"], one["service"], one["country"], one["ground"] or "")


def _transfer(words: Mapping[str, str], to: str, what: str, country: str, ground: str) -> dict[str, Any]:
    name, _, which = ground.partition(":")
    law = GROUNDS.get(name.strip(), "").replace("GDPR", words["gdpr"])
    return {"to": to, "what": what, "country": country, "ground": name.strip(), "law": law, "which": which.strip()}


def _missing(settings: Settings, found: Found, words: Mapping[str, str]) -> Iterator[str]:
    """What article 30 asks for and nobody has written down."""
    for name in ("operator", "contact"):
        if not getattr(settings.processing, name):
            yield words[f"missing_{name}"]
    for tenant in found["controllers"]:
        if not tenant["has_legal_name"]:
            yield words["missing_tenant_legal_name"].format(tenant=tenant["name"])
        if not tenant["contact"]:
            yield words["missing_tenant_contact"].format(tenant=tenant["name"])


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
