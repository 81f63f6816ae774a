"""Erasures after their commit: what the files and the queue must still forget (GDPR-8).

The commit destroys the person's key; from then on a row here says that queue, delivery log, captured mail and thread memory
still know the address. Who does that work (relay.serve.erasures) ends the row.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import sqlalchemy as sa

from relay.consent.erased import Erased
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result
from relay.store.schema import erasure, tenant

DUE_ROWS = 100


def begin(desk: Desk, person: Person, addresses: Iterable[str]) -> None:
    """Somebody has been erased whose address stood there in these spellings."""
    name = desk.connection.execute(sa.select(tenant.c.name).where(tenant.c.id == person.tenant_id)).scalar_one()
    exact = tuple(digest.hex() for digest in person.exact)
    moved_at = person.until if person.has_left else 0.0
    one = Erased.of(desk.keyring, (person.tenant_id, name), desk.now, addresses, exact, moved_at)
    desk.gone.append(one)
    row = {"tenant_id": person.tenant_id, "at": desk.now, "hashes": orjson.dumps(one._asdict()).decode()}
    desk.connection.execute(erasure.insert().values(**row))


def due(desk: Desk, args: Args) -> Result:
    """Erasures that the files do not know of yet, oldest first; see `Erased`."""
    rows = desk.connection.execute(sa.select(erasure).order_by(erasure.c.id).limit(DUE_ROWS))
    return [{"id": row.id, **orjson.loads(row.hashes)} for row in rows]


def done(desk: Desk, args: Args) -> Result:
    """`id`: the files have forgotten the person."""
    where = erasure.c.id == args.number("id", 0, most=1 << 62)
    return {"done": desk.connection.execute(erasure.delete().where(where)).rowcount == 1}
