"""Domains: A-label form, organisational domain and mailbox providers, from data shipped with the package (CC-5, CC-6)."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import idna

if TYPE_CHECKING:
    from tldextract import TLDExtract


@lru_cache(maxsize=65_536)
def to_ascii(domain: str) -> str | None:
    """Lower-case A-label form (RFC 5891, with the UTS 46 mapping); None if there is none."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower() if len(domain) <= 255 else None
    except (idna.IDNAError, UnicodeError):
        return None


def with_a_labels(address: str) -> str:
    """`address` in A-labels where that makes all of it ASCII, so that a host without SMTPUTF8 takes it; else as given."""
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    name = to_ascii(domain) if local.isascii() else None
    return f"{local}{at}{name}" if at and name else address


@cache
def _extractor() -> TLDExtract:
    # Imported late: it pulls in an HTTP client, 0.1 s that most commands never need. No URL and no cache folder: it
    # reads the list in its own package and nothing else.
    from tldextract import TLDExtract

    return TLDExtract(cache_dir=None, suffix_list_urls=(), include_psl_private_domains=True)


@lru_cache(maxsize=65_536)
def org_domain(domain: str) -> str:
    """Organisational domain (RFC 7489 section 3.2) by the public suffix list, private section included.

    `domain` is in A-label form. A public suffix, a single label or an address literal is its own answer. The first
    call in a process loads the list, about 0.1 s: call it once at start.
    """
    name = domain.lower().rstrip(".")
    if name.startswith("["):
        return name
    found = _extractor().extract_str(name)
    if found.suffix:
        return f"{found.domain}.{found.suffix}" if found.domain else name
    return ".".join(name.rsplit(".", 2)[-2:])  # a suffix that the list lacks is one label (its rule "*")


@lru_cache(maxsize=4_096)
def is_public_suffix(domain: str) -> bool:
    """Whether everybody may register names under `domain` (A-label form), as under co.uk; by the same list."""
    found = _extractor().extract_str(domain.lower().rstrip("."))
    return bool(found.suffix) and not found.domain


def _load() -> frozenset[str]:
    text = files("relay.mail").joinpath("freemail.txt").read_text("utf-8")
    return frozenset(name for line in text.splitlines() if (name := line.partition("#")[0].strip()))


FREEMAIL = _load()
"""Domains whose users share nothing but their provider. `name.*` stands for `name` under com or a country."""


def _load_typos() -> dict[str, str]:
    text = files("relay.mail").joinpath("typo_domains.txt").read_text("utf-8")
    pairs = (line.partition("#")[0].split() for line in text.splitlines())
    return {pair[0]: pair[1] for pair in pairs if pair}


_TYPOS = _load_typos()


def meant_by(address: str) -> str:
    """The provider's domain that was meant where the domain of `address` is a known typing error for it; else "" (REP-4)."""
    return _TYPOS.get(address.rpartition("@")[2].rstrip(".").lower(), "")


@lru_cache(maxsize=65_536)
def is_freemail(domain: str) -> bool:
    """Whether `domain` (A-label form), or the domain it is under, is a mailbox provider's (CC-6, ID-3)."""
    if domain in FREEMAIL:
        return True
    top = org_domain(domain)
    if top in FREEMAIL:
        return True
    name, _, suffix = top.partition(".")
    return f"{name}.*" in FREEMAIL and (suffix == "com" or len(suffix.rpartition(".")[2]) == 2)
