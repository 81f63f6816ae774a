"""Pages for people: language, texts, templates. Nothing here decides or stores anything."""

from __future__ import annotations

import tomllib
from collections import OrderedDict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment
from markupsafe import Markup, escape

from relay.portal.clients import client_address
from relay.portal.gateway import Gateway, PortalSettings
from relay.portal.templates import environment

Language = Literal["nl", "en"]
HERE = Path(__file__).parent
MAX_ACCEPT_LANGUAGE = 200  # characters read; the rest cannot change the answer


@cache
def _texts() -> dict[str, dict[str, str]]:
    """By language and key."""
    return tomllib.loads((HERE / "texts.toml").read_text("utf-8"))


@cache
def _templates() -> Environment:
    """Of the pages; each is compiled once in a process, which takes longer than to render it."""
    made = environment()
    made.filters |= {"moment": moment, "octets": octets}
    made.filters["until"] = lambda seconds, now, language: duration(seconds - now, language)
    return made


class Site:
    """The gateway, the settings and the templates together; every application has one."""

    def __init__(self, gateway: Gateway, settings: PortalSettings) -> None:
        self.gateway = gateway
        self.settings = settings
        self.texts = _texts()
        self.logos: OrderedDict[str, bytes] = OrderedDict()  # by name; see relay.portal.faces

    def language(self, request: Request) -> Language:
        """`?lang=` first, then Accept-Language, then the server's own."""
        return pick_language(
            request.query_params.get("lang", ""),
            request.headers.get("accept-language", ""),
            self.settings.server.language,
        )

    def client(self, request: Request) -> str:
        """The client's address; proxies in `server.private_networks` are believed about whom they serve."""
        return client_address(request, self.settings.server.private_networks)

    def text(self, request: Request, key: str, **values: object) -> str:
        """One text of texts.toml, as plain text."""
        return self.texts[self.language(request)][key].format(**values)

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """A rendered page in the visitor's language. Values are escaped by the template."""
        language = self.language(request)
        texts = self.texts[language]

        def translate(key: str, **slots: object) -> Markup:
            # Texts are ours and may hold mark-up; what is put into them is not and may not.
            return Markup(texts[key]).format(**{name: escape(value) for name, value in slots.items()})

        html = (
            _templates()
            .get_template(template)
            .render(
                t=translate,
                language=language,
                other_language="en" if language == "nl" else "nl",
                other_language_link=self._with_language(request, "en" if language == "nl" else "nl"),
                keep_language=f"?lang={language}" if "lang" in request.query_params else "",
                show_outbox=self.gateway.outbox is not None,
                **{"whose": None, **values},
            )
        )
        shared = {"Content-Language": language, "Vary": "Accept-Language, Accept", "Cache-Control": "no-store"}
        return HTMLResponse(html, status, shared | (headers or {}))

    def note(
        self,
        request: Request,
        key: str,
        *,
        status: int,
        headers: dict[str, str] | None = None,
        whose: object = None,
        **values: object,
    ) -> Response:
        """A short answer by texts `<key>_title` and `<key>_text`: a page for browsers, one line for everything else.

        `whose` is the tenant that the page is of (relay.portal.faces), where it is one's.
        """
        if wants_html(request):
            more = {"key": key, "values": values, "calm": status < 400, "whose": whose}
            return self.page(request, "note.html", status=status, headers=headers, **more)
        line = f"{self.text(request, key + '_title', **values)}\n"
        return PlainTextResponse(line, status, {"Cache-Control": "no-store"} | (headers or {}))

    def _with_language(self, request: Request, language: str) -> str:
        query = {name: value for name, value in request.query_params.items() if name != "lang"}
        # Only a page that answers GET can be asked for again in another language: a POST's result links to its GET.
        return f"{request.url.path}?{urlencode(query | {'lang': language})}"


async def site_of(request: Request) -> Site:
    """The site of the application that was asked: routes are the same for all applications of a process."""
    site: Site = request.app.state.site
    return site


ThisSite = Annotated[Site, Depends(site_of)]


def pick_language(asked: str, accept: str, default: str) -> Language:
    """nl or en: `asked` if it is one of them, else the best of an Accept-Language value, else `default`."""
    if asked in ("nl", "en"):
        return asked  # type: ignore[return-value]  # narrowed by the test, which mypy does not follow
    best: tuple[float, Language] = (0.0, "nl" if default == "nl" else "en")
    for item in accept[:MAX_ACCEPT_LANGUAGE].split(","):
        tag, _, parameter = item.strip().partition(";")
        short = tag.strip().lower().partition("-")[0]
        weight = _weight(parameter)
        if short == "nl" and weight > best[0]:
            best = (weight, "nl")
        elif short == "en" and weight > best[0]:
            best = (weight, "en")
    return best[1]


def _weight(parameter: str) -> float:
    """Quality value of RFC 9110 section 12.4.2; 1.0 where there is none, 0.0 where it is no number."""
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def wants_html(request: Request) -> bool:
    """A browser asks for text/html by name; mailbox providers and programs do not."""
    return "text/html" in request.headers.get("accept", "").lower()


def moment(seconds: float) -> str:
    """A time for people, UTC: 2026-01-31 14:05:09."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def octets(count: int) -> str:
    """A size for people, in decimal units."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def duration(seconds: float, language: str) -> str:
    """How long still, roughly: "40 s", "12 min", "3 u" or "3 h"; "" where it is over."""
    if seconds <= 0:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} {'u' if language == 'nl' else 'h'}"
