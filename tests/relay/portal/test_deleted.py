"""GDPR-23: the page of a wrong recipient, against the real owner; a GET changes nothing, the button is the confirmation."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from relay.portal.gateway import OpUnavailable
from tests.fakes.portal import OwnerGateway

HTML = {"Accept": "text/html"}
EVE = "eve@other.example"


def asked(owned: OwnerGateway, what: str = "A list of <b>members</b>") -> tuple[str, str]:
    """The number of an incident, and the path in the letter to Eve."""
    made: Any = owned.owner.call("incident.open", {"tenant": "shop", "kind": "loss", "summary": "a list"})
    owned.owner.call("deletion.ask", {"ref": made["ref"], "address": EVE, "what": what})
    letters: Any = owned.owner.call("deletion.letters", {})
    return made["ref"], f"/deleted/{letters[-1]['token']}"


def request_of(owned: OwnerGateway, ref: str) -> dict[str, Any]:
    found: Any = owned.owner.call("incident.show", {"ref": ref})
    only: dict[str, Any] = found["deletion"][0]
    return only


@pytest.mark.anyio
@pytest.mark.parametrize(("language", "button"), [("nl", "ik heb alles verwijderd"), ("en", "I deleted all of it")])
async def test_the_page_asks_and_the_button_confirms(
    owned: OwnerGateway, owned_web: httpx.AsyncClient, language: str, button: str
) -> None:
    ref, path = asked(owned)
    page = await owned_web.get(f"{path}?lang={language}", headers=HTML)
    assert page.status_code == 200 and button in page.text
    assert "A list of &lt;b&gt;members&lt;/b&gt;" in page.text and "Shop BV" in page.text
    assert EVE not in page.text and "<script" not in page.text
    (action,) = re.findall(r'<form method="post" action="([^"]+)"', page.text)
    done = await owned_web.post(action.replace("&amp;", "&"), headers=HTML)
    assert done.status_code == 200
    assert request_of(owned, ref)["confirmed_at"] is not None
    again = await owned_web.get(path, headers=HTML)
    assert again.status_code == 200 and "<form" not in again.text


@pytest.mark.anyio
async def test_a_scanner_that_follows_the_link_confirms_nothing(
    owned: OwnerGateway, owned_web: httpx.AsyncClient
) -> None:
    ref, path = asked(owned)
    for _ in range(20):
        assert (await owned_web.get(path)).status_code == 200
        assert (await owned_web.head(path)).status_code == 200
    assert request_of(owned, ref)["confirmed_at"] is None


@pytest.mark.anyio
async def test_a_program_may_post_and_post_again(owned: OwnerGateway, owned_web: httpx.AsyncClient) -> None:
    ref, path = asked(owned)
    answers = [await owned_web.post(path) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [step["step"] for step in _steps(owned, ref)].count("confirmed") == 1


def _steps(owned: OwnerGateway, ref: str) -> list[dict[str, Any]]:
    found: Any = owned.owner.call("incident.show", {"ref": ref})
    steps: list[dict[str, Any]] = found["steps"]
    return steps


@pytest.mark.anyio
async def test_a_link_that_is_not_ours_is_not_found(owned: OwnerGateway, owned_web: httpx.AsyncClient) -> None:
    _, path = asked(owned)
    others = [path[:-1] + ("A" if path[-1] != "A" else "B"), "/deleted/abc", "/deleted/" + "a" * 3_000]
    for other in others:
        assert (await owned_web.get(other)).status_code == 404
        assert (await owned_web.post(other)).status_code == 404
    owned.owner.call("consent.erase", {"tenant": "shop", "address": EVE})
    assert (await owned_web.get(path)).status_code == 404, "who was erased has nothing left to confirm"
    assert (await owned_web.post(path)).status_code == 404


@pytest.mark.anyio
async def test_nobody_is_told_that_it_is_kept_while_it_is_not(
    owned: OwnerGateway, owned_web: httpx.AsyncClient
) -> None:
    ref, path = asked(owned)
    owned.failure = OpUnavailable("owner")
    for answer in (await owned_web.get(path), await owned_web.post(path)):
        assert answer.status_code == 503 and answer.headers["retry-after"] == "120"
    owned.failure = None
    assert request_of(owned, ref)["confirmed_at"] is None
