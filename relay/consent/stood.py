"""What was suppressed at a past date: a fold over the events of one person, as `relay.consent.state` is for consent.

The store of `relay.consent.suppression` knows the present only. Bounces are no events: nobody said anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
        elif past.event == "changed" and confirmed_at(past.clear) >= 0:
            _lift(entries, past.purpose, confirmed_at(past.clear))
    return [entry for entry in entries.values() if entry.stands]


def on_record(events: Sequence[Past], until: float) -> list[Past]:
    """Those up to a moment whose content is there. A no that went along lifted stands where no confirmation that is not older
    is on record any more.
    """
    went = [past for past in events if past.event in LIFTS and not past.expired_at]
    return [_with_lifts(past, went, until) for past in events if past.at <= until and not past.expired_at]


def _with_lifts(past: Past, went: Iterable[Past], until: float) -> Past:
    lifted = lifted_by(past)
    told = {
        one.purpose
        for one in went
        if confirmed_at(one.clear) >= past.at and (one.at <= until or one.recorded_at == past.recorded_at)
    }
    kept = [name for name in lifted if name in told]
    return past if kept == lifted else past._replace(clear={**past.clear, "lifted": kept})


def confirmed_at(clear: Mapping[str, object]) -> float:
    """When the person confirmed a consent, by the fields of an event in clear; -1.0 where nobody did."""
    at = clear.get("confirmed_at")
    return float(at) if isinstance(at, int | float) and at else -1.0


def lifted_by(past: Past) -> list[str]:
    """Purposes for which a no that goes along to a corrected address had been lifted by then."""
    told = past.clear.get("lifted")
    return [str(name) for name in told] if isinstance(told, list) else []


def _lift(entries: dict[tuple[str, str], Standing], purpose: str, upto: float = float("inf")) -> None:
    """The person's own confirmation lifts what was said before, of this purpose only (CONSENT-11)."""
    for name, entry in list(entries.items()):
        if entry.reason not in OBJECTIONS or not entry.bars(purpose) or entry.at > upto:
            continue
        if entry.scope == ALL:
            entries[name] = entry._replace(lifted=entry.lifted | {purpose})
        else:
            del entries[name]
