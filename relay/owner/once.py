"""Idempotency keys: which requests of the API were begun, and what was answered (draft-ietf-httpapi-idempotency-key-header).

A request takes its key before it does anything, durably, so that a copy of it that comes meanwhile, or after a restart, meets it.
"""

from __future__ import annotations

import base64
import binascii

import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import idempotency as table

KEEP_SECONDS = 24 * 3_600
LEASE_SECONDS = 120  # longer than a request may run: whoever began this long ago, and has not ended, is gone
MOST_CHARS = 4_000_000
_HASH_CHARS = 64


def begin(desk: Desk, args: Args) -> Result:
    """`tenant`, `key` and `request` (keyed hashes, in hex). Answers the `state` of the key:

    new: it is taken by `run`, and `again` says whether one that did not end had it before; running: by another one;
    other: for another request; done: with `status` and the sealed `answer`.
    """
    owner = desk.tenant(args.text("tenant"))
    key, request = _hash(args, "key"), _hash(args, "request")
    is_key = table.c.key == key
    row = desk.connection.execute(sa.select(table).where(is_key)).first()
    if row is not None and row.at <= desk.now - KEEP_SECONDS:
        desk.connection.execute(table.delete().where(is_key))
        row = None
    if row is None:
        values = {"key": key, "tenant_id": owner.id, "request": request, "at": desk.now, "begun_at": desk.now}
        desk.connection.execute(table.insert().values(**values))
        return {"state": "new", "run": desk.now, "again": False}
    if row.request != request:
        return {"state": "other"}
    if row.status:
        return {"state": "done", "status": row.status, "answer": base64.b64encode(row.answer).decode()}
    if row.begun_at > desk.now - LEASE_SECONDS:
        return {"state": "running"}
    desk.connection.execute(table.update().where(is_key).values(begun_at=desk.now))
    return {"state": "new", "run": desk.now, "again": True}


def finish(desk: Desk, args: Args) -> Result:
    """`tenant`, `key`, `run` as `begin` gave it, `status`, `answer` (base64). Of a run that was taken over nothing is kept."""
    where = _run(desk, args)
    status = args.number("status", 0, least=200, most=599)
    try:
        answer = base64.b64decode(args.text("answer", max_chars=MOST_CHARS), validate=True)
    except binascii.Error:
        raise OwnerError("args.type", "answer must be base64") from None
    kept = desk.connection.execute(table.update().where(where).values(status=status, answer=answer)).rowcount
    return {"kept": kept == 1}


def drop(desk: Desk, args: Args) -> Result:
    """`tenant`, `key`, `run`; `forget`: nothing was done, so the key is free for any request; else for the same one."""
    where = _run(desk, args)
    forget = args.flag("forget")
    statement = table.delete().where(where) if forget else table.update().where(where).values(begun_at=0.0)
    return {"kept": desk.connection.execute(statement).rowcount == 1}


def _run(desk: Desk, args: Args) -> sa.ColumnElement[bool]:
    owner = desk.tenant(args.text("tenant"))
    key, begun_at = _hash(args, "key"), args.time("run", 0.0)
    return sa.and_(table.c.key == key, table.c.tenant_id == owner.id, table.c.begun_at == begun_at, table.c.status == 0)


def _hash(args: Args, name: str) -> bytes:
    text = args.text(name)
    if len(text) != _HASH_CHARS:
        raise OwnerError("args.type", f"{name} must be a hash of 32 octets, in hex")
    return bytes.fromhex(text)
