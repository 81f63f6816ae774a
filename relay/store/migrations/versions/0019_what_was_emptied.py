"""The chain says what was emptied in it until now, so that from now on nothing goes without a word (CONSENT-14).

An event of the gateway for each tenant of whom something had gone: relay.consent.ledger says what is in it.
"""

import hashlib
import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_RANGES = 1_000  # in one event
_EVENT = sa.table(
    "consent_event",
    *(
        sa.column(name)
        for name in (
            "tenant_id", "seq", "event", "at", "subject_id", "key", "purpose", "clear", "sealed", "sealed_hash", "evidence",
            "evidence_hash", "recorded_by", "recorded_at", "content_hash", "prev_hash", "hash", "expired_at",
        )
    ),
)  # fmt: skip
_HEAD = sa.table("ledger_head", *(sa.column(name) for name in ("tenant_id", "seq", "hash")))
_SUBJECT = sa.table("subject", *(sa.column(name) for name in ("id", "tenant_id", "hash", "key_id", "wrapped")))


def upgrade() -> None:
    connection = op.get_bind()
    for head in connection.execute(sa.select(_HEAD)).all():
        told = [*_emptied(connection, head.tenant_id), *_keys(connection, head.tenant_id)]
        if told:
            _append(connection, head, told)


def downgrade() -> None:
    pass


def _emptied(connection: sa.Connection, tenant_id: int) -> Iterator[dict[str, Any]]:
    table = _EVENT.c
    lost = [
        sa.and_(table[part].is_(None), sa.func.length(table[f"{part}_hash"]) > 0) for part in ("sealed", "evidence")
    ]
    query = sa.select(
        table.seq, table.expired_at > 0, *lost, table.sealed.is_not(None), table.evidence.is_not(None)
    ).where(table.tenant_id == tenant_id)
    runs: dict[str, list[list[int]]] = {"content": [], "personal": [], "evidence": []}
    is_open = dict.fromkeys(runs, False)
    rows = connection.execute(query.order_by(table.seq).execution_options(yield_per=1_000))
    for seq, is_expired, lost_sealed, lost_evidence, has_sealed, has_evidence in rows:
        is_gone = {
            "content": is_expired,
            "personal": lost_sealed and not is_expired,
            "evidence": lost_evidence and not lost_sealed and not is_expired,
        }
        is_there = {"content": not is_expired, "personal": has_sealed or has_evidence, "evidence": has_evidence}
        for what, found in runs.items():
            if is_gone[what] and is_open[what]:
                found[-1][1] = seq
            elif is_gone[what]:
                found.append([seq, seq])
            # An event that had nothing of the kind goes along: lists of millions of places are of no use to anybody.
            is_open[what] = bool(is_gone[what] or (is_open[what] and not is_there[what]))
    for what, found in runs.items():
        for start in range(0, len(found), _RANGES):
            yield {"what": what, "ranges": found[start : start + _RANGES]}


def _keys(connection: sa.Connection, tenant_id: int) -> Iterator[dict[str, Any]]:
    """Keys that are gone beyond the erasures that the chain tells of, and erasures that left the key."""
    gone = sa.select(_SUBJECT.c.hash).where(_SUBJECT.c.tenant_id == tenant_id, _SUBJECT.c.wrapped.is_(None))
    erased = (
        sa.select(_SUBJECT.c.hash)
        .join(_EVENT, _EVENT.c.subject_id == _SUBJECT.c.id)
        .where(_EVENT.c.tenant_id == tenant_id, _EVENT.c.event == "erased", sa.func.length(_EVENT.c.key) == 0)
    )
    is_gone, is_told = Counter(connection.scalars(gone)), Counter(connection.scalars(erased))
    untold = [digest.hex() for digest in (is_gone - is_told).elements()]
    for start in range(0, len(untold), _RANGES):
        yield {"what": "keys", "subjects": untold[start : start + _RANGES]}
    for digest in (is_told - is_gone).elements():
        yield {"what": "personal", "ranges": [], "kept": digest.hex()}


def _append(connection: sa.Connection, head: Any, told: list[dict[str, Any]]) -> None:
    digest = hashlib.sha256(f"gateway\0{head.tenant_id}".encode()).digest()[:16]
    number = (connection.scalar(sa.select(sa.func.max(_SUBJECT.c.id))) or 0) + 1
    nobody = {"id": number, "tenant_id": head.tenant_id, "hash": digest, "key_id": 0, "wrapped": None}
    connection.execute(_SUBJECT.insert().values(**nobody))
    seq, previous, now = head.seq, head.hash, time.time()
    for one in told:
        seq += 1
        clear = orjson.dumps(one).decode()
        parts = ["expired", now, digest.hex(), "", "", clear, "", "", "gateway", now]
        content = hashlib.sha256(orjson.dumps(parts)).digest()
        row = {
            "tenant_id": head.tenant_id, "seq": seq, "event": "expired", "at": now, "subject_id": number, "key": b"",
            "purpose": "", "clear": clear, "sealed": None, "sealed_hash": b"", "evidence": None, "evidence_hash": b"",
            "recorded_by": "gateway", "recorded_at": now, "content_hash": content, "prev_hash": previous,
        }  # fmt: skip
        previous = hashlib.sha256(previous + struct.pack("!QQ", head.tenant_id, seq) + content).digest()
        connection.execute(_EVENT.insert().values(**row, hash=previous))
    connection.execute(_HEAD.update().where(_HEAD.c.tenant_id == head.tenant_id).values(seq=seq, hash=previous))
