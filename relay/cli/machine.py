"""What `zegel doctor` looks at on this machine: keys, folders, disk, clock, storage, certificates, the running gateway."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.findings import Finding, ok, warn, wrong
from relay.settings.whereabouts import undeclared
from relay.store import restored

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from relay.settings.model import Settings

SOON_DAYS = 21
LOW_BYTES = 256 * 2**20  # a queue file is given up at 64 MiB, and the logs beside the database grow as well
CLOCK_SLACK_SECONDS = 120.0
EARLIEST = 1_767_225_600.0  # 2026-01-01: this program is younger than that
_OTHERS = 0o077


def keys(settings: Settings) -> list[Finding]:
    """The keyring opens, and nobody else may read it."""
    from relay.keyring import Keyring, KeyringError

    folder = settings.server.keys_dir
    try:
        Keyring.open(folder, create=False)
    except KeyringError as error:
        return [wrong("keys", str(error), "Run `zegel init`, or restore the keys from a backup")]
    if folder.stat().st_mode & _OTHERS:
        return [wrong("keys", f"{folder} is open to others", f"chmod 700 {folder}")]
    return [ok("keys", f"{folder} holds a whole keyring, for its owner only")]


def folders(settings: Settings) -> list[Finding]:
    """The data folder is there, ours, and closed to others."""
    folder = settings.server.data_dir
    if not folder.is_dir():
        return [wrong("data folder", f"{folder} does not exist", _remedy_of_loss(settings))]
    status = folder.stat()
    if status.st_mode & _OTHERS:
        return [
            wrong("data folder", f"{folder} is open to others, who could command the gateway", f"chmod 700 {folder}")
        ]
    strange = [path.name for path in folder.iterdir() if path.stat().st_uid != status.st_uid]
    if strange:
        remedy = f"chown -R --reference={folder} {folder}"
        return [wrong("data folder", f"{strange[0]} does not belong to the owner of {folder}", remedy)]
    return [ok("data folder", f"{folder}, closed to others")]


def _remedy_of_loss(settings: Settings) -> str:
    """Where there are keys there was a gateway: a new database would know of no login and of no opt-out."""
    from relay.keyring import FILE

    if (settings.server.keys_dir / FILE).exists():
        return "Put it back from a backup"
    return "Run `zegel init`, or start `zegel serve` once"


def disk(settings: Settings) -> list[Finding]:
    """Room enough for new mail, in octets and in files; where no limit is set, for the gateway's own files."""
    folder = _nearest(settings.server.data_dir)
    free, least = shutil.disk_usage(folder).free, settings.limits.min_free_disk_bytes
    told = f"{free // 2**20} MiB free at {folder}"
    if free < least:
        return [
            wrong(
                "disk",
                f"{told}; below {least // 2**20} MiB new mail gets 452",
                "Make room, or lower limits.min_free_disk_bytes",
            )
        ]
    inodes = os.statvfs(folder)
    if inodes.f_files and inodes.f_favail < 10_000:
        return [
            warn("disk", f"{inodes.f_favail} files may still be made at {folder}", "Remove files that nobody needs")
        ]
    if free < max(4 * least, LOW_BYTES):
        return [warn("disk", told, "Make room before it is full")]
    return [ok("disk", told)]


def clock(settings: Settings) -> list[Finding]:
    """The clock is not before this program, nor behind what was written here."""
    now = time.time()
    remedy = "Set the clock and keep it set: timedatectl set-ntp true"
    if now < EARLIEST:
        return [wrong("clock", f"it is {time.strftime('%Y-%m-%d', time.gmtime(now))} here", remedy)]
    folder = settings.server.data_dir
    newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0) if folder.is_dir() else 0.0
    if newest > now + CLOCK_SLACK_SECONDS:
        return [wrong("clock", f"files in {folder} are {newest - now:.0f} s ahead of it: it went back", remedy)]
    if Path("/run/systemd/timesync").is_dir() and not Path("/run/systemd/timesync/synchronized").exists():
        return [warn("clock", "systemd-timesyncd has not set it yet", remedy)]
    return [ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))]


def storage(settings: Settings) -> list[Finding]:
    """What is written comes to rest on the disk, and the database is sound."""
    folder = settings.server.data_dir
    if not folder.is_dir():
        return []
    found = [_durable_write(folder)]
    from relay.store import StoreUnavailable, check_whole

    path = settings.database_path
    if not path.exists():
        return [*found, wrong("database", f"{path} does not exist", _remedy_of_loss(settings))]
    try:
        check_whole(path)
    except StoreUnavailable as error:
        return [*found, wrong("database", str(error), "Put it back under the same name, from a backup")]
    return [*found, ok("database", f"{path} is sound")]


