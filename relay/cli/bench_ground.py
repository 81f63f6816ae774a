"""What `zegel bench` works with: the real objects of a worker over a data folder of their own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.cli.client import Link, as_folder_owner, keyring_for
from relay.clock import SystemClock
from relay.consent.lookup import Lookup
from relay.counters.embedded import EmbeddedCounters
from relay.counters.one_node import OneNode
from relay.delivery.render import Links, Signer
from relay.directory import Directory
from relay.enqueue import House
from relay.gather import Counting, Gather
from relay.intake import Intake
from relay.keyring import Keyring
from relay.mail.envelope import Account, Envelope, Recipient, SessionInfo, Submission
from relay.mail.message import Message
from relay.policy.catalogue import Catalogue
from relay.policy.pipeline import Pipeline
from relay.policy.ruling import Ruling
from relay.policy.verdict import Note
from relay.recheck import Recheck, Terms
from relay.serve.boot import HISTORY
from relay.settings.model import Settings
from relay.spool.cipher import Cipher
from relay.spool.item import IdSource, Item
from relay.store.generation import CONSENT, Generation
from relay.store.history import History
from relay.store.threads import Threads
from relay.trace import Trace

TENANT, DOMAIN, PURPOSE = "bench", "sender.example", "newsletter"
RECIPIENTS = 500  # each with a consent; one import takes as many
FAR = 1_000_000_000
UNLIMITED = {
    "marketing_messages_per_minute": FAR // 100,
    "marketing_recipients_per_day": FAR,
    "stream_messages_per_minute": FAR // 100,
    "tenant_messages_per_minute": FAR // 100,
    "tenant_recipients_per_day": FAR,
    "domain_messages_per_minute": FAR // 100,
    "client_messages_per_minute": FAR // 100,
    "warmup_recipients": 0,
}
"""Limits of the throttle policy that are counted and never reached."""


class _Nobody:
    """Stands where intake tells of its answers."""

    def refused(self, number: int, ruling: Ruling, reply: str) -> None:
        return

    def accepted(self, item: Item, ruling: Ruling, notes: Sequence[Note]) -> None:
        return

    def reports(self, item: Item, ruling: Ruling) -> list[Item]:
        return []


class _NoQueue:
    """Stands where intake would commit; only ids are asked of it here."""

    def __init__(self) -> None:
        self._ids = IdSource(0)

    def next_id(self) -> int:
        return self._ids.next(time.time())

    def commit(self, item: Item) -> Any:
        raise AssertionError("the bench commits to a queue of its own")

    def pressure(self) -> str | None:
        return None


@dataclass(slots=True)
class Ground:
    """Everything that judges, seals and signs, as a worker has it."""

    settings: Settings
    keyring: Keyring
    directory: Directory
    account: Account
    intake: Intake
    cipher: Cipher
    recheck: Recheck
    generation: Generation
    signer: Signer
    policy_seconds: dict[str, list[float]]

    @classmethod
    def open(cls, settings: Settings, credential: str) -> Ground:
        """Over the data folder of `settings`, for mail of one login."""
        data, clock = settings.server.data_dir, SystemClock()
        keyring = Keyring.open(settings.server.keys_dir, create=False)
        directory = Directory.load(settings.database_path, keyring)
        account = directory.account(credential)
        assert account is not None, "it was made a moment ago"
        generation = Generation.open(data)
        lookup = Lookup(settings.database_path, keyring)
        cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
        history = History(data / HISTORY, "bench", cipher.seal)
        seconds: dict[str, list[float]] = {}
        pipeline = Pipeline(
            Catalogue.load(settings.policies),
            timer=clock.monotonic,
            record=lambda name, spent: seconds.setdefault(name, []).append(spent),
        )
        counters = EmbeddedCounters(data)
        gather = Gather(
            lookup,
            Threads(data, keyring.subject_hashes, writable=False),
            Counting(counters, OneNode(counters)),
            generation=lambda: generation.read(CONSENT),
        )
        house = House(settings.server.hostname, settings.web.public_url, settings.server.language)
        return cls(
            settings=settings,
            keyring=keyring,
            directory=directory,
            account=account,
            intake=Intake(pipeline, gather, _NoQueue(), Trace(history, keyring), house=house, watcher=_Nobody()),
            cipher=cipher,
            recheck=Recheck(pipeline, lookup, generation, lambda: directory, clock, Terms(72.0)),
            generation=generation,
            signer=Signer(directory.keys_for, clock.now, lambda item, recipient: Links("", "")),
            policy_seconds=seconds,
        )

    def submission(self, recipients: tuple[Recipient, ...], message: Message | None = None) -> Submission:
        """A submission as the desk makes it."""
        session = SessionInfo("127.0.0.1", "client.example")
        envelope = Envelope(f"news@{DOMAIN}", recipients)
        return Submission(self.account, envelope, session, time.time(), message, purpose=self.account.purpose)


def recipient(number: int) -> str:
    """An address with a consent."""
    return f"rcpt{number % RECIPIENTS}@dest{number % 10}.example"


def newsletter(size: int) -> bytes:
    """A lawful newsletter of about `size` octets to recipient 0."""
    head = (
        f"From: Sender Example <news@{DOMAIN}>\r\nTo: <{recipient(0)}>\r\nSubject: Ten things to read this week\r\n"
        "Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n"
        f"Message-ID: <1.2.3@{DOMAIN}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n"
        f"Content-Transfer-Encoding: 7bit\r\nList-Id: Sender Example news <news.{DOMAIN}>\r\n"
        f"List-Unsubscribe: <https://{DOMAIN}/u/1.2>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
        f"You get this newsletter because you asked for it.\r\nUnsubscribe: https://{DOMAIN}/u/1.2\r\n\r\n"
    )
    line = "The river, the market, the garden and a letter with a seal that nobody has opened yet.\r\n"
    return (head + line * max(1, (size - len(head)) // len(line))).encode()


@contextmanager
def ground(settings: Settings) -> Iterator[Ground]:
    """A ground in a folder of its own beside the data of `settings`, so that syncing costs what it costs there."""
    near = settings.server.data_dir
    while not near.is_dir():
        near = near.parent
    with as_folder_owner(near):
        folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=near))
        try:
            own = _settings(settings, folder)
            yield Ground.open(own, _set_up(own))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _settings(settings: Settings, folder: Path) -> Settings:
    server = settings.server.model_copy(update={"data_dir": folder / "data", "keys_dir": folder / "keys"})
    storage = settings.storage.model_copy(update={"database": "sqlite:///zegel.db"})
    throttle = {**settings.policies.get("throttle", {}), **UNLIMITED}
    policies = {**settings.policies, "throttle": throttle}
    return settings.model_copy(update={"server": server, "storage": storage, "policies": policies})


def _set_up(settings: Settings) -> str:
    """Tenant, domain, key, login and consents; the login's name."""
    settings.server.data_dir.mkdir(mode=0o700)
    keyring_for(settings)
    with Link(settings) as link:
        link.call("tenant.add", {"name": TENANT, "legal_name": "Sender Example", "contact": f"info@{DOMAIN}"})
        link.call("domain.add", {"tenant": TENANT, "domain": DOMAIN, "vouched": True})
        link.call("dkim.add", {"tenant": TENANT, "domain": DOMAIN, "vouched": True})
        link.call("purpose.add", {"tenant": TENANT, "name": PURPOSE, "title_nl": "nieuws", "title_en": "news"})
        made = link.call("credential.add", {"tenant": TENANT, "stream": "marketing", "purpose": PURPOSE})
        rows = [{**_CONSENT, "email": recipient(number)} for number in range(RECIPIENTS)]
        link.call("consent.import_rows", {"tenant": TENANT, "rows": rows})
    return str(made["name"])


_CONSENT = {
    "purpose": PURPOSE,
    "basis": "consent",
    "method": "web_form",
    "source": f"https://{DOMAIN}/join",
    "given_at": "2026-01-02T10:00:00Z",
    "text": "Yes, send me the newsletter",
    "text_language": "en",
    "policy_url": f"https://{DOMAIN}/privacy",
    "jurisdiction": "NL",
    "provenance": "own",
    "sensitive_audience": "no",
}
