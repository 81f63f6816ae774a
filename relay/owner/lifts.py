"""A no that its person lifted by a confirmation, when the proof of that has had its time (CONSENT-11, CONSENT-15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from relay.consent.stood import LIFTS, confirmed_at
from relay.store.schema import suppression


def expire_lifts(
    connection: sa.Connection, people: Mapping[bytes, bytes], numbers: Mapping[int, bytes], left: Sequence[Any]
) -> None:
    """Without a confirmation on record a no stands again: whoever wants mail confirms anew.

    People by their hashes and by their numbers as subjects, and the events about them that are left.
    """
    stops = suppression.c
    told: dict[tuple[bytes, str], float] = {}
    for row in left:
        if row.event in LIFTS:
            which = (numbers[row.subject_id], row.purpose)
            at = row.at if row.event == "confirmed" else confirmed_at(orjson.loads(row.clear))
            told[which] = max(told.get(which, -1.0), at)
    theirs = sa.or_(stops.key.in_(people), stops.subject_id.in_(numbers))
    for row in connection.execute(sa.select(suppression).where(theirs, stops.lifted != "")).all():
        whose = people.get(row.key) or numbers[row.subject_id]
        kept = [name for name in row.lifted.split() if told.get((whose, name), -1.0) >= row.at]
        place = (stops.key == row.key, stops.scope == row.scope, stops.reason == row.reason)
        connection.execute(suppression.update().where(*place).values(lifted=" ".join(kept)))
