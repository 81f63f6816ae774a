"""The confirmation mail of a double opt-in: one question, one link, no advertising (CLASS-7)."""

from __future__ import annotations

import secrets
import time
import tomllib
from importlib import resources
from typing import NamedTuple

from relay.mail.domain import with_a_labels
from relay.mail.edits import field
from relay.mail.envelope import Tenant
from relay.mail.message import join_head
from relay.mail.received import rfc5322_date
from relay.mail.words import encode_words

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("letters.toml").read_text("utf-8"))


class Letter(NamedTuple):
    """A whole message as text with CRLF, and the domain whose key signs it ("" where the tenant has none)."""

    raw: str
    domain: str


def confirmation(tenant: Tenant, purpose: str, recipient: str, link: str, *, language: str) -> Letter:
    """Asks `recipient` to confirm that he wants `purpose` of `tenant`."""
    tongue = "nl" if language == "nl" else "en"
    texts = _TEXTS["confirm"]
    known = tenant.purposes.get(purpose)
    title = ((known.title_nl if tongue == "nl" else known.title_en) if known else "") or purpose
    sender = (known.controller if known else "") or tenant.legal_name or tenant.name
    domain = next((d.name for d in tenant.domains.values() if d.usable and d.has_key), "")
    local = f"no-answer@{domain}" if domain else with_a_labels(tenant.contact) or "postmaster@localhost"
    body = texts[f"body_{tongue}"].format(title=title, sender=sender, link=link)
    fields = [
        field("From", f"{encode_words(sender)} <{local}>"),
        field("To", f"<{with_a_labels(recipient)}>"),
        field("Subject", encode_words(texts[f"subject_{tongue}"].format(title=title))),
        field("Date", rfc5322_date(int(time.time()))),
        field("Message-ID", f"<{secrets.token_hex(16)}@{domain or 'localhost'}>"),
        field("Auto-Submitted", "auto-generated"),
        field("MIME-Version", "1.0"),
        field("Content-Type", "text/plain; charset=utf-8"),
        field("Content-Transfer-Encoding", "8bit"),
    ]
    return Letter((join_head(fields) + body.replace("\n", "\r\n").encode()).decode(), domain)
