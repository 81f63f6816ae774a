"""The audit and the ledger tell who did it: a person, a program by its key, an operator by his login, or the gateway (GDPR-2)."""

from __future__ import annotations

import getpass
import json
import sqlite3
from contextlib import closing

from relay.cli.demo_setup import config_text
from tests.harness.gateway import AGREED, Gateway
from tests.harness.web import ask, leave
from tests.relay.cli.conftest import Zegel, log_as_it_was
from tests.scenarios.conftest import Start

__all__ = ["log_as_it_was"]  # a command sets the log of its process


def audited(gateway: Gateway) -> dict[str, str]:
    """The last actor of each operation."""
    with closing(sqlite3.connect(gateway.settings.database_path)) as database:
        return dict(database.execute("SELECT op, actor FROM audit ORDER BY id"))


def recorded(zegel: Zegel, address: str) -> list[tuple[str, str]]:
    """Each event of a person's consent, and by whom it was recorded."""
    proof = zegel.ask("consent", "proof", "shop", address, "--purpose", "newsletter")
    return [(event["event"], event["recorded_by"]) for event in proof["events"]]


def left(gateway: Gateway, channel: str) -> float:
    return gateway.metric(f'zegel_unsubscribes_total{{channel="{channel}"}}')


def test_each_change_is_written_down_with_who_made_it(start: Start) -> None:
    gateway, _ = start(workers=1)
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    zegel = Zegel(config)
    key = gateway.op("apikey.add", tenant="shop", name="website")["secret"]
    gateway.until(lambda: ask(gateway, "/api/v1/limits", key=key)[0] == 200, 10.0, "the key is not known")
    assert leave(gateway, AGREED[0]) == 200
    told = json.dumps({"event": "withdrawn", "email": AGREED[1], "purpose": "newsletter"}).encode()
    assert ask(gateway, "/api/v1/consents", told, key=key)[0] == 200
    stop = json.dumps({"email": "carl@dest.example", "reason": "objection"}).encode()
    assert ask(gateway, "/api/v1/suppressions", stop, key=key)[0] in (200, 201)
    assert zegel("tenant", "suspend", "shop", "--reason", "spam").code == 0
    by = audited(gateway)
    operator = f"operator:{getpass.getuser()}"
    assert (by["optout"], by["consent.withdraw"], by["suppression.add"]) == ("person", "api:website", "api:website")
    assert by["tenant.suspend"] == operator
    assert recorded(zegel, AGREED[0])[-1][1] == "person"
    assert recorded(zegel, AGREED[1])[-1][1] == "api:website"
    gateway.until(lambda: left(gateway, "api") == 2, 10.0, "whoever the tenant's program told of is not counted")
    assert left(gateway, "operator") == 0
    gateway.stop()
    assert zegel("tenant", "resume", "shop").code == 0
    assert audited(gateway)["tenant.resume"] == operator, "also where no gateway runs"
