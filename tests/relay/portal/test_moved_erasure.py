"""Who changed his address and is erased at the new one is erased at the old one too: the person is one (GDPR-7, GDPR-8)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.portal import OwnerGateway
from tests.relay.portal.test_my_data import ANN, HTML, Person, ann, give, link, moving, stops

__all__ = ["ann"]  # a fixture

pytestmark = pytest.mark.anyio
SECOND, THIRD = "second@example.org", "third@example.org"


async def move(person: Person, owned: OwnerGateway, to: str) -> None:
    await person.do("move", email=to)
    assert (await person.web.post(moving(owned), headers=HTML)).status_code == 200


def named(owned: OwnerGateway, address: str) -> int:
    """Events of the ledger that name somebody by this address."""
    proof: Any = owned.owner.call("consent.proof", {"tenant": "shop", "address": address})
    return sum(event["personal"] is not None for event in proof["events"])


async def test_every_address_before_goes_with_the_one_of_now(ann: Person, owned: OwnerGateway) -> None:
    give(owned, email="bob@example.net")
    await ann.enter()
    await move(ann, owned, SECOND)
    later = Person(ann.web, owned, link(owned, SECOND))
    await later.enter(SECOND)
    await move(later, owned, THIRD)
    assert all(named(owned, address) for address in (ANN, SECOND, THIRD)), "else nothing is shown below"
    owned.owner.call("consent.erase", {"tenant": "shop", "address": THIRD})
    assert [named(owned, address) for address in (ANN, SECOND, THIRD)] == [0, 0, 0]
    # Nobody else is known at the others, so no old list brings him back there either.
    assert [("all", "objection") in stops(owned, address) for address in (ANN, SECOND, THIRD)] == [True, True, True]
    due: Any = owned.owner.call("erasure.due", {})
    assert len(due) == 3 and named(owned, "bob@example.net")
    assert owned.owner.call("consent.verify", {"tenant": "shop"})["ok"] is True  # type: ignore[call-overload]  # a dict


async def test_a_move_without_a_consent_is_known_as_well(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    await ann.do("change", action="stop_all")
    await move(ann, owned, SECOND)
    owned.owner.call("consent.erase", {"tenant": "shop", "address": SECOND})
    assert named(owned, ANN) == 0


async def test_the_old_address_may_be_somebody_elses_by_now(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    await move(ann, owned, SECOND)
    owned.owner.call("consent.erase", {"tenant": "shop", "address": ANN})
    assert named(owned, ANN) == 0 and named(owned, SECOND) > 0
