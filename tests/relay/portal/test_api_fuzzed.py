"""What schemathesis makes of the document of the API, right and wrong: never a 5xx, never an answer that it does not tell of.

The same is asked with the key of another tenant, about what is the shop's: that shows and changes nothing of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from relay.portal import api_held
from relay.portal.gateway import OpRefused
from tests.fakes.gateway import portal_settings
from tests.fakes.portal import BASE, OwnerGateway, browser
from tests.relay.portal.test_api import GOOD, bearer

EXAMPLES = 5  # of each operation, right ones and wrong ones each
SEED = 20_260_101
SECRET = "only-of-the-shop"
"""Stands in everything that is the shop's and that an answer could show."""

REACHED = ("POST /suppressions", "POST /proofs", "GET /suppressions", "GET /held", "GET /limits", "GET /purposes")
"""Operations that need nothing but what the document says: they must have done something."""
READS = ("/suppressions", "/consents?purpose=newsletter", "/purposes", "/domains", "/webhooks", "/reputation", "/held",
         "/requests?state=all", "/mailings")  # fmt: skip


class Api:
    """The API of one gateway, spoken to with one key."""

    def __init__(self, gateway: OwnerGateway, runner: asyncio.Runner, key: str) -> None:
        self._runner = runner
        self._auth = bearer(key)
        self._web = browser(gateway, portal_settings(rates=(100_000, 100_000)))

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**more.pop("headers", {}), **self._auth}
        return self._runner.run(self._web.request(method, path, headers=headers, **more))

    def send(self, case: Any) -> httpx.Response:
        made = case.as_transport_kwargs(base_url=f"{BASE}/api/v1")
        headers = {name: str(value).encode("latin-1", "replace") for name, value in made["headers"].items()}
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        body = {"json": made["json"]} if "json" in made else {"content": made.get("data")}
        return self.ask(made["method"], made["url"], params=made.get("params"), headers=headers, **body)

    def close(self) -> None:
        self._runner.run(self._web.aclose())


@pytest.fixture
def no_queue(owned: OwnerGateway, monkeypatch: pytest.MonkeyPatch) -> OwnerGateway:
    """The real owner, and a queue that holds nothing."""
    ask = owned.op

    async def op(name: str, args: dict[str, Any]) -> dict[str, Any]:
        if name == "held.decide":
            raise OpRefused("held.unknown", "there is no such mail")
        if name.startswith("held."):
            return {"items": [] if name == "held.page" else None}
        return await ask(name, args)

    monkeypatch.setattr(owned, "op", op)
    monkeypatch.setattr(api_held, "LOG_WAITS", (0.0,))  # nothing is being written that could come yet
    return owned


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def shop(no_queue: OwnerGateway, runner: asyncio.Runner) -> Iterator[Api]:
    api = Api(no_queue, runner, no_queue.api_keys["shop"])
    yield api
    api.close()


@pytest.fixture
def rival(no_queue: OwnerGateway, runner: asyncio.Runner) -> Iterator[Api]:
    api = Api(no_queue, runner, no_queue.api_keys["other"])
    yield api
    api.close()


def operations(api: Api) -> list[Any]:
    schema = schemathesis.openapi.from_dict(api.ask("GET", "/api/v1/openapi.json").json())
    return [found.ok() for found in schema.get_all_operations()]


def writes(operation: Any) -> bool:
    ((scope,),) = operation.definition.raw["security"][0].values()
    return str(scope).endswith(":write")


def fuzz(operation: Any, look: Callable[[Any], None], *, examples: int = EXAMPLES) -> None:
    """`look` at so many right requests and as many wrong ones; the same in every run."""
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @seed(SEED)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            look(case)

        one()


def test_no_request_that_can_be_made_is_a_fault_of_ours(shop: Api, no_queue: OwnerGateway) -> None:
    assert shop.ask("POST", "/api/v1/consents", json=GOOD).status_code == 200
    seen: dict[str, set[int]] = {}
    for operation in operations(shop):
        codes = seen.setdefault(operation.label, set())

        def look(case: Any, operation: Any = operation, codes: set[int] = codes) -> None:
            answer = shop.send(case)
            codes.add(answer.status_code)
            assert answer.status_code < 500, answer.status_code
            assert answer.status_code not in (401, 403, 429), answer.text
            said = operation.definition.raw["responses"][str(answer.status_code)]["content"]
            assert answer.headers["content-type"].partition(";")[0] in said, answer.status_code

        fuzz(operation, look)
    assert len(seen) >= 18
    chain: Any = no_queue.owner.call("consent.verify", {"tenant": "shop"})
    assert chain["ok"] is True
    assert all(200 in seen[name] for name in REACHED), seen


def test_the_key_of_another_tenant_shows_and_changes_nothing(shop: Api, rival: Api, no_queue: OwnerGateway) -> None:
    call = no_queue.owner.call
    call("purpose.add", {"tenant": "shop", "name": SECRET, "title_nl": SECRET})
    call("domain.add", {"tenant": "shop", "domain": f"{SECRET}.example"})
    call("webhook.add", {"tenant": "shop", "name": SECRET, "url": f"https://crm.example.org/{SECRET}"})
    for person in (SECRET, f"{SECRET}-2"):
        row = {**GOOD, "email": f"{person}@example.net"}
        assert shop.ask("POST", "/api/v1/consents", json=row).status_code == 200
    assert shop.ask("POST", "/api/v1/suppressions", json={"email": f"{SECRET}-2@example.net"}).status_code == 200

    asked = {"email": f"{SECRET}@example.net", "kind": "access"}
    assert shop.ask("POST", "/api/v1/requests", json=asked).status_code == 201

    invoiced = {"mailing": SECRET, "invoice_date": time.strftime("%Y-%m-%d", time.gmtime())}
    assert shop.ask("POST", "/api/v1/mailings", json=invoiced).status_code == 200

    def state() -> list[tuple[int, str]]:
        answers = [shop.ask("GET", f"/api/v1{path}") for path in READS]
        return [(answer.status_code, answer.text) for answer in answers]

    before = state()
    assert all(status == 200 for status, _ in before) and sum(SECRET in text for _, text in before) >= 5
    head: Any = call("consent.verify", {"tenant": "shop"})
    tried = set()
    for operation in sorted(operations(rival), key=writes):  # what the rival writes is the rival's to read

        def look(case: Any, label: str = operation.label) -> None:
            if case.path_parameters:
                case.path_parameters = dict.fromkeys(case.path_parameters, SECRET)
            if isinstance(case.body, dict) and "email" in case.body:
                case.body["email"] = f"{SECRET}@example.net"
            if isinstance(case.query, dict) and "purpose" in case.query:
                case.query["purpose"] = SECRET
            answer = rival.send(case)
            tried.add(label)
            assert answer.status_code < 500, (label, answer.status_code)
            shown = answer.text
            if label == "POST /requests":  # the rival's own request, which names whom it says that it is of
                shown = shown.replace(f'"email":"{SECRET}@example.net"', "", 1)
            assert SECRET not in shown, (label, shown)
            assert not (case.path_parameters and answer.is_success), (label, answer.status_code)

        fuzz(operation, look, examples=3)
    assert len(tried) >= 18
    assert state() == before
    assert call("consent.verify", {"tenant": "shop"}) == head
