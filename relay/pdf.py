"""Text of PDF documents by poppler's `pdftotext`, where it is installed: a program of its own with memory and time to lose.

PDF is a language with compressors, fonts and a history of readers that loop or crash, so none is read inside a worker: a
document that harms its reader ends that process and nothing else, and counts as broken.
"""

from __future__ import annotations

import codecs
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from resource import RLIMIT_AS, RLIMIT_CPU, prlimit
from threading import Thread

from relay.mail.documents.budget import CHUNK, Broken, Budget, ReadPdf

MEMORY_BYTES = 512 * 1024 * 1024
CPU_SECONDS = 10


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
            assert process.stdout is not None
            while chunk := process.stdout.read(CHUNK):
                budget.spend(len(chunk))
                yield decoder.decode(chunk)
            if process.wait():  # its output has ended
                raise Broken("encrypted" if b"/Encrypt" in content else "broken")
        finally:
            process.kill()
            feeder.join()


def _feed(process: subprocess.Popen[bytes], content: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError), process.stdin:  # it need not read to the end
        process.stdin.write(content)
