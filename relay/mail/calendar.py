"""Who is named in the invitations of a mail (CC-13): guests stand in the content, where no change of the head hides them.

Read as text, not as a calendar: a line of guests that no calendar program could use still shows its addresses to whoever
opens it (RFC 5545 sections 3.1, 3.2, 3.8.4.1).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from relay.mail.address import Address, parse_path
from relay.mail.message import Malformed, Message
from relay.mail.mime import body_of, structure

TYPES = frozenset(("text/calendar", "application/ics"))
MAX_OCTETS = 1024 * 1024  # read of all invitations of one mail together
MAX_GUESTS = 2_000  # looked at; more would change no answer
MAX_TOLD = 32 * 1024  # characters of an invitation that are read for what it says
MAX_VALUE = 2_000

_FOLD = re.compile(rb"\r?\n[ \t]")
_FOLD_TEXT = re.compile(r"\r?\n[ \t]")
_EVENTS = frozenset(("VEVENT", "VTODO"))
_TIMES = ("DTSTART", "DTEND", "DUE")
_SAID = frozenset(("SUMMARY", "LOCATION", "DESCRIPTION", *_TIMES))
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d\d(Z)?)?")
_ESCAPED = re.compile(r"\\(.)")  # RFC 5545 section 3.3.11
_GUEST = re.compile(
    rb"^(?:ATTENDEE|ORGANIZER)(?:\r?\n[ \t])?[;:][^\r\n]*+(?>(?:\r?\n[ \t][^\r\n]*+)*)", re.IGNORECASE | re.MULTILINE
)
# A guest is a mailto URI; parameters such as EMAIL, MEMBER and DELEGATED-TO name more people, as URIs or bare.
_ADDRESS = re.compile(rb"(?<![^\s<>,;:()\"=?@])[^\s<>,;:()\"=?@]++@[^\s<>,;:()\"=?@]++")


def guests(message: Message) -> frozenset[str]:
    """Every address that guest lists of its invitations show, in `narrow` form; the organiser's own is among them."""
    made = structure(message)
    if isinstance(made, Malformed):
        return frozenset()
    texts: list[bytes] = []
    left = MAX_OCTETS
    for part in made.parts:
        if part.content_type in TYPES and left > 0:
            texts.append(body_of(part, message.raw, left))
            left -= len(texts[-1])
    named = (address for text in texts for line in _GUEST.finditer(text) for address in _addresses(line[0]))
    return frozenset(itertools.islice(named, MAX_GUESTS))


def told(text: str) -> str:
    """What an invitation says, a line each: what, when, where, and what is written about it; "" where it says nothing."""
    found: dict[str, str] = {}
    inside = False
    for line in _FOLD_TEXT.sub("", text[:MAX_TOLD]).splitlines():
        head, _, value = line.partition(":")
        name = head.partition(";")[0].upper()
        inside = inside or (name == "BEGIN" and value.strip().upper() in _EVENTS)
        if inside and name in _SAID and name not in found:
            zone = next((each[5:] for each in head.split(";")[1:] if each[:5].upper() == "TZID="), "")
            found[name] = _moment(value.strip(), zone) if name in _TIMES else _plain(value)
        if inside and name == "END" and value.strip().upper() in _EVENTS:
            break
    times = " – ".join(found[name] for name in _TIMES if found.get(name))
    lines = (found.get("SUMMARY", ""), times, found.get("LOCATION", ""), found.get("DESCRIPTION", ""))
    return "\n".join(line for line in lines if line)


def _moment(value: str, zone: str) -> str:
    """A date or time as people write it; as it is where it is none."""
    match = _TIME.fullmatch(value)
    if match is None:
        return value[:MAX_VALUE]
    year, month, day, hour, minute, utc = match.groups()
    clock = f" {hour}:{minute}" if hour else ""
    return f"{year}-{month}-{day}{clock}" + (" UTC" if utc else f" ({zone.strip(chr(34))})" if zone and hour else "")


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)[:MAX_VALUE].strip()


def _addresses(line: bytes) -> Iterator[str]:
    text = _FOLD.sub(b"", line)
    for match in _ADDRESS.finditer(unquote_to_bytes(text) if b"%" in text else text):
        parsed = parse_path(match[0].decode("utf-8", "replace"))
        if isinstance(parsed, Address):
            yield parsed.key
