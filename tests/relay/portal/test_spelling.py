"""CONSENT-16, GDPR-8: who shows by a code that he reads one spelling of an address ends nothing of another one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from relay.consent.erased import Erased
from tests.fakes.portal import OwnerGateway
from tests.relay.portal.test_my_data import ANN, YES, Person, give, link, status, stops


@pytest.mark.parametrize(("proven", "other"), [("ann+evil@example.net", ANN), (ANN, "ann+evil@example.net")])
async def test_who_reads_one_spelling_ends_nothing_of_another(
    owned_web: httpx.AsyncClient, owned: OwnerGateway, proven: str, other: str
) -> None:
    """CONSENT-16: where + is no sub-address, ann+evil@ erased what was held of ann@. The objection alone is wide."""
    call = owned.owner.call
    for address in (proven, other):
        assert give(owned, email=address)["imported"] == 1
    call("request.open", {"tenant": "shop", "kind": "access", "address": other, "text": "of the other"})
    person = Person(owned_web, owned, link(owned))
    assert (await person.enter(proven)).status_code == 200
    assert (await person.do("change", action="stop", purpose="newsletter")).status_code == 200
    assert (status(owned, proven), status(owned, other)) == ("withdrawn", "withdrawn"), "a no counts for every spelling"
    assert (await person.do("erase", sure="yes")).status_code == 200
    assert (status(owned, proven), status(owned, other)) == ("erased", "objected")
    assert ("all", "objection") in stops(owned, other)
    told: Any = call("consent.proof", {"tenant": "shop", "address": other})
    named = [event["personal"]["email"] for event in told["events"] if event["personal"]]
    assert set(named) == {other}
    assert call("consent.verify", {"tenant": "shop"})["ok"] is True  # type: ignore[call-overload]  # a dict
    asked: Any = call("request.list", {"tenant": "shop", "state": "open"})
    assert call("request.show", {"ref": asked[0]["ref"]})["address"] == other  # type: ignore[call-overload]  # a dict
    due: Any = call("erasure.due", {})
    (one,) = [Erased.load(row) for row in due]
    is_his = one.matcher(owned.keyring)
    assert is_his(proven.upper()) and not is_his(other), "queue and delivery log keep what is the other's"
    again = Person(owned_web, owned, link(owned))
    assert YES["source"] in (await again.enter(other)).text


async def test_a_code_from_before_an_erasure_opens_nothing(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> None:
    """Its link, opened within the day, wrote the address of who had been erased down again, as a request for access."""
    give(owned)
    first, second = (Person(owned_web, owned, link(owned)) for _ in range(2))
    await second.do("ask", email=ANN)
    notice = owned.notices[-1]
    way = Person(owned_web, owned, urlsplit(notice.way).path.rpartition("/")[2])
    await first.enter()
    assert (await first.do("erase", sure="yes")).status_code == 200
    before = owned.owner.call("request.list", {"tenant": "shop", "state": "all"})
    assert (await second.do("code", code=notice.link)).status_code == 422
    assert (await way.do("enter")).status_code == 410
    assert owned.owner.call("request.list", {"tenant": "shop", "state": "all"}) == before
    assert (await second.enter()).status_code == 200, "who asks anew is let in"
