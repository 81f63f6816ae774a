"""Every reason that Zegel gives, and the one SMTP reply line that goes with it (rulebook section 2).

The sentences live in reasons.toml, because people edit them more often than code. A policy or the session names a
reason code; nothing but this file writes "550".
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple

MAX_LINE_OCTETS = 510  # RFC 5321 section 4.5.3.1.5: 512 with CRLF
MAX_SLOT_OCTETS = 80

_FIELDS = {
    "message-id": "Message-ID",
    "mime-version": "MIME-Version",
    "content-id": "Content-ID",
    "dkim-signature": "DKIM-Signature",
}
_UNITS_NL = {
    "day": ("dag", "dagen"), "hour": ("uur", "uur"), "minute": ("minuut", "minuten"), "second": ("seconde", "seconden"),
}  # fmt: skip
_TERMS = {
    "messages_per_minute": ("berichten per minuut", "messages per minute"),
    "warmup_recipients_per_day": ("ontvangers per dag voor een nieuw account", "recipients per day for a new account"),
    "first_time_recipients_per_day": ("nieuwe ontvangers per dag", "first-time recipients per day"),
    "recipients_per_day": ("ontvangers per dag", "recipients per day"),
    "credential": ("inlog", "login"),
    "tenant": ("organisatie", "organisation"),
    "client": ("computer", "computer"),
    "domain": ("afzenderdomein", "sender domain"),
    "stream": ("soort mail", "kind of mail"),
}  # limits and their scopes, in Dutch and in English
_ONE = {
    "messages_per_minute": ("bericht per minuut", "message per minute"),
    "warmup_recipients_per_day": ("ontvanger per dag voor een nieuw account", "recipient per day for a new account"),
    "first_time_recipients_per_day": ("nieuwe ontvanger per dag", "first-time recipient per day"),
    "recipients_per_day": ("ontvanger per dag", "recipient per day"),
}  # limits of which one is `allowed`

_SLOT = re.compile(r"\{([a-z_]+)\}")
_UNSAFE = re.compile(r"[^ -~]+")
_CODE = re.compile(r"(?:\*|[a-z_]+)\.[a-z0-9_]+")


class Reason(NamedTuple):
    """One entry of reasons.toml. `basic` and `enhanced` are the SMTP codes; 250 marks what lets the mail go on."""

    code: str
    rule: str
    basic: str
    enhanced: str
    nl: str
    en: str

    def sentence(self, language: str, detail: Iterable[tuple[str, str]] = ()) -> str:
        """The sentence in "nl" or "en" with its slots filled, on one line. A slot without a value becomes "?"."""
        return self._filled(self.nl if language == "nl" else self.en, language, detail)

    def cause(self, language: str, detail: Iterable[tuple[str, str]] = ()) -> str:
        """What happened, without what to do: the first sentence alone, as for mail whose waiting is over."""
        return self._filled((self.nl if language == "nl" else self.en).partition(". ")[0], language, detail)

    def _filled(self, text: str, language: str, detail: Iterable[tuple[str, str]]) -> str:
        tongue, told = "nl" if language == "nl" else "en", dict(detail)
        if told.get("allowed") == "1" and told.get("limit") in _ONE:
            told["limit"] = _ONE[told["limit"]][tongue == "en"]
        slots = {name: to_ascii(slot_text(name, value, tongue))[:MAX_SLOT_OCTETS] for name, value in told.items()}
        return _SLOT.sub(lambda match: slots.get(match[1]) or "?", text)


class _Reasons(dict[str, Reason]):
    """Reasons by code; "*.cause" answers for every policy that has no entry of its own."""

    def __missing__(self, code: str) -> Reason:
        policy, dot, cause = code.partition(".")
        general = self.get(f"*.{cause}") if dot and policy else None
        if general is None:
            raise KeyError(code)
        reason = self[code] = general._replace(code=code)
        return reason


def _load() -> _Reasons:
    table = tomllib.loads(files("relay.mail").joinpath("reasons.toml").read_text("utf-8"))
    reasons = _Reasons()
    for code, entry in table.items():
        reason = Reason(code, **entry)
        if not (_CODE.fullmatch(code) and reason.nl.isprintable() and reason.en.isascii()):
            raise ValueError(f"reasons.toml: {code}")
        reasons[code] = reason
    return reasons


REASONS = _load()
"""Every reason by its code; a code that is not there raises KeyError."""


def slot_text(name: str, value: str, language: str) -> str:
    """A value of a verdict's detail as a person reads it in "nl" or "en"."""
    if name in ("seconds", "minutes") and value.isdecimal():
        return in_words(int(value) * (60 if name == "minutes" else 1), language)
    if name == "field" and value == value.lower():
        return _FIELDS.get(value) or value.title()
    return _TERMS[value][language == "en"] if name in ("limit", "scope") and value in _TERMS else value


def in_words(seconds: int, language: str) -> str:
    """A length of time in its largest fitting unit, rounded up: 84971 is 24 hours."""
    unit, size = next(
        (unit, size) for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
        if seconds >= 2 * size or size == 1 or (seconds == size and size < 86_400)
    )  # fmt: skip
    number = -(-seconds // size)
    if language == "nl":
        one, many = _UNITS_NL[unit]
        return f"{number} {one if number == 1 else many}"
    return f"{number} {unit}{'' if number == 1 else 's'}"


def rule_of(code: str) -> str:
    """Rule id behind a reason code; "" for no reason."""
    return REASONS[code].rule if code else ""


def to_ascii(text: str) -> str:
    """Text for a reply line: accents dropped, everything else outside printable ASCII as "?"."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _UNSAFE.sub("?", text)


def reply_line(code: str, detail: Iterable[tuple[str, str]], language: str, public_url: str) -> str:
    """The reply for a reason: `550 5.7.1 [CONSENT-1] sentence; see <public_url>/why/CONSENT-1`.

    ASCII, one line, at most 510 octets without CRLF; a sentence that is too long is cut and the link kept.
    `language` is "nl" or "en". Raises KeyError for a code that is not in reasons.toml.
    """
    reason = REASONS[code]
    head = f"{reason.basic} {reason.enhanced} [{reason.rule}] "
    tail = f"; {'zie' if language == 'nl' else 'see'} {to_ascii(public_url).rstrip('/')}/why/{reason.rule}"
    room = MAX_LINE_OCTETS - len(head) - len(tail)
    return head + to_ascii(reason.sentence(language, detail))[: max(room, 0)] + tail
