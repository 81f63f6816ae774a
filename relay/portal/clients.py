"""Who is at the other end of a request: the address to count by, and whether it is this machine itself."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from fastapi import Request
from starlette.exceptions import HTTPException

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def client_address(request: Request, trusted: Sequence[str] = ()) -> str:
    """The client's address in canonical form; "unknown" where there is none.

    A proxy on this machine or in a `trusted` network is believed about whom it serves (last entry of
    X-Forwarded-For); nobody else is.
    """
    peer = _address(request.client.host if request.client else "")
    if peer is None:
        return "unknown"
    if peer.is_loopback or any(peer in ip_network(network) for network in trusted):
        named = _address(request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip())
        return str(named or peer)
    return str(peer)


def is_local(request: Request) -> bool:
    """The request was made on this machine and not passed on for somebody else."""
    peer = _address(request.client.host if request.client else "")
    return peer is not None and peer.is_loopback and not any(name in request.headers for name in FORWARDED)


def require_local(request: Request) -> None:
    """For routes that are there for this machine only: for all others there is no such page."""
    if not is_local(request):
        raise HTTPException(404)


def require_own_name(request: Request, public_url: str) -> None:
    """For pages without a login: `require_local`, and asked for under a name of ours.

    A page elsewhere whose name leads to this machine (DNS rebinding) would otherwise read them in a browser here.
    """
    require_local(request)
    named = request.url.hostname or ""
    address = _address(named)
    if named not in ("localhost", urlsplit(public_url).hostname) and not (address and address.is_loopback):
        raise HTTPException(404)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
