"""The mails of the test, sent once to a next hop that takes everything and once to one that takes 7 bits only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients import certificate
from tests.clients.gateway import Gateway
from tests.clients.sink import EVERYTHING, SEVEN_BIT, Sink
from tests.corpus.crossing import Sent, follow, send
from tests.corpus.sources import Specimen, specimens
from tests.harness.many import MANY

FEW, ALL = 300, 2_150  # of all, 2,000 cross


class Crossing(NamedTuple):
    """All that were sent, and what became of those that were accepted. `dkim`: record name to TXT text."""

    seven_bit: bool
    sent: list[Sent]
    accepted: list[Sent]
    dkim: dict[str, str]

    @property
    def refused(self) -> list[Sent]:
        return [one for one in self.sent if not one.queue_id]

    @property
    def crossed(self) -> list[Sent]:
        return [one for one in self.accepted if one.left]


@pytest.fixture(scope="session")
def mails() -> list[Specimen]:
    """ZEGEL_TEST_MANY=1: so many that 2,000 cross."""
    return specimens(ALL if MANY else FEW)


def cross(folder: Path, mails: list[Specimen], extensions: tuple[str, ...]) -> Crossing:
    with Sink(extensions) as sink:
        with Gateway(folder, certificate.make(folder), sink.port) as gateway:
            sent = send(gateway, "personal", mails)
            accepted = follow(gateway, sink, sent)
        return Crossing(extensions is SEVEN_BIT, sent, accepted, gateway.dkim)


@pytest.fixture(scope="session")
def eight_bit(mails: list[Specimen], tmp_path_factory: pytest.TempPathFactory) -> Crossing:
    """Every mail, to a peer with 8BITMIME and SMTPUTF8."""
    return cross(tmp_path_factory.mktemp("eight"), mails, EVERYTHING)


@pytest.fixture(scope="session")
def seven_bit(mails: list[Specimen], tmp_path_factory: pytest.TempPathFactory) -> Crossing:
    """Those that hold an 8-bit octet, to a peer that takes none."""
    return cross(tmp_path_factory.mktemp("seven"), [mail for mail in mails if not mail.raw.isascii()], SEVEN_BIT)


@pytest.fixture(params=["eight_bit", "seven_bit"])
def crossing(request: pytest.FixtureRequest) -> Crossing:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Crossing)
    return found


def figures(crossing: Crossing) -> str:
    """What was sent, refused, changed and returned, for people."""
    counts = {
        "refused": Counter(one.reply.partition("]")[0] + "]" for one in crossing.refused),
        "outcomes": Counter(" ".join((one.word, *one.statuses)) for one in crossing.accepted),
        "edits": Counter(f"{change.kind} {change.rule}" for one in crossing.crossed for change in one.changes),
    }
    rows = [f"  {label}: {dict(found.most_common())}" for label, found in counts.items()]
    return "\n".join([f"{len(crossing.sent)} sent, {len(crossing.crossed)} crossed", *rows])
