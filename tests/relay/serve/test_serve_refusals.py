"""Counts of refusals on their way from a worker to the owner, over a real control socket (OPS-6)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay.mail.envelope import Account, Credential, Envelope, MailClass, SessionInfo, Stream, Submission, Tenant
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action
from relay.serve.channel import Channel, OpRefused, OpUnavailable, connect
from relay.serve.refusals import Refusals
from relay.settings.model import Settings
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

SHOP = Tenant(7, "shop")
ACCOUNT = Account(SHOP, Credential("c", "c", "shop", Stream.MARKETING, ""), None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def refused() -> Ruling:
    mail = Submission(ACCOUNT, Envelope("a@shop.example", ()), SessionInfo(""), 0.0, mail_class=MailClass.COMMERCIAL)
    return Ruling(mail, Action.REJECT, "consent.missing")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OpUnavailable("store"), 3),
        (OpRefused("storage", "full"), 3),
        (RuntimeError("a bug"), 3),
        (OpRefused("usage", "of another version"), 1),  # asked for ever it would be refused for ever
    ],
)
async def test_counts_wait_for_an_owner_that_cannot_write(tmp_path: Path, failure: Exception, told: int) -> None:
    failures, rows = [failure], list[dict[str, Any]]()

    async def own(channel: Channel, op: str, args: dict[str, Any]) -> None:
        if failures:
            raise failures.pop()
        rows.extend(args["rows"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Channel(reader, writer, own).run()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(serve, path):
        channel = await connect(path, own)
        reading = asyncio.create_task(channel.run())
        counted = Refusals(Settings(), channel, FakeClock(), lambda args: None)
        counted.note(refused())
        counted.note(refused())
        await counted.flush()
        assert rows == []
        counted.note(refused())
        await counted.flush()
        assert [(row["tenant_id"], row["rule"], row["count"]) for row in rows] == [(7, "CONSENT-1", told)]
        channel.close()
        await reading
