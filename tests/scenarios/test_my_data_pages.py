"""Own data, from the link in a mail to erasure: real SMTP, real pages, and Chromium (GDPR-5 to GDPR-10)."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.harness.gateway import Gateway, consent_row
from tests.harness.moody import Moody
from tests.harness.post import letter, post
from tests.harness.web import fetch
from tests.scenarios.conftest import Start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
READER = "reader@dest.example"
INJECT = {"unsubscribe": {"missing": "inject"}}
MY = re.compile(r"http://[^\s>\"]+/my/[\w-]{90,}")
CODE = re.compile(r"^([0-9]{8})\r?$", re.MULTILINE)
MOVE = re.compile(r"http://\S+/my/address/\S+")
SEALED = re.compile(r'name="(asked|proof)" value="([\w-]+)"')
BODY = "Hello\r\n\r\nStop: {{zegel_unsubscribe}}\r\nYour data: {{zegel_my}}\r\n"


def newsletter(gateway: Gateway, name: str) -> Any:
    return post(gateway, "marketing", [READER], letter(f"To: {READER}", f"Subject: {name}", body=BODY))


def mail_with(hop: Moody, pattern: re.Pattern[str], known: int = 0) -> str:
    """What matches in the newest of our mails, once more than `known` have come."""
    found: list[str] = []

    def arrived() -> bool:
        texts = [message.raw.decode("utf-8", "replace") for message in hop.wait(0)]
        found[:] = [match[0].strip() for text in texts if (match := pattern.search(text))]
        return len(found) > known

    assert hop.until(arrived), "no such mail came"
    return found[-1]


def link_of(gateway: Gateway, hop: Moody) -> str:
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(READER)])
    assert newsletter(gateway, "news").queue_id
    return mail_with(hop, MY)


def do(link: str, sealed: dict[str, str], step: str, **fields: str) -> tuple[int, str]:
    status, text = fetch(f"{link}?lang=en", urlencode({"step": step, **sealed, **fields}).encode())
    sealed.update(SEALED.findall(text))
    return status, text


def test_from_the_link_in_a_mail_to_erasure(start: Start) -> None:
    gateway, hop = start(policies=INJECT)
    link, sealed = link_of(gateway, hop), dict[str, str]()
    assert do(link, sealed, "ask", email="stranger@dest.example")[0] == 200
    assert do(link, sealed, "ask", email=READER)[0] == 200
    code = mail_with(hop, CODE)
    gateway.settle()
    told = [message for message in hop.wait(0) if "Your code" in message.head]
    assert [message.rcpt[0].split()[1] for message in told] == [f"TO:<{READER}>"], "one mail, and none to the stranger"
    assert "DKIM-Signature" in told[0].head and told[0].mail.startswith("MAIL FROM:<>")
    status, page = do(link, sealed, "code", code=code)
    assert status == 200 and "https://shop.example/join" in page
    gateway.until(lambda: ": delivered" in do(link, sealed, "data")[1], 10.0, "the delivery log does not say so")
    document = json.loads(do(link, sealed, "export", format="json")[1])
    assert document["address"] == READER
    assert [(mail["from"], mail["class"], mail["outcome"]) for mail in document["mails"]] == [
        ("info@sender.example", "commercial", "delivered")
    ]
    assert do(link, sealed, "move", email="new@dest.example")[0] == 200
    moving = mail_with(hop, MOVE)
    assert fetch(moving)[0] == 200 and fetch(moving, b"")[0] == 200
    assert newsletter(gateway, "after the move").refused[READER].startswith("550")
    status, page = do(link, sealed, "erase", sure="yes")
    assert status == 200 and READER not in page
    assert newsletter(gateway, "after erasure").refused[READER].startswith("550")
    row = {**consent_row(READER), "given_at": "2026-01-03T10:00:00Z"}
    again = gateway.op("consent.import_rows", tenant="shop", rows=[row])
    assert again["errors"][0]["reason"] == "objected"
    for path in (gateway.folder / "data").rglob("*"):
        if path.is_file() and path.name.startswith(("zegel.db", "state.db")):
            assert READER.encode() not in path.read_bytes(), path.name
    log = (gateway.folder / "gateway.log").read_text()
    assert READER not in log and "new@dest.example" not in log and code not in log


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_in_a_browser_without_script_by_keyboard_in_both_languages_and_widths(start: Start) -> None:
    from playwright.sync_api import sync_playwright

    gateway, hop = start(policies=INJECT)
    link, known = link_of(gateway, hop), 0
    asked: set[str] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for language, width in (("nl", 1280), ("en", 360), ("nl", 360)):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, locale=language, java_script_enabled=False
            )
            page: Any = context.new_page()
            page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
            page.goto(link)
            looks_right(page, language)
            page.get_by_label("e-mail").focus()
            page.keyboard.type("nothing")
            page.keyboard.press("Enter")
            page.locator("#email-wrong").wait_for()
            field = page.get_by_label("e-mail")
            assert field.input_value() == "nothing", "what was typed stays (WCAG 3.3.7)"
            assert field.get_attribute("aria-invalid") == "true" and is_focused(page, "email")
            looks_right(page, language)
            field.clear()
            page.keyboard.type(READER)
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.locator("#code").wait_for()
            looks_right(page, language)
            assert is_focused(page, "code")
            page.keyboard.type(CODE.search(mail_with(hop, CODE, known))[0].strip())  # type: ignore[index]  # it matched
            known += 1
            page.keyboard.press("Enter")
            page.locator("#choices").wait_for()
            looks_right(page, language)
            walk_by_keyboard(page)
            assert not context.cookies()
            context.close()
        browser.close()
    assert asked == {urlsplit(link).netloc}


def is_focused(page: Any, name: str) -> bool:
    return bool(page.locator(f"#{name}:focus").count())


def looks_right(page: Any, language: str) -> None:
    """No scrolling aside, one main heading, headings without gaps, a label for each field, no id twice."""
    assert page.locator(f'html[lang="{language}"]').count() == 1
    width = page.viewport_size["width"]
    for box in (page.locator(name).bounding_box() for name in ("main", "header", "footer")):
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    for part in page.locator("main :is(h1, h2, h3, p, dd, li, button, input:not([type=hidden]))").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= width + 1, part.inner_text()[:40]
    levels = [int(tag[1]) for tag in re.findall(r"<(h[1-6])\b", page.content())]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels
    for field in page.locator("input:not([type=hidden])").all():
        assert page.locator(f'label[for="{field.get_attribute("id")}"]').count() == 1
    ids = re.findall(r'\bid="([^"]+)"', page.content())
    assert len(ids) == len(set(ids))
    for button in page.locator("main button").all():
        box = button.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24, "WCAG 2.5.8"


def walk_by_keyboard(page: Any) -> None:
    """Each button and field of the page takes the focus in turn, and shows it."""
    wanted = page.locator("main :is(button, input:not([type=hidden]))").count()
    page.locator("a.skip").focus()
    seen = 0
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        seen += page.locator("main :is(button, input):focus-visible").count()
        if seen == wanted:
            break
    assert seen == wanted
