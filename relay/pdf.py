"""Text of PDF documents by poppler's `pdftotext`, where it is installed: a program of its own with memory and time to lose.

PDF is a language with compressors, fonts and a history of readers that loop or crash, so none is read inside a worker: a
document that harms its reader ends that process and nothing else, and counts as broken.
"""

from __future__ import annotations

import codecs
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from resource import RLIMIT_AS, RLIMIT_CPU, prlimit
from threading import Thread

from relay.mail.documents.budget import CHUNK, Broken, Budget, ReadPdf

MEMORY_BYTES = 512 * 1024 * 1024
CPU_SECONDS = 10
LOOK_MILLISECONDS = 100  # how often the clock is looked at while the program says nothing


def find_pdf_reader(which: Callable[[str], str | None] = shutil.which) -> ReadPdf | None:
    """The reader of this machine, or None where there is none."""
    program = which("pdftotext")
    if program is None:
        return None

    def read(content: bytes, budget: Budget) -> Iterator[str]:
        return _read(program, content, budget)

    return read


def _read(program: str, content: bytes, budget: Budget) -> Iterator[str]:
    """Text in pieces as they come. Raises Broken, and what the budget raises; the process is gone in every case."""
    with subprocess.Popen(
        [program, "-q", "-enc", "UTF-8", "-nopgbrk", "-", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
    ) as process:
        feeder = Thread(target=_feed, args=(process, content), daemon=True)
        try:
            with suppress(ProcessLookupError):  # it may be over before it could be bounded
                prlimit(process.pid, RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
                prlimit(process.pid, RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            feeder.start()
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            for chunk in _chunks(process, budget):
                budget.spend(len(chunk))
                yield decoder.decode(chunk)
            if _ended(process, budget):
                raise Broken("encrypted" if b"/Encrypt" in content else "broken")
        finally:
            process.kill()
            feeder.join()


def _chunks(process: subprocess.Popen[bytes], budget: Budget) -> Iterator[bytes]:
    """What it prints, until it has closed its end; raises OutOfTime also where it prints nothing."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    poll = select.poll()  # unlike select it takes the high descriptors of a busy gateway
    poll.register(descriptor, select.POLLIN)
    while True:
        budget.check()
        if poll.poll(LOOK_MILLISECONDS):
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                return
            yield chunk


def _ended(process: subprocess.Popen[bytes], budget: Budget) -> int:
    """Its exit code, once it is gone."""
    while True:
        budget.check()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK_MILLISECONDS / 1000)


def _feed(process: subprocess.Popen[bytes], content: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError), process.stdin:  # it need not read to the end
        process.stdin.write(content)
