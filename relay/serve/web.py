"""The web process: portal and API over the control socket and read-only connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from relay.clock import SystemClock
from relay.consent.lookup import Lookup
from relay.counters.contract import CountersUnavailable
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import open_shared
from relay.counters.ring import UNKNOWN, News
from relay.directory import Directory
from relay.keyring import Keyring, KeyringError
from relay.limitbook import LimitBook
from relay.mail.address import narrow
from relay.mail.apikey import ApiKey
from relay.mail.envelope import Stream, Tenant
from relay.mail.letters import confirmation, own_data
from relay.observe import events, metrics
from relay.observe.actor import GATEWAY, PERSON, actor
from relay.observe.log import log
from relay.observe.scarcity import scarcity
from relay.policy.catalogue import Catalogue
from relay.policy.facts import ConsentState, PendingRequest, SuppressionEntry
from relay.portal.app import create_app
from relay.portal.gateway import Mailed, Notice, OpRefused, OpUnavailable, OwnMessage, Told
from relay.portal.mails import mailed_to
from relay.portal.outcomes import own_message
from relay.portal.server import server_config
from relay.reputation.book import Book, Sender
from relay.reputation.bounce import kind_of
from relay.reputation.judge import Bounds
from relay.reputation.rows import rows
from relay.serve import channel as control
from relay.serve.boot import HISTORY, Boot, control_path
from relay.serve.channel import Channel
from relay.serve.key_uses import KeyUses
from relay.serve.outcomes import WORDS, Outcomes
from relay.serve.standings import Standings
from relay.spool.cipher import Cipher
from relay.spool.item import decode_id, encode_id
from relay.store import StoreUnavailable, history
from relay.store.generation import DIRECTORY, Generation
from relay.store.outbox import Outbox
from relay.trace import who_any

RELOAD_SECONDS = 0.5
MEASURE_SECONDS = 5.0
MOST_MAILS = 200  # that a person is shown of his own


class SharedLookup:
    """relay.consent.lookup.Lookup for several threads: one at a time. Raises OpUnavailable where it cannot read."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            log.error(events.STORE_FAILED, kind=type(error).__name__)
            raise OpUnavailable("lookup") from None

    def consents(self, tenant_id: int, purpose: str, addresses: Sequence[str]) -> Mapping[str, ConsentState | None]:
        with self._alone():
            return self._lookup.consents(tenant_id, purpose, addresses)

    def suppressions(
        self, tenant_id: int, addresses: Sequence[str], *, purpose: str = ""
    ) -> Mapping[str, tuple[SuppressionEntry, ...]]:
        with self._alone():
            return self._lookup.suppressions(tenant_id, addresses, purpose=purpose)

    def requests(self, tenant_id: int, purpose: str, addresses: Sequence[str]) -> Mapping[str, PendingRequest | None]:
        with self._alone():
            return self._lookup.requests(tenant_id, purpose, addresses)


