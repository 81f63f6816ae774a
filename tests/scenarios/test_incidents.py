"""Incidents in a whole gateway: mail that shows people opens one; who got it wrongly confirms on a page (CC-20, GDPR-20, -23)."""

from __future__ import annotations

import email
import email.policy
import re
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest

from relay.cli.client import call
from tests.harness.gateway import Gateway
from tests.harness.post import letter, outsiders, post
from tests.relay.mail.documents import made
from tests.relay.mail.leaks.test_detectors import good_bsns
from tests.scenarios.conftest import Start
from tests.scenarios.test_my_data_pages import CHROMIUM, looks_right

OBSERVE = {"recipients": {"mode": "observe"}}
ASK = {"recipients": {"exposed": {"personal": "ask"}}}
LINK = re.compile(r"http://\S+/deleted/\S+")
EXPOSURES = 'zegel_incidents_opened_total{kind="exposure"}'


def incidents(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.op("incident.list")
    return found


def until_times(gateway: Gateway, times: int) -> dict[str, Any]:
    """The one incident, when it was noticed so often."""
    gateway.until(lambda: [one["times"] for one in incidents(gateway)] == [times], 20.0, "it was not noticed so often")
    (only,) = incidents(gateway)
    return only


def crowd(gateway: Gateway, number: int, subject: str) -> str:
    people = outsiders(number)
    return post(gateway, "personal", people, letter("Cc: " + ",\r\n ".join(people), f"Subject: {subject}")).queue_id


def test_40_people_in_cc_under_a_policy_that_observes_are_an_incident(start: Start) -> None:
    """CC-20; and the second such mail of that login is the same one."""
    gateway, hop = start(workers=2, policies=OBSERVE)
    first = crowd(gateway, 40, "SECRETSUBJECT")
    made = until_times(gateway, 1)
    assert (made["tenant"], made["kind"], made["opened_by"]) == ("shop", "exposure", "gateway")
    assert made["tenant_due_at"] - made["detected_at"] == 24 * 3600
    for number in range(5):
        crowd(gateway, 40, f"again {number}")
    until_times(gateway, 6)
    assert hop.until(lambda: len(hop.wait(0)) >= 6)
    file = gateway.op("incident.export", ref=made["ref"])
    assert sorted(file["people"]) == sorted(outsiders(40)) and first in file["facts"]["messages"]
    assert (file["facts"]["stream"], file["facts"]["shown"]) == ("personal", 40)
    gateway.until(lambda: gateway.metric(EXPOSURES) == 1, 20.0, "it is not counted")
    gateway.until(lambda: gateway.metric("zegel_incidents_unseen") == 1, 20.0, "nobody is said to have looked")
    gateway.op("incident.note", ref=made["ref"], text="I look at it")
    gateway.until(lambda: gateway.metric("zegel_incidents_unseen") == 0, 20.0, "a note is a look of a person")
    log = (gateway.folder / "gateway.log").read_text()
    assert log.count("incident.opened") == 1 and made["ref"] in log
    assert "party0" not in log and "SECRETSUBJECT" not in log


def test_mail_that_is_mended_is_a_near_miss_and_no_incident(start: Start) -> None:
    gateway, hop = start()
    crowd(gateway, 40, "mended")
    assert hop.until(lambda: len([mail for mail in hop.wait(0) if "@party" in mail.rcpt[0]]) == 40), "beside the notice"
    gateway.settle()
    assert incidents(gateway) == []
    assert '"kind":"near_miss"' in (gateway.folder / "gateway.log").read_text().replace(" ", "")


@pytest.mark.parametrize(("way", "is_one"), [("as_written", True), ("split", False), ("hidden", False)])
def test_held_mail_that_a_person_lets_go_as_it_was_is_an_incident(start: Start, way: str, is_one: bool) -> None:
    gateway, _ = start(policies=ASK)
    queue_id = crowd(gateway, 15, "choose")
    assert gateway.op("held.release", id=queue_id, way=way) == {"id": queue_id, "state": "ready"}
    found = incidents(gateway)
    assert len(found) == is_one
    if is_one:
        file = gateway.op("incident.export", ref=found[0]["ref"])
        assert sorted(file["people"]) == sorted(outsiders(15)) and file["facts"]["reason"] == "recipients.ask"
        assert file["opened_by"] == "operator:test", "who let it go"


def test_it_is_one_too_where_no_gateway_runs(start: Start) -> None:
    gateway, _ = start(policies=ASK)
    queue_id = crowd(gateway, 15, "choose")
    gateway.stop()
    answer = call(gateway.settings, "held.release", {"id": queue_id, "way": "as_written"})
    assert answer == {"id": queue_id, "state": "ready"}
    (found,) = call(gateway.settings, "incident.list", {})
    assert found["kind"] == "exposure" and found["times"] == 1


def test_a_leak_that_is_only_observed_is_an_incident_unless_nobody_wants_it(start: Start) -> None:
    gateway, hop = start()
    raw = made.mail(text=f"BSN {good_bsns(1)[0]}")
    assert post(gateway, "personal", ["ann@dest.example"], raw).queue_id
    found = until_times(gateway, 1)
    file = gateway.op("incident.export", ref=found["ref"])
    assert found["kind"] == "leak" and file["facts"]["reason"].startswith("leaks.") and file["people"] == []
    assert len(hop.wait(1)) == 1
    assert good_bsns(1)[0] not in str(file)


def test_what_is_only_observed_counts_where_the_mail_is_held_for_another_reason(start: Start) -> None:
    """Whoever releases it sees that reason, and not this one."""
    gateway, _ = start(policies=ASK)
    people = outsiders(15)
    raw = made.mail(text=f"BSN {good_bsns(1)[0]}", head="Cc: " + ", ".join(people))
    queue_id = post(gateway, "personal", people, raw).queue_id
    gateway.until(lambda: gateway.op("queue.stats")["held"] == 1, 20.0, "it is not held")
    found = until_times(gateway, 1)
    assert found["kind"] == "leak"
    assert gateway.op("incident.show", ref=found["ref"])["facts"]["messages"] == [queue_id]


def test_leaks_can_be_left_alone(start: Start) -> None:
    gateway, hop = start(incidents={"watch_leaks": False})
    assert post(gateway, "personal", ["ann@dest.example"], made.mail(text=f"BSN {good_bsns(1)[0]}")).queue_id
    assert len(hop.wait(1)) == 1
    gateway.settle()
    assert incidents(gateway) == []


def text_of(raw: bytes) -> str:
    return str(email.message_from_bytes(raw, policy=email.policy.default).get_content())  # type: ignore[attr-defined]  # by its policy


def page(url: str, *, data: bytes | None = None) -> str:
    request = urllib.request.Request(url, data=data, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def test_a_wrong_recipient_gets_a_letter_and_confirms_on_the_page_in_it(start: Start) -> None:
    gateway, hop = start()
    ref = gateway.op("incident.open", tenant="shop", kind="loss", summary="a list")["ref"]
    gateway.op("deletion.ask", ref=ref, address="eve@dest.example", what="A list of members", language="nl")
    (arrived,) = hop.wait(1)
    assert arrived.rcpt[0].startswith("RCPT TO:<eve@dest.example>") and arrived.mail.startswith("MAIL FROM:<>")
    text = text_of(arrived.raw)
    assert "Shop BV" in text and "A list of members" in text and "Wilt u dit helemaal verwijderen" in text
    (link,) = LINK.findall(text)
    assert "Ja, ik heb alles verwijderd" in page(link)
    assert gateway.op("incident.show", ref=ref)["deletion"][0]["confirmed_at"] is None
    assert "Dank u wel" in page(link, data=b"")
    shown = gateway.op("incident.show", ref=ref)
    (request,) = shown["deletion"]
    assert request["confirmed_at"] and request["mails_sent"] == 1 and request["next_mail_at"] is None
    assert (shown["steps"][-1]["step"], shown["steps"][-1]["by"]) == ("confirmed", "person")
    token = link.partition("/deleted/")[2].partition("?")[0]
    assert token not in (gateway.folder / "gateway.log").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_the_page_in_a_browser_without_script_by_keyboard_in_both_languages_and_widths(start: Start) -> None:
    from playwright.sync_api import sync_playwright

    gateway, hop = start()
    what = (
        "Een lijst met leden, verstuurd op 2 maart; " + "ledenlijst-2026-voorjaar-" * 8
    )  # a long word must not widen the page
    made = [gateway.op("incident.open", tenant="shop", kind="loss", summary="a list")["ref"] for _ in range(3)]
    for ref in made:
        gateway.op("deletion.ask", ref=ref, address="eve@dest.example", what=what)
    assert hop.until(lambda: len(hop.wait(0)) == 3)
    links = [LINK.findall(text_of(message.raw))[0].partition("?")[0] for message in hop.wait(0)]
    asked: set[str] = set()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for link, (language, width) in zip(links, (("nl", 1280), ("en", 360), ("nl", 360)), strict=True):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, locale=language, java_script_enabled=False
            )
            shown: Any = context.new_page()
            shown.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
            shown.goto(link)
            looks_right(shown, language)
            shown.locator("form button").focus()
            shown.keyboard.press("Enter")
            shown.get_by_role("heading", name="Dank u wel" if language == "nl" else "Thank you").wait_for()
            looks_right(shown, language)
            assert not context.cookies()
            context.close()
        browser.close()
    assert asked == {urlsplit(links[0]).netloc}
    assert all(gateway.op("incident.show", ref=ref)["deletion"][0]["confirmed_at"] for ref in made)


def test_the_settings_of_clocks_reach_what_the_gateway_opens(start: Start) -> None:
    clocks: dict[str, Any] = {"tenant_hours": 12, "tenant_alarm_hours": [3, 6]}
    gateway, _ = start(policies=OBSERVE, incidents=clocks)
    crowd(gateway, 40, "many")
    made = until_times(gateway, 1)
    assert made["tenant_due_at"] - made["detected_at"] == 12 * 3600
