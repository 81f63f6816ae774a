"""The scan as a fact: here or in a thread, over in time, and PDF by a program that may die."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies import leaks
from relay import pdf
from relay.mail.documents.budget import Broken, Budget, OutOfTime
from relay.mail.leaks.findings import Findings
from relay.mail.message import Message
from relay.policy.facts import Unavailable
from relay.scan import INLINE_BYTES, THREADS, Scan
from tests.policies import casebook
from tests.relay.mail.documents import made

SETTINGS = leaks.Settings()
READER = pdf.find_pdf_reader()
needs_reader = pytest.mark.skipif(READER is None, reason="pdftotext is not installed (poppler-utils)")


def submission(raw: bytes) -> Any:
    message = Message.split(raw)
    assert isinstance(message, Message)
    return replace(casebook.submission({"stream": "personal"}), message=message)


def test_small_text_is_scanned_where_it_stands_and_the_rest_is_not() -> None:
    assert Scan.is_quick(submission(made.mail()).message)
    assert not Scan.is_quick(submission(made.mail(text="woord " * (INLINE_BYTES // 6))).message)
    assert not Scan.is_quick(submission(made.mail(("a.zip", "application/zip", made.packed({"a": "b"})))).message)
    assert not Scan.is_quick(submission(made.mail(("a.csv", "text/csv", b"a;b"))).message)
    assert not Scan.is_quick(submission(made.mail(("a.pdf", "application/octet-stream", b"%PDF-"))).message)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_both_roads_find_the_same() -> None:
    mail = submission(made.mail(("loon.xlsx", "application/octet-stream", made.xlsx([["BSN"], ["123456782"]]))))
    scan = Scan()
    here = scan.here(mail, SETTINGS, None)
    assert isinstance(here, Findings) and here.counts == {"bsn": 1}
    assert await scan.apart(mail, SETTINGS, None, 30.0) == here
    scan.stop()


@pytest.mark.anyio
async def test_a_scan_that_is_too_slow_is_no_answer_and_ends() -> None:
    """PIPE-6. The reader waits until it is told to go on; the loop does not."""
    goes_on, entered, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(content: bytes, budget: Budget) -> Any:
        entered.set()
        goes_on.wait(30.0)
        try:
            budget.check()
        except OutOfTime:
            ended.set()
            raise
        yield "BSN 123456782"

    mail = submission(made.mail(("a.pdf", "application/pdf", made.pdf(["x"]))))
    scan = Scan(pdf=slow)
    found = await scan.apart(mail, SETTINGS, None, 0.05)
    assert isinstance(found, Unavailable) and entered.is_set()
    goes_on.set()
    assert await asyncio.to_thread(ended.wait, 10.0), "nobody waits for it any more, and it went on"
    scan.stop()


class Stuck:
    """A reader of PDF that waits until it is told to go on."""

    def __init__(self) -> None:
        self.goes_on, self.entered = threading.Event(), threading.Semaphore(0)

    def __call__(self, content: bytes, budget: Budget) -> Any:
        self.entered.release()
        self.goes_on.wait(30.0)
        budget.check()
        yield ""

    async def begun(self, scan: Scan, mails: Sequence[Any], threads: int) -> list[asyncio.Future[Any]]:
        """Their scans, of which so many are in the hands of this reader."""
        waiting = [asyncio.ensure_future(scan.apart(mail, SETTINGS, None, 20.0)) for mail in mails]
        for _ in range(threads):
            await asyncio.to_thread(self.entered.acquire)
        return waiting


PDF = made.mail(("a.pdf", "application/pdf", made.pdf(["x"])))
CSV = made.mail(("a.csv", "text/csv", b"a;b\n1;2\n"))


def sent_by(login: str, tenant: str, mail: Any) -> Any:
    """The same mail, of another login and tenant."""
    account = mail.account
    credential = replace(account.credential, username=login)
    return replace(mail, account=replace(account, credential=credential, tenant=replace(account.tenant, name=tenant)))


@pytest.mark.anyio
async def test_the_wait_for_a_thread_counts_too() -> None:
    stuck = Stuck()
    slow, other = submission(PDF), submission(CSV)
    scan = Scan(pdf=stuck)
    busy = [sent_by(f"l{number}", f"t{number}", slow) for number in range(THREADS)]
    waiting = await stuck.begun(scan, busy, THREADS)
    assert isinstance(await scan.apart(other, SETTINGS, None, 0.05), Unavailable)
    stuck.goes_on.set()
    assert all(isinstance(found, Findings) for found in await asyncio.gather(*waiting))
    assert isinstance(await scan.apart(other, SETTINGS, None, 20.0), Findings)
    scan.stop()


@pytest.mark.anyio
async def test_who_sends_many_long_files_keeps_nobody_else_waiting() -> None:
    """Six mails of one login, and three of other logins of its tenant, leave a thread for everybody else."""
    stuck = Stuck()
    slow, quick = submission(PDF), submission(CSV)
    scan = Scan(pdf=stuck)
    flood = [sent_by(login, "shop", slow) for login in (*["ann"] * 6, "bob", "cat", "dan")]
    waiting = await stuck.begun(scan, flood, 2)
    for login in ("x", "y", "z"):
        assert isinstance(await scan.apart(sent_by(login, "club", quick), SETTINGS, None, 20.0), Findings)
    assert not stuck.entered.acquire(blocking=False), "a tenant has all threads"
    stuck.goes_on.set()
    assert all(isinstance(found, Findings) for found in await asyncio.gather(*waiting))
    scan.stop()


@pytest.mark.anyio
async def test_a_thread_is_given_back_by_who_stopped_waiting() -> None:
    stuck = Stuck()
    scan = Scan(pdf=stuck)
    slow = submission(PDF)
    (held,) = await stuck.begun(scan, [slow], 1)
    for _ in range(3):  # behind it, of the same login
        assert isinstance(await scan.apart(slow, SETTINGS, None, 0.01), Unavailable)
    held.cancel()
    stuck.goes_on.set()
    assert isinstance(await scan.apart(slow, SETTINGS, None, 20.0), Findings)
    scan.stop()


def test_what_was_found_when_the_time_was_over_is_kept() -> None:
    """It is enough for a no; that nothing was found yet is no yes (PIPE-6)."""
    rows = [[f"klant {number}", "BSN 123456782"] for number in range(40_000)]
    mail = submission(made.mail(("a.csv", "text/csv", made.csv(rows))))
    ticks = iter(range(0, 1_000_000, 3))
    found = Scan(monotonic=lambda: float(next(ticks))).here(mail, SETTINGS, None)
    assert isinstance(found, Unavailable) and found.so_far.counts["bsn"] == 1


@pytest.mark.anyio
async def test_the_loop_goes_on_beside_a_long_scan() -> None:
    rows = [[f"klant {n}", "straat", "1234 AB"] for n in range(60_000)]
    mail = submission(made.mail(("groot.csv", "text/csv", made.csv(rows))))
    scan = Scan()
    work = asyncio.ensure_future(scan.apart(mail, SETTINGS, None, 60.0))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert isinstance(work.result(), Findings) and turns > 20
    scan.stop()


def test_the_time_of_the_policy_is_the_longest() -> None:
    ticks = iter(range(0, 10_000, 7))
    mail = submission(made.mail(("a.csv", "text/csv", b"a;b;c\n" * 5_000)))
    assert isinstance(Scan(monotonic=lambda: next(ticks)).here(mail, SETTINGS, None), Unavailable)


@needs_reader
def test_a_pdf_is_read_by_its_own_program() -> None:
    mail = submission(made.mail(("a.pdf", "application/pdf", made.pdf(["Mijn BSN is", "123456782"]))))
    found = Scan(pdf=READER).here(mail, SETTINGS, None)
    assert isinstance(found, Findings) and found.counts == {"bsn": 1}


@needs_reader
@pytest.mark.parametrize("content", [b"%PDF-1.4\nnothing", b"%PDF-1.7\n" + b"1 0 obj<<" * 10_000])
def test_a_pdf_that_is_none_is_broken(content: bytes) -> None:
    assert READER is not None
    with pytest.raises(Broken):
        list(READER(content, Budget()))


@needs_reader
def test_a_pdf_that_takes_too_long_is_ended() -> None:
    assert READER is not None
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        list(READER(made.pdf(["regel"] * 2_000), Budget(expired=lambda: True)))
    assert time.monotonic() - start < 30.0


@pytest.mark.parametrize(
    "script",
    ["exec sleep 120", "cat >/dev/null; exec sleep 120", "echo tekst; exec sleep 120", "exec >&-; exec sleep 120"],
)
def test_a_reader_that_hangs_is_ended_when_the_time_is_over(tmp_path: Path, script: str) -> None:
    """Wherever it hangs: before it reads, after, while it prints, and when it has said all."""
    program = tmp_path / "pdftotext"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    reader = pdf.find_pdf_reader(lambda name: str(program))
    assert reader is not None
    end = time.monotonic() + 0.3
    with pytest.raises(OutOfTime):
        list(reader(b"%PDF-" + b"x" * 1_000_000, Budget(expired=lambda: time.monotonic() > end)))
    assert time.monotonic() < end + 10.0


def test_no_reader_is_no_reader() -> None:
    assert pdf.find_pdf_reader(lambda name: None) is None
