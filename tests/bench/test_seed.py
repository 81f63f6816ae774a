"""The fast seed gives what the gateway's own operations would: logins, keys, and consents that a lookup finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import load, seed
from relay.consent.lookup import Lookup
from relay.directory import Directory
from relay.keyring import Keyring

TENANTS, EACH = 3, 40


@pytest.fixture
def seeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(seed, "OUT", tmp_path / "out")
    monkeypatch.setattr(seed, "SIGNING_TENANTS", 1)
    seed.provide(tmp_path / "gateway", tenants=TENANTS, consents=TENANTS * EACH)
    return tmp_path


def open_lookup(folder: Path) -> tuple[Lookup, Keyring]:
    keyring = Keyring.open(folder / "keys", create=False)
    return Lookup(folder / "data" / "zegel.db", keyring), keyring


def test_every_recipient_of_every_tenant_has_a_consent_and_nobody_else(seeded: Path) -> None:
    lookup, _ = open_lookup(seeded / "gateway")
    addresses = [load.recipient(number) for number in range(EACH)]
    with lookup:
        for tenant in range(1, TENANTS + 1):
            states = lookup.consents(tenant, seed.PURPOSE, addresses)
            assert {state.status for state in states.values() if state} == {"given"}
            assert all(states.values())
        stranger = load.recipient(EACH)
        assert lookup.consents(1, seed.PURPOSE, [stranger]) == {stranger: None}
        assert lookup.consents(TENANTS + 1, seed.PURPOSE, addresses[:1]) == {addresses[0]: None}


def test_the_login_of_the_first_tenant_holds_and_its_domain_signs(seeded: Path) -> None:
    _, keyring = open_lookup(seeded / "gateway")
    directory = Directory.load(seeded / "gateway" / "data" / "zegel.db", keyring)
    (kept,) = (seeded / "out").glob("seed-*")
    (first,) = seed.read(kept)
    login = first.logins["marketing"]
    account = directory.authenticate(login.username, login.password)
    assert account is not None and account.purpose is not None and account.purpose.name == seed.PURPOSE
    assert directory.keys_for(first.domain, account.tenant.id)
    assert first.public_key.startswith("MII")


def test_a_second_gateway_gets_the_kept_seed_and_not_the_first_ones_data(seeded: Path) -> None:
    marker = seeded / "gateway" / "data" / "marker"
    marker.touch()
    seed.provide(seeded / "second", tenants=TENANTS, consents=TENANTS * EACH)
    assert len(list((seeded / "out").iterdir())) == 1
    assert (seeded / "second" / "keys" / "keyring.json").read_bytes() == (
        seeded / "gateway" / "keys" / "keyring.json"
    ).read_bytes()
    assert not (seeded / "second" / "data" / "marker").exists()
