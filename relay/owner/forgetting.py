"""What the files beside the database forget of people who were erased: delivery log, captured mail, thread memory, and queue
files that wait for the release of a restore (GDPR-8); and of a tenant that was deleted (GDPR-18).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from relay.consent.erased import Deleted, Erased, without
from relay.keyring import Keyring
from relay.mail.address import scan
from relay.spool.cipher import Cipher
from relay.spool.cut import RESTORED
from relay.spool.strike import strike_folder
from relay.store import history, thinning
from relay.store.outbox import Entry, Outbox
from relay.store.threads import FILE as THREADS
from relay.store.threads import Threads

HISTORY, QUEUE, OUTBOX = "history", "queue", "outbox.db"


def forget_files(data_dir: Path, keyring: Keyring, people: Sequence[Erased], *, last: bool) -> int:
    """All of it, from any thread; in how many places they were found. May be done again, and is the `last` time when nothing more
    can be written about them. Raises sqlite3.Error or OSError; then it is to be done again.
    """
    found = 0
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    for one in people:
        is_his = one.matcher(keyring)
        found += _delivery_log(data_dir / HISTORY, one, is_his, cipher, last=last)
        if (data_dir / OUTBOX).exists():
            with contextlib.closing(Outbox(data_dir / OUTBOX, keyring)) as outbox:
                found += outbox.erase(one.tenant, lambda entry, is_his=is_his: _names(entry, is_his))  # type: ignore[misc]
        strikes = {one.tenant_id: is_his}
        found += strike_folder(
            data_dir / QUEUE / RESTORED,
            cipher,
            lambda tenant, address, strikes=strikes: tenant in strikes and strikes[tenant](address),  # type: ignore[misc]
        )
    if people and (data_dir / THREADS).exists():
        with contextlib.closing(Threads(data_dir, keyring.subject_hashes, writable=True)) as threads:
            found += threads.erase([number for one in people for number in one.thread])
    return found


def forget_tenant(data_dir: Path, keyring: Keyring, one: Deleted) -> int:
    """The same of a tenant that was deleted: in how many places it was found (GDPR-18). May be done again."""
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
    found = thinning.forget_tenant(data_dir / HISTORY, one.tenant, cipher.open)
    if (data_dir / OUTBOX).exists():
        with contextlib.closing(Outbox(data_dir / OUTBOX, keyring)) as outbox:
            found += outbox.erase(one.tenant, lambda entry: True)
    found += strike_folder(data_dir / QUEUE / RESTORED, cipher, lambda tenant, address: tenant == one.tenant_id)
    if (data_dir / THREADS).exists():
        with contextlib.closing(Threads(data_dir, keyring.subject_hashes, writable=True)) as threads:
            found += threads.erase_tenant(one.tenant_id)
    return found


def _delivery_log(folder: Path, one: Erased, is_his: Callable[[str], bool], cipher: Cipher, *, last: bool) -> int:
    box = (cipher.seal, cipher.open)
    return history.erase(folder, one.trace, one.tenant, lambda data: without(data, is_his), box, last=last)


def _names(entry: Entry, is_his: Callable[[str], bool]) -> bool:
    """Who got it, or is shown in its head: captured mail is looked at by people, so it goes whole."""
    heads = (raw.partition(b"\r\n\r\n")[0] for raw in (entry.incoming, entry.outgoing))
    return any(map(is_his, (entry.mail_from, *entry.recipients))) or any(
        is_his(a) for head in heads for a in scan(head)
    )
