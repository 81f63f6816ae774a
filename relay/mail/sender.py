"""Whose mail it is: the domain of header From, which the signature must match (DKIM-1)."""

from __future__ import annotations

from relay.mail.address import parse_list, parse_path
from relay.mail.message import Message


def from_domain(message: Message) -> str:
    """Domain of the first From address (lower-case A-label), or "" where there is none that can be read."""
    if message.author_domain is None:
        message.author_domain = _read(message)
    return message.author_domain


def _read(message: Message) -> str:
    value = message.get(b"from")
    boxes = parse_list(value) if value else None
    if not boxes:
        return ""
    address = parse_path(boxes[0].address)
    return "" if isinstance(address, str) else address.domain
