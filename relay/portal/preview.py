"""The text of a mail for reading on /outbox: plain text only, bounded, nothing fetched and no mark-up kept."""

from __future__ import annotations

from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser

from relay.mail.message import Malformed, Message
from relay.mail.mime import Part, decode_text, walk
from relay.mail.texts import HTML, shown_parts
from relay.portal.sanitise import MAX_LINKS, bounded

MAX_CHARS = 20_000
MAX_OCTETS = 4 * MAX_CHARS + 4  # a character is four octets at most
MAX_HTML_OCTETS = 300_000
MAX_SHOWN_PARTS = 20


class Preview(NamedTuple):
    """One leaf part. `text` is "" for an attachment; `is_html` says it was HTML and is now its text."""

    content_type: str
    size: int  # octets as sent
    text: str
    is_html: bool
    is_cut: bool


def previews(raw: bytes) -> list[Preview]:
    """The leaf parts of a message in order; empty where the bytes are no message."""
    message = Message.split(raw)
    if isinstance(message, Malformed) or not message.body:
        return []
    parts = tuple(walk(message))
    shown = {part.start for part in shown_parts(parts)}  # as the policies read it
    leaves = [part for part in parts if not part.is_container]
    return [_preview(part, raw, part.start in shown) for part in leaves[:MAX_SHOWN_PARTS]]


def _preview(part: Part, raw: bytes, is_shown: bool) -> Preview:
    size = part.end - part.start
    if not is_shown and (part.is_attachment or part.content_type not in ("text/calendar", "")):
        return Preview(part.content_type, size, "", False, False)
    is_html = part.content_type in HTML
    text = decode_text(part, raw, MAX_HTML_OCTETS if is_html else MAX_OCTETS)
    if is_html:
        text = html_text(text)
    return Preview(part.content_type, size, text[:MAX_CHARS], is_html, len(text) > MAX_CHARS)


def html_text(html: str) -> str:
    """What a reader of the HTML would read; links keep their address in brackets, since that is what people check."""
    tree = LexborHTMLParser(bounded(html).html)
    tree.strip_tags(["script", "style", "head", "template", "noscript"])
    root = tree.body or tree.root
    if root is None:
        return ""
    for link in root.css("a[href]")[:MAX_LINKS]:
        address = link.attributes.get("href") or ""
        if address and address not in link.text():
            link.insert_after(f" [{address}]")
    lines = [" ".join(line.split()) for line in root.text(separator="\n").splitlines()]
    return "\n".join(line for line in lines if line)
