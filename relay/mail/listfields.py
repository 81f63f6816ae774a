"""The fields of list mail: List-Unsubscribe read tolerantly and judged strictly (RFC 2369, RFC 8058, UNSUB-2, UNSUB-3)."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from relay.mail.message import Message

ONE_CLICK = b"List-Unsubscribe=One-Click"

_HOST = re.compile(r"https://(?:[^/?#@]*@)?(\[[^\]/?#]*\]|[^:/?#]*)", re.IGNORECASE)
_LABEL = re.compile(r"[^a-z0-9-]+")
_NOT_PUBLIC = ("localhost", "local", "internal", "lan", "home.arpa", "localdomain")


class Pair(NamedTuple):
    """The opt-out fields of a message: `problem` is "" or the cause of a reason of `unsubscribe`; `detail` fills its slot."""

    present: bool
    problem: str = ""
    uris: tuple[str, ...] = ()
    detail: tuple[tuple[str, str], ...] = ()


def read_uris(value: bytes) -> list[str] | None:
    """The URIs of an unfolded List-Unsubscribe value, blanks inside them gone (RFC 2369 section 2); None if unreadable.

    What stands outside the brackets is passed over; an encoded-word is not.
    """
    if b"=?" in value or not value.isascii():
        return None
    uris = []
    for piece in value.decode("ascii").split("<")[1:]:
        uri, bracket, _ = piece.partition(">")
        if not bracket:
            return None
        uris.append("".join(uri.split()))
    return [uri for uri in uris if uri] or None


def opt_out_pair(message: Message) -> Pair:
    """The pair of RFC 8058 section 3.1 in a message, and the first thing that is wrong with it."""
    given = message.get_all(b"list-unsubscribe")
    posts = message.get_all(b"list-unsubscribe-post")
    if not given:
        return Pair(bool(posts), "no_header")
    if len(given) > 1 or len(posts) > 1:
        return Pair(True, "header_twice")
    uris = read_uris(given[0])
    if uris is None:
        return Pair(True, "syntax")
    schemes = [uri.partition(":")[0].lower() for uri in uris]
    if schemes.count("https") != 1 or "http" in schemes:
        return Pair(True, "not_one_https", tuple(uris))
    if not posts or posts[0] != ONE_CLICK:
        return Pair(True, "post_wrong", tuple(uris))
    host = host_of(uris[schemes.index("https")])
    if not is_public(host):
        return Pair(True, "not_public", tuple(uris), (("host", host or "nothing"),))
    return Pair(True, "", tuple(uris))


def host_of(uri: str) -> str:
    """Host of an https URI in lower case, an IPv6 address without its brackets; "" if there is none."""
    match = _HOST.match(uri)
    return match[1].strip("[]").lower().rstrip(".") if match else ""


@lru_cache(maxsize=4096)
def is_public(host: str) -> bool:
    """Whether a host can be one on the internet, by its form alone: nothing is looked up (UNSUB-12)."""
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    labels = host.split(".")
    # 0x7f.1, 2130706433 and the like are addresses to many HTTP clients.
    if all(label.isdigit() or label.startswith("0x") for label in labels):
        return False
    return len(labels) > 1 and not host.endswith(tuple(f".{name}" for name in _NOT_PUBLIC)) and host not in _NOT_PUBLIC


def list_id(purpose: str, domain: str) -> str:
    """Value of a List-Id for a purpose under a domain of the tenant (RFC 2919): the same for every mail of the list."""
    label = _LABEL.sub("-", purpose.lower()).strip("-") or "list"
    return f"<{label}.{domain}>"
