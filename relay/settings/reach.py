"""Which addresses webhooks of tenants may go to: the world's, and the networks that the operator allows."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from relay.settings.endpoint import Networks, is_hook

# What no webhook reaches unless the operator allows it: RFC 6890 and the registries that it began.
_BARRED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 only what is given out to the world. IPv4 in disguise (mapped, NAT64) lies outside; Teredo and 6to4 inside.
_WORLD_V6 = ipaddress.IPv6Network("2000::/3")
_BARRED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NUMBER = "(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_NUMBERS = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}")


def is_public(text: str) -> bool:
    """Whether an IP address is one of the world's, of the one kind that can only be itself."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _BARRED_V4)
    return ip.scope_id is None and ip in _WORLD_V6 and not any(ip in network for network in _BARRED_V6)


def may_reach(text: str, scheme: str, allowed: Networks) -> bool:
    """Whether a webhook may go to an IP address. `allowed` are the operator's; only loopback among them may do without TLS."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    # A disguised address is judged as what it is, and so is in no IPv4 network.
    is_allowed = getattr(ip, "ipv4_mapped", None) is None and text in allowed
    if scheme == "http":
        return is_allowed and ip.is_loopback
    return is_allowed or is_public(text)


def leads_inside(url: str, allowed: Networks) -> bool:
    """Whether a webhook's address names, by number or as localhost, a place that none may go to.

    Where a name leads is looked up when something is sent there, for it may lead elsewhere by then.
    """
    if not is_hook(url):
        return False  # it is refused as what it is
    parts = urlsplit(url)
    number = _number(parts.hostname or "")
    return number is not None and not may_reach(number, parts.scheme, allowed)


def _number(host: str) -> str | None:
    """The IP address that a host is, in any spelling that a resolver takes (127.1, 0x7f000001); None for a name."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return "127.0.0.1"
    if _NUMBERS.fullmatch(host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return None
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
