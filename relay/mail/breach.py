"""Texts about incidents: drafts of the notices to tenant, authority and people (GDPR-20 to GDPR-22, LAW-5), and the letter that
asks a wrong recipient to delete (GDPR-23).

A draft is filled from what is known; what nobody has written down stays as a gap between brackets, and is listed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any, NamedTuple

from relay.mail.letters import Letter, by_the_house

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("breach.toml").read_text("utf-8"))
READERS = ("tenant", "authority", "people")
_BLANK = re.compile(r"\n{3,}")  # where a line had nothing to say


class Draft(NamedTuple):
    """A notice that a person reads, completes and sends. `missing` are the gaps in it."""

    subject: str
    text: str
    missing: tuple[str, ...]


def draft(reader: str, incident: Mapping[str, Any], *, language: str, contact: str = "") -> Draft:
    """The notice about `incident`, as `incident.show` tells of it, to one of READERS.

    `contact` is who answers questions at the operator. No address of anybody concerned is in it.
    """
    tongue = "nl" if language == "nl" else "en"
    texts, words = _TEXTS[reader], _TEXTS["words"][tongue]
    facts, controller = incident["facts"], incident["controller"]
    gaps: list[str] = []

    def known(name: str, value: object) -> str:
        if value not in (None, ""):
            return str(value)
        gaps.append(words["gap_" + name])
        return f"[{words['gap_' + name]}]"

    about_people = facts.get("people") or incident["addresses"] or None
    late = incident["authority_due_at"] < (incident["authority_told_at"] or 0) or "authority" in incident["late"]
    values = {
        "ref": incident["ref"],
        "kind": words["kind_" + incident["kind"]],
        "detected": moment(incident["detected_at"]),
        "times": str(incident["times"]),
        "last": moment(incident["last_at"]),
        "summary": facts.get("summary") or words["seen_" + incident["kind"]].format(**_seen(incident)),
        "categories": known("categories", facts.get("categories")),
        "people": known("people", about_people),
        "records": known("records", facts.get("records")),
        "consequences": known("consequences", facts.get("consequences")),
        "measures": known("measures", facts.get("measures")),
        "risk": known("risk", words.get(f"risk_{incident['risk']}")),
        "why": facts.get("why", ""),
        "controller": controller["name"],
        "postal": known("postal", controller["postal_address"]),
        "controller_contact": known("controller_contact", controller["contact"]),
        "contact": known("contact", contact) if reader != "people" else contact,
        "deadline": moment(incident["authority_due_at"]),
        "late": words["late"].format(why=known("late", _late(incident))) if late and reader == "authority" else "",
        "unintelligible": words["unintelligible" if incident["unintelligible"] else "intelligible"],
        "deletion": _deletion(incident, words),
    }
    text: str = texts[f"body_{tongue}"].format(**values)
    subject: str = texts[f"subject_{tongue}"].format(**values)
    text = _BLANK.sub("\n\n", "\n".join(line.rstrip() for line in text.strip().splitlines())) + "\n"
    return Draft(subject, text, tuple(gap for gap in dict.fromkeys(gaps) if f"[{gap}]" in text))


def deletion_letter(about: Mapping[str, Any], link: str, host: str, now: float) -> Letter:
    """Asks who got something that was not for him to delete it and to confirm that, the first time or as a reminder.

    `about` is a row of the owner's `deletion.letters`.
    """
    tongue = "nl" if about["language"] == "nl" else "en"
    texts = _TEXTS["deletion"]
    again = texts[f"again_{tongue}"] if about["mails_sent"] else ""
    body = texts[f"body_{tongue}"].format(what=about["what"], link=link, sender=about["sender"], again=again)
    return by_the_house(about["recipient"], texts[f"subject_{tongue}"], body, host=host, now=now)


def moment(seconds: float) -> str:
    """A time for people, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _seen(incident: Mapping[str, Any]) -> dict[str, str]:
    facts = incident["facts"]
    return {
        "login": facts.get("credential") or facts.get("by") or "?",
        "shown": str(facts.get("shown") or "?"),
        "times": str(incident["times"]),
        "reason": facts.get("reason") or "?",
    }


def _late(incident: Mapping[str, Any]) -> str:
    """What was said of why the authority was told late."""
    steps = [step for step in incident["steps"] if step["step"] == "notified" and step.get("to") == "authority"]
    return next((step["late"] for step in steps if step.get("late")), "")


def _deletion(incident: Mapping[str, Any], words: Mapping[str, str]) -> str:
    asked = incident["deletion"]
    if not asked:
        return ""
    confirmed = sum(bool(request["confirmed_at"]) for request in asked)
    return words["deletion"].format(asked=len(asked), confirmed=confirmed)
