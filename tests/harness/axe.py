"""axe-core over a page as a person without JavaScript has it, in light and in dark."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients.installed import npm_modules

SOURCE = Path(__file__).parents[1] / "scenarios" / "axe"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WIDE = 1000  # what is narrower is looked at in light alone: its colours are those of the wide page
RUN = """tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})
  .then(found => found.violations)"""
WIDER = """() => document.documentElement.scrollWidth > innerWidth ? ['the page'] :
  [...document.querySelectorAll('body *:not(svg *)')].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && !one.closest('.skip, .hidden') && (box.left < 0 || box.right > innerWidth + 1);
  }).map(one => one.outerHTML.slice(0, 120))"""


class Axe:
    """Looks at what a page shows. axe is a script, and the pages run none, so it gets their HTML in a context of its own.

    There it is loaded once for each origin: a new HTML takes the place of the document, and its window keeps the script.
    """

    def __init__(self, browser: Any, script: Path) -> None:
        self._context = browser.new_context()
        self._page = self._context.new_page()
        self._script = script.read_text("utf-8")
        self._origin = ""
        self.seen: list[str] = []

    def check(self, page: Any, name: str, *, embedded: bool = False) -> None:
        """Nothing wider than `page`, no violation. What is `embedded` in a page needs no headings and landmarks of its own."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(page.url))
        html = page.content()
        if folder := os.environ.get("ZEGEL_SHOTS"):
            width = page.viewport_size["width"]
            page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)
        self._page.set_viewport_size(page.viewport_size)
        self._at(origin)
        self._page.set_content(html)
        tags = WCAG if embedded else [*WCAG, "best-practice"]
        language = re.search(r'<html lang="(\w\w)"', html)
        assert language and name.endswith(f"-{language[1]}"), name
        for scheme in ("light", "dark") if page.viewport_size["width"] > WIDE else ("light",):
            self._page.emulate_media(color_scheme=scheme)
            assert not (wider := self._page.evaluate(WIDER)), (name, wider)
            wrong = [
                (rule["id"], node["html"][:120], node["failureSummary"])
                for rule in self._page.evaluate(RUN, tags)
                for node in rule["nodes"]
            ]
            assert not wrong, (name, scheme, wrong)
        self.seen.append(re.sub(r"-\w\w$", "", name))

    def _at(self, origin: str) -> None:
        """A page of `origin` with axe in it, so that what an HTML names by a path is found."""
        if origin == self._origin:
            return
        self._page.route("**/looked-at", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        self._page.goto(f"{origin}/looked-at")
        self._page.unroute("**/looked-at")
        self._page.evaluate(self._script)
        self._origin = origin


def axe_script(config: pytest.Config) -> Path:
    """axe.min.js of the lock file; a skip where npm cannot get it."""
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()[:16]
    assert config.cache is not None
    return npm_modules(config.cache.mkdir(f"npm-{lock}"), SOURCE) / "axe-core" / "axe.min.js"
