"""Present consent as a pure fold over the events of one (tenant, purpose, address); any past date can be replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from relay.policy.facts import ConsentState

GRANTS = frozenset(("given", "imported", "changed", "confirmed"))
STANDING = frozenset(("given", "confirmed"))
# A restriction ends nothing: it stands in the suppression store, and lifting it brings the old state back (GDPR-9).
_ENDS = frozenset(("withdrawn", "objected", "erased"))


class Event(NamedTuple):
    """One event of the ledger, in clear. `at` is when the person acted (epoch seconds); `clear` the non-personal fields."""

    seq: int
    event: str
    at: float
    clear: Mapping[str, Any]  # JSON that `relay.consent.parts` wrote


class Present(NamedTuple):
    """A state and when the last end of consent was (epoch seconds; 0.0: never)."""

    state: ConsentState
    ended_at: float = 0.0

    @classmethod
    def ended(cls, at: float) -> Present | None:
        """Of an address of which nothing is on record but a no; None where `at` is 0.0."""
        return cls(ConsentState("objected", "consent", 0.0), at) if at else None


def fold(present: Present | None, event: Event) -> Present | None:
    """What holds after `event`.

    An older grant never replaces a newer one, nor undoes an end that came after it. Whether a grant may follow an
    objection at all is asked before the event is written, by `relay.consent.suppression` (CONSENT-11).
    """
    if event.event == "requested":
        if present is None:
            return Present(ConsentState("requested", "consent", 0.0, event=event.seq))
        if present.state.status in STANDING:
            return present
        # Somebody who left asks to come back: nothing may be sent on it but the confirmation (CLASS-7).
        return present._replace(state=present.state._replace(status="requested", event=event.seq))
    if event.event in GRANTS:
        return _grant(present, event)
    if event.event not in _ENDS:
        return present
    state = present.state if present is not None else ConsentState(event.event, "consent", 0.0)
    ended_at = max(event.at, present.ended_at if present is not None else 0.0)
    return Present(state._replace(status=event.event, event=event.seq), ended_at)


def replay(events: Iterable[Event], until: float = float("inf")) -> ConsentState | None:
    """The state as it was at `until` (epoch seconds): the fold of the events that had happened by then."""
    present: Present | None = None
    for event in events:
        if event.at <= until:
            present = fold(present, event)
    return None if present is None else present.state


def _grant(present: Present | None, event: Event) -> Present | None:
    fresh = _from_clear(event)
    if present is None:
        return Present(fresh)
    state, ended_at = present
    if max(fresh.given_at, fresh.confirmed_at) <= ended_at:
        return present
    if state.status not in STANDING:
        return Present(fresh, ended_at)
    if _newest(fresh) < _newest(state):
        return present
    if (
        state.confirmed_at
        and not fresh.confirmed_at
        and fresh.basis == state.basis
        and fresh.controller == state.controller
    ):
        # A later single opt-in does not take away that the person once confirmed (CONSENT-8).
        fresh = fresh._replace(status="confirmed", confirmed_at=state.confirmed_at)
    return Present(fresh, ended_at)


def _newest(state: ConsentState) -> float:
    return max(state.given_at, state.confirmed_at, state.sale_at)


def _from_clear(event: Event) -> ConsentState:
    get = event.clear.get
    confirmed_at = get("confirmed_at", 0.0)
    return ConsentState(
        "confirmed" if confirmed_at else "given",
        get("basis", "consent"),
        get("given_at", 0.0),
        confirmed_at,
        get("expires_at", 0.0),
        get("controller", ""),
        get("category", ""),
        get("sale_kind", ""),
        get("sale_at", 0.0),
        get("provenance", "own"),
        get("jurisdiction", ""),
        get("sensitive", False),
        event.seq,
    )
