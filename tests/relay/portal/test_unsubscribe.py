"""UNSUB-5, -7, -8, -13, -15, -20: the opt-out over HTTP."""

from __future__ import annotations

import httpx
import pytest

from relay.consent.subject import person_hash
from relay.consent.token import TokenKind, make
from relay.keyring import Kind
from relay.observe.metrics import UNSUBSCRIBES
from relay.portal.gateway import OpRefused, OpUnavailable
from tests.fakes.gateway import MemoryGateway
from tests.fakes.portal import FORM, OwnerGateway

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BODY = "List-Unsubscribe=One-Click"


def multipart(name: str, value: str, *, filename: str = "") -> tuple[str, dict[str, str]]:
    """A multipart body as mailbox providers send it, written out: a library would hide what is in it."""
    extra = f'; filename="{filename}"' if filename else ""
    body = f'--b1\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{value}\r\n--b1--\r\n'
    return body, {"Content-Type": "multipart/form-data; boundary=b1"}


@pytest.mark.parametrize("form", ["urlencoded", "multipart", "urlencoded with charset", "urlencoded with line end"])
async def test_one_click_in_each_form_opts_out_at_once(
    web: httpx.AsyncClient, gateway: MemoryGateway, form: str
) -> None:
    body, headers = multipart("List-Unsubscribe", "One-Click") if form == "multipart" else (BODY, FORM)
    if form.endswith("charset"):
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    if form.endswith("line end"):
        body += "\r\n"
    token = gateway.token()
    answer = await web.post(f"/u/{token}", content=body, headers=headers)
    assert answer.status_code == 200
    assert gateway.ops == [("optout", {"token": token, "channel": "one_click"})]
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert len(answer.content) < 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("x=y", "application/x-www-form-urlencoded"),
        ("", "application/x-www-form-urlencoded"),
        ("List-Unsubscribe=OneClick", "application/x-www-form-urlencoded"),
        ("list-unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        ("List-Unsubscribe=One-Click&x=y", "application/x-www-form-urlencoded"),
        ("List-Unsubscribe=One-Click&List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        ("List-Unsubscribe=One-Click&a=1&b=2&c=3", "application/x-www-form-urlencoded"),
        ("\xff\xfe", "application/x-www-form-urlencoded"),
        ("List-Unsubscribe=One-Click", "text/plain"),
        ("List-Unsubscribe=One-Click", ""),
        ('{"List-Unsubscribe":"One-Click"}', "application/json"),
        ("no boundary here", "multipart/form-data"),
        ("--b1\r\nbroken", "multipart/form-data; boundary=b1"),
    ],
)
async def test_any_other_body_is_400_and_changes_nothing(
    web: httpx.AsyncClient, gateway: MemoryGateway, body: str, kind: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await web.post(f"/u/{gateway.token()}", content=body.encode("latin-1"), headers=headers)
    assert answer.status_code == 400
    assert gateway.ops == []


@pytest.mark.parametrize("filename", ["", "a.txt"])
async def test_multipart_with_a_file_or_a_second_field_is_400(
    web: httpx.AsyncClient, gateway: MemoryGateway, filename: str
) -> None:
    body, headers = multipart("List-Unsubscribe", "One-Click", filename=filename)
    if not filename:
        body = body.replace("--b1--", '--b1\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b1--')
    answer = await web.post(f"/u/{gateway.token()}", content=body, headers=headers)
    assert answer.status_code == 400
    assert gateway.ops == []


async def test_a_hundred_visits_of_a_scanner_change_nothing(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    path = f"/u/{gateway.token()}"
    for _ in range(50):
        assert (await web.get(path, headers=HTML)).status_code == 200
        assert (await web.head(path)).status_code == 200
    assert (await web.get(f"{path}?scope=all&{BODY}")).status_code == 200
    assert (await web.put(path, content=BODY, headers=FORM)).status_code == 405
    assert gateway.ops == []
    assert (await web.post(path, content=BODY, headers=FORM)).status_code == 200  # the token still works


@pytest.mark.parametrize("spoil", ["changed", "cut", "empty", "long", "confirm", "foreign"])
async def test_a_token_that_is_not_ours_is_404(web: httpx.AsyncClient, gateway: MemoryGateway, spoil: str) -> None:
    good = gateway.token()
    bad = {
        "changed": good[:40] + ("A" if good[40] != "A" else "B") + good[41:],
        "cut": good[:-3],
        "empty": "x",
        "long": "A" * 3000,
        "confirm": gateway.token(TokenKind.CONFIRM),
        "foreign": "%F0%9F%92%8C",
    }[spoil]
    for answer in (await web.get(f"/u/{bad}"), await web.post(f"/u/{bad}", content=BODY, headers=FORM)):
        assert answer.status_code == 404
    assert (await web.get(f"/my/{bad}")).status_code == 404
    assert gateway.ops == []


@pytest.mark.parametrize("failure", [OpUnavailable(), OpRefused("args.unknown", "secret detail")])
@pytest.mark.parametrize("headers", [{}, HTML])
async def test_an_owner_that_does_not_store_it_is_never_a_200(
    web: httpx.AsyncClient, gateway: MemoryGateway, failure: Exception, headers: dict[str, str]
) -> None:
    gateway.failure = failure
    answer = await web.post(f"/u/{gateway.token()}", content=BODY, headers=FORM | headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "secret detail" not in answer.text


async def test_the_page_names_list_and_sender_in_both_languages_and_no_address(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    path = f"/u/{gateway.token(address='ann.secret@example.net')}"
    dutch = (await web.get(path, headers=HTML | {"Accept-Language": "nl-NL,nl;q=0.9,en;q=0.8"})).text
    english = (await web.get(path, headers=HTML | {"Accept-Language": "en-GB,en;q=0.9"})).text
    assert "Tuinbrief" in dutch
    assert 'lang="nl"' in dutch
    assert "Garden letter" in english
    assert 'lang="en"' in english
    for page in (dutch, english, (await web.get(f"{path}?lang=en", headers={"Accept-Language": "nl"})).text):
        assert "Tuinhuis BV" in page
        assert "ann.secret" not in page
        assert "customer-4711" not in page
        assert page.count('name="List-Unsubscribe" value="One-Click"') == 2
        assert "<script" not in page
    assert 'lang="en"' in page


async def test_the_button_gives_a_page_and_the_second_button_stops_everything(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    token = gateway.token()
    one = await web.post(f"/u/{token}?lang=nl", content=BODY, headers=FORM | HTML)
    everything = await web.post(f"/u/{token}?scope=all&lang=en", content=BODY, headers=FORM | HTML)
    assert "U bent afgemeld" in one.text
    assert "unsubscribed from everything" in everything.text
    assert gateway.ops == [
        ("optout", {"token": token, "channel": "page"}),
        ("optout", {"token": token, "channel": "page", "scope": "all"}),
    ]


async def test_my_link_shows_what_it_can_do_and_how_to_reach_the_sender(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    for kind in (TokenKind.MY, TokenKind.UNSUBSCRIBE):
        page = await web.get(f"/my/{gateway.token(kind)}", headers=HTML)
        assert page.status_code == 200
        assert "mailto:privacy@shop.example" in page.text
        assert "ann@example.net" not in page.text
        assert page.text.count("<form") == 3
    assert gateway.ops == []


async def test_a_link_of_a_sender_that_is_gone_still_shows_its_button(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    gateway.directory().tenants.clear()
    page = await web.get(f"/u/{gateway.token()}", headers=HTML)
    assert page.status_code == 200
    assert "deze afzender" in page.text


async def test_against_the_real_owner_twice_and_after_a_key_rotation(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    subject = person_hash(owned.keyring, tenant.id, "Ann+list@Example.net")
    token = make(owned.keyring, TokenKind.UNSUBSCRIBE, tenant.id, purpose="newsletter", subject_hash=subject)
    for kind in (Kind.HASH, Kind.TOKEN):
        owned.keyring.rotate(kind, now=1.0)
    counted = UNSUBSCRIBES.values["one_click",]
    for _ in range(2):
        answer = await owned_web.post(f"/u/{token}", content=BODY, headers=FORM)
        assert answer.status_code == 200
    assert UNSUBSCRIBES.values["one_click",] == counted + 1
    stops = owned.lookup.suppressions(tenant.id, ["ann@example.net"])["ann@example.net"]
    assert [(stop.scope, stop.reason) for stop in stops] == [("newsletter", "objection")]
    answer = await owned_web.post(f"/u/{token}?scope=all", content=BODY, headers=FORM)
    assert answer.status_code == 200
    stops = owned.lookup.suppressions(tenant.id, ["ann@example.net"])["ann@example.net"]
    assert {stop.scope for stop in stops} == {"newsletter", "all"}


async def test_a_link_of_two_years_ago_works_when_all_that_named_the_person_is_gone(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """UNSUB-15, UNSUB-20: address erased, its list of then emptied, hash and token keys rotated twice; and the no stands."""
    row = {
        "email": "ann@example.net", "purpose": "newsletter", "basis": "consent", "method": "web_form",
        "source": "https://shop.example/join", "given_at": "2024-01-02T10:00:00Z", "text": "Ja", "text_language": "nl",
        "policy_url": "https://shop.example/privacy", "jurisdiction": "NL", "provenance": "own", "sensitive_audience": "no",
    }  # fmt: skip
    assert owned.owner.call("consent.import_rows", {"tenant": "shop", "rows": [row]})["imported"] == 1  # type: ignore[call-overload]  # a dict
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    subject = person_hash(owned.keyring, tenant.id, "ann@example.net")
    token = make(owned.keyring, TokenKind.UNSUBSCRIBE, tenant.id, purpose="newsletter", subject_hash=subject)
    for year in (1, 2):
        owned.later = year * 366 * 86_400.0
        for kind in (Kind.HASH, Kind.TOKEN):
            owned.keyring.rotate(kind, now=1.0)
        owned.owner.call("retention.run", {})
    owned.owner.call("consent.erase", {"tenant": "shop", "address": "ann@example.net"})
    removed = owned.owner.call("suppression.list", {"tenant": "shop"})
    body, headers = multipart("List-Unsubscribe", "One-Click")
    answer = await owned_web.post(f"/u/{token}", content=body, headers=headers)
    assert answer.status_code == 200 and isinstance(removed, list)
    again = owned.owner.call(
        "consent.import_rows", {"tenant": "shop", "rows": [{**row, "given_at": "2024-06-01T10:00:00Z"}]}
    )
    assert isinstance(again, dict) and again["errors"][0]["reason"] == "objected"
    stops = owned.lookup.suppressions(tenant.id, ["Ann+x@example.net"], purpose="newsletter")["Ann+x@example.net"]
    assert "newsletter" in {stop.scope for stop in stops}


async def test_each_character_of_a_token_counts(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    """The last but for the bits that base64url leaves over, of which there are none that are read."""
    good = gateway.token()
    for at in range(len(good)):
        bad = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
        assert (await web.post(f"/u/{bad}", content=BODY, headers=FORM)).status_code == 404, at
    assert gateway.ops == []
