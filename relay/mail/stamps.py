"""The Message-ID of mail that came without one (MSG-4, RFC 6409 section 8.3)."""

from __future__ import annotations

from hashlib import blake2b

from relay.mail.message import Message

_HASHED_OCTETS = 64 * 1024


def message_id(message: Message, now: float, domain: str) -> str:
    """Value of a Message-ID field in `domain`: the same for the same octets at the same time, and for nothing else.

    No randomness, so that a verdict can be repeated (PIPE-4).
    """
    digest = blake2b(message.raw[:_HASHED_OCTETS], digest_size=16)
    digest.update(b"%d %r" % (message.size, now))
    return f"<{digest.hexdigest()}@{domain}>"
