"""E-mail addresses in text (DLP-4, DLP-5): the parser of relay.mail.address, asked only about what stands around an @."""

from __future__ import annotations

from relay.mail.address import narrow, scan
from relay.mail.leaks.findings import MAX_DISTINCT

_BEFORE, _AFTER = 66, 256  # octets of an address before and after its @
_MANY = 64  # from so many on a whole piece is read instead


class Addresses:
    """Distinct addresses, in `narrow` form. Read late: a mail with fewer @ than matter is not parsed at all."""

    __slots__ = ("_least", "_marks", "_waiting", "found")

    def __init__(self, least: int) -> None:
        self.found: set[str] = set()
        self._least = least
        self._marks = 0
        self._waiting: list[bytes] = []

    def see(self, data: bytes) -> None:
        """One piece of text."""
        marks = data.count(b"@")
        if not marks or len(self.found) >= MAX_DISTINCT:
            return
        self._marks += marks
        self._waiting.append(data if marks > _MANY else b"\n".join(_windows(data)))
        if self._marks >= self._least:
            self._read()

    def _read(self) -> None:
        for text in self._waiting:
            if len(self.found) < MAX_DISTINCT:
                self.found.update(map(narrow, scan(text)))
        self._waiting.clear()


def _windows(data: bytes) -> list[bytes]:
    """What stands around each @; windows that meet become one."""
    result = []
    start = end = 0
    place = data.find(b"@")
    while place >= 0:
        if place - _BEFORE > end:
            if end:
                result.append(data[start:end])
            start = max(0, place - _BEFORE)
        end = place + _AFTER
        place = data.find(b"@", place + 1)
    if end:
        result.append(data[start:end])
    return result
