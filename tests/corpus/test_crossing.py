"""Mail of the world and of a generator crosses the real gateway; what changed is explained, octet by octet (MSG-12)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import dkim
import pytest

from tests.clients.verify import with_mail_dkim
from tests.corpus.conftest import Crossing, figures
from tests.corpus.crossing import Sent
from tests.corpus.explain import Change, Unexplained, explain
from tests.corpus.opinion import HOLDS, reasons_behind
from tests.corpus.sources import cut

_OBSOLETE_NAME = re.compile(rb"^[!-9;-~]+[ \t]+:", re.MULTILINE)


def has_obsolete_name(sent: Sent) -> bool:
    """White space before a colon (RFC 5322 section 4.5): the standard library and dkimpy take the head to end there."""
    return _OBSOLETE_NAME.search(cut(sent.left)[0]) is not None


def test_most_mail_crosses(eight_bit: Crossing) -> None:
    assert len(eight_bit.crossed) > 0.8 * len(eight_bit.sent)


def test_figures(crossing: Crossing, record_property: Callable[[str, object], None]) -> None:
    """Kept with the test report (pytest -rP shows them)."""
    found = figures(crossing)
    sys.stdout.write(f"seven_bit {crossing.seven_bit}: {found}\n")
    record_property("figures", found)
    assert len(crossing.sent) == len(crossing.refused) + len(crossing.accepted)


def test_every_change_is_explained(crossing: Crossing) -> None:
    problems = []
    for one in crossing.crossed:
        try:
            explain(
                one.specimen.raw,
                one.changes,
                one.left,
                one.recipient,
                seven_bit=crossing.seven_bit,
                readable=not has_obsolete_name(one),
            )
        except Unexplained as error:
            problems.append(f"{one.specimen.name}: {error}"[:500])
    assert not problems


def test_what_was_encoded_for_the_next_hop_stands_in_the_trace(crossing: Crossing) -> None:
    """OUT-9, MSG-12: it is known only at delivery, so the trace of the delivery tells it."""
    for one in crossing.crossed:
        if one.word == "finished":
            is_asked = any(change.kind == "recode" for change in one.changes)
            needs = crossing.seven_bit and not is_asked and not cut(one.specimen.raw)[2].isascii()
            assert one.on_the_way == ((Change("recode", "", "OUT-9"),) if needs else ()), one.specimen.name


def test_every_signature_verifies(crossing: Crossing) -> None:
    def lookup(name: bytes, timeout: int = 5) -> bytes:
        return crossing.dkim[name.decode().rstrip(".")].encode()

    bad = [
        one.specimen.name
        for one in crossing.crossed
        if not has_obsolete_name(one) and not dkim.DKIM(one.left).verify(dnsfunc=lookup)
    ]
    assert not bad


def test_signatures_under_obsolete_names_verify(eight_bit: Crossing, tmp_path: Path) -> None:
    """With Mail::DKIM, since dkimpy does not read such a head."""
    found = [one for one in eight_bit.crossed if has_obsolete_name(one)]
    assert found
    for one in found:
        assert with_mail_dkim(one.left, eight_bit.dkim, tmp_path)[0], one.specimen.name


def test_nothing_is_refused_without_cause(crossing: Crossing) -> None:
    problems = []
    for one in crossing.refused:
        codes = reasons_behind(one.reply)
        if not codes or not any(code in HOLDS and HOLDS[code](one.specimen) for code in codes):
            problems.append(f"{one.specimen.name}: {one.reply} ({codes})")
    assert not problems


def test_what_did_not_arrive_could_not(crossing: Crossing) -> None:
    """Accepted and then returned: only where the next hop lacks what the mail needs, or it may not be touched."""
    for one in crossing.accepted:
        if one.word == "finished" and not one.left:
            assert one.statuses in (("5.6.3",), ("5.6.9",)), one.specimen.name
            assert crossing.seven_bit, f"{one.specimen.name}: could have been refused at the end of data"
            if one.statuses == ("5.6.9",):
                assert one.specimen.utf8


def test_the_explanation_can_fail(eight_bit: Crossing) -> None:
    one = next(one for one in eight_bit.crossed if one.specimen.name.startswith("no_stamps"))
    came, left = one.specimen.raw, one.left
    explain(came, one.changes, left, one.recipient, seven_bit=False)
    tampered = (
        (came, one.changes, left + b"x\r\n"),
        (came, one.changes, left.replace(b"Subject:", b"Subject: ")),
        (came, one.changes, left.replace(b"Subject:", b"X-New: 1\r\nSubject:")),
        (came, one.changes[:1], left),
        (came, (*one.changes, Change("remove", "Subject", "X")), left),
        (came, one.changes, left.partition(b"Received:")[0] + left.partition(b"\r\nFrom:")[2]),
    )
    for before, changes, after in tampered:
        with pytest.raises(Unexplained):
            explain(before, changes, after, one.recipient, seven_bit=False)
