"""Which mailing the mail of a marketing login is of: the one that its X-Zegel-Tag names, else its list on that day (GDPR-12)."""

from __future__ import annotations

import time
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from relay.mail.message import Message
from relay.mail.words import decode_words

DAY = 86_400
MOST_CHARS = 100
MOST_OCTETS = 2_000  # of a field that says so many


class Mailing(NamedTuple):
    """A mailing of a tenant, by both their names."""

    tenant: str
    name: str


def tag_of(message: Message | None) -> str:
    """What X-Zegel-Tag says, or ""."""
    value = message.get(b"x-zegel-tag") if message is not None else None
    return clean(decode_words(value)) if value and len(value) <= MOST_OCTETS else ""


def clean(text: str) -> str:
    """The name of a mailing as it is kept: up to 100 visible characters, no two spaces together; "" where it can be none.

    With an @ it would name somebody, and names stand in the audit log.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if len(name) > MOST_CHARS or not name.isprintable() or "@" in unicodedata.normalize("NFKC", name):
        return ""
    return name


def name_of(tag: str, listed: str, at: float) -> str:
    """The name of the mailing of a mail that was handed in at a moment: `tag`, or what it is `listed` under and the day, UTC."""
    return tag or f"{listed}-{_day(int(at // DAY))}"


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * DAY))
