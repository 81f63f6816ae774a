"""The visible set of a mail (rulebook section 7): whose addresses its readers see, and how many parties they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from relay.mail.address import MAX_DIVIDERS, dividers, narrow, parse_list, party, visible
from relay.mail.edits import ANSWERS, VISIBLE
from relay.mail.message import Message, name_of, value_of

DESTINATIONS = frozenset((b"to", b"cc", b"resent-to", b"resent-cc"))  # of every Resent block (MSG-10)
_ANSWERS = ANSWERS | {b"reply-to"}
_SEEN = VISIBLE | _ANSWERS
HEAVY_DIVIDERS = 1_000


class Unreadable(NamedTuple):
    """A destination field that cannot be read and holds nothing that looks like an address (CC-7), or one too many (MSG-2)."""

    field: str
    reason: str = "recipients.unparsable"


class Audience(NamedTuple):
    """The addresses outside the tenant's own organisation that readers see, and the parties they belong to."""

    addresses: frozenset[str]  # in `narrow` form
    parties: frozenset[str]


def is_heavy(message: Message) -> bool:
    """Reading its address fields takes long enough for other sessions to feel it: read them in a thread first."""
    return len(message.raw) > HEAVY_DIVIDERS and _weight(message)[0] > HEAVY_DIVIDERS


def _weight(message: Message) -> tuple[int, bytes]:
    """Dividers in all address fields, and the field with which they pass MAX_DIVIDERS."""
    total = 0
    for name, raw in message.fields:
        if name in _SEEN:
            total += dividers(raw)
            if total > MAX_DIVIDERS:
                return total, raw
    return total, b""


def visible_addresses(message: Message) -> frozenset[str] | Unreadable:
    """Every address that a reader of the header sees, in `narrow` form; the sender's own are among them. Kept with the message.

    Repeated fields are united, groups opened, encoded-words decoded, names looked into; fields that repeat the recipients
    by some program's habit count as well. Reply-To and its like count when they hold more than one address. Fields that
    that would take longer than some tens of milliseconds to read are too large (MSG-2).
    """
    if message.visible is None:
        too_many = _weight(message)[1] if len(message.raw) > MAX_DIVIDERS else b""
        if too_many:
            field = name_of(too_many).decode("ascii", "replace")
            message.visible = Unreadable(field, "message.head_too_large")
        else:
            message.visible = _read(message)
    return message.visible  # type: ignore[return-value]  # nobody else sets it


def _read(message: Message) -> frozenset[str] | Unreadable:
    found: set[str] = set()
    for name, raw in message.fields:
        if name not in _SEEN:
            continue
        value = value_of(raw)
        if name in _ANSWERS and value.count(b"@") < 2 and b"=?" not in value:
            continue
        seen = visible(value)
        if seen is None:
            if name not in DESTINATIONS:
                continue
            return Unreadable(name_of(raw).decode("ascii", "replace"))
        if name not in _ANSWERS or len(seen) > 1:
            found.update(map(narrow, seen))
    return frozenset(found)


def reply_addresses(message: Message) -> frozenset[str]:
    """What `visible_addresses` takes from Reply-To alone: a change of the recipients leaves these in sight."""
    fields = [pair for pair in message.fields if pair[0] == b"reply-to"]
    seen = visible_addresses(Message(b"", fields, 0)) if fields else frozenset()
    return frozenset() if isinstance(seen, Unreadable) else seen


def own_addresses(message: Message) -> frozenset[str]:
    """The author's own addresses: From and Sender, in `narrow` form."""
    boxes = [parse_list(value_of(raw)) or [] for name, raw in message.fields if name in (b"from", b"sender")]
    return frozenset(narrow(box.address) for listed in boxes for box in listed)


def audience(
    addresses: Collection[str], internal: Collection[str], groups: Mapping[str, str], freemail: Collection[str]
) -> Audience:
    """Those of `addresses` that are of no domain or party in `internal`, and the parties that they are.

    `groups` maps a domain to the name of the party that it belongs to; `freemail` are more domains whose users share
    nothing but their provider (CC-5, CC-6).
    """
    outside: set[str] = set()
    parties: set[str] = set()
    for address in addresses:
        domain = address.rpartition("@")[2]
        of = address if domain in freemail else party(address)
        if of in internal or domain in internal:
            continue
        outside.add(address)
        parties.add(groups.get(domain) or groups.get(of) or of)
    return Audience(frozenset(outside), frozenset(parties))
