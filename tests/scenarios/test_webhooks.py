"""A real gateway tells a tenant's tool who left by a link, also when it dies between the change and the telling."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from relay.consent.subject import person_text
from relay.consent.token import TokenKind, make
from relay.keyring import Keyring
from tests.harness.gateway import AGREED, Gateway
from tests.relay.serve.hook import Hook

SECONDS = 60.0


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def gateway(tmp_path: Path, hook: Hook) -> Iterator[Gateway]:
    made = Gateway(tmp_path, workers=1, webhooks={"allowed_networks": ["127.0.0.0/8"]}).start()
    made.op("webhook.add", tenant="shop", name="crm", url=hook.url)
    yield made
    made.stop()


def leave(gateway: Gateway, subscriber: str) -> int:
    """As a mail client does it (RFC 8058)."""
    keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
    person = keyring.subject_hash(person_text(1, AGREED[0]))
    token = make(keyring, TokenKind.UNSUBSCRIBE, 1, purpose="newsletter", subject_hash=person, subscriber=subscriber)
    connection = http.client.HTTPConnection(urlsplit(gateway.settings.web.public_url).netloc, timeout=30)
    connection.request(
        "POST", f"/u/{token}", "List-Unsubscribe=One-Click", {"Content-Type": "application/x-www-form-urlencoded"}
    )
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_click_reaches_the_tool_by_its_own_id(gateway: Gateway, hook: Hook) -> None:
    assert leave(gateway, "u-4711") == 200
    (came,) = hook.wait(1, SECONDS)
    told = json.loads(came.body)
    assert (told["event"], told["subscriber"], told["channel"]) == ("unsubscribed", "u-4711", "one_click")
    gateway.until(lambda: gateway.op("webhook.list", tenant="shop")[0]["waiting"] == 0, SECONDS, "it was not noted")
    gateway.until(lambda: gateway.metric('zegel_webhook_tries_total{outcome="delivered"}') == 1, SECONDS, "not counted")
    log = (gateway.folder / "gateway.log").read_text()
    assert "u-4711" not in log and hook.url not in log


def test_a_gateway_that_is_killed_before_the_tool_answered_tells_again_with_the_same_id(
    gateway: Gateway, hook: Hook
) -> None:
    hook.gate.clear()
    assert leave(gateway, "u-1") == 200
    gateway.op("consent.withdraw", tenant="shop", address=AGREED[0])
    assert len(hook.wait(1, SECONDS)) == 1
    assert gateway.process is not None
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.wait()
    hook.gate.set()
    gateway.start()
    first, again, later = hook.wait(3, SECONDS)
    assert first.body == again.body and json.loads(first.body)["scope"] == "newsletter"
    assert json.loads(later.body)["scope"] == "all", "and then what was said after it"
