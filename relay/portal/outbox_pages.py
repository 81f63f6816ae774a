"""/outbox: captured mail for people, what came in beside what would leave (demo and sandbox only).

Handlers are plain functions: the framework runs them in threads, since the store is synchronous. Everything shown
was written by strangers; the templates escape it and nothing is fetched from outside.
"""

from __future__ import annotations

import re
import time
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException

from relay.mail.message import Malformed, Message
from relay.mail.words import decode_words
from relay.portal.clients import require_own_name
from relay.portal.diff import compare
from relay.portal.explained import rules
from relay.portal.gateway import OutboxView
from relay.portal.pages import ThisSite
from relay.portal.preview import previews
from relay.store.outbox import VERDICTS, Entry, Stored

PAGE_ENTRIES = 50
LIVE_SECONDS = 5
MAX_SHOWN_RECIPIENTS = 10
MAX_SUBJECT_CHARS = 200
# Kinds of edit that texts.toml has a sentence for.
EDIT_KINDS = frozenset(("prepend", "append", "remove", "rename", "replace", "refold", "to_self", "undisclosed")) | {
    "unsubscribe",
    "placeholders",
    "recode",
}
Number = Annotated[int, Path(ge=1, le=2**53)]
Before = Annotated[int, Query(ge=0, le=2**53)]
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Line(NamedTuple):
    """One entry of the list."""

    id: int
    entry: Entry
    subject: str
    changes: int


async def _require_own_name(site: ThisSite, request: Request) -> None:
    """For a client elsewhere there is no such page: what is captured is mail of people, and has no login."""
    if not site.settings.web.expose_outbox:
        require_own_name(request, site.settings.web.public_url)


async def _captured(site: ThisSite) -> OutboxView:
    assert site.gateway.outbox is not None, "these routes are there only where it is"
    return site.gateway.outbox


Captured = Annotated[OutboxView, Depends(_captured)]
router = APIRouter(include_in_schema=False, dependencies=[Depends(_require_own_name)])


@router.api_route("/outbox", methods=["GET", "HEAD"])
def index(site: ThisSite, outbox: Captured, request: Request, verdict: str = "", before: Before = 0) -> Response:
    chosen = verdict if verdict in VERDICTS else ""
    found = outbox.entries(verdict=chosen, before=before, limit=PAGE_ENTRIES + 1)
    live = request.query_params.get("live") == "1"
    counts = outbox.counts()
    return site.page(
        request,
        "outbox.html",
        lines=[_line(stored) for stored in found[:PAGE_ENTRIES]],
        counts=counts,
        total=sum(counts.values()),
        verdict=chosen,
        before=before,
        live=live,
        refresh_seconds=LIVE_SECONDS if live else 0,
        link=_linker(request, verdict=chosen, live=live),
        older=found[PAGE_ENTRIES - 1].id if len(found) > PAGE_ENTRIES else 0,
        explained=rules(),
    )


@router.api_route("/outbox/{number}", methods=["GET", "HEAD"])
def show(site: ThisSite, outbox: Captured, request: Request, number: Number) -> Response:
    stored = _find(outbox, number)
    entry = stored.entry
    return site.page(
        request,
        "entry.html",
        id=number,
        entry=entry,
        subject=subject_of(entry),
        head=compare(entry.incoming, entry.outgoing, entry.edits),
        bodies=_bodies(entry),
        parts_in=previews(entry.incoming),
        parts_out=previews(entry.outgoing) if _body(entry.outgoing) != _body(entry.incoming) else [],
        siblings=[other for other in outbox.siblings(entry.queue_id) if entry.queue_id],
        max_recipients=MAX_SHOWN_RECIPIENTS,
        now=time.time(),
        rule=rules().get(entry.rule),
        explained=rules(),
        edit_kinds=EDIT_KINDS,
    )


@router.api_route("/outbox/{number}/{side}.eml", methods=["GET", "HEAD"])
def download(outbox: Captured, number: Number, side: str) -> Response:
    stored = _find(outbox, number)
    raw = {"in": stored.entry.incoming, "out": stored.entry.outgoing}.get(side, b"")
    if not raw:
        raise HTTPException(404)
    name = _UNSAFE.sub("_", stored.entry.queue_id or str(number))[:60]
    # An attachment of a type that no browser renders: a mail may hold HTML and script.
    headers = {"Content-Disposition": f'attachment; filename="{name}-{side}.eml"', "Cache-Control": "no-store"}
    return Response(raw, media_type="application/octet-stream", headers=headers)


def subject_of(entry: Entry) -> str:
    """The decoded subject of what came in; "" where there is none."""
    message = Message.split(entry.incoming) if entry.incoming else None
    if message is None or isinstance(message, Malformed):
        return ""
    value = message.get(b"subject")
    return decode_words(value)[:MAX_SUBJECT_CHARS] if value else ""


def _line(stored: Stored) -> Line:
    entry = stored.entry
    return Line(stored.id, entry, subject_of(entry), len({(edit.kind, edit.name) for edit in entry.edits}))


def _find(outbox: OutboxView, number: int) -> Stored:
    stored = outbox.entry(number)
    if stored is None:
        raise HTTPException(404)
    return stored


def _body(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


class Bodies(NamedTuple):
    """Sizes in octets, and whether the body leaves as it came."""

    before: int
    after: int
    same: bool
    leaves: bool


def _bodies(entry: Entry) -> Bodies:
    before, after = _body(entry.incoming), _body(entry.outgoing)
    return Bodies(len(before), len(after), before == after, bool(entry.outgoing))


def _linker(request: Request, *, verdict: str, live: bool) -> object:
    """A function for the template: the list's address with some of its choices changed."""
    kept = {"lang": request.query_params["lang"]} if "lang" in request.query_params else {}

    def link(*, verdict: str = verdict, live: bool = live, before: int = 0) -> str:
        query = {"verdict": verdict, "live": "1" if live else "", "before": str(before) if before else ""} | kept
        given = urlencode({name: value for name, value in query.items() if value})
        return f"/outbox?{given}" if given else "/outbox"

    return link
