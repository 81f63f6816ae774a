"""Addresses: the only parser of them, for the envelope (RFC 5321) and for header fields (RFC 5322).

Theory of operation. Nearly every address is plain ASCII, so each entry point tries one compiled expression first
and falls to the full grammar after. The header grammar is read as mail programs read it, not as the standard writes it
(CC-7): whatever a reader would see as an address must come out here, or the list counts as unparsable and `scan`
decides. All of it is linear in the input; expressions that could go back use possessive repeats.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from relay.mail.addresslist import ATEXT, DOT_ATOM, Mailbox, comments, parse, quote
from relay.mail.domain import FREEMAIL, is_freemail, org_domain, to_ascii
from relay.mail.words import decode, decode_words, words_apart

__all__ = [
    "FREEMAIL",
    "Address",
    "Mailbox",
    "inbox",
    "is_freemail",
    "narrow",
    "org_domain",
    "parse_list",
    "parse_path",
    "party",
    "scan",
    "visible",
    "wide",
]

MAX_PATH, MAX_LOCAL, MAX_DOMAIN = 254, 64, 255  # octets: RFC 5321 section 4.5.3.1, path without its brackets
MAX_LIST_BYTES = 256 * 1024  # a longer list is left to `scan`; the header section is no longer than that (MSG-2)
# What divides a list into its parts, for who reads it: each costs about 2 microseconds.
DIVIDERS = b'<>:;@,()"[]\\ \t?'
MAX_DIVIDERS = 10_000  # about 1,200 addresses with names, 3,300 without; more are left to `scan` too
MAX_SCANNED = 50_000  # distinct addresses that `scan` returns at most

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"  # the underscore is no host name, yet mail domains have it
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"

_PLAIN = re.compile(rf"([{ATEXT}]++(?>(?:\.[{ATEXT}]++)*))@({_DOMAIN})")
_HOST = re.compile(_DOMAIN)
_QUOTED = re.compile(r'"((?>(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*))"')
_ROUTE = re.compile(rf"@{_DOMAIN}(?:,@{_DOMAIN})*:")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Address(NamedTuple):
    """One mailbox of the envelope. `local` quoted only where it must be; `domain` a lower-case A-label name or literal."""

    local: str
    domain: str
    text: str  # as given, and delivered so (CONSENT-16)

    @property
    def mailbox(self) -> str:
        """The one mailbox that is meant, whatever the case of the domain and its form: who names it twice gets one copy."""
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """What the address is compared by: the same as `narrow(text)`."""
        return f"{_fold(self.local)}@{self.domain}"


def parse_path(text: str) -> Address | str:
    """The Mailbox of RFC 5321 section 4.1.2 in `text` (no angle brackets), or a sentence on what is wrong with it.

    UTF-8 (RFC 6531), quoted local parts and address literals are read; a source route is dropped (appendix C).
    The sentence never repeats the input.
    """
    if len(text) <= MAX_PATH:
        match = _PLAIN.fullmatch(text)
        if match is not None:
            local, domain = match.groups()
            if len(local) <= MAX_LOCAL and len(domain) < 64:  # so no label is over 63
                return Address(local, domain.lower(), text)
    return _parse_path(text)


def _parse_path(text: str) -> Address | str:
    if len(text) > 4 * MAX_DOMAIN:
        return "the address is longer than 254 octets"
    route = _ROUTE.match(text)
    if route is not None:
        text = text[route.end() :]
    if not text:
        return "the address is empty"
    local, at, name = text.rpartition("@")
    if not at or not name:
        return "the address has no domain"
    if not local:
        return "the address has no part before the @"
    if not all(map(_is_visible, text)):
        return "the address holds a blank, a control character or one that nobody sees: type it anew"
    local = _local(local)
    if not local:
        return "the part before the @ is not valid"
    if len(local.encode()) > MAX_LOCAL:
        return "the part before the @ is longer than 64 octets"
    domain = _domain(name)
    if not domain:
        return "the domain is not a valid name"
    if len(text.encode()) > MAX_PATH or len(local) + len(domain) >= MAX_PATH:
        return "the address is longer than 254 octets"
    return Address(local, domain, text)


def _is_visible(character: str) -> bool:
    if " " <= character <= "~":
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")


def _local(text: str) -> str:
    """Local part with quotes and escapes only where they are needed; "" if it is none."""
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return quote(_ESCAPE.sub(r"\1", quoted[1]))
    return text if DOT_ATOM.fullmatch(text) else ""


def _domain(text: str) -> str:
    """Lower-case A-label name or canonical address literal; "" if it is none."""
    if text.startswith("["):
        return _literal(text)
    name = to_ascii(text)
    if name is None or len(name) > MAX_DOMAIN or not _HOST.fullmatch(name):
        return ""
    return name if max(map(len, name.split("."))) < 64 else ""


def _literal(text: str) -> str:
    if not (text.startswith("[") and text.endswith("]")):
        return ""
    content = text[1:-1]
    try:
        if content[:5].lower() == "ipv6:":
            return f"[ipv6:{ipaddress.IPv6Address(content[5:])}]"
        return f"[{ipaddress.IPv4Address(content)}]"
    except ValueError:
        return ""


def narrow(address: str) -> str:
    """The form that consent and bounces are kept and compared under (CONSENT-16): no plus folding, no dot folding.

    Never fails: what is no address comes back in lower case.
    """
    if address.isascii() and '"' not in address and not address.endswith((".", "]")):
        return address.lower()
    return _narrow(address)


@lru_cache(maxsize=16_384)
def _narrow(address: str) -> str:
    local, at, domain = unicodedata.normalize("NFC", address).rpartition("@")
    if not at:
        return _fold(domain)
    name = _literal(domain) or domain.rstrip(".")
    return f"{_fold(_local(local) or local)}@{to_ascii(name) or _fold(name)}"


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def wide(address: str) -> str:
    """The form that objections, restrictions and erasures are kept under: `narrow` without the +part (CONSENT-16)."""
    result = narrow(address)
    if "+" not in result:
        return result
    local, at, domain = result.rpartition("@")
    base = local.partition("+")[0]
    return f"{base}{at}{domain}" if base and not base.startswith('"') else result


_DOTLESS = frozenset(("gmail.com", "googlemail.com"))  # one provider, which reads no dot in a local part


def inbox(address: str) -> str:
    """The mailbox that mail to an address comes into, as far as its provider is known: for counting what is mailed there.

    Never to compare people by: CONSENT-16 knows no dot folding.
    """
    result = wide(address)
    local, at, domain = result.rpartition("@")
    if domain not in _DOTLESS or local.startswith('"'):
        return result
    return f"{local.replace('.', '')}{at}gmail.com"


@lru_cache(maxsize=65_536)
def party(address: str) -> str:
    """Who may see whose address (CC-5): the organisational domain, or for mailbox providers the address itself (CC-6)."""
    folded = narrow(address)
    domain = folded.rpartition("@")[2]
    return folded if is_freemail(domain) else org_domain(domain)


_SCAN = re.compile(
    rb"(?<![A-Za-z0-9.!#$%&'*+/=?^_`{|}~\x80-\xff-])[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\x80-\xff-]++"
    rb"@(?=[A-Za-z0-9_\x80-\xff-]++\.[A-Za-z0-9\x80-\xff])[A-Za-z0-9_.\x80-\xff-]++"
    rb'|"[^"\r\n]{1,64}+"@(?=[A-Za-z0-9_\x80-\xff-]++\.[A-Za-z0-9\x80-\xff])[A-Za-z0-9_.\x80-\xff-]++'
)


def scan(value: bytes) -> list[str]:
    """Distinct things in `value` that look like addresses, as written, in order; linear in its length (CC-7, MSG-11).

    Encoded-words are looked into as well. At most MAX_SCANNED; what is glued in front of an address stays with it.
    """
    found = dict.fromkeys(_SCAN.findall(value))
    if b"=?" in value:
        found.update(dict.fromkeys(_SCAN.findall(decode_words(words_apart(value)).encode(errors="replace"))))
    result: dict[str, None] = {}
    for raw in found:
        text = decode(raw).rstrip(".-")
        if not text.startswith('"'):
            text = text.lstrip("./'=-")[-MAX_PATH:]
        if not text.startswith("@"):
            result[text] = None
        if len(result) >= MAX_SCANNED:
            break
    return list(result)


def visible(value: bytes) -> list[str] | None:
    """Every address that a reader of this list sees, those inside names and comments too; None when there is no telling.

    An unparsable list counts by `scan`; unparsable and without one match, the caller refuses (CC-7).
    """
    boxes = parse_list(value)
    if boxes is None:
        return scan(value) or None
    result = [box.address for box in boxes]
    for box in boxes:
        if "@" in box.display:
            result.extend(scan(box.display.encode(errors="replace")))
    if b"(" in value:
        result.extend(scan(comments(decode(value)).encode(errors="replace")))  # they are read like names
    return result


def dividers(value: bytes) -> int:
    """How many octets of `value` divide a list into its parts."""
    return len(value) - len(value.translate(None, DIVIDERS))


def parse_list(value: bytes) -> list[Mailbox] | None:
    """Mailboxes of an unfolded address-list (RFC 5322 section 3.4 and 4.4); [] if there are none, None if unparsable.

    Read as mail programs do: groups, comments, encoded-words that hold addresses, quoted local parts, routes, missing
    brackets and commas.
    """
    if len(value) > MAX_DIVIDERS and (len(value) > MAX_LIST_BYTES or dividers(value) > MAX_DIVIDERS):
        return None
    text = decode(value)
    match = _SIMPLE.fullmatch(text)
    if match is not None:
        quoted, phrase, angle, bare = match.groups()
        display, address = quoted or (phrase.strip(" \t") if phrase else ""), angle or bare
        if "=?" not in text:
            return [Mailbox(display, address)]
        if "=?" not in address:
            return [Mailbox(decode_words(words_apart(display.encode())), address)]
    return parse(text)


_ADDR_SPEC = rf"[{ATEXT}.]++@[A-Za-z0-9-]++(?>(?:\.[A-Za-z0-9-]++)*)"
_SIMPLE = re.compile(
    rf'[ \t]*+(?:(?:"([^"\\]*+)"[ \t]*+|([{ATEXT}.\x80-\U0010ffff \t]*+))<({_ADDR_SPEC})>|({_ADDR_SPEC}))[ \t]*+'
)
