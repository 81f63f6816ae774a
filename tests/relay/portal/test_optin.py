"""CLASS-7, CONSENT-8, CONSENT-11: the double opt-in over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from relay.consent.record import parse_time
from relay.mail.face import Face
from relay.mail.letters import confirmation
from relay.portal import optin
from relay.portal.gateway import OpRefused, OpUnavailable
from relay.portal.optin import ADDRESS_LIMIT, CLIENT_LIMIT, TENANT_LIMIT
from tests.fakes.gateway import SHOP, MemoryGateway, portal_settings
from tests.fakes.portal import OwnerGateway, browser

HTML = {"Accept": "text/html"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers wait for nothing, but where that is what is looked at."""
    monkeypatch.setattr(optin, "ANSWER_SECONDS", 0.0)


def lists(owned: OwnerGateway, tenant: str) -> Any:
    return owned.owner.call("purpose.list", {"tenant": tenant})


def form_key(owned: OwnerGateway) -> str:
    return str(next(row["optin_key"] for row in lists(owned, "shop") if row["name"] == "newsletter"))


async def test_a_sign_up_becomes_consent_only_by_the_button_behind_the_mail(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    key = form_key(owned)
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    started = await owned_web.post(f"/optin/{key}?lang=en", data={"email": " Ann@Example.net "}, headers=HTML)
    assert started.status_code == 202
    (notice,) = owned.notices
    assert (notice.kind, notice.tenant, notice.purpose) == ("optin.confirm", "shop", "newsletter")
    assert (notice.recipient, notice.language) == ("Ann@Example.net", "en")
    link = urlsplit(notice.link)
    path = f"{link.path}?{link.query}"
    page = await owned_web.get(path, headers=HTML)
    assert page.status_code == 200
    assert "ann@example.net" not in page.text.lower()
    before = owned.lookup.consents(tenant.id, "newsletter", ["ann@example.net"])["ann@example.net"]
    assert before is None or before.status == "requested"
    done = await owned_web.post(path, headers=HTML)
    assert done.status_code == 200
    after = owned.lookup.consents(tenant.id, "newsletter", ["ann@example.net"])["ann@example.net"]
    assert after is not None
    assert after.status == "confirmed"
    proof = owned.owner.call("consent.proof", {"tenant": "shop", "address": "ann@example.net"})
    assert isinstance(proof, dict)
    event = proof["events"][-1]
    assert event["text"] == "Yes, I want to receive Tuinbrief from Shop BV by e-mail."
    assert event["policy_url"] == f"https://mail.zegel.example/optin/{key}"
    assert (await owned_web.post(path, headers=HTML)).status_code == 410  # used


async def test_the_proof_names_the_mail_the_browser_and_the_text(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """CONSENT-8: which mail was confirmed, when it left, from where and with what, and what stood on the page."""
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    agent = {"User-Agent": "Browser/1.0\x7f (phone)"}
    await owned_web.post(f"/optin/{form_key(owned)}", data={"email": "ann@example.net"}, headers=agent)
    (notice,) = owned.notices
    letter = confirmation(
        tenant, "newsletter", notice.recipient, notice.link, language="nl", message_id=notice.message_id
    ).raw
    assert f"\r\nMessage-ID: {notice.message_id}\r\n" in letter
    link = urlsplit(notice.link)
    owned.later = 90.0
    assert (await owned_web.post(f"{link.path}?{link.query}", headers=agent)).status_code == 200
    proof = owned.owner.call("consent.proof", {"tenant": "shop", "address": "ann@example.net"})
    assert isinstance(proof, dict)
    asked, event = proof["events"]
    assert event["personal"]["doi_message_id"] == asked["personal"]["doi_message_id"] == notice.message_id
    assert event["evidence"] == {"doi_ip": "192.0.2.44", "doi_user_agent": "Browser/1.0 (phone)"}
    assert parse_time(asked["at"]) == pytest.approx(event["doi_sent_at"], abs=1.0)
    assert event["doi_sent_at"] < event["confirmed_at"] - 80
    assert event["text_hash"] and event["text"].startswith("Ja, ik wil Tuinbrief")


async def test_a_script_sends_json_and_gets_json(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    path = f"/optin/{form_key(owned)}?lang=en"
    done = await owned_web.post(path, json={"email": "ann@example.net", "name": "Ann"})
    assert done.status_code == 202 and done.headers["content-type"] == "application/json"
    assert set(done.json()) == {"state", "title", "text"} and done.json()["state"] == "asked"
    assert [notice.recipient for notice in owned.notices] == ["ann@example.net"]
    form = await owned_web.post(path, data={"email": "bob@example.net"}, headers={"Accept": "application/json"})
    assert form.json() == done.json()
    for body in ("{", "[]", '"x"', "{}", '{"email": 1}', '{"email": ["ann@example.net"]}', '{"email": "ann"}', "\xff"):
        wrong = await owned_web.post(
            path, content=body.encode("latin-1"), headers={"Content-Type": "application/json; charset=utf-8"}
        )
        assert wrong.status_code == 422, body
        assert wrong.headers["content-type"] == "application/problem+json" and wrong.json()["status"] == 422
    large = await owned_web.post(path, json={"email": "ann@example.net", "x": "y" * 20_000})
    assert large.status_code == 413
    nowhere = await owned_web.post("/optin/nothing?lang=en", json={"email": "ann@example.net"})
    assert nowhere.status_code == 404 and nowhere.json()["title"] == "This list does not exist."
    assert len(owned.notices) == 2


ALLOW = "access-control-allow-origin"
THEIRS, FOREIGN = "https://shop.example", "https://evil.example"


async def test_only_a_site_that_the_tenant_named_may_speak_by_script(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    owned.owner.call("tenant.set", {"name": "shop", "origins": ["https://Shop.example/", "https://a.example:8443"]})
    path = f"/optin/{form_key(owned)}"
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    may = await owned_web.options(path, headers={"Origin": THEIRS, **asks})
    assert may.status_code == 204 and may.headers[ALLOW] == THEIRS and "Origin" in may.headers["vary"]
    assert "POST" in may.headers["access-control-allow-methods"]
    assert may.headers["access-control-allow-headers"] == "Content-Type"
    for origin in (
        FOREIGN,
        "null",
        "http://shop.example",
        "https://shop.example.evil.example",
        "https://x.shop.example",
    ):
        not_so = await owned_web.options(path, headers={"Origin": origin, **asks})
        assert not_so.status_code == 204
        assert not [name for name in not_so.headers if name.startswith("access-control-")], origin
    email = {"email": "ann@example.net"}
    assert (await owned_web.post(path, json=email, headers={"Origin": THEIRS})).headers[ALLOW] == THEIRS
    for answer in (
        await owned_web.post(path, json=email, headers={"Origin": FOREIGN}),
        await owned_web.post(path, json=email),
        await owned_web.get(path, headers={"Origin": THEIRS}),
        await owned_web.options("/optin/nothing", headers={"Origin": THEIRS, **asks}),
    ):
        assert ALLOW not in answer.headers
    key = next(row["optin_key"] for row in lists(owned, "other"))
    assert ALLOW not in (await owned_web.post(f"/optin/{key}", json=email, headers={"Origin": THEIRS})).headers
    late = await owned_web.post(path, json={"email": ""}, headers={"Origin": THEIRS})
    assert late.status_code == 422 and late.headers[ALLOW] == THEIRS, "errors can be read too"
    assert "access-control-allow-credentials" not in late.headers


async def test_a_confirmation_lifts_an_earlier_objection_of_the_same_person(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    owned.owner.call("suppression.add", {"tenant": "shop", "address": "ann@example.net"})
    await owned_web.post(f"/optin/{form_key(owned)}", data={"email": "ann@example.net"})
    link = urlsplit(owned.notices[0].link)
    assert (await owned_web.post(f"{link.path}?{link.query}")).status_code == 200
    assert owned.lookup.suppressions(tenant.id, ["ann@example.net"], purpose="newsletter")["ann@example.net"] == ()
    assert owned.lookup.suppressions(tenant.id, ["ann@example.net"], purpose="offers")["ann@example.net"] != ()


@pytest.mark.parametrize("given", ["jan@xn--bcher-kva.example", "jan@bücher.example", "Jan@Example.net"])
async def test_mail_goes_to_the_address_as_it_was_given(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, given: str
) -> None:
    """CONSENT-16; and the letter can leave through a host without SMTPUTF8."""
    await owned_web.post(f"/optin/{form_key(owned)}", data={"email": given})
    (notice,) = owned.notices
    assert notice.recipient == given
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    raw = confirmation(tenant, "newsletter", given, notice.link, language="en").raw
    assert f"\r\nTo: <{given.replace('bücher', 'xn--bcher-kva')}>\r\n" in raw


@pytest.mark.parametrize(
    "value", ["", "ann", "ann@", "@example.net", "ann@example.net\r\nBcc: x@y.example", "a@b@c.d", "x" * 400]
)
async def test_what_is_no_address_gives_the_form_again(
    web: httpx.AsyncClient, gateway: MemoryGateway, value: str
) -> None:
    answer = await web.post("/optin/k7f3newsletter", data={"email": value}, headers=HTML)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert gateway.ops == []


async def test_two_addresses_at_once_are_refused(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    body = "email=ann%40example.net&email=bob%40example.net"
    answer = await web.post(
        "/optin/k7f3newsletter", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 422
    assert gateway.ops == []


async def test_a_form_mails_an_address_twice_at_most_and_both_links_work(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """CLASS-7: one mail and one reminder; a form that mails on every press is a weapon."""
    for _ in range(5):
        answer = await owned_web.post(f"/optin/{form_key(owned)}", data={"email": "ann@example.net"})
        assert answer.status_code == 202
    assert len(owned.notices) == 2
    link = urlsplit(owned.notices[0].link)
    assert (await owned_web.post(f"{link.path}?{link.query}")).status_code == 200


async def test_the_forms_together_are_no_way_to_flood_somebody(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """Two mails a list were 44 for one stranger, over the 22 lists of one sender."""
    for number in range(ADDRESS_LIMIT):
        owned.owner.call("purpose.add", {"tenant": "other", "name": f"list{number}"})
    keys = [row["optin_key"] for name in ("shop", "other") for row in lists(owned, name)]
    for number, key in enumerate(keys):
        address = "ann@example.net" if number % 2 else "Ann+x@Example.net"
        assert (await owned_web.post(f"/optin/{key}", data={"email": address})).status_code == 202
    assert len(owned.notices) == ADDRESS_LIMIT < len(keys)
    await owned_web.post(f"/optin/{keys[-1]}", data={"email": "bob@example.net"})
    assert owned.notices[-1].recipient == "bob@example.net"


async def test_dots_in_a_gmail_address_are_no_way_to_flood_its_mailbox(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """60 spellings were 60 mails within seconds."""
    spellings = [f"{'victim'[:cut]}.{'victim'[cut:]}{tag}" for cut in range(1, 6) for tag in ("", "+a", "+b.c")]
    addresses = [f"{local}@{'Gmail.com' if number % 2 else 'googlemail.com'}" for number, local in enumerate(spellings)]
    for number, address in enumerate(addresses):
        client = {"X-Forwarded-For": f"203.0.113.{number}"}
        answer = await owned_web.post(f"/optin/{form_key(owned)}", data={"email": address}, headers=client)
        assert answer.status_code == 202
    assert len(owned.notices) == ADDRESS_LIMIT < len(addresses)
    for other in ("victi.m@example.net", "victim.s@gmail.com"):
        await owned_web.post(f"/optin/{form_key(owned)}", data={"email": other})
        assert owned.notices[-1].recipient == other


async def test_whom_nothing_is_mailed_to_is_answered_no_sooner(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optin, "ANSWER_SECONDS", 0.2)
    owned.owner.call("suppression.add", {"tenant": "shop", "address": "ann@example.net", "reason": "restriction"})
    for address in ("ann@example.net", "bob@example.net"):
        answer = await owned_web.post(f"/optin/{form_key(owned)}", data={"email": address})
        assert answer.status_code == 202 and answer.elapsed.total_seconds() >= 0.2, address
    assert [notice.recipient for notice in owned.notices] == ["bob@example.net"]


class Counting(MemoryGateway):
    """Answers a request as the owner does; `may_mail` is what it says."""

    may_mail = True

    async def op(self, name: str, args: dict[str, object]) -> dict[str, object]:
        await super().op(name, args)
        return {"token": "t", "may_mail": self.may_mail, "message_id": "<1@shop.example>"}


@pytest.fixture
def gateway(tmp_path):  # type: ignore[no-untyped-def]  # in place of the shared one
    made = Counting(tmp_path)
    yield made
    made.outbox.close()


async def test_the_answer_does_not_tell_whether_an_address_may_be_mailed(
    web: httpx.AsyncClient, gateway: Counting
) -> None:
    free = await web.post("/optin/k7f3newsletter", data={"email": "ann@example.net"}, headers=HTML)
    gateway.refusals["consent.request"] = OpRefused("consent.restricted", "restricted")
    barred = await web.post("/optin/k7f3newsletter", data={"email": "bob@example.net"}, headers=HTML)
    del gateway.refusals["consent.request"]
    gateway.may_mail = False
    enough = await web.post("/optin/k7f3newsletter", data={"email": "eve@example.net"}, headers=HTML)
    assert free.status_code == barred.status_code == enough.status_code == 202
    assert free.text == barred.text == enough.text
    assert [notice.recipient for notice in gateway.notices] == ["ann@example.net"]


async def test_one_client_cannot_send_requests_without_end(web: httpx.AsyncClient, gateway: Counting) -> None:
    for number in range(CLIENT_LIMIT):
        answer = await web.post("/optin/k7f3newsletter", data={"email": f"a{number}@example.net"})
        assert answer.status_code == 202
    answer = await web.post("/optin/k7f3newsletter", data={"email": "one.more@example.net"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert len(gateway.notices) == CLIENT_LIMIT


@pytest.mark.parametrize(
    ("line", "neighbour", "other"),
    [
        ("2001:db8:0:1::{}", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:2::1"),
        ("::ffff:192.0.2.44", "192.0.2.44", "192.0.2.45"),
    ],
    ids=["a /64", "mapped"],
)
async def test_a_line_is_one_client_whatever_address_it_takes(
    gateway: Counting, line: str, neighbour: str, other: str
) -> None:
    async def ask(address: str, number: int) -> int:
        async with browser(gateway, portal_settings(), address=address) as client:
            answer = await client.post("/optin/k7f3newsletter", data={"email": f"a{number}@example.net"})
        return answer.status_code

    asked = [await ask(line.format(number + 1), number) for number in range(CLIENT_LIMIT)]
    assert asked == [202] * CLIENT_LIMIT
    assert await ask(neighbour, CLIENT_LIMIT) == 429
    assert await ask(other, CLIENT_LIMIT) == 202
    assert len(gateway.notices) == CLIENT_LIMIT + 1


async def test_nothing_is_promised_while_the_owner_is_down(web: httpx.AsyncClient, gateway: Counting) -> None:
    gateway.failure = OpUnavailable()
    answer = await web.post("/optin/k7f3newsletter", data={"email": "ann@example.net"}, headers=HTML)
    assert answer.status_code == 503
    assert gateway.notices == []


async def test_an_unknown_list_and_a_foreign_token_lead_nowhere(web: httpx.AsyncClient, gateway: Counting) -> None:
    assert (await web.get("/optin/nothing")).status_code == 404
    assert (await web.post("/optin/nothing", data={"email": "ann@example.net"})).status_code == 404
    for method in ("GET", "POST"):
        assert (await web.request(method, f"/optin/confirm/{gateway.token()}")).status_code == 404
    assert gateway.ops == []


async def test_the_lists_of_one_tenant_have_a_ceiling_from_wherever(web: httpx.AsyncClient, gateway: Counting) -> None:
    gateway.hits[f"optin-tenant:{SHOP.id}"] = TENANT_LIMIT
    gateway.directory().faces[SHOP.id] = Face(origins=frozenset(("https://shop.example",)))
    answer = await web.post(
        "/optin/k7f3newsletter", json={"email": "ann@example.net"}, headers={"Origin": "https://shop.example"}
    )
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    assert answer.headers["access-control-expose-headers"] == "Retry-After"
    assert gateway.ops == []


async def test_what_cannot_be_done_at_an_address_is_told_with_what_can(
    web: httpx.AsyncClient, gateway: Counting
) -> None:
    """RFC 9110, 15.5.6: GET and POST are routes of their own, and Allow named those of one of them."""
    for path, allowed in (
        ("/optin/k7f3newsletter", "GET, HEAD, OPTIONS, POST"),
        (f"/u/{gateway.token()}", "GET, HEAD, POST"),
        (f"/my/{gateway.token()}", "GET, HEAD, POST"),
        ("/why/CC-1", "GET, HEAD"),
    ):
        answer = await web.put(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), path
