"""What three programs that are not ours say of the DKIM signatures of a message, with the keys given as a table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import dkim

from tests.clients.installed import HERE, need, need_perl

Records = Mapping[str, str]
"""Record name to TXT text."""


def with_dkimpy(content: bytes, records: Records, folder: Path | None = None) -> list[bool]:
    """One answer per signature, topmost first."""

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        text = records.get(name.decode().rstrip("."))
        return text.encode() if text else None

    count = sum(1 for line in _head_lines(content) if line.lower().startswith(b"dkim-signature:"))
    verifier = dkim.DKIM(content)
    return [bool(verifier.verify(idx=index, dnsfunc=lookup)) for index in range(count)]


def with_opendkim(content: bytes, records: Records, folder: Path) -> list[bool]:
    """OpenDKIM's own filter in its test mode: its library with keys from a file (TestDNSData), no DNS."""
    program = need("opendkim", "opendkim")
    data, config, message = folder / "records", folder / "opendkim.conf", folder / "message.eml"
    data.write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    config.write_text(f"Mode v\nSyslog no\nTestDNSData file:{data}\n")
    message.write_bytes(content)
    command = [program, "-x", str(config), "-v", "-t", str(message)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    said = done.stdout + done.stderr
    verdicts = [line for line in said.splitlines() if "verification (" in line]
    assert verdicts, said
    return [line.endswith("succeeded") for line in verdicts]


def with_mail_dkim(content: bytes, records: Records, folder: Path) -> list[bool]:
    """Perl's Mail::DKIM, as SpamAssassin and others use it."""
    perl = need_perl("Mail::DKIM::Verifier", "libmail-dkim-perl")
    data = folder / "records"
    data.write_text("".join(f"{name}\t{text}\n" for name, text in records.items()))
    command = [perl, str(HERE / "mail_dkim.pl"), str(data)]
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return [line == "pass" for line in done.stdout.decode().splitlines()]


def _head_lines(content: bytes) -> list[bytes]:
    return content.partition(b"\r\n\r\n")[0].split(b"\r\n")


VERIFIERS: dict[str, Callable[[bytes, Records, Path], list[bool]]] = {
    "dkimpy": with_dkimpy,
    "opendkim": with_opendkim,
    "Mail::DKIM": with_mail_dkim,
}