def _durable_write(folder: Path) -> Finding:
    start = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(b"zegel" * 1000)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return wrong("storage", f"nothing can be written to {folder}: {error.strerror}", "Make room, or mend the disk")
    spent = (time.monotonic() - start) * 1000
    if spent > 200:
        return warn(
            "storage", f"a durable write takes {spent:.0f} ms: senders will wait", "Put data_dir on a faster disk"
        )
    return ok("storage", f"a durable write takes {spent:.1f} ms")


def certificates(settings: Settings) -> list[Finding]:
    """Each certificate is in force, for our name, and made by somebody that clients trust."""
    from cryptography import x509

    found = []
    for path in dict.fromkeys(entry.certificate for entry in settings.listener if entry.certificate is not None):
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
        found += _certificate(path, certificate, settings.server.hostname)
    return found


def _certificate(path: Path, certificate: Certificate, hostname: str) -> list[Finding]:
    days = (certificate.not_valid_after_utc.timestamp() - time.time()) / 86_400
    renew = "Renew it and send SIGHUP to the gateway (docs/running.md)"
    if days < 0:
        return [wrong("certificate", f"{path} ran out {-days:.0f} days ago", renew)]
    if certificate.not_valid_before_utc.timestamp() > time.time():
        return [wrong("certificate", f"{path} is not in force yet", "Look at the clock")]
    names = _names(certificate)
    if not any(_covers(name, hostname) for name in names):
        return [
            wrong(
                "certificate",
                f"{path} is for {', '.join(names) or 'nobody'}, not for {hostname}",
                f"Get one for {hostname}",
            )
        ]
    if certificate.issuer == certificate.subject:
        return [
            warn(
                "certificate", f"{path} is self-signed: mail clients will complain", "Get one by ACME (docs/running.md)"
            )
        ]
    if days < SOON_DAYS:
        return [warn("certificate", f"{path} runs out in {days:.0f} days", renew)]
    return [ok("certificate", f"{path} for {hostname}, {days:.0f} days left")]


def _names(certificate: Certificate) -> list[str]:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _covers(name: str, hostname: str) -> bool:
    """RFC 6125 section 6.4.3: a star stands for one whole leftmost label."""
    name = name.lower()
    return name == hostname or (name.startswith("*.") and name[2:] == hostname.partition(".")[2])


def gateway(settings: Settings) -> list[Finding]:
    """Whether it runs, and whether all of it does."""
    from relay.cli.client import call, is_running

    if not is_running(settings):
        told = [warn("gateway", "it is not running", "Start it with `zegel serve`")]
        if restored.is_waiting(settings.server.data_dir):
            text = "restored from a backup: its queue and all marketing wait"
            told.append(warn("restore", text, "Enter who left meanwhile, then `zegel queue release`"))
        return told
    reasons = call(settings, "ready", {})
    if reasons:
        return [wrong("gateway", f"it runs, but {'; '.join(reasons)}", "Look at its log")]
    notes = call(settings, "ready.notes", {})
    if notes:
        return [warn("gateway", f"it is ready, but {'; '.join(notes)}", "Look at its log")]
    return [ok("gateway", "it runs and is ready")]


def open_files(settings: Settings) -> list[Finding]:
    """The limit on open files lets `max_connections` in: that of the running gateway, else what it would get from this shell."""
    from relay.cli.client import is_running
    from relay.serve import descriptors
    from relay.serve.boot import control_path

    limit, whose = descriptors.reachable(), "here"
    if is_running(settings):
        limit, whose = _limit_behind(control_path(settings)), "for the gateway that runs"
    short = descriptors.shortage(settings, limit)
    if short is not None:
        return [warn("open files", short[0], short[1])]
    return [ok("open files", f"{limit} {whose}, enough for {settings.limits.max_connections} connections")]


def _limit_behind(path: Path) -> int:
    """The limit of the process that listens on a local socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    (line,) = (
        line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open files")
    )
    return int(line.split()[3])


def region(settings: Settings) -> list[Finding]:
    """Where the data lie and go to, as far as the config tells (GDPR-15, GDPR-16)."""
    said = [f"data lie in {settings.server.region}, in the EEA, says the config"]
    for place in settings.processing.places.values():
        where = "in the EEA" if place.is_inside else f"outside of the EEA, {place.ground}: {place.why}"
        said.append(f"{place.host} is in {place.country}, {where}, says the config")
    missing = [warn("region", f"{found.key}: {found.wrong}", found.remedy) for found in undeclared(settings)]
    return [*(ok("region", text) for text in said), *missing]


def pdf_reader(settings: Settings) -> list[Finding]:
    """Whether PDF can be read where mail is searched for leaks (DLP-8)."""
    from relay.pdf import find_pdf_reader

    if find_pdf_reader() is not None:
        return [ok("PDF", "pdftotext is there, so that PDF files are searched for leaks too")]
    remedy = "Install it (apt install poppler-utils) and restart the gateway"
    return [
        warn("PDF", "pdftotext is missing: PDF files are not searched for leaks and are noted as unreadable", remedy)
    ]


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
