"""Old devices that end lines with LF or CR alone: their octets become clean before anything else sees them (SMTP-5).

Only for the networks that `limits.bare_line_end_networks` names. Everything that such a client says is read in one way,
commands and messages alike, so no two readings of it exist in this gateway or behind it; the price is that a message
of such a client cannot be told from one that hides a second.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n?|\n")


class LineEnds:
    """Makes CRLF of CR, LF and CRLF, over a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._after_cr = False

    @property
    def owes_line_feed(self) -> bool:
        """The last octet was a CR, so the next may be the LF that belongs to it."""
        return self._after_cr

    def mend(self, octets: bytes) -> bytes:
        """The next piece with CRLF only."""
        if not octets:
            return octets
        if self._after_cr and octets.startswith(b"\n"):
            octets = octets[1:]  # the other half of a CRLF whose line end is said already
        self._after_cr = octets.endswith(b"\r")
        return _LINE_END.sub(b"\r\n", octets)
