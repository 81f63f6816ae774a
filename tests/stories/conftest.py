"""A gateway that has run for a year, prepared once and copied for each story; and a Redis."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relay.keyring import Keyring
from tests.fakes.clock import START, FakeClock
from tests.harness.redis import RedisServer
from tests.stories.story import DAY
from tests.stories.world import owner_of, settings_for

LOGINS = {
    "office": {"stream": "personal"},
    "app": {"stream": "transactional"},
    "news": {"stream": "marketing", "purpose": "newsletter"},
}
"""Of the tenant `shop`, old enough to have warmed up."""


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a gateway with the tenant `shop`, a customer for a year."""
    folder = tmp_path_factory.mktemp("founded")
    settings, clock = settings_for(folder, "embedded"), FakeClock(START - 365 * DAY)
    keyring = Keyring.open(settings.server.keys_dir, create=True)
    with owner_of(settings, keyring, clock) as owner:
        about = {"legal_name": "Tuinhuis BV", "contact": "beheer@shop.example", "language": "nl"}
        owner.call("tenant.add", {"name": "shop", **about})
        owner.call("domain.add", {"tenant": "shop", "domain": "shop.example", "vouched": True})
        owner.call("dkim.add", {"domain": "shop.example", "vouched": True})
        for name, title in (("newsletter", "Tuinbrief"), ("offers", "Aanbiedingen")):
            owner.call("purpose.add", {"tenant": "shop", "name": name, "title_nl": title, "title_en": title})
        for name, properties in LOGINS.items():
            owner.call("credential.add", {"name": name, "tenant": "shop", **properties})
    return folder


@pytest.fixture
def folder(founded: Path, tmp_path: Path) -> Path:
    """A copy of it for one story."""
    place = tmp_path / "gateway"
    shutil.copytree(founded, place)
    return place


@pytest.fixture
def redis(empty_redis: RedisServer) -> str:
    """Its address."""
    return empty_redis.url
