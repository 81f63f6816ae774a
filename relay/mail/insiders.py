"""Who belongs to a tenant: colleagues are no outsiders (CC-5, DLP-9)."""

from __future__ import annotations

from collections.abc import Collection

from relay.mail.address import narrow, party
from relay.mail.envelope import Tenant


def internal_names(tenant: Tenant) -> frozenset[str]:
    """The domains of a tenant, and the parties that they are: who is there is no outsider (CC-5)."""
    usable = [domain.name for domain in tenant.domains.values() if domain.usable]
    return frozenset((*usable, *(party(f"x@{name}") for name in usable)))


def is_internal(address: str, names: Collection[str]) -> bool:
    """Whether an address belongs to one of `internal_names`."""
    return narrow(address).rpartition("@")[2] in names or party(address) in names
