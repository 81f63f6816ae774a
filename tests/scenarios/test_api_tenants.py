"""Every operation of the API over a real gateway with the key of another tenant: it sees and changes nothing of this one."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import urlencode

from tests.harness.gateway import AGREED, Gateway
from tests.harness.openapi import Operation, operations
from tests.harness.post import letter, outsiders, post
from tests.harness.web import ask
from tests.scenarios.conftest import Start

ASK = {"recipients": {"exposed": {"personal": "ask"}}}
PEOPLE = outsiders(15)
SECRETS = (*AGREED, *PEOPLE, "shop", "Shop BV", "sender.example", "Nieuws", '"given"')
"""What only the shop may see: none of it is in what the other tenant sends."""
MADE = re.compile(r'"at":"[^"]*","made_at":"[^"]*"')
"""Of a proof: the moment at which it was asked for."""


def call(gateway: Gateway, key: str, one: Operation, places: dict[str, str]) -> tuple[int, str]:
    query = f"?{urlencode(one.query)}" if one.query else ""
    octets = None
    if one.method == "POST":
        octets = b"" if one.body is None else json.dumps(fitted(one.body, places)).encode()
    return ask(gateway, one.at(places) + query, octets, key=key)


def fitted(body: Any, places: dict[str, str]) -> Any:
    """The example, about a person and a message that are the shop's."""
    own = {"email": AGREED[0], "message": places["message_id"], "at": "2099-01-01T00:00:00Z"}
    return {name: own.get(name, value) for name, value in body.items()}


def seen(gateway: Gateway, key: str, every: list[Operation], places: dict[str, str]) -> dict[str, tuple[int, str]]:
    """What each operation that changes nothing answers."""
    reads = [one for one in every if one.scope.endswith(":read")]
    answers = {one.name: call(gateway, key, one, places) for one in reads}
    return {name: (status, MADE.sub("", text)) for name, (status, text) in answers.items()}


def test_the_key_of_another_tenant_sees_and_changes_nothing(start: Start) -> None:
    gateway, _ = start(policies=ASK)
    gateway.op("tenant.add", name="rival", legal_name="Rival BV")
    gateway.op("purpose.add", tenant="rival", name="newsletter")
    shop, rival = (str(gateway.op("apikey.add", tenant=name, name="walk")["secret"]) for name in ("shop", "rival"))
    gateway.until(
        lambda: all(ask(gateway, "/api/v1/held", key=key)[0] == 200 for key in (shop, rival)), 10.0, "no keys"
    )
    held = post(gateway, "personal", PEOPLE, letter("To: " + ",\r\n ".join(PEOPLE), "Subject: x")).queue_id
    sent = post(gateway, "transactional", AGREED[:1], letter(f"To: {AGREED[0]}", "Subject: y")).queue_id
    assert ask(gateway, "/api/v1/suppressions", json.dumps({"email": PEOPLE[0]}).encode(), key=shop)[0] == 200
    gateway.op("webhook.add", tenant="shop", name="hers", url="https://crm.example.org/shop", events=["erased"])
    asked = gateway.op("request.open", tenant="shop", kind="access", address=PEOPLE[0])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    gateway.op("mailing.invoice", tenant="shop", mailing="for the shop", invoice_date=today)
    places = {"queue_id": held, "message_id": sent, "name": "hers", "ref": str(asked["ref"])}
    trace = f"/api/v1/messages/{sent}"
    gateway.until(lambda: '"delivered"' in ask(gateway, trace, key=shop)[1], 10.0, "no trace")
    every = list(operations(json.loads(ask(gateway, "/api/v1/openapi.json")[1])))
    secrets = (*SECRETS, places["ref"])
    before = seen(gateway, shop, every, places)
    for name, (status, text) in before.items():
        assert status == 200 and (any(word in text for word in secrets) or name.endswith(("preview", "dead"))), name
    for one in sorted(every, key=lambda one: one.scope.endswith(":write")):  # what the rival writes is his own to read
        status, text = call(gateway, rival, one, places)
        if one.name == "POST /requests":  # it repeats for whom it was asked
            text = text.replace(AGREED[0], "")
        assert status < 500 and not any(word in text for word in secrets), (one.name, status, text)
        if "{" in one.path:
            assert status == 404, one.name
    changed = {name for name, answer in seen(gateway, shop, every, places).items() if answer != before[name]}
    assert changed == set()
