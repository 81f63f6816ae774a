"""What the doctor finds at a running gateway."""

from __future__ import annotations

import signal
from typing import Any

from relay.cli.demo_setup import config_text
from tests.harness.certificates import write_pair
from tests.harness.gateway import Gateway
from tests.relay.cli.conftest import Zegel
from tests.scenarios.conftest import Start


def findings(gateway: Gateway, check: str) -> list[dict[str, Any]]:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    answer = Zegel(config)("doctor", "--offline", "--json")
    found = [finding for finding in answer.json if finding["check"] == check]
    assert answer.code == (1 if any(finding["state"] == "wrong" for finding in answer.json) else 0)
    assert all(finding["remedy"] for finding in found if finding["state"] != "ok")
    return found


def test_a_certificate_that_was_renewed_and_not_taken_in_is_found(start: Start) -> None:
    gateway, _ = start()
    shown = findings(gateway, "TLS")
    # STARTTLS, TLS from the first byte, and bounces; who comes by way of a balancer is not asked.
    assert [finding["state"] for finding in shown] == ["ok"] * 3 and "TLSv1.3" in shown[0]["text"], shown
    write_pair(gateway.certificate, gateway.key)
    stale = findings(gateway, "TLS")
    assert [finding["state"] for finding in stale] == ["wrong"] * 3 and "another certificate" in stale[0]["text"]
    gateway.signal(signal.SIGHUP)
    gateway.until(lambda: all(finding["state"] == "ok" for finding in findings(gateway, "TLS")), 10.0, "not taken in")
