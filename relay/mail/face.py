"""How a sender looks on the pages that his recipients meet: a logo, two colours that can be read, and his own web sites.

Whatever is not safe or not legible is refused when it is set, with what to do; a page then only shows it.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple
from urllib.parse import urlsplit

MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
MAX_LOGO_BYTES = 48_000
MAX_LOGO_PIXELS = (1_200, 600)
MAX_ORIGINS = 20
TEXT_COLOUR = "#ffffff"
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PNG = b"\x89PNG\r\n\x1a\n"
_MOVING = (b"acTL", b"fcTL", b"fdAT")  # APNG: what moves must be possible to stop (WCAG 2.2.2)
_SIZES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))  # SOF of JPEG


class Face(NamedTuple):
    """Of one tenant; what is "" was not set. `logo` is the name that its picture has at /logo/."""

    colour: str = ""
    text_colour: str = ""
    logo: str = ""
    origins: frozenset[str] = frozenset()

    @property
    def style(self) -> str:
        """Name of the style sheet with the colours: it says them, so that it can be kept for ever."""
        return f"{self.colour[1:]}-{self.text_colour[1:]}.css" if self.colour else ""


NO_FACE = Face()


def colour_of(text: str) -> str:
    """A colour as #rrggbb in small letters. Raises ValueError with what to write."""
    found = text.strip().lower()
    if re.fullmatch(r"#[0-9a-f]{3}", found):
        found = "#" + "".join(2 * digit for digit in found[1:])
    if not _COLOUR.fullmatch(found):
        raise ValueError("a colour is written as #1a2b3c: six hexadecimal digits")
    return found


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1.0 to 21.0 (WCAG 2.2)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def check_colours(colour: str, text_colour: str) -> None:
    """Raises ValueError, with two ways out, where text of one colour on the other cannot be read by all."""
    found = contrast(colour, text_colour)
    if found >= MIN_CONTRAST:
        return
    better = "#000000" if contrast(colour, "#000000") > contrast(colour, "#ffffff") else "#ffffff"
    ways = [f"take the text colour {better}"] if contrast(colour, better) >= MIN_CONTRAST else []
    nearest = _legible(colour, text_colour)
    ways += [f"take the colour {nearest}"] if nearest else []
    raise ValueError(
        f"text of {text_colour} on {colour} has a contrast of {int(found * 10) / 10}:1 and needs {MIN_CONTRAST}:1 "
        f"(WCAG 1.4.3): {', or '.join(ways)}"
    )


def deeper(colour: str) -> str:
    """The same a shade darker, for a button under the mouse."""
    return _mixed(colour, 0, 0.2)


def origin_of(text: str) -> str:
    """A web site as browsers name it: scheme, host, and port where it is another than usual. Raises ValueError."""
    try:
        parts = urlsplit(text.strip())
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:  # a port that is none, or a host that is no name
        raise ValueError(_NO_ORIGIN) from None
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(_NO_ORIGIN)
    is_here = host in ("localhost", "127.0.0.1")
    if not _HOST.fullmatch(host) or not ("." in host or is_here):
        raise ValueError(_NO_ORIGIN)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
        raise ValueError("a web site's address begins with https://: what is typed there would travel in the open")
    usual = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, usual) else "")


_NO_ORIGIN = "a web site is named as https://shop.example: no path, no user, no wildcard"


def picture_kind(data: bytes) -> str:
    """ "png" or "jpg" of a picture that may be shown. Raises ValueError with what to do.

    No SVG, which can hold a program; nothing that moves; nothing behind the picture's end.
    """
    if len(data) > MAX_LOGO_BYTES:
        raise ValueError(f"the logo has {len(data)} bytes and may have {MAX_LOGO_BYTES}: make it smaller")
    if data.startswith(_PNG):
        kind, size = "png", _png_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        kind, size = "jpg", _jpeg_size(data)
    else:
        raise ValueError("the logo is no PNG or JPEG: save it as one of the two (SVG can hold a program)")
    if size is None:
        raise ValueError("the logo is damaged, moves, or holds more than a picture: save it anew as PNG")
    if not (16 <= size[0] <= MAX_LOGO_PIXELS[0] and 16 <= size[1] <= MAX_LOGO_PIXELS[1]):
        most = "{} by {}".format(*MAX_LOGO_PIXELS)
        raise ValueError(f"the logo is {size[0]} by {size[1]} pixels and may be 16 by 16 to {most}: scale it")
    return kind


def _png_size(data: bytes) -> tuple[int, int] | None:
    at, size, seen = len(_PNG), None, set[bytes]()
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return None
        if (not seen) != (name == b"IHDR") or name in _MOVING:
            return None
        if name == b"IHDR":
            size = (int.from_bytes(data[at + 8 : at + 12], "big"), int.from_bytes(data[at + 12 : at + 16], "big"))
        seen.add(name)
        at = end
        if name == b"IEND":
            return size if at == len(data) and b"IDAT" in seen else None
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at, size = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SIZES and at + 9 <= len(data):
            size = (int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
        if marker == 0xDA:  # the picture itself; a marker in it would be escaped
            return size if data.find(b"\xff\xd9", at) == len(data) - 2 else None
        if length < 2:
            return None
        at += 2 + length
    return None


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (n / 255 for n in _channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mixed(colour: str, goal: int, part: float) -> str:
    return "#" + "".join(f"{round(channel + (goal - channel) * part):02x}" for channel in _channels(colour))


def _legible(colour: str, text_colour: str) -> str:
    """The nearest shade of a colour that the text can be read on; "" where there is none."""
    goal = 0 if contrast(text_colour, "#000000") > contrast(text_colour, "#ffffff") else 255
    shades = (_mixed(colour, goal, step / 50) for step in range(1, 51))
    return next((shade for shade in shades if contrast(shade, text_colour) >= MIN_CONTRAST), "")
