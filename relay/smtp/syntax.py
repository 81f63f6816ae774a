"""MAIL and RCPT arguments: paths and ESMTP parameters (RFC 5321 section 4.1.1, RFC 1870, 3461, 6152, 6531). Pure.

Each function answers a value, or the reply that refuses the command.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from relay.mail.address import Address, parse_path
from relay.mail.envelope import Recipient
from relay.mail.orcpt import fault as orcpt_fault

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 section 4
_ROUTE = re.compile(r"@[A-Za-z0-9.,@:\[\]-]*:")


class MailCommand(NamedTuple):
    """A parsed MAIL FROM. `address` is None for the null sender; `size` is 0 when not said."""

    address: Address | None
    size: int = 0
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


def mail_command(argument: bytes) -> MailCommand | str:
    """What follows `MAIL`."""
    parts = _split(argument, b"FROM:")
    if isinstance(parts, str):
        return parts
    path, parameters = parts
    values = _mail_parameters(parameters)
    if isinstance(values, str):
        return values
    if not path:
        return MailCommand(None, *values)
    address = _address(path, utf8=values[1])
    if isinstance(address, str):
        return f"501 5.1.7 {address}" if not address[:3].isdigit() else address
    return MailCommand(address, *values)


def rcpt_command(argument: bytes, *, smtputf8: bool) -> tuple[Address, Recipient] | str:
    """What follows `RCPT`."""
    parts = _split(argument, b"TO:")
    if isinstance(parts, str):
        return parts
    path, parameters = parts
    if not path:
        return "501 5.1.3 A recipient may not be empty"
    address = _address(path, utf8=smtputf8)
    if isinstance(address, str):
        return f"501 5.1.3 {address}" if not address[:3].isdigit() else address
    notify: tuple[str, ...] = ()
    orcpt = ""
    for key, value in parameters:
        if key == "NOTIFY" and not notify:
            notify = tuple(value.upper().split(","))
            if not set(notify) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"} or ("NEVER" in notify and len(notify) > 1):
                return "501 5.5.4 NOTIFY takes NEVER, or any of SUCCESS, FAILURE and DELAY"
        elif key == "ORCPT" and not orcpt:
            if wrong := orcpt_fault(value, smtputf8=smtputf8):
                return f"501 5.5.4 ORCPT {wrong}"
            orcpt = value
        else:
            return _unknown(key, ("NOTIFY", "ORCPT"))
    return address, Recipient(address.text, notify, orcpt)


def _mail_parameters(parameters: list[tuple[str, str]]) -> tuple[int, bool, str, str] | str:
    size, utf8, ret, envid = 0, False, "", ""
    seen: set[str] = set()
    for key, value in parameters:
        if key in seen:
            return f"501 5.5.4 {key} is given twice"
        seen.add(key)
        if key == "SIZE":
            if not value.isdigit() or len(value) > 20:
                return "501 5.5.4 SIZE takes a number of octets"
            size = int(value)
        elif key == "BODY":
            if value.upper() not in ("7BIT", "8BITMIME"):
                return "501 5.5.4 BODY takes 7BIT or 8BITMIME"
        elif key == "SMTPUTF8" and not value:
            utf8 = True
        elif key == "RET":
            ret = value.upper()
            if ret not in ("FULL", "HDRS"):
                return "501 5.5.4 RET takes FULL or HDRS"
        elif key == "ENVID":
            if not value or len(value) > 100 or not _XTEXT.fullmatch(value):
                return "501 5.5.4 ENVID takes at most 100 characters of xtext"
            envid = value
        elif key == "AUTH":
            continue  # RFC 4954 section 5: the submitter's claim; our own AUTH is what counts
        else:
            return _unknown(key, ("SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"))
    return size, utf8, ret, envid


def _unknown(key: str, known: tuple[str, ...]) -> str:
    if key in known:
        return f"501 5.5.4 {key} is given twice or malformed"
    return "555 5.5.4 Parameter not recognised or not implemented"


def _split(argument: bytes, word: bytes) -> tuple[str, list[tuple[str, str]]] | str:
    """`(path, parameters)` of `FROM:<path> KEY=VALUE ...`."""
    syntax = f"501 5.5.4 Syntax: {'MAIL' if word == b'FROM:' else 'RCPT'} {word.decode()}<address>"
    if argument[: len(word)].upper() != word:
        return syntax
    try:
        text = argument[len(word) :].strip(b" ").decode()
    except UnicodeDecodeError:
        return "501 5.5.2 The command is not UTF-8"
    end = _end_of_path(text)
    if end < 0:
        return syntax
    parameters = []
    rest = text[end + 1 :]
    if rest and rest[0] != " ":
        return syntax
    for word_ in rest.split() if rest.isascii() else rest.split(" "):  # other spaces of Unicode may stand in an ORCPT
        if not word_:
            continue
        key, _, value = word_.partition("=")
        parameters.append((key.upper(), value))
    path = text[1:end]
    if path.startswith("@") and (route := _ROUTE.match(path)):
        path = path[route.end() :]  # RFC 5321 appendix C: a source route is ignored
    return path, parameters


def _end_of_path(text: str) -> int:
    """Index of the `>` that closes the path at the start of `text`; quoted local parts may hold one."""
    if not text.startswith("<"):
        return -1
    if '"' not in text:
        return text.find(">")
    quoted = False
    index = 1
    while index < len(text):
        char = text[index]
        if char == "\\" and quoted:
            index += 1
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return index
        index += 1
    return -1


def _address(path: str, *, utf8: bool) -> Address | str:
    """The address, or an error sentence, or a whole reply where a code of its own is due."""
    if not utf8 and not path.isascii():
        return "553 5.6.7 This address needs SMTPUTF8, which the client did not ask for"
    return parse_path(path)