class Gateway:
    """Keeps relay.portal.gateway.Gateway over the control socket."""

    def __init__(self, boot: Boot, keyring: Keyring, channel: Channel) -> None:
        settings = boot.settings
        self.settings = settings
        self.keyring = keyring
        self._channel = channel
        self._generation = Generation.open(settings.server.data_dir)
        self._seen = -1
        self.stale = ""  # why the directory is not the newest
        self._directory = Directory(keyring)  # nobody, until it can be read
        self.lookup = SharedLookup(Lookup(settings.database_path, keyring, generation=self._generation))
        capture = settings.delivery.mode == "capture"
        self.outbox = Outbox(settings.server.data_dir / "outbox.db", keyring) if capture else None
        self._cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
        self.counters = open_shared(settings.storage, EmbeddedCounters(settings.server.data_dir))
        self._book = Book(self.counters.windows, Bounds(**settings.reputation.model_dump()))
        self._standings = Standings(self._book)
        self.outcomes = Outcomes(
            self._book,
            channel.call,
            SystemClock(),
            tenant=lambda number: self.directory().tenant_by_id(number),
            house=(settings.server.hostname, settings.web.public_url),
        )
        self._key_uses = KeyUses(channel.call)
        self._limits = LimitBook(Catalogue.load(settings.policies), self.counters, self._book)

    def directory(self) -> Directory:
        return self._directory

    async def follow(self) -> None:
        """Take in changes of the directory. While it cannot be read the last one holds, and it is tried again."""
        measure_at = 0.0
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                await self.look()
                if time.monotonic() >= measure_at:
                    measure_at = time.monotonic() + MEASURE_SECONDS
                    await self._standings.measure(self._directory, time.time())
            except Exception as error:  # who looks must go on looking, or a revoked key would be good for ever
                if not scarcity.met(error):
                    metrics.CRASHES.inc(("web",))
                    log.error(events.WATCH_CRASHED, kind=type(error).__name__)

    async def look(self) -> None:
        """Take in what has changed since the last look."""
        seen = self._generation.read(DIRECTORY)
        if seen == self._seen and time.time() < self.keyring.next_at:
            return
        path = self.settings.database_path
        try:
            self.keyring.reload(now=time.time())
            self._cipher.renew(self.keyring.queue_keys, self.keyring.current_queue_key_id)
            if seen == self._seen:
                return
            self._directory = await asyncio.to_thread(Directory.load_safely, path, self.keyring, self._generation)
        except (KeyringError, StoreUnavailable, SQLAlchemyError) as error:
            if not self.stale:
                log.error(events.DIRECTORY_STALLED, kind=type(error).__name__)
            self.stale = "web: the directory has changed and cannot be read"
            return
        self._seen, self.stale = seen, ""

    async def _call(self, op: str, args: dict[str, Any]) -> Any:
        try:
            return await self._channel.call(op, args)
        except control.OpRefused as error:
            if error.code in control.DOWN_CODES:  # nobody has looked at it: what was asked may well be right
                raise OpUnavailable(error.code) from None
            raise OpRefused(error.code, error.text) from None
        except control.OpUnavailable:
            raise OpUnavailable(op) from None

    async def op(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        answer = await self._call(name, args)
        return answer if isinstance(answer, dict) else {"items": answer}

    def key_used(self, key: ApiKey) -> None:
        self._key_uses.note(key)

    async def hit(self, key: str, *, limit: int, per_seconds: int) -> float:
        return float(await self._call("web.enter", {"key": key, "limit": limit, "window_seconds": per_seconds}))

    async def submit_notice(self, notice: Notice) -> None:
        tenant = self._directory.tenant(notice.tenant)
        if tenant is None:
            raise OpUnavailable("tenant")
        _, _, about = notice.kind.partition("my.")
        if about:
            what = {"code": notice.link, "link": notice.way or notice.link}
            letter = own_data(tenant, about, notice.recipient, what, language=notice.language)
        else:
            to, link, name = notice.recipient, notice.link, notice.message_id
            letter = confirmation(tenant, notice.purpose, to, link, language=notice.language, message_id=name)
        args = {
            "tenant": {"id": tenant.id, "name": tenant.name},
            "purpose": notice.purpose,
            "recipient": notice.recipient,
            "language": notice.language,
            "domain": letter.domain,
            "raw": letter.raw,
        }
        await self._call("worker.submit", args)

    async def message_trace(self, tenant: str, queue_id: str) -> dict[str, Any] | None:
        number = decode_id(queue_id)
        if number is None:
            return None
        found = await self._history([number])
        if not found or found[0].data.get("tenant") != tenant:
            return None
        return {"id": queue_id, "events": [{"at": e.at, "event": e.word, **e.data} for e in found]}

    async def own_messages(self, tenant: str, queue_ids: Sequence[str]) -> dict[str, OwnMessage]:
        numbers = [number for queue_id in queue_ids if (number := decode_id(queue_id)) is not None]
        found: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
        for event in await self._history(numbers):
            found.setdefault(event.id, []).append((event.word, event.data))
        mine = (own_message(encode_id(number), tenant, lines) for number, lines in found.items())
        return {one.queue_id: one for one in mine if one is not None}

    async def mails_to(self, tenant: str, address: str) -> list[Mailed]:
        folder, hashes = self.settings.server.data_dir / HISTORY, who_any(self.keyring, narrow(address))
        try:
            numbers = await asyncio.to_thread(history.find, folder, hashes, MOST_MAILS)
        except sqlite3.Error:
            raise OpUnavailable("history") from None
        found: dict[int, list[history.Event]] = {}
        for event in await self._history(numbers):
            found.setdefault(event.id, []).append(event)
        mails = (
            mailed_to(encode_id(number), tenant, address, [(e.at, e.word, e.data) for e in lot])
            for number, lot in found.items()
        )
        return sorted((one for one in mails if one is not None), key=lambda one: one.at, reverse=True)

    async def tell_outcomes(self, tenant: Tenant, told: Sequence[Told]) -> list[bool]:
        kinds = [kind_of(one.status, "") for one in told]
        items = [
            {
                "message": one.message.queue_id,
                "address": one.address,
                "kind": one.kind,
                "suppress": kind == UNKNOWN and one.message.stream != Stream.PERSONAL,
            }
            for one, kind in zip(told, kinds, strict=True)
        ]
        answers = await self._call("outcome.tell", {"tenant": tenant.name, "items": items})
        for one, kind, answer in zip(told, kinds, answers, strict=True):
            if answer["new"]:
                complained = one.kind == "complained"
                metrics.OUTCOMES.inc(("complained" if complained else WORDS[kind],))
                sender = Sender(tenant.id, one.message.credential, one.message.stream, one.message.domain)
                self.outcomes.tell(sender, News(complaints=1) if complained else News(late=bytes([kind])))
        return [bool(answer["new"]) for answer in answers]

    async def reputation(self, tenant: Tenant) -> list[dict[str, Any]]:
        try:
            return await rows(self._book, tenant, self._directory.credentials_of(tenant), time.time())
        except CountersUnavailable as error:
            raise OpUnavailable(error.kind) from None

    async def limits(self, tenant: Tenant) -> list[dict[str, Any]]:
        return await self._limits.show(tenant, self._directory.credentials_of(tenant), time.time())

    async def _history(self, numbers: list[int]) -> list[history.Event]:
        """What the delivery log has of these messages."""
        folder = self.settings.server.data_dir / HISTORY
        try:
            return await asyncio.to_thread(history.read, folder, numbers, self._cipher.open)
        except sqlite3.Error:
            raise OpUnavailable("history") from None

    async def metrics_text(self) -> str:
        return str(await self._call("metrics.text", {}))

    async def ready(self) -> list[str]:
        reasons = [str(reason) for reason in await self._call("ready", {})]
        return [*reasons, self.stale] if self.stale else reasons

    async def notes(self) -> list[str]:
        return [str(note) for note in await self._call("ready.notes", {})]


async def main(boot: Boot) -> None:
    """Run the web process until SIGTERM or until the supervisor is gone."""
    keyring = Keyring.open(boot.settings.server.keys_dir, create=False)

    async def refuse(channel: Channel, op: str, args: dict[str, Any]) -> Any:
        if op == "metrics.snapshot":
            return metrics.snapshot()
        raise control.OpRefused("unknown", f"{op} is no command of the web process")

    channel = await control.connect(str(control_path(boot.settings)), refuse)
    link = asyncio.get_running_loop().create_task(channel.run())
    gateway = Gateway(boot, keyring, channel)
    await gateway.look()
    follow = asyncio.get_running_loop().create_task(gateway.follow())
    watchers = asyncio.gather(gateway.counters.watch(), gateway.counters.windows.follow(), gateway.outcomes.watch())
    app = create_app(gateway, boot.settings)
    sock = socket.socket(fileno=boot.sockets[0][1])
    server = uvicorn.Server(server_config(app, boot.settings.private))
    actor.set(PERSON)  # whoever comes in from here on; a tenant's program says who it is
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    actor.set(GATEWAY)
    await channel.call("worker.hello", {"place": boot.place, "pid": os.getpid()})
    await asyncio.wait((link, serving), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await asyncio.wait((serving,), timeout=boot.settings.server.drain_timeout_seconds)
    follow.cancel()
    await gateway.outcomes.flush()
    watchers.cancel()
    await gateway.counters.close()
