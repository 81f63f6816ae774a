"""The hourly job: what was captured goes by the period of the delivery log, in whatever mode the gateway is by then."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, Literal

import pytest

from relay.keyring import Keyring
from relay.observe import metrics, privacy_metrics
from relay.owner.periods import DAY
from relay.serve import retention
from relay.serve.retention import Forgetting
from relay.settings.model import Settings
from relay.store.outbox import Entry, Outbox

NOW = 1_790_000_000.0
CHOSEN = [{"tenant": "kerk", "days": 3}]


async def run(settings: Settings, keyring: Keyring, now: float) -> None:
    """The job beside a database that has nothing to forget; `kerk` keeps its delivery log for three days."""

    async def call(op: str, args: dict[str, Any]) -> Any:
        if op == "retention.run":
            return {**dict.fromkeys(retention.COUNTED, 0), "more": False}
        return CHOSEN if args.get("kind") == "delivery_log" else []

    async def nothing(at: float) -> int:
        return 0

    await Forgetting(call, call, nothing).run(settings, keyring, now)


def settings_of(folder: Path, mode: Literal["capture", "smarthost"]) -> Settings:
    return Settings.model_validate(
        {
            "server": {"data_dir": folder / "data", "keys_dir": folder / "keys"},
            "delivery": {"mode": mode, "smarthosts": ["smtp://mail.example.org"]},
            "privacy": {"delivery_log_days": 7},
        }
    )


def forgotten() -> float:
    rows: Any = metrics.snapshot().get(privacy_metrics.FORGOTTEN.name, [])
    return float(sum(value for labels, value in rows if labels == ["captured"]))


@pytest.mark.parametrize("mode", ["capture", "smarthost"])
def test_what_was_captured_goes_with_the_delivery_log(tmp_path: Path, mode: Literal["capture", "smarthost"]) -> None:
    settings, keyring = settings_of(tmp_path, mode), Keyring.open(tmp_path / "keys", create=True)
    settings.server.data_dir.mkdir()
    path = settings.server.data_dir / "outbox.db"
    outbox = Outbox(path, keyring)
    for tenant in ("shop", "kerk"):
        for days in (1, 5, 8):
            raw = b"Subject: Uw uitslag\r\n\r\n%d" % days
            outbox.record_copy(Entry(f"{tenant}{days}", NOW - days * DAY, tenant, "", "", "accept", incoming=raw))
    before = forgotten()
    asyncio.run(run(settings, keyring, NOW))
    left = {stored.entry.queue_id for stored in outbox.entries()}
    assert left == {"shop1", "shop5", "kerk1"} and forgotten() - before == 3
    asyncio.run(run(settings, keyring, NOW + 7 * DAY))
    assert outbox.entries() == []
    outbox.close()
    assert path.exists()


def test_where_nothing_was_captured_the_job_makes_no_file(tmp_path: Path) -> None:
    settings, keyring = settings_of(tmp_path, "smarthost"), Keyring.open(tmp_path / "keys", create=True)
    settings.server.data_dir.mkdir()
    asyncio.run(run(settings, keyring, NOW + 1))
    assert [found.name for found in settings.server.data_dir.iterdir() if "outbox" in found.name] == []
    looked: Any = metrics.snapshot()[privacy_metrics.FORGOT_AT.name]
    assert [["captured"], NOW + 1] in looked, "an alarm on a job that stands still must not ring"


def test_an_outbox_that_is_broken_keeps_nothing_else_from_being_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, keyring = settings_of(tmp_path, "smarthost"), Keyring.open(tmp_path / "keys", create=True)
    settings.server.data_dir.mkdir()
    (settings.server.data_dir / "outbox.db").write_bytes(b"no database " * 1_000)
    counted: list[str] = []
    monkeypatch.setattr(retention, "_count", lambda kind, gone, now: counted.append(kind))
    with pytest.raises(sqlite3.Error):
        asyncio.run(run(settings, keyring, NOW))
    assert set(counted) == set(privacy_metrics.KIND.values) - {"captured"}
