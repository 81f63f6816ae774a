"""Once an hour: what has had its time is forgotten, in the database, the delivery log, thread memory and captured mail (GDPR-11,
GDPR-14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from relay.keyring import Keyring
from relay.mail.mailing import Mailing
from relay.observe import privacy_metrics
from relay.owner.expiry import years_before
from relay.owner.mailings import KIND, namer, start_of
from relay.owner.periods import DAY, days_of
from relay.serve.boot import HISTORY
from relay.settings.model import Settings
from relay.settings.privacy import Privacy
from relay.spool.cipher import Cipher
from relay.store import outbox, uses
from relay.store.history import forget_before
from relay.store.mailings import Periods, forget
from relay.store.thinning import thin

Run = Callable[[str, dict[str, Any]], Awaitable[Any]]
InThread = Callable[..., Awaitable[Any]]
NOT_ROWS = frozenset(("delivery_log", "campaign_addresses", "captured", "proof"))
# What an answer of retention.run counts, as kinds of relay.owner.periods.
COUNTED = {
    "evidence": "evidence",
    "proofs": "proof",
    "bounces": "bounce",
    "requests": "request",
    "codes": "code",
    "moves": "code",
    "mailings": "mailing",
    "outcomes": "outcome",
    "answers": "idempotency",
    "audit": "audit",
    "webhooks": "webhook",
    "tallies": "told",
    "keys": "proof",
    "digests": "told",
    "incidents": "incident",
    "people": "request_file",
}


class Forgetting:
    """`write` runs an operation of the owner, `read` one that only reads; `forget_threads` runs in the owner's thread."""

    def __init__(self, write: Run, read: Run, forget_threads: Callable[[float], Awaitable[int]]) -> None:
        self._write, self._read, self._forget_threads = write, read, forget_threads
        self._texts_at = 0.0  # when it was last looked which texts nobody needs: once a day, for it reads all events

    async def run(self, settings: Settings, keyring: Keyring, now: float) -> None:
        """All of it. Raises sqlite3.Error, OSError, OpRefused or OpUnavailable; then the rest waits for the next hour."""
        _count("threads", await self._forget_threads(now), now)
        await self._delivery_log(settings, keyring, now)
        await self._mailings(settings, keyring, now)
        years = settings.privacy.consent_proof_years
        folder = settings.server.data_dir / uses.FOLDER
        _count("proof", await asyncio.to_thread(uses.forget_before, folder, years_before(now, years)), now)
        periods = operators(settings.privacy)
        given = {f"{kind}_days": days for kind, days in periods.items() if kind not in NOT_ROWS}
        given["proof_years"] = years
        more = True
        while more:  # one batch to a commit, so that who leaves goes in between
            gone = await self._write("retention.run", given)
            for name, kind in COUNTED.items():
                _count(kind, gone[name], now)
            more = gone["more"]
        if now - self._texts_at >= DAY:
            self._texts_at = now
            texts = await self._read("retention.texts", {"proof_years": years})
            if texts:
                _count("proof", (await self._write("retention.forget_texts", {"texts": texts}))["texts"], now)
        await self._captured(settings, keyring, now)  # last: an outbox that nobody needs any more may be broken

    async def _delivery_log(self, settings: Settings, keyring: Keyring, now: float) -> None:
        folder = settings.server.data_dir / HISTORY
        days = settings.privacy.delivery_log_days
        gone = await asyncio.to_thread(forget_before, folder, now - days * DAY)
        cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
        ends = await self._ends(days, now)
        if ends:
            gone += await asyncio.to_thread(thin, folder, ends, cipher.open)
        _count("delivery_log", gone, now)

    async def _captured(self, settings: Settings, keyring: Keyring, now: float) -> None:
        """Also of a gateway that delivers by now: what it had captured is still there."""
        days = settings.privacy.delivery_log_days
        path, moment, ends = settings.server.data_dir / outbox.FILE, now - days * DAY, await self._ends(days, now)
        _count("captured", await asyncio.to_thread(outbox.forget_before, path, keyring, moment, ends), now)

    async def _ends(self, days: int, now: float) -> dict[str, float]:
        """Since when mail is still told of, for each tenant that chose a time of its own for the delivery log."""
        chosen = await self._read("retention.chosen", {"kind": "delivery_log"})
        return {row["tenant"]: now - min(days, row["days"]) * DAY for row in chosen}

    async def _mailings(self, settings: Settings, keyring: Keyring, now: float) -> None:
        chosen = {row["tenant"]: row["days"] for row in await self._read("retention.chosen", {"kind": KIND})}
        dates = await self._read("mailing.dates", {})
        invoiced = {Mailing(row["tenant"], row["mailing"]): start_of(row["invoice_date"]) for row in dates}
        privacy = settings.privacy
        periods = Periods(privacy.campaign_addresses_days, privacy.campaign_invoice_days, chosen, invoiced)
        folder = settings.server.data_dir / HISTORY
        _count(KIND, await asyncio.to_thread(forget, folder, namer(keyring), periods, now), now)


def operators(privacy: Privacy) -> dict[str, int]:
    """The operator's periods in days, by kind, of those that the config sets."""
    return {
        "delivery_log": days_of("delivery_log", privacy.delivery_log_days),
        "campaign_addresses": days_of("campaign_addresses", privacy.campaign_addresses_days),
        "mailing": privacy.campaign_addresses_days + privacy.campaign_invoice_days,
        "captured": days_of("captured", privacy.delivery_log_days),
        "outcome": days_of("outcome", privacy.delivery_log_days),
        "evidence": days_of("evidence", privacy.consent_ip_months),
        "proof": days_of("proof", privacy.consent_proof_years),
        "bounce": days_of("bounce", privacy.bounce_suppression_days),
        "audit": days_of("audit", privacy.security_log_days),
    }


def _count(kind: str, gone: int, now: float) -> None:
    privacy_metrics.FORGOTTEN.inc((kind,), gone)
    privacy_metrics.FORGOT_AT.set(now, (kind,))
