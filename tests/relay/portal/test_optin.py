"""CLASS-7, CONSENT-8, CONSENT-11: the double opt-in over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from relay.mail.letters import confirmation
from relay.portal import optin
from relay.portal.gateway import OpRefused, OpUnavailable
from relay.portal.optin import ADDRESS_LIMIT, CLIENT_LIMIT
from tests.fakes.gateway import MemoryGateway, portal_settings
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
        return {"token": "t", "may_mail": self.may_mail}


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
