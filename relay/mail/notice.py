"""Short letters to a sender about what became of his mail (CC-3, CC-10, CC-18): counts and advice, never recipients."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from importlib import resources
from typing import NamedTuple

from relay.mail.domain import with_a_labels
from relay.mail.dsn import MESSAGE_ID
from relay.mail.edits import field
from relay.mail.message import Message, join_head
from relay.mail.received import rfc5322_date
from relay.mail.reply import REASONS
from relay.mail.words import decode_words, encode_words

REFUSE = "refuse"  # what the sender of a held mail may always choose
MAX_SUBJECT = 200  # characters of it that a letter repeats

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("notice.toml").read_text("utf-8"))


class Stamp(NamedTuple):
    """Who writes and when: `host` as in EHLO, `now` since the epoch, `id` unique."""

    host: str
    now: float
    id: str


class About(NamedTuple):
    """The mail that a letter is about, taken at `at`. `number` fills the text; `contact` is the address of who may choose, or "".

    `until` is when its waiting ends; 0.0 where it does not wait. `detail` fills the sentence. `link` is where its sender may
    choose, and `offers` what, besides not sending it (CC-10).
    """

    queue_id: str
    at: float
    message: Message | None
    number: int
    until: float = 0.0
    contact: str = ""
    detail: tuple[tuple[str, str], ...] = ()
    link: str = ""
    offers: tuple[str, ...] = ()


def build(reason: str, sender: str, about: About, stamp: Stamp, *, language: str, url: str) -> bytes:
    """The letter for `reason`. Names the mail by its subject, unless data in it may have leaked, and quotes the rule's page."""
    held = "held.ask" if about.offers else "held" if reason.startswith("recipients.") else "held.other"
    texts = _TEXTS[held if about.until else reason if reason in _TEXTS else "*"]
    tongue = "nl" if language == "nl" else "en"
    rule = REASONS[reason].rule
    words = {
        "number": str(about.number),
        "link": f"{url.rstrip('/')}/why/{rule}",
        "sentence": REASONS[reason].sentence(
            tongue, [(name, str(about.number)) for name in ("addresses", "count")] + [*about.detail]
        ),
        "at": _moment(about.at),
        # What a letter about leaks is about may stand in the subject itself (DLP-10).
        "subject": _TEXTS["kept_subject"][tongue]
        if reason.startswith("leaks.")
        else _subject(about.message) or _TEXTS["no_subject"][tongue],
        "until": _moment(about.until),
        "contact": f" ({about.contact})" if about.contact else "",
        "id": about.queue_id,
        "choices": "\n\n".join([_choice(way, about.link, tongue) for way in (*about.offers, REFUSE)]),
        "withdraw": _choice(REFUSE, about.link, tongue),
    }
    body: str = texts[f"body_{tongue}"].format(**words)
    fields = [
        field("From", f"Zegel <postmaster@{stamp.host}>"),
        field("To", f"<{with_a_labels(sender)}>"),
        field("Subject", encode_words(texts[f"subject_{tongue}"])),
        field("Date", rfc5322_date(int(stamp.now))),
        field("Message-ID", f"<{stamp.id}@{stamp.host}>"),
        field("Auto-Submitted", "auto-generated"),
        field("MIME-Version", "1.0"),
        field("Content-Type", "text/plain; charset=utf-8"),
        field("Content-Transfer-Encoding", "8bit"),
    ]
    reference = about.message.get(b"message-id") if about.message else None
    if reference is not None and MESSAGE_ID.fullmatch(reference):
        fields.insert(5, field("In-Reply-To", reference.decode("ascii")))
    return join_head(fields) + body.replace("\n", "\r\n").encode("utf-8", "replace")


def _choice(way: str, link: str, tongue: str) -> str:
    """One thing that the sender may choose, and the link for it. The link alone changes nothing: its page has a button."""
    return f"{_TEXTS['choice'][f'{way}_{tongue}']}\n{link}?choice={way}&lang={tongue}"


def is_automatic(message: Message) -> bool:
    """Nobody wrote it by hand, so nobody reads a letter about it (RFC 3834 section 2): it may start a loop."""
    return (message.get(b"auto-submitted") or b"").strip().lower().startswith(b"auto-")


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} (UTC)"


def _subject(message: Message | None) -> str:
    value = message.get(b"subject") if message else None
    text = decode_words(value)[:MAX_SUBJECT].strip() if value else ""
    return "".join(char if char.isprintable() else " " for char in text)
