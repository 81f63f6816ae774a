"""Letters to the contact of a tenant: what was refused and held in a day, and the first refusal of a kind (OPS-6)."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import NamedTuple

from relay.mail.domain import with_a_labels
from relay.mail.edits import field
from relay.mail.message import join_head
from relay.mail.received import rfc5322_date
from relay.mail.words import encode_words

WIDTH = 100

_TEXTS = tomllib.loads(resources.files(__package__).joinpath("digest.toml").read_text("utf-8"))


class Reader(NamedTuple):
    """The contact: `name` is the tenant's in commands, `title` how people call it. `language`: nl or en; anything else is en."""

    name: str
    title: str
    contact: str
    language: str

    @property
    def tongue(self) -> str:
        return "nl" if self.language == "nl" else "en"


class Rule(NamedTuple):
    """A rule in the reader's language."""

    id: str
    title: str
    what: str
    why: str
    do: str


class Count(NamedTuple):
    """How often a rule refused and held."""

    rule: Rule
    refused: int
    held: int


class Waiting(NamedTuple):
    """Held mail that nobody has decided on: how many, when the first goes back (epoch seconds), and whether there is `more`."""

    number: int
    until: float
    more: bool = False


class Stamp(NamedTuple):
    """Who writes, when, under which unique id, and where the pages are."""

    host: str
    now: float
    id: str
    url: str


def digest(reader: Reader, counts: Sequence[Count], waiting: Waiting, stamp: Stamp, *, since: float) -> bytes:
    """The digest: `counts` since that time, most first."""
    texts, tongue = _TEXTS["digest"], reader.tongue
    lines = []
    for count in sorted(counts, key=lambda one: (-one.refused - one.held, one.rule.id)):
        told = [
            texts[f"{kind}_{tongue}"].format(count=n)
            for kind, n in (("refused", count.refused), ("held", count.held))
            if n
        ]
        words = {"counts": ", ".join(told), "title": count.rule.title, "rule": count.rule.id, "do": count.rule.do}
        lines.append(_wrapped(texts[f"line_{tongue}"].format(**words, link=_link(stamp, count.rule))))
    said = ""
    if waiting.number:
        kind = "more" if waiting.more else "one" if waiting.number == 1 else "waiting"
        text = texts[f"{kind}_{tongue}"]
        when = _moment(waiting.until)
        said = _wrapped(text.format(number=waiting.number, until=when, host=stamp.host, url=stamp.url))
    body = texts[f"body_{tongue}"].format(
        tenant=reader.title,
        name=reader.name,
        since=_moment(since),
        lines="\n".join(lines),
        waiting=said,
        url=stamp.url,
        host=stamp.host,
    )
    refused, held = sum(one.refused for one in counts), sum(one.held for one in counts)
    subject = texts[f"subject_{tongue}"].format(tenant=reader.title, refused=refused, held=held)
    return _letter(reader, subject, body, stamp)


def first_refusal(reader: Reader, rule: Rule, at: float, stamp: Stamp) -> bytes:
    """Explains a rule to the contact when it refuses mail of the tenant for the first time."""
    texts, tongue = _TEXTS["first"], reader.tongue
    words = {"title": rule.title, "rule": rule.id, "what": rule.what, "why": rule.why, "do": rule.do}
    body = texts[f"body_{tongue}"].format(
        tenant=reader.title, name=reader.name, host=stamp.host, at=_moment(at), link=_link(stamp, rule), **words
    )
    return _letter(reader, texts[f"subject_{tongue}"].format(title=rule.title), _wrapped(body), stamp)


def _letter(reader: Reader, subject: str, body: str, stamp: Stamp) -> bytes:
    fields = [
        field("From", f"Zegel <postmaster@{stamp.host}>"),
        field("To", f"<{with_a_labels(reader.contact)}>"),
        field("Subject", encode_words(subject)),
        field("Date", rfc5322_date(int(stamp.now))),
        field("Message-ID", f"<{stamp.id}@{stamp.host}>"),
        field("Auto-Submitted", "auto-generated"),
        field("MIME-Version", "1.0"),
        field("Content-Type", "text/plain; charset=utf-8"),
        field("Content-Transfer-Encoding", "8bit"),
    ]
    return join_head(fields) + body.replace("\n", "\r\n").encode()


def _link(stamp: Stamp, rule: Rule) -> str:
    return f"{stamp.url}/why/{rule.id}"


def _wrapped(text: str) -> str:
    """Lines that people can read; a link stays whole."""
    return "\n".join(
        textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")
    )


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} (UTC)"
