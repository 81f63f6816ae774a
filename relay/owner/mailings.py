"""Mailings of a tenant, and when each was invoiced: from then on its addresses are kept for so long (GDPR-12, SEED-9).

Which mailings there are, the delivery log knows; here lies the date alone, and it may be set before the first mail goes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from relay.keyring import Keyring
from relay.mail.mailing import MOST_CHARS, Mailing, clean
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.owner.periods import DAY, KINDS
from relay.spool.cipher import Cipher, CorruptRow
from relay.store.history import FOLDER, day_of
from relay.store.mailings import Periods, Seen, Unseal, seen_in
from relay.store.schema import mailing, retention_period, tenant
from relay.store.upsert import upsert

KIND = "campaign_addresses"
INVOICE_DAYS = 92
"""So long after its last mail a mailing may be invoiced, where the config says nothing else."""
MOST_ROWS = 10_000
NOBODYS = b'["",""]'
EARLIEST = date(2000, 1, 1)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def invoice(desk: Desk, args: Args) -> Result:
    """`tenant`, `mailing`; `invoice_date` (2026-03-01), or nothing: then it has none. `invoice_days`: as the operator has it.

    A mailing need not be known yet. May be done again.
    """
    owner, name = desk.tenant(args.text("tenant")), _name(args)
    when = args.text("invoice_date", "")
    latest = desk.now + args.number("invoice_days", INVOICE_DAYS, least=1) * DAY
    desk.note(mailing=name, invoice_date=when or None)
    if when:
        _check(when, latest)
        row = {"tenant_id": owner.id, "name": name, "invoice_date": when, "changed_at": desk.now}
        upsert(desk.connection, mailing, [row])
    else:
        where = sa.and_(mailing.c.tenant_id == owner.id, mailing.c.name == name)
        desk.connection.execute(mailing.delete().where(where))
    return {"mailing": name, "invoice_date": when or None}


def page(desk: Desk, args: Args) -> Result:
    """`tenant`; `days` and `invoice_days`: as the operator has them; `after`, `limit`, `mailing` (only this one): by name.

    Each with when its first mail was taken, its last line, how many mails were taken, and the day on which it goes. `next`
    is null at the end.
    """
    owner = desk.tenant(args.text("tenant"))
    after, limit = args.text("after", ""), args.number("limit", MOST_ROWS, least=1, most=MOST_ROWS)
    only, periods = args.text("mailing", ""), _periods(desk, owner.id, args)
    there = _seen(desk, owner.name)
    dates = {row.name: row.invoice_date for row in desk.connection.execute(_dates(owner.id))}
    names = sorted({one.name for one in there} | dates.keys())
    names = [name for name in names if only == name or (not only and name > after)]
    known = periods._replace(invoiced={Mailing(owner.name, name): start_of(at) for name, at in dates.items()})
    items = [_shown(Mailing(owner.name, name), there, dates.get(name), known) for name in names[:limit]]
    return {"items": items, "next": names[limit - 1] if len(names) > limit else None}


def dates(desk: Desk, args: Args) -> Result:
    """Every invoice date, as `tenant`, `mailing`, `invoice_date`: for the job that goes by them."""
    query = sa.select(tenant.c.name.label("tenant"), mailing.c.name, mailing.c.invoice_date)
    rows = desk.connection.execute(query.join_from(mailing, tenant))
    return [{"tenant": row.tenant, "mailing": row.name, "invoice_date": row.invoice_date} for row in rows]


def namer(keyring: Keyring) -> Unseal:
    """Opens the names of mailings. One that cannot be opened any more is nobody's, and goes by its last line."""
    cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)

    def unseal(number: int, blob: bytes) -> bytes:
        try:
            return cipher.open(number, blob)
        except CorruptRow:
            return NOBODYS

    return unseal


def start_of(day: str) -> float:
    """When a day begins in UTC."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def _dates(tenant_id: int) -> sa.Select[tuple[Any, ...]]:
    return sa.select(mailing.c.name, mailing.c.invoice_date).where(mailing.c.tenant_id == tenant_id)


def _name(args: Args) -> str:
    given = args.text("mailing")
    if not clean(given):
        text = f"mailing is a name of at most {MOST_CHARS} visible characters without @: write it as X-Zegel-Tag has it"
        raise OwnerError("mailing.name", text)
    return clean(given)


def _check(when: str, latest: float) -> None:
    """Raises OwnerError: an invoice date far ahead would keep addresses for as long as somebody likes."""
    day = None
    if _DATE.fullmatch(when):
        try:
            day = date.fromisoformat(when)
        except ValueError:
            day = None
    if day is None or day < EARLIEST:
        raise OwnerError("mailing.date", "invoice_date must be a day, such as 2026-03-01")
    if when > day_of(latest):
        raise OwnerError("mailing.too_late", f"invoice_date may be {day_of(latest)} at the latest here (GDPR-13)")


def _periods(desk: Desk, tenant_id: int, args: Args) -> Periods:
    """The operator's, and the days that the tenant chose, if it did."""
    most = args.number("days", KINDS[KIND].days, least=1)
    table = retention_period.c
    query = sa.select(table.days).where(table.tenant_id == tenant_id, table.kind == KIND)
    own = desk.connection.scalar(query)
    return Periods(min(most, own or most), args.number("invoice_days", INVOICE_DAYS, least=1), {}, {})


def _seen(desk: Desk, name: str) -> dict[Mailing, Seen]:
    try:
        return seen_in(desk.uses.with_name(FOLDER), namer(desk.keyring), name)
    except sqlite3.Error:
        text = "the delivery log cannot be read: look at the folder `history` in the data folder with `zegel doctor`"
        raise OwnerError("mailing.unreadable", text) from None


def _shown(one: Mailing, there: Mapping[Mailing, Seen], when: str | None, periods: Periods) -> dict[str, Any]:
    seen = there.get(one)
    return {
        "mailing": one.name,
        "first_at": None if seen is None else seen.began,
        "last_at": None if seen is None else seen.last,
        "mails": 0 if seen is None else seen.mails,
        "invoice_date": when,
        "delete_on": None if seen is None else day_of(periods.end(one, seen)),
    }
