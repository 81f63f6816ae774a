"""What the files beside the database forget of people who were erased: delivery log, captured mail, thread memory, and queue
files that wait for the release of a restore (GDPR-8); and of a tenant that was deleted (GDPR-18).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from relay.consent.erased import Deleted, Erased, finder, without
from relay.keyring import Keyring
from relay.mail.address import narrow, scan
from relay.spool.cipher import Cipher, CorruptRow
from relay.spool.cut import RESTORED
from relay.spool.item import decode_id, last_id
from relay.spool.strike import strike_folder
from relay.store import history, thinning
from relay.store.outbox import FILE as OUTBOX
from relay.store.outbox import Entry, Outbox
from relay.store.threads import FILE as THREADS
from relay.store.threads import Threads
from relay.store.widening import widen

HISTORY, QUEUE = "history", "queue"


def forget_files(data_dir: Path, keyring: Keyring, people: Sequence[Erased], *, last: bool) -> list[int]:
    """All of it, from any thread; in how many places each was found. May be done again, and is the `last` time when nothing more
    can be written about them. What came after an erasure stays. Raises sqlite3.Error or OSError; then it is to be done again.
    """
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    if people:
        widen(data_dir / HISTORY, _readable(cipher), keyring.subject_hash)
    found = _restored_queue(data_dir / QUEUE / RESTORED, people, keyring, cipher)
    for number, one in enumerate(people):
        is_his = one.matcher(keyring)
        found[number] += _delivery_log(data_dir / HISTORY, one, keyring, cipher, last=last)
        if (data_dir / OUTBOX).exists():
            with contextlib.closing(Outbox(data_dir / OUTBOX, keyring)) as outbox:
                found[number] += outbox.erase(one.tenant, _captured(one, is_his))
        if (data_dir / THREADS).exists():
            with contextlib.closing(Threads(data_dir, keyring.subject_hashes, writable=True)) as threads:
                found[number] += threads.erase(one.thread, one.until)
    return found


def forget_tenant(data_dir: Path, keyring: Keyring, one: Deleted) -> int:
    """The same of a tenant that was deleted: in how many places it was found (GDPR-18). May be done again."""
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    found = thinning.forget_tenant(data_dir / HISTORY, one.tenant, cipher.open)
    if (data_dir / OUTBOX).exists():
        with contextlib.closing(Outbox(data_dir / OUTBOX, keyring)) as outbox:
            found += outbox.erase(one.tenant, lambda entry: True)
    found += strike_folder(data_dir / QUEUE / RESTORED, cipher, lambda tenant, *mail: tenant == one.tenant_id)
    if (data_dir / THREADS).exists():
        with contextlib.closing(Threads(data_dir, keyring.subject_hashes, writable=True)) as threads:
            found += threads.erase_tenant(one.tenant_id)
    return found


def _readable(cipher: Cipher) -> Callable[[int, bytes], bytes]:
    def unseal(number: int, blob: bytes) -> bytes:
        try:
            return cipher.open(number, blob)
        except CorruptRow:
            return b"{}"  # nobody can read it

    return unseal


def _restored_queue(folder: Path, people: Sequence[Erased], keyring: Keyring, cipher: Cipher) -> list[int]:
    """One pass over it for all of them."""
    found = [0] * len(people)
    if not people or not folder.exists():
        return found
    whose = finder(dict(enumerate(people)), keyring)
    last_ids = [last_id(one.until) for one in people]

    def strikes(tenant: int, message: int, address: str) -> bool:
        his = [number for number in whose(tenant, address) if message <= last_ids[number]]
        for number in his:
            found[number] += 1
        return bool(his)

    strike_folder(folder, cipher, strikes)
    return found


def _delivery_log(folder: Path, one: Erased, keyring: Keyring, cipher: Cipher, *, last: bool) -> int:
    matches, spellings = one.matcher(keyring), set[str]()

    def is_his(address: str) -> bool:
        found = matches(address)
        if found:
            spellings.add(narrow(address))
        return found

    def spelled() -> list[int]:
        return [history.short_hash(each) for text in spellings for each in keyring.subject_hashes(history.TRACE + text)]

    mails, box = (one.tenant, last_id(one.until)), (cipher.seal, cipher.open)
    cut = history.Cut(lambda data: without(data, is_his), spelled)
    return history.erase(folder, one.trace, mails, cut, box, last=last)


def _captured(one: Erased, is_his: Callable[[str], bool]) -> Callable[[Entry], bool]:
    """Whether captured mail is to go: who got it, or is shown in its head. It is looked at by people, so it goes whole."""
    newest = last_id(one.until)

    def names(entry: Entry) -> bool:
        number = decode_id(entry.queue_id)  # None: it was refused before it had one
        if entry.at > one.until if number is None else number > newest:
            return False
        heads = (raw.partition(b"\r\n\r\n")[0] for raw in (entry.incoming, entry.outgoing))
        return any(map(is_his, (entry.mail_from, *entry.recipients))) or any(
            is_his(a) for head in heads for a in scan(head)
        )

    return names
