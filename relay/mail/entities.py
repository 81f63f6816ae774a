"""Character references of HTML undone, whatever was written."""

from __future__ import annotations

import html
import re

_ZEROS = re.compile(r"&#([xX]?)0++(?=[0-9a-fA-F])")
_ENDLESS = re.compile(r"&#[0-9]{9,}+;?")  # no character has such a number, and int() raises from 4,300 digits on


def unescape(text: str) -> str:
    """`text` with `&euro;`, `&#37;` and the like as the characters they stand for. Never raises; linear."""
    if "&" not in text:
        return text
    if "&#" in text:
        text = _ENDLESS.sub("\ufffd", _ZEROS.sub(r"&#\1", text))
    return html.unescape(text)
