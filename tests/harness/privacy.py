"""What a gateway of the tests said to machines names nobody: its log, access log and metrics hold no address (OPS-2)."""

from __future__ import annotations

from relay.mail.address import scan


def require_no_address(where: str, text: bytes) -> None:
    """Anything that looks like an address: what one test used, and what no test thought of. Raises AssertionError."""
    found = [line for line in text.splitlines() if b"@" in line and scan(line)]
    assert not found, f"{where} holds an address in clear: {found[0][:300]!r}"
