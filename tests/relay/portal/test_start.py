"""The way to one's own data from the sender's own site, without a link from a mail (GDPR-5)."""

from __future__ import annotations

import re
import time

import httpx

from relay.portal.gateway import Mailed
from relay.portal.mydata import CLIENT_LIMIT
from tests.fakes.gateway import portal_settings
from tests.fakes.portal import OwnerGateway, browser

HTML = {"Accept": "text/html"}
ANN, BOB = "ann@example.net", "bob@example.net"
SEALED = re.compile(r'name="(asked|proof)" value="([\w-]+)"')
ACTION = re.compile(r'action="(/my/[\w-]+)\?')


def start(owned: OwnerGateway, tenant: str = "shop") -> str:
    found = owned.owner.call("tenant.keys", {"name": tenant})
    assert isinstance(found, dict)
    return str(found["path"])


async def test_who_is_known_gets_a_code_and_sees_his_data(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    owned.owner.call("suppression.add", {"tenant": "shop", "address": ANN})
    page = await owned_web.get(start(owned), headers=HTML)
    assert page.status_code == 200 and "Shop BV" in page.text and "<script" not in page.text
    asked = await owned_web.post(f"{start(owned)}?lang=en", data={"email": f" {ANN} "}, headers=HTML)
    assert asked.status_code == 200 and ANN not in asked.text
    (notice,) = owned.notices
    assert (notice.kind, notice.recipient, notice.language) == ("my.code", ANN, "en")
    action = ACTION.search(asked.text)
    assert action is not None
    fields = dict(SEALED.findall(asked.text))
    seen = await owned_web.post(
        f"{action[1]}?lang=en", data={"step": "code", **fields, "code": notice.link}, headers=HTML
    )
    assert seen.status_code == 200 and ANN in seen.text
    again = await owned_web.get(action[1], headers=HTML)
    assert again.status_code == 303 and again.headers["location"].startswith(f"{start(owned)}?lang=")


async def test_who_is_not_known_gets_the_same_page_and_no_mail(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    """GDPR-5, CLASS-7: anybody may type any address here."""
    owned.owner.call("suppression.add", {"tenant": "shop", "address": ANN})
    pages = []
    for address in (ANN, BOB):
        answer = await owned_web.post(f"{start(owned)}?lang=en", data={"email": address}, headers=HTML)
        pages.append((answer.status_code, re.sub(r"[\w-]{80,}", "", answer.text)))
    assert pages[0] == pages[1]
    assert [notice.recipient for notice in owned.notices] == [ANN]
    await owned_web.post(start(owned, "other"), data={"email": ANN}, headers=HTML)
    assert len(owned.notices) == 1, "what one tenant holds is nothing to the other"


async def test_whom_only_the_delivery_log_knows_is_known(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    owned.mails["shop", BOB] = [Mailed("1", time.time(), "info@shop.example", "transactional", "delivered")]
    await owned_web.post(start(owned), data={"email": BOB}, headers=HTML)
    assert [notice.recipient for notice in owned.notices] == [BOB]


async def test_the_page_gives_nobody_a_link_that_opts_out(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    """What stands in the page was given to whoever typed the address."""
    answer = await owned_web.post(start(owned), data={"email": ANN}, headers=HTML)
    token = ACTION.findall(answer.text)[0].removeprefix("/my/")
    one_click = {"List-Unsubscribe": "One-Click"}
    assert (await owned_web.post(f"/u/{token}", data=one_click)).status_code == 404
    assert (await owned_web.get(f"/u/{token}")).status_code == 404
    for step in ("data", "change", "erase", "export", "enter"):
        found = await owned_web.post(
            f"/my/{token}", data={"step": step, "proof": token, "action": "stop_all", "sure": "yes"}
        )
        assert found.status_code == 400, step
    assert owned.owner.call("suppression.list", {"tenant": "shop"}) == []


async def test_a_wrong_key_an_empty_field_and_too_many_tries(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    assert (await owned_web.get("/my/start/nothing")).status_code == 404
    assert (await owned_web.post("/my/start/nothing", data={"email": ANN})).status_code == 404
    wrong = await owned_web.post(start(owned), data={"email": "ann"}, headers=HTML)
    assert wrong.status_code == 422 and 'aria-invalid="true"' in wrong.text and 'value="ann"' in wrong.text
    async with browser(owned, portal_settings(), address="198.51.100.7") as client:
        for _ in range(CLIENT_LIMIT):
            assert (await client.post(start(owned), data={"email": BOB})).status_code == 200
        busy = await client.post(start(owned), data={"email": BOB})
    assert busy.status_code == 429 and int(busy.headers["retry-after"]) > 0
