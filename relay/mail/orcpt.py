"""ORCPT, the address that a message was first for (RFC 3461 section 4.2), also with letters outside ASCII (RFC 6533). Pure.

Type `utf-8` has two forms on the wire: as it is where the transaction has SMTPUTF8 (unitext), and with `\\x{F6}` for what is
not ASCII where it has not (xtext). Every other type has the xtext of RFC 3461, with `+F6`, and passes unchanged.
"""

from __future__ import annotations

import re

MAX_OCTETS = 500  # RFC 3461 section 4.2
MOST_IN_REPORT = 960  # a line of a report is never longer than 998 octets
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 section 4
_TYPE = re.compile(r"[A-Za-z0-9-]+")
_OCTETS = re.compile(r"(?:\+[0-9A-F]{2})+")
_POINT = re.compile(r"\\x\{([^}]{0,8})\}?")
_CODE = re.compile(r"0*[1-9A-Fa-f][0-9A-Fa-f]{0,5}")
_SPECIAL = frozenset("\\+= ")  # never as they are in a parameter
_UTF8 = "utf-8"
FORM = "takes a type, a semicolon and an address in xtext"
NEEDS_SMTPUTF8 = r"with letters outside ASCII needs SMTPUTF8 in MAIL, or \x{..} in their place"
NEEDS_TYPE = "with letters outside ASCII needs the type utf-8"
NO_CHARACTER = r"of type utf-8 takes \x{..} with the hexadecimal number of a character"


def fault(value: str, *, smtputf8: bool) -> str:
    """What is wrong with `value` of a client, as the end of a sentence; "" where nothing is."""
    kind, semicolon, text = value.partition(";")
    if not semicolon or not _TYPE.fullmatch(kind):
        return FORM
    if not value.isascii():
        if kind.lower() != _UTF8:
            return NEEDS_TYPE
        if not smtputf8:
            return NEEDS_SMTPUTF8
    if len(value.encode()) > MAX_OCTETS:
        return f"takes at most {MAX_OCTETS} octets"
    if kind.lower() != _UTF8:
        return "" if _XTEXT.fullmatch(text) else FORM
    if not text or "=" in text or any(char <= " " or char == "\x7f" for char in text):
        return FORM
    return "" if all(_character(point) for point in _POINT.finditer(text)) else NO_CHARACTER


def on_the_wire(value: str, *, smtputf8: bool) -> str:
    """`value`, which was taken from a client, for a transaction with SMTPUTF8 or one without; "" where it has no such form."""
    kind, semicolon, text = value.partition(";")
    if not semicolon or not _TYPE.fullmatch(kind):
        return ""
    if kind.lower() != _UTF8:
        made = value if _XTEXT.fullmatch(text) else ""
    else:
        made = f"{_UTF8};{_quoted(_unquoted(text), wide=smtputf8)}"
    return made if len(made.encode("utf-8", "replace")) <= MAX_OCTETS else ""


def in_report(value: str, *, wide: bool) -> str:
    """`type; address` for Original-Recipient; the address as it is where the report is an international one (`wide`).

    "" where there is none, or none that fits on a line.
    """
    kind, semicolon, text = value.partition(";")
    if not semicolon or not _TYPE.fullmatch(kind):
        return ""
    if kind.lower() == _UTF8:
        plain = _unquoted(text)
        made = f"{_UTF8}; {_on_one_line(plain) if wide else _quoted(plain, wide=False)}"
    else:
        plain = _octets(text)
        made = f"{kind}; {_on_one_line(plain if plain.isascii() else text)}".encode("ascii", "replace").decode()
    return made if len(made.encode("utf-8", "replace")) <= MOST_IN_REPORT else ""


def _unquoted(text: str) -> str:
    """The address itself. Senders also write the `+C3+B6` of RFC 3461, or a plus that stands for itself."""
    text = _OCTETS.sub(lambda match: _octets(match[0]), text)
    return _POINT.sub(lambda match: _character(match) or match[0], text)


def _octets(text: str) -> str:
    """Without the encoding of RFC 3461; what is no UTF-8 then stays as it is."""
    try:
        return _OCTETS.sub(lambda match: bytes.fromhex(match[0].replace("+", "")).decode(), text)
    except UnicodeDecodeError:
        return text


def _character(match: re.Match[str]) -> str:
    """What `\\x{..}` stands for, "" where that is no character."""
    if not match[0].endswith("}") or not _CODE.fullmatch(match[1]):
        return ""
    number = int(match[1], 16)
    return "" if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF else chr(number)


def _quoted(text: str, *, wide: bool) -> str:
    return "".join(
        [
            char
            if char not in _SPECIAL and char.isprintable() and (wide or char.isascii())
            else f"\\x{{{ord(char):02X}}}"
            for char in text
        ]
    )


def _on_one_line(text: str) -> str:
    return "".join([char if char.isprintable() else " " for char in text])
