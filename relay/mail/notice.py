"""Short letters to a sender about what the gateway did with his mail (CC-3, CC-18): counts and advice, never addresses."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import NamedTuple

from relay.mail.edits import field
from relay.mail.message import join_head
from relay.mail.received import rfc5322_date
from relay.mail.reply import REASONS
from relay.mail.words import encode_words

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("notice.toml").read_text("utf-8"))


class Stamp(NamedTuple):
    """Who writes and when: `host` as in EHLO, `now` since the epoch, `id` unique."""

    host: str
    now: float
    id: str


def build(reason: str, sender: str, number: int, stamp: Stamp, *, language: str, url: str) -> bytes:
    """The letter for `reason`; `number` is the count that its text names. Quotes the rule's page."""
    texts = _TEXTS.get(reason, _TEXTS["*"])
    tongue = "nl" if language == "nl" else "en"
    rule = REASONS[reason].rule
    words = {
        "number": str(number),
        "link": f"{url.rstrip('/')}/why/{rule}",
        "sentence": REASONS[reason].sentence(tongue),
    }
    body: str = texts[f"body_{tongue}"].format(**words)
    fields = [
        field("From", f"Zegel <postmaster@{stamp.host}>"),
        field("To", f"<{sender}>"),
        field("Subject", encode_words(texts[f"subject_{tongue}"])),
        field("Date", rfc5322_date(int(stamp.now))),
        field("Message-ID", f"<{stamp.id}@{stamp.host}>"),
        field("Auto-Submitted", "auto-generated"),
        field("MIME-Version", "1.0"),
        field("Content-Type", "text/plain; charset=utf-8"),
        field("Content-Transfer-Encoding", "8bit"),
    ]
    return join_head(fields) + body.replace("\n", "\r\n").encode()
