"""A hostile mail that waits, looked at in Chromium: nothing of it runs, loads or leads away, at any width, in both languages."""

from __future__ import annotations

import json
import shutil
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.harness.gateway import Gateway
from tests.harness.moody import Moody
from tests.harness.post import letter, outsiders, post
from tests.scenarios.conftest import Start
from tests.scenarios.test_held_links import ASK, fetch, link_in, told

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PEOPLE = outsiders(15)
HTML = """<html><head><style>body{display:none} @import url(http://evil.example/x.css);</style><base href="http://evil.example/">
<meta http-equiv="refresh" content="0;url=http://evil.example/"></head><body onload="document.title='RUN'"><h1>Feest</h1>
<p style="position:fixed;top:0;left:0;width:100vw;height:100vh;background:url(http://evil.example/bg.png)">Beste allen</p>
<a href="http://evil.example/login" target="_top">www.bank.example</a>
<img src="http://evil.example/t.gif" onerror="document.title='RUN'" alt="Logo">
<svg onload="document.title='RUN'"><script>document.title='RUN'</script><image href="http://evil.example/s.png"/></svg>
<form action="http://evil.example/"><input name="p" autofocus onfocus="document.title='RUN'"><button>Druk hier</button></form>
<iframe src="http://evil.example/"></iframe><object data="http://evil.example/o"></object>
<video src="http://evil.example/v" autoplay></video>
<script>top.location='http://evil.example/';document.title='RUN'</script><p>{words}</p></body></html>"""
FILES = (
    ("application/pdf", 'filename="route.pdf"'),
    ("application/x-msdownload", "filename*=utf-8''factuur%E2%80%AEfdp.exe"),
    ("image/svg+xml", 'filename="<script>x</script>.svg"'),
    ("text/html", 'filename="page.html"'),
)


def hostile() -> bytes:
    parts = [
        "Content-Type: text/html; charset=utf-8\r\n\r\n" + HTML.replace("{words}", "lang" * 90).replace("\n", "\r\n")
    ]
    for kind, name in FILES:
        parts.append(f"Content-Type: {kind}\r\nContent-Disposition: attachment; {name}\r\n\r\n<script>x</script>")
    body = "".join(f"--b1\r\n{part}\r\n" for part in parts) + "--b1--\r\n"
    return letter(
        "To: " + ",\r\n ".join(PEOPLE), "Subject: <script>document.title='RUN'</script>", "Message-ID: <hostile@s.example>",
        "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b1", body=body,
    )  # fmt: skip


def waiting(gateway: Gateway, hop: Moody) -> str:
    assert post(gateway, "personal", PEOPLE, hostile()).queue_id
    return link_in(told(hop, "hostile"))


def test_the_frame_allows_nothing_and_names_files_only(start: Start) -> None:
    gateway, hop = start(policies=ASK)
    link = waiting(gateway, hop)
    with urllib.request.urlopen(f"{link}/mail?lang=en", timeout=20.0) as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store" and answer.headers["Referrer-Policy"] == "no-referrer"
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["sandbox"] == "" and rules["style-src"].startswith("'sha256-")
    assert set(rules) == {"default-src", "style-src", "sandbox", "frame-ancestors", "form-action", "base-uri"}
    assert "Beste allen" in page and "[Logo]" in page and "[http://evil.example/login]" in page
    assert page.count("<style>") == 1 and not any(
        tag in page for tag in ("<script", "<svg", "<img", "<form", "<iframe", "href=", "src=")
    )
    assert (
        "route.pdf" in page
        and "\u202e" not in page
        and "factuur fdp.exe" in page
        and "application/x-msdownload" in page
    )
    status, outer = fetch(f"{link}?lang=en")
    assert status == 200 and "<script" not in outer and "&lt;script&gt;" in outer and "sandbox" in outer


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_nothing_of_it_runs_or_loads_in_a_browser(start: Start) -> None:
    from playwright.sync_api import sync_playwright

    gateway, hop = start(policies=ASK)
    link = waiting(gateway, hop)
    own = urlsplit(link).netloc
    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for language, width in (("nl", 1280), ("nl", 360), ("en", 1280), ("en", 360)):
            context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
            page: Any = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
            page.goto(f"{link}?choice=split&lang={language}")
            frame = page.frame_locator("iframe.mail")
            frame.get_by_text("Beste allen").wait_for()
            assert "RUN" not in page.title() and page.url.startswith(link)
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
            assert (
                page.locator("form button").count() == 4
                and frame.locator("form, script, img, svg, iframe, a[href]").count() == 0
            )
            context.close()
        browser.close()
    assert {urlsplit(url).netloc for url in asked} == {own}, json.dumps(asked)
    assert gateway.queued() == 1
