"""What was suppressed at a past date: a fold over the events of one person, as `relay.consent.state` is for consent.

The store of `relay.consent.suppression` knows the present only. Bounces are no events: nobody said anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.consent.ledger import Past
from relay.consent.suppression import ALL, OBJECTIONS, Standing

LIFTS = frozenset(("confirmed", "changed"))
"""What lifts a no; `changed` is a confirmation that went along to another address, with the no that it had lifted."""
_STOPS = {"withdrawn": "objection", "objected": "objection", "restricted": "restriction"}


def stood(events: Iterable[Past]) -> list[Standing]:
    """The suppressions that stood after these events, in the order in which they came."""
    entries: dict[tuple[str, str], Standing] = {}
    for past in events:
        scope = past.purpose or ALL
        if past.event in _STOPS and not past.key:  # with a key it is the end of one consent, which follows from it
            reason = str(past.clear.get("reason") or _STOPS[past.event])
            lifted = frozenset(lifted_by(past))
            entries[scope, reason] = Standing(b"", scope, reason, past.at, 0.0, lifted)
        elif past.event == "unrestricted":
            entries.pop((scope, "restriction"), None)
        elif past.event == "confirmed":
            _lift(entries, past.purpose)
    return [entry for entry in entries.values() if entry.stands]


def on_record(events: Sequence[Past]) -> list[Past]:
    """Those whose content is there. A no that went along lifted stands where the yes that went with it has had its time."""
    told = {past.purpose for past in events if past.event in LIFTS}
    return [_with_lifts(past, told) for past in events if not past.expired_at]


def _with_lifts(past: Past, told: set[str]) -> Past:
    lifted = lifted_by(past)
    kept = [name for name in lifted if name in told]
    return past if kept == lifted else past._replace(clear={**past.clear, "lifted": kept})


def lifted_by(past: Past) -> list[str]:
    """Purposes for which a no that goes along to a corrected address had been lifted by then."""
    told = past.clear.get("lifted")
    return [str(name) for name in told] if isinstance(told, list) else []


def _lift(entries: dict[tuple[str, str], Standing], purpose: str) -> None:
    """The person's own confirmation lifts what was said before, of this purpose only (CONSENT-11)."""
    for name, entry in list(entries.items()):
        if entry.reason not in OBJECTIONS or not entry.bars(purpose):
            continue
        if entry.scope == ALL:
            entries[name] = entry._replace(lifted=entry.lifted | {purpose})
        else:
            del entries[name]
