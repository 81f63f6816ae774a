"""Letters of our own to people: the confirmation of a double opt-in, with one question and no advertising (CLASS-7), the code
and the link of who looks at his own data (GDPR-5, GDPR-7), how a tenant's mail stands (REP-1, REP-2), and why an account was
suspended (THROTTLE-9).
"""

from __future__ import annotations

import secrets
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from relay.mail.domain import with_a_labels
from relay.mail.edits import field
from relay.mail.envelope import Tenant
from relay.mail.message import join_head
from relay.mail.received import rfc5322_date
from relay.mail.words import encode_phrase, encode_words

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("letters.toml").read_text("utf-8"))


StandingLine = tuple[str, str, str, str]
"""Scope, whose, level and rule."""


class Letter(NamedTuple):
    """A whole message as text with CRLF, and the domain whose key signs it ("" where the tenant has none)."""

    raw: str
    domain: str


def standing_letter(
    tenant: Tenant, lines: Sequence[StandingLine], numbers: tuple[int, int, int], *, host: str, url: str, now: float
) -> str:
    """Tells the contact of a tenant who stands worse than before, why, and what to do (REP-1, REP-2, THROTTLE-8).

    `numbers`: deliveries, bounces and complaints among the last 1,000.
    """
    tongue = "nl" if tenant.language == "nl" else "en"
    texts = _TEXTS["standing"]
    words = texts[f"words_{tongue}"]
    told = "\n".join(f"- {words[scope]} {subject}: {words[level]} ({rule})" for scope, subject, level, rule in lines)
    worst = max((level for _, _, level, _ in lines), key=("warn", "review", "paused").index)
    deliveries, bounces, complaints = numbers
    figures = {"deliveries": deliveries, "bounces": bounces, "complaints": complaints}
    link = f"{url.rstrip('/')}/why/{lines[0][3]}"
    body: str = texts[f"body_{tongue}"].format(
        lines=told, what=texts[f"{worst}_{tongue}"].strip(), link=link, **figures
    )
    return by_the_house(tenant.contact, texts[f"subject_{worst}_{tongue}"], body, host=host, now=now).raw


def confirmation(
    tenant: Tenant, purpose: str, recipient: str, link: str, *, language: str, message_id: str = ""
) -> Letter:
    """Asks `recipient` to confirm that he wants `purpose` of `tenant`; by the Message-ID that the request is kept with."""
    tongue = "nl" if language == "nl" else "en"
    known = tenant.purposes.get(purpose)
    title = ((known.title_nl if tongue == "nl" else known.title_en) if known else "") or purpose
    sender = (known.controller if known else "") or tenant.legal_name or tenant.name
    words = _words("confirm", tongue, title=title, sender=sender, link=link)
    return _by_the_tenant(tenant, sender, recipient, words, message_id=message_id)


def own_data(tenant: Tenant, kind: str, recipient: str, what: Mapping[str, str], *, language: str) -> Letter:
    """To somebody who wants to see his data: a `code` and a `link` (GDPR-5), or the link for his new address, `move` (GDPR-7)."""
    tongue = "nl" if language == "nl" else "en"
    sender = tenant.legal_name or tenant.name
    return _by_the_tenant(tenant, sender, recipient, _words(kind, tongue, sender=sender, **what))


def _words(kind: str, tongue: str, **values: str) -> tuple[str, str]:
    """Subject and body."""
    texts = _TEXTS[kind]
    return texts[f"subject_{tongue}"].format(**values), texts[f"body_{tongue}"].format(**values)


def _by_the_tenant(
    tenant: Tenant, sender: str, recipient: str, words: tuple[str, str], *, message_id: str = ""
) -> Letter:
    domain = next((d.name for d in tenant.domains.values() if d.usable and d.has_key), "")
    local = f"no-answer@{domain}" if domain else with_a_labels(tenant.contact) or "postmaster@localhost"
    fields = [
        field("From", f"{encode_phrase(sender)} <{local}>"),
        field("To", f"<{with_a_labels(recipient)}>"),
        field("Subject", encode_words(words[0])),
        field("Date", rfc5322_date(int(time.time()))),
        field("Message-ID", message_id or f"<{secrets.token_hex(16)}@{domain or 'localhost'}>"),
        field("Auto-Submitted", "auto-generated"),
        field("MIME-Version", "1.0"),
        field("Content-Type", "text/plain; charset=utf-8"),
        field("Content-Transfer-Encoding", "8bit"),
    ]
    return Letter((join_head(fields) + words[1].replace("\n", "\r\n").encode()).decode(), domain)


def suspension(about: Mapping[str, Any], host: str, now: float, *, hours: float) -> Letter:
    """Tells the contact of a tenant that it, or one login of it, was suspended, and why (THROTTLE-9).

    `about` is a row of the owner's `suspension.list`; its mail is kept for `hours`.
    """
    tongue = "nl" if about["language"] == "nl" else "en"
    texts = _TEXTS["suspension"]
    what = texts[f"{about['kind']}_{tongue}"].format(name=about["name"])
    reason = texts[f"reason_{tongue}"].format(reason=about["reason"]) if about["reason"] else ""
    kept = f"{hours:g} {'uur' if tongue == 'nl' else 'hour' if hours == 1 else 'hours'}"
    body = texts[f"body_{tongue}"].format(what=what, reason=reason, hours=kept)
    return by_the_house(about["contact"], texts[f"subject_{tongue}"], body, host=host, now=now)


def sudden(tenant: Tenant, credential: str, host: str, now: float) -> Letter:
    """Tells the contact of a tenant that one login suddenly sends far more, so that its mail is held (THROTTLE-7)."""
    tongue = "nl" if tenant.language == "nl" else "en"
    texts = _TEXTS["sudden"]
    body = texts[f"body_{tongue}"].format(name=credential)
    return by_the_house(tenant.contact, texts[f"subject_{tongue}"], body, host=host, now=now)


def by_the_house(recipient: str, subject: str, body: str, *, host: str, now: float) -> Letter:
    """A letter of the gateway itself."""
    fields = [
        field("From", f"Zegel <postmaster@{host}>"),
        field("To", f"<{with_a_labels(recipient)}>"),
        field("Subject", encode_words(subject)),
        field("Date", rfc5322_date(int(now))),
        field("Message-ID", f"<{secrets.token_hex(16)}@{host}>"),
        field("Auto-Submitted", "auto-generated"),
        field("MIME-Version", "1.0"),
        field("Content-Type", "text/plain; charset=utf-8"),
        field("Content-Transfer-Encoding", "8bit"),
    ]
    return Letter((join_head(fields) + body.replace("\n", "\r\n").encode()).decode(), host)
