"""Source and sink: what arrives is counted once, and a run whose mail was lost, damaged or unsigned does not count."""

from __future__ import annotations

import shutil
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import build
from bench.load import Cell, Measurement, Sink, Target, measure, next_run

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture
def sink() -> Iterator[Sink]:
    try:
        made = Sink()
    except build.BuildFailed as why:
        pytest.skip(str(why))
    yield made
    made.close()


def send(sink: Sink, *messages: str) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port, "client.example", timeout=10) as client:
        for message in messages:
            client.sendmail("a@sender.example", ["b@dest.example"], message.replace("\n", "\r\n"))


def letter(run: int, number: int, *, body: str = "text\n", octets: int | None = None, extra: str = "") -> str:
    length = len(body.replace("\n", "\r\n")) if octets is None else octets
    return f"From: a@sender.example\n{extra}X-Bench: {run} {number} 1 {length}\n\n{body}"


def short(sink: Sink, folder: Path, target: Target, **cell: int) -> Measurement:
    return measure(None, target, sink, Cell(sessions=2, **cell), seconds=0.3, samples=folder / "samples")


def test_the_sink_counts_a_message_once_and_names_what_is_wrong_with_it(sink: Sink) -> None:
    run = next_run()
    signed = "DKIM-Signature: v=1\n"
    send(sink, letter(run, 1, extra=signed), letter(run, 1, extra=signed), letter(run, 2), letter(run, 3, octets=99))
    found = sink.run_report(run)
    assert (found["unique"], found["duplicates"]) == (3, 1)
    assert (found["signed"], found["unsigned"], found["mangled"]) == (2, 2, 1)


@pytest.mark.parametrize("per_connection", [0, 1])
def test_what_the_source_says_it_sent_is_at_the_sink(sink: Sink, tmp_path: Path, per_connection: int) -> None:
    found = short(sink, tmp_path, Target(sink.port), per_connection=per_connection)
    assert found.faults == [] and found.errors == {}
    assert 0 < found.accepted == found.arrived
    assert found.rate > 0


def test_unsigned_mail_of_a_relay_that_signs_does_not_count(sink: Sink, tmp_path: Path) -> None:
    found = short(sink, tmp_path, Target(sink.port, public_key="MIIB"))
    assert any("unsigned" in fault for fault in found.faults)
    assert any("signatures verify" in fault for fault in found.faults)


def test_a_server_that_refuses_all_is_a_fault_with_its_words(sink: Sink, tmp_path: Path) -> None:
    sink.ask("tempfail dest0.example")
    found = short(sink, tmp_path, Target(sink.port, recipients=1))
    assert found.arrived == 0
    assert "451" in found.faults[0]
