"""Who works for the operator with data of tenants: told of in time, with country and, outside of the EEA, ground (GDPR-16)."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.settings.processing import EEA, ground_problem
from relay.store.schema import sub_processor as table

DAY = 86_400.0
MOST_CHARS = 500
_COUNTRY = re.compile(r"[A-Z]{2}")


def add(desk: Desk, args: Args) -> Result:
    """`name`, `service`, `country`; outside of the EEA `ground`; optional `contact`, `from_at`, `notice_days` (30).

    It may begin when the notice is over, and before that only with `without_notice`, the reason (GDPR 28(2)).
    """
    name, service = args.text("name", max_chars=200), args.text("service", max_chars=MOST_CHARS)
    country, ground = args.text("country").upper(), args.text("ground", "", max_chars=MOST_CHARS)
    _check_place(country, ground)
    if _present(desk, name) is not None:
        raise OwnerError(
            "processor.exists", "there is a sub-processor of that name: end it first, or give another name"
        )
    earliest = desk.now + args.number("notice_days", 30, most=365) * DAY
    from_at = args.time("from_at", earliest)
    without = args.text("without_notice", "", max_chars=MOST_CHARS)
    if from_at < earliest and not without:
        raise OwnerError(
            "processor.notice",
            "tenants must have time to object (GDPR 28(2)): give a later time, or --without-notice and the reason",
        )
    values = {
        "name": name,
        "service": service,
        "country": country,
        "ground": ground,
        "contact": args.text("contact", "", max_chars=MOST_CHARS),
        "announced_at": desk.now,
        "from_at": from_at,
        "without_notice": without if from_at < earliest else "",
        "added_by": desk.actor,
    }
    desk.connection.execute(table.insert().values(**values))
    desk.note(processor=name, country=country)
    row = _present(desk, name)
    assert row is not None, "just written"
    return shown(desk, row)


def list_all(desk: Desk, args: Args) -> Result:
    """Optional `state` (present, all; default present): in the order in which they came. One whose end is to come is present."""
    query = sa.select(table).order_by(table.c.id)
    if args.choice("state", ("present", "all"), "present") == "present":
        query = query.where(_is_present(desk))
    return [shown(desk, row) for row in desk.connection.execute(query)]


def end(desk: Desk, args: Args) -> Result:
    """`name`; optional `at` (now): it no longer has any data from then on. What was stays in the register."""
    name, at = args.text("name", max_chars=200), args.time("at", desk.now)
    row = _present(desk, name)
    if row is None:
        raise OwnerError(
            "processor.unknown", "there is no such sub-processor at work: see `zegel privacy processor list`"
        )
    desk.connection.execute(table.update().where(table.c.id == row.id).values(until_at=at))
    desk.note(processor=name, until=at)
    return shown(desk, desk.connection.execute(sa.select(table).where(table.c.id == row.id)).one())


def shown(desk: Desk, row: TenantRow) -> dict[str, Any]:
    """A sub-processor as the register has it."""
    is_over = 0 < row.until_at <= desk.now
    return {
        "name": row.name,
        "service": row.service,
        "country": row.country,
        "in_eea": row.country in EEA,
        "ground": row.ground or None,
        "contact": row.contact or None,
        "state": "ended" if is_over else "announced" if row.from_at > desk.now else "at work",
        "announced_at": row.announced_at,
        "from_at": row.from_at,
        "without_notice": row.without_notice or None,
        "until_at": row.until_at or None,
    }


def _check_place(country: str, ground: str) -> None:
    if not _COUNTRY.fullmatch(country):
        raise OwnerError("processor.country", "write the country as its two-letter code, for instance DE")
    if country in EEA and ground:
        raise OwnerError("processor.ground", f"{country} is in the EEA, where no ground is needed: leave it out")
    wrong = "" if country in EEA else ground_problem(ground)
    if wrong:
        raise OwnerError(
            "processor.ground",
            f'{country} is outside of the EEA, {wrong}: write for instance "adequacy: DECISION" (GDPR-16)',
        )


def _present(desk: Desk, name: str) -> TenantRow | None:
    return desk.connection.execute(sa.select(table).where(table.c.name == name, _is_present(desk))).first()


def _is_present(desk: Desk) -> sa.ColumnElement[bool]:
    return sa.or_(table.c.until_at == 0, table.c.until_at > desk.now)
