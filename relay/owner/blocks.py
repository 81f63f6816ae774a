"""Blocks that people set on /my, and who may lift one (GDPR-9, CONSENT-16).

A block holds for every spelling of the address. It is lifted there only by the reader of the spelling that set it, since that of
another one may be somebody else; where several set it, it stands until each of them has lifted his. Where an erasure took away
whose it was, and for everybody else, the tenant lifts it (`zegel suppression remove`).
"""

from __future__ import annotations

import sqlalchemy as sa

from relay.consent import suppression
from relay.consent.ledger import Entry
from relay.consent.suppression import ALL, Standing
from relay.mail.address import narrow
from relay.owner.desk import Desk, Person, TenantRow
from relay.owner.hook_events import News, tell
from relay.owner.objections import append_event, object_to, shown
from relay.store.schema import suppression as table

_REASON = "restriction"
_UNKNOWN = ""


def block(desk: Desk, person: Person, *, source: str) -> bool:
    """Nothing goes to this person any more; false where this spelling had said so already."""
    if object_to(desk, person, scope=ALL, reason=_REASON, event="restricted", source=source):
        return True
    if narrow(person.address) in _holders(desk, person, _rows(desk, person)):
        return False
    append_event(desk, person, "restricted", scope=ALL, reason=_REASON, source=source)
    return True


def unblock(desk: Desk, person: Person, *, source: str) -> tuple[bool, bool]:
    """Lift the block of this spelling: whether it had one, and whether the block of another one stays."""
    rows = _rows(desk, person)
    holders = _holders(desk, person, rows)
    if narrow(person.address) not in holders:
        return False, bool(rows)
    append_event(desk, person, "unrestricted", scope=ALL, reason=_REASON, source=source)
    others = holders - {narrow(person.address)}
    if others:
        _leave(desk, person, rows[0], sorted(others))
        return True, True
    suppression.remove(desk.connection, person.hashes, scope=ALL, reason=_REASON)
    tell(desk, person, News("unrestricted", ALL, _REASON, source))
    return True, False


def _rows(desk: Desk, person: Person) -> list[TenantRow]:
    mine = sa.and_(table.c.key.in_(person.hashes), table.c.scope == ALL, table.c.reason == _REASON)
    return list(desk.connection.execute(sa.select(table).where(mine).order_by(table.c.at)).all())


def _holders(desk: Desk, person: Person, rows: list[TenantRow]) -> set[str]:
    """Spellings whose block stands; "" for one that nobody knows any more."""
    if not rows:
        return set()
    found = {narrow(shown(desk, row)["address"] or _UNKNOWN) for row in rows}
    for past in desk.ledger.history(desk.connection, person.tenant_id, person.hashes):
        if past.purpose or past.recorded_at < rows[0].at:
            continue
        whose = narrow((past.personal or {}).get("email", _UNKNOWN))
        if past.event == "restricted":
            found.add(whose)
        elif past.event == "unrestricted":
            found.discard(whose)
    return found


def _leave(desk: Desk, person: Person, row: TenantRow, others: list[str]) -> None:
    """The blocks of the others go on as they were, in the ledger and in the store."""
    clear = {"scope": ALL, "reason": _REASON, "source": row.source}
    sealed = [{"email": address} if address else {} for address in others]
    entries = [Entry("restricted", row.at, person.hashes, b"", "", clear, personal, {}) for personal in sealed]
    places = desk.ledger.append(desk.connection, person.tenant_id, entries, recorded_by=desk.actor, now=desk.now)
    subject = desk.ledger.by_id(desk.connection, places[0].subject_id)
    address = desk.ledger.seal(subject, b"address", sealed[0]) if others[0] else None
    standing = Standing(row.key, ALL, _REASON, row.at, row.expires_at, frozenset(row.lifted.split()))
    where = (table.c.key == row.key, table.c.scope == ALL, table.c.reason == _REASON)
    desk.connection.execute(table.update().where(*where).values(sealed=None))
    suppression.put(
        desk.connection, person.tenant_id, standing, source=row.source, subject_id=subject.id, sealed=address
    )
