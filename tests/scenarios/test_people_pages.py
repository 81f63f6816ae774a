"""Every page that a recipient or a sender can meet, in Chromium: two languages, wide and 360 px, by keyboard, without JavaScript,
with a tenant's logo and colours and without, in light and dark: axe-core finds nothing."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from relay.portal.explained import rules
from tests.harness.axe import Axe, axe_script
from tests.harness.gateway import Gateway, consent_row
from tests.harness.many import MANY
from tests.harness.moody import Moody
from tests.harness.post import letter, post
from tests.relay.portal.test_faces import png
from tests.scenarios.conftest import Start
from tests.scenarios.test_held_links import ASK, hold, link_in, told
from tests.scenarios.test_my_data_pages import INJECT, is_focused, walk_by_keyboard

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BODY = "Hello\r\n\r\nStop: {{zegel_unsubscribe}}\r\nYour data: {{zegel_my}}\r\n"
LINKS = {
    "u": re.compile(r"Stop: (http://\S+/u/[\w-]+)"),
    "my": re.compile(r"Your data: (http://\S+/my/[\w-]+)"),
    "code": re.compile(r"^([0-9]{8})\r?$", re.MULTILINE),
    "enter": re.compile(r"^(http://\S+/my/[\w-]{90,}\?lang=\w\w)", re.MULTILINE),
    "move": re.compile(r"(http://\S+/my/address/\S+)"),
    "confirm": re.compile(r"(http://\S+/optin/confirm/\S+)"),
    "deleted": re.compile(r"(http://\S+/deleted/[\w-]+)"),
}
EVERY = (("nl", 1280, True), ("en", 360, False), ("nl", 360, True), ("en", 1280, False))
TOURS = EVERY if MANY else EVERY[:2]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


class Tour:
    """One visitor: a language, a width, a client address, and a mailbox of his own."""

    def __init__(self, gateway: Gateway, hop: Moody, page: Any, axe: Axe, number: int) -> None:
        self.gateway, self.hop, self.page, self.axe = gateway, hop, page, axe
        self.language, width, self.branded = TOURS[number]
        self.name = f"{self.language}{width}"
        self.address = f"reader{number}@dest.example"
        self.base = gateway.settings.web.public_url
        self.used: set[str] = set()

    def mail(self, kind: str, to: str = "") -> str:
        """What matches in a mail to somebody that was not taken before."""
        found: list[str] = []

        def arrived() -> bool:
            own = [m for m in self.hop.wait(0) if any(f"<{to or self.address}>" in line for line in m.rcpt)]
            texts = [m.raw.decode("utf-8", "replace") for m in own]
            found[:] = [match[1] for text in texts if (match := LINKS[kind].search(text)) and match[1] not in self.used]
            return bool(found)

        assert self.hop.until(arrived), f"no mail with {kind}"
        self.used.add(found[-1])
        return found[-1]

    def go(self, path: str, name: str, status: int = 200) -> None:
        answer = self.page.goto(path if path.startswith("http") else f"{self.base}{path}")
        assert answer.status == status, (name, answer.status)
        self.look(name)

    def look(self, name: str) -> None:
        brand = self.page.locator("img.brand-logo").count()
        assert brand in (0, 1) and (self.branded or not brand), name
        self.axe.check(self.page, f"{name}-{self.language}")

    def press(self, selector: str, name: str) -> None:
        """By keyboard: the element takes the focus, shows it, and Enter does it."""
        target = self.page.locator(selector).first
        target.focus()
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")
        self.look(name)

    def type(self, field: str, text: str, name: str) -> None:
        self.page.locator(f"#{field}").fill("")
        self.page.locator(f"#{field}").focus()
        self.page.keyboard.type(text)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")
        self.look(name)


@pytest.fixture
def tours(start: Start, request: pytest.FixtureRequest) -> Iterator[list[Tour]]:
    from playwright.sync_api import sync_playwright

    script = axe_script(request.config)
    gateway, hop = start(policies={**INJECT, **ASK})
    asked: set[str] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        axe = Axe(browser, script)
        made = []
        for number, (language, width, _) in enumerate(TOURS):
            context = browser.new_context(
                viewport={"width": width, "height": 800},
                locale=language,
                java_script_enabled=False,
                extra_http_headers={"X-Forwarded-For": f"192.0.2.{number + 1}"},
            )
            page = context.new_page()
            page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
            made.append(Tour(gateway, hop, page, axe, number))
        yield made
        assert asked == {urlsplit(made[0].base).netloc}, "a page asked somebody else for something"
        assert not any(tour.page.context.cookies() for tour in made)
        browser.close()


def each(tours: list[Tour]) -> Iterator[Tour]:
    """The visitors in turn; the tenant has a face for those who are to see one."""
    for tour in tours:
        face = {"colour": "#0b5d3b", "logo": base64.b64encode(png(300, 80)).decode()}
        tour.gateway.op("tenant.set", name="shop", **(face if tour.branded else dict.fromkeys(face, "")))
        show = f"{tour.base}{tour.gateway.op('tenant.keys', name='shop')['path']}"
        for _ in range(100):
            tour.page.goto(show)
            if bool(tour.page.locator("img.brand-logo").count()) == tour.branded:
                break
            tour.page.wait_for_timeout(50)
        yield tour


def test_signing_up_and_leaving(tours: list[Tour]) -> None:
    for tour in each(tours):
        gateway, path = tour.gateway, tour.gateway.op("tenant.keys", name="shop", purpose="newsletter")["path"]
        tour.go(path, "optin-form")
        tour.type("email", "nothing", "optin-wrong")
        assert is_focused(tour.page, "email"), "the focus is at what must be mended"
        assert tour.page.locator("#email").input_value() == "nothing", "what was typed stays (WCAG 3.3.7)"
        tour.type("email", tour.address, "optin-sent")
        link = tour.mail("confirm")
        tour.go(link, "optin-confirm")
        walk_by_keyboard(tour.page)
        tour.press("main button.primary", "optin-done")
        tour.go(link, "optin-again")
        tour.press("main button.primary", "optin-gone")
        tour.go("/optin/nothing", "optin-unknown", 404)
        row = consent_row(tour.address)
        assert post(
            gateway, "marketing", [row["email"]], letter(f"To: {tour.address}", f"Subject: {tour.name}", body=BODY)
        ).queue_id
        stop = tour.mail("u")
        tour.go(stop, "u")
        walk_by_keyboard(tour.page)
        tour.press("main button.primary", "u-done")
        tour.press("main p a", "u-to-my")
        tour.go(stop, "u")
        tour.press("main button.plain", "u-done-all")
        tour.go(f"{stop[:-6]}AAAAAA", "u-bad", 404)
    assert len(set(tours[0].axe.seen)) == 13


def test_own_data(tours: list[Tour]) -> None:
    for tour in each(tours):
        gateway = tour.gateway
        gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(tour.address)])
        mail = letter(f"To: {tour.address}", f"Subject: {tour.name}", body=BODY)
        assert post(gateway, "marketing", [tour.address], mail).queue_id
        link = tour.mail("my")
        tour.go(link, "my")
        walk_by_keyboard(tour.page)
        tour.type("email", tour.address, "my-code")
        tour.type("code", "12", "my-code-wrong")
        tour.type("code", tour.mail("code"), "my-data")
        walk_by_keyboard(tour.page)
        tour.type("email", "x", "my-move-wrong")
        tour.type("email", f"new{tour.address}", "my-move-asked")
        tour.press('#choices form:has(input[value="erase"]) button', "my-erase")
        tour.press('main form:has(input[value="data"]) button', "my-data-back")
        moving = tour.mail("move", f"new{tour.address}")
        tour.go(moving, "my-move")
        tour.press("main button.primary", "my-move-done")
        tour.go(moving, "my-move-again")
        tour.press("main button.primary", "my-move-gone")
        tour.go(gateway.op("tenant.keys", name="shop")["path"], "start")
        tour.type("email", "x", "start-wrong")
        tour.type("email", tour.address, "start-code")
        tour.go(tour.mail("enter"), "enter")
        tour.used.clear()
        tour.go(tour.mail("enter"), "enter")
        tour.press("main button.primary", "enter-data")
        tour.press('#choices form:has(input[value="restrict"]) button', "my-blocked")
        tour.press('#choices form:has(input[value="unrestrict"]) button', "my-unblocked")
        tour.press('#choices form:has(input[value="erase"]) button', "my-erase")
        tour.press("main button.primary", "my-erased")
        tour.go("/my/start/nothing", "start-unknown", 404)
    assert len(set(tours[0].axe.seen)) == 21


def test_held_mail_wrong_recipients_and_explanations(tours: list[Tour]) -> None:
    shown = list({rule.group: rule for rule in rules().values()}.values())
    for tour in each(tours):
        gateway = tour.gateway
        assert hold(gateway, tour.name)
        link = link_in(told(tour.hop, tour.name))
        tour.go(f"{link}?choice=split", "held")
        walk_by_keyboard(tour.page)
        tour.page.goto(f"{link}/mail")
        tour.axe.check(tour.page, f"held-mail-{tour.language}", embedded=True)
        tour.go(link, "held-plain")
        tour.press('main form:has(input[value="refuse"]) button', "held-done")
        tour.go(link, "held-used", 410)
        tour.go("/held/nothing", "held-bad", 404)
        ref = gateway.op("incident.open", tenant="shop", kind="loss", summary="a list")["ref"]
        gateway.op("deletion.ask", ref=ref, address=tour.address, what="A list of members", language=tour.language)
        deleted = tour.mail("deleted")
        tour.go(deleted, "deleted")
        tour.press("main button.primary", "deleted-done")
        tour.go("/deleted/nothing", "deleted-bad", 404)
        tour.go("/", "home")
        tour.go("/nothing", "not-found", 404)
        tour.go("/why", "why")
        tour.go("/why/NO-1", "why-missing", 404)
        for rule in shown:
            tour.go(f"/why/{rule.id}", f"why-{rule.group}")
    assert len(set(tours[0].axe.seen)) == 13 + len(shown)
