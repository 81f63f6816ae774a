"""The fold of events into present consent."""

from __future__ import annotations

import pytest

from relay.consent.state import Event, replay


def _status(*events: tuple[str, float] | tuple[str, float, dict[str, object]]) -> tuple[str, float, float]:
    made = [
        Event(number, event[0], event[1], event[2] if len(event) == 3 else {"given_at": event[1]})
        for number, event in enumerate(events, 1)
    ]
    state = replay(made)
    assert state is not None
    return state.status, state.given_at, state.confirmed_at


@pytest.mark.parametrize(
    ("why", "events", "expected"),
    [
        ("given", [("given", 10.0)], ("given", 10.0, 0.0)),
        ("a newer grant replaces", [("given", 10.0), ("imported", 20.0)], ("given", 20.0, 0.0)),
        ("an older one does not", [("given", 20.0), ("imported", 10.0)], ("given", 20.0, 0.0)),
        ("withdrawal ends", [("given", 10.0), ("withdrawn", 20.0)], ("withdrawn", 10.0, 0.0)),
        ("an old record after it changes nothing", [("withdrawn", 20.0), ("imported", 10.0)], ("withdrawn", 0.0, 0.0)),
        ("nor one of the same moment", [("withdrawn", 20.0), ("imported", 20.0)], ("withdrawn", 0.0, 0.0)),
        ("a restriction ends nothing", [("given", 10.0), ("restricted", 20.0)], ("given", 10.0, 0.0)),
        ("a request is no consent", [("requested", 10.0)], ("requested", 0.0, 0.0)),
        ("nor takes one away", [("given", 10.0), ("requested", 20.0)], ("given", 10.0, 0.0)),
        ("who left may ask to come back", [("objected", 10.0), ("requested", 20.0)], ("requested", 0.0, 0.0)),
        (
            "and come back",
            [("objected", 10.0), ("requested", 20.0), ("confirmed", 30.0, {"given_at": 20.0, "confirmed_at": 30.0})],
            ("confirmed", 20.0, 30.0),
        ),
        (
            "a request does not forget the objection",
            [("objected", 10.0), ("requested", 20.0), ("imported", 5.0)],
            ("requested", 0.0, 0.0),
        ),
        (
            "a confirmation outlives a later single opt-in",
            [("confirmed", 10.0, {"given_at": 9.0, "confirmed_at": 10.0}), ("imported", 20.0)],
            ("confirmed", 20.0, 10.0),
        ),
        (
            "but not of another basis",
            [
                ("confirmed", 10.0, {"given_at": 9.0, "confirmed_at": 10.0}),
                ("imported", 20.0, {"given_at": 20.0, "basis": "soft_optin"}),
            ],
            ("given", 20.0, 0.0),
        ),
        ("erasure ends", [("given", 10.0), ("erased", 20.0)], ("erased", 10.0, 0.0)),
    ],
)
def test_fold(why: str, events: list[tuple[str, float]], expected: tuple[str, float, float]) -> None:
    assert _status(*events) == expected, why


def test_a_past_date_is_the_fold_up_to_it() -> None:
    events = [Event(1, "given", 10.0, {"given_at": 10.0}), Event(2, "withdrawn", 20.0, {})]
    assert replay(events, 5.0) is None
    then, after = replay(events, 15.0), replay(events, 20.0)
    assert then is not None and after is not None
    assert (then.status, after.status) == ("given", "withdrawn")
