"""Leaks over the wire: what the sender hears, what waits, and that no value of a find is anywhere afterwards (DLP-10)."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest

from relay.cli.dryrun import explain_mail
from relay.cli.explain import Asked
from relay.cli.trace import find
from relay.keyring import Keyring
from relay.store.outbox import Outbox
from tests.harness.gateway import Gateway
from tests.harness.post import post
from tests.relay.mail.documents import made
from tests.relay.mail.leaks.test_detectors import good_bsns, good_cards, good_ibans
from tests.scenarios.conftest import Start

PORTAL = "https://portaal.sender.example"
ENFORCE = {"leaks": {"mode": "enforce", "portal": PORTAL}}
REJECT = {"leaks": {**ENFORCE["leaks"], "address_file": "reject"}}
PEOPLE = [["Naam", "Adres", "Postcode"], *([f"Klant {n}", f"Straat {n}", "1234 AB"] for n in range(60))]
FILE = ("klanten.csv", "text/csv", made.csv(PEOPLE))
ANN = ["ann@dest.example"]
BSNS, CARDS, ACCOUNTS = good_bsns(4), good_cards(4), good_ibans(6)
VALUES = [*BSNS, *CARDS, *ACCOUNTS]


def counted(gateway: Gateway, detector: str, verdict: str) -> None:
    """Workers tell their counts now and then."""
    sample = f'zegel_leaks_total{{detector="{detector}",verdict="{verdict}"}}'
    gateway.until(lambda: gateway.metric(sample) == 1, 10.0, f"{sample} is not 1")


def test_an_address_file_is_refused_and_the_answer_names_the_portal(start: Start) -> None:
    """DLP-5, DLP-6."""
    gateway, hop = start(policies=REJECT)
    reply = post(gateway, "personal", ANN, made.mail(FILE)).reply
    assert reply.startswith("550 5.7.1 [DLP-5]") and PORTAL in reply and " with 60 rows " in reply
    assert post(gateway, "personal", ANN, made.mail(("kort.csv", "text/csv", made.csv(PEOPLE[:10])))).queue_id
    assert len(hop.wait(1)) == 1


def test_a_letter_with_one_waits_and_its_sender_is_told_of_the_portal(start: Start) -> None:
    """DLP-6, PIPE-2: 250, nothing leaves but the notice; released, it is delivered as it was."""
    gateway, hop = start(policies=ENFORCE)
    raw = made.mail(FILE)
    queued = post(gateway, "personal", ANN, raw)
    assert queued.reply.startswith("250") and queued.queue_id
    (notice,) = hop.wait(1)
    assert notice.rcpt[0].startswith("RCPT TO:<info@sender.example>")
    text = notice.raw.decode()
    assert PORTAL in text and "60" in text and queued.queue_id in text and "/why/DLP-5" in text and "{" not in text
    counted(gateway, "address_file", "hold")
    gateway.op("queue.release", id=queued.queue_id)
    assert hop.until(lambda: len(hop.wait(0)) == 2)
    assert raw.partition(b"\r\n\r\n")[2].rstrip() in hop.wait(0)[1].raw


def test_a_bomb_is_refused_and_the_gateway_goes_on(start: Start) -> None:
    """DLP-8: a zip of 42 kB."""
    gateway, hop = start(policies=ENFORCE)
    bomb = made.packed({"foto.txt": b"0" * 43_000_000})
    assert len(bomb) < 44_000
    for content in (bomb, gzip.compress(b"0" * 43_000_000)):
        reply = post(gateway, "personal", ANN, made.mail(("foto", "application/octet-stream", content))).reply
        assert reply.startswith("550 5.6.0 [DLP-8]")
    assert gateway.queued() == 0
    assert post(gateway, "personal", ANN, made.mail()).queue_id
    assert len(hop.wait(1)) == 1


def test_while_it_watches_all_passes_and_the_log_says_what_would_have_been(start: Start) -> None:
    """PIPE-5, DLP-9: the default. Mail to colleagues is not looked at."""
    gateway, hop = start(workers=1)
    raw = made.mail(FILE, text=f"BSN {BSNS[0]}")
    assert post(gateway, "personal", ANN, raw).queue_id
    assert post(gateway, "personal", ["hr@sender.example"], raw).queue_id
    assert len(hop.wait(2)) == 2
    counted(gateway, "bsn", "would-hold")
    counted(gateway, "address_file", "would-hold")
    log = (gateway.folder / "gateway.log").read_text()
    assert log.count("leak.noticed") == 2 and "would-hold" in log
    asked = Asked(gateway.logins["personal"][0], "info@sender.example", tuple(ANN))
    told = next(entry for entry in explain_mail(gateway.settings, asked, raw)["policies"] if entry["policy"] == "leaks")
    assert (told["mode"], told["action"], told["rule"]) == ("observe", "hold", "DLP-1")


def test_marketing_is_not_looked_at_unless_somebody_asks(start: Start) -> None:
    gateway, _ = start()
    text = f"BSN {BSNS[0]}"
    head = "List-Unsubscribe: <https://sender.example/u/1>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"
    assert post(gateway, "marketing", ANN, made.mail(text=text, head=head)).queue_id
    assert "leak.noticed" not in (gateway.folder / "gateway.log").read_text()
    gateway.op("policy.mode", tenant="shop", policy="leaks", mode="enforce", stream="marketing", settings={})
    gateway.until(
        lambda: post(gateway, "marketing", ANN, made.mail(text=text, head=head)).reply.startswith("550 5.7.1 [DLP-1]"),
        5.0,
        "the mode did not reach the worker",
    )


@pytest.mark.parametrize(("instead", "code"), [("defer", "451 4.3.0 [PIPE-3]"), ("hold", "250 2.0.0")])
def test_a_scan_that_is_not_ready_in_time(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str, code: str
) -> None:
    """PIPE-6: the stub sleeps two minutes; the answer comes when the time of the scan is over, and other mail goes on."""
    programs = tmp_path / "programs"
    programs.mkdir()
    stub = programs / "pdftotext"
    stub.write_text("#!/bin/sh\nexec sleep 120\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    gateway, hop = start(policies={"leaks": {"mode": "enforce", "on_unavailable": instead, "scan_seconds": 1}})
    began = time.monotonic()
    reply = post(gateway, "personal", ANN, made.mail(("a.pdf", "application/pdf", made.pdf(["x"])))).reply
    assert reply.startswith(code) and 1.0 <= time.monotonic() - began < 15.0
    assert gateway.op("queue.stats")["held"] == (1 if instead == "hold" else 0)
    assert post(gateway, "personal", ANN, made.mail()).queue_id
    assert hop.until(lambda: len(hop.wait(0)) >= 1)
    fact = 'zegel_facts_unavailable_total{fact="leaks"}'
    gateway.until(lambda: gateway.metric(fact) == 1, 10.0, "it is not counted")


@pytest.mark.parametrize("mode", ["smarthost", "capture"])
def test_no_value_is_in_a_log_a_trace_or_a_metric_afterwards(start: Start, mode: str) -> None:
    """DLP-10: numbers in the text, in a sheet and in an archive, of a mail that waits and one that is refused."""
    gateway, hop = start(policies=ENFORCE, delivery={"mode": mode})
    sheet = made.xlsx([["BSN", "kaart", "rekening"], *map(list, zip(BSNS, CARDS, ACCOUNTS, strict=False))])
    files = [
        ("geheim-loon.xlsx", "application/octet-stream", sheet),
        ("a.zip", "application/zip", made.packed({"b.xlsx": sheet})),
    ]
    raw = made.mail(*files, text="creditcard\n" + "\n".join(VALUES), head="Message-ID: <geheim@sender.example>")
    held = post(gateway, "personal", ANN, raw)
    assert held.queue_id
    gateway.op("policy.mode", tenant="shop", policy="leaks", mode="enforce", settings={"bsn": "reject"})
    refused: list[str] = []
    gateway.until(
        lambda: "[DLP-1]" in (refused.append(post(gateway, "personal", ANN, raw).reply) or refused[-1]),  # type: ignore[func-returns-value]  # to keep it
        5.0,
        "the mode did not arrive",
    )
    if mode == "smarthost":
        assert hop.until(lambda: bool(hop.wait(0))), "the notice"
    said = [held.reply, *refused, gateway.op("metrics.text")]
    gateway.stop()
    said += [message.raw.decode() for message in hop.wait(0)]
    traces = find(gateway.settings, "ann@dest.example", 50)
    assert {event["event"] for trace in traces for event in trace["events"]} >= {"held", "refused"}
    said.append(str(traces))
    if mode == "capture":
        keyring = Keyring.open(gateway.settings.server.keys_dir, create=False)
        outbox = Outbox(gateway.settings.server.data_dir / "outbox.db", keyring)
        entries = [stored.entry for stored in outbox.entries()]
        assert {entry.verdict for entry in entries} >= {"hold", "reject"}
        said += [f"{entry.reply} {entry.reason} {entry.trace}" for entry in entries]
        outbox.close()
    said += [path.read_bytes().decode("latin-1") for path in gateway.folder.rglob("*") if path.is_file()]
    for text in said:
        assert not any(value in text for value in VALUES)
        assert "geheim-loon" not in text
    log = (gateway.folder / "gateway.log").read_text()
    assert '"detector":"bsn"' in log and '"detector":"card"' in log and '"detector":"iban"' in log
