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

_FOLD = re.compile(rb"\r?\n[ \t]")
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


def _addresses(line: bytes) -> Iterator[str]:
    text = _FOLD.sub(b"", line)
    for match in _ADDRESS.finditer(unquote_to_bytes(text) if b"%" in text else text):
        parsed = parse_path(match[0].decode("utf-8", "replace"))
        if isinstance(parsed, Address):
            yield parsed.key
