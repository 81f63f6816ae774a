"""Zegel itself under test: a real `zegel serve` with every policy enforcing, as its defaults have them.

Two workers; queue files with synced commits, encrypted at rest: the defaults. The limits of the throttle policy are
raised, since one tenant sends more in a run than a customer does in a day; they are counted all the same. Every
recipient of the load has a consent, looked up among as many others as `consents` says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench import load, machine, seed
from bench.account import Group
from bench.build import REPOSITORY
from bench.packages import Unavailable
from bench.peers import HOSTNAME, Relay, Site, wait_for_port
from tests.harness.ports import free_port

DURABILITY = "queue row committed and synced before 250 (WAL, synchronous=FULL), encrypted at rest"
PER_MINUTE, PER_DAY = 10_000_000, 1_000_000_000
LIMITS = {
    "transactional_messages_per_minute": PER_MINUTE,
    "transactional_recipients_per_day": PER_DAY,
    "marketing_messages_per_minute": PER_MINUTE,
    "marketing_recipients_per_day": PER_DAY,
    "stream_messages_per_minute": PER_MINUTE,
    "tenant_messages_per_minute": PER_MINUTE,
    "tenant_recipients_per_day": PER_DAY,
    "domain_messages_per_minute": PER_MINUTE,
    "client_messages_per_minute": PER_MINUTE,
    "warmup_recipients": 0,
    "sudden_recipients_per_hour": PER_DAY,  # counted for each message, and never reached: consents are seeded without events
}

CONFIG = """\
[server]
hostname = "{hostname}"
data_dir = "data"
keys_dir = "keys"
workers = {workers}
language = "en"

[[listener]]
kind = "submission"
address = "127.0.0.1:{plain}"
tls = "off"

[[listener]]
kind = "submission"
address = "127.0.0.1:{starttls}"
tls = "required"
certificate = "certificate.pem"
key = "certificate.key"

[[listener]]
kind = "submissions"
address = "127.0.0.1:{implicit}"
tls = "required"
certificate = "certificate.pem"
key = "certificate.key"

[web]
address = "127.0.0.1:{web}"
public_url = "https://mail.relay.example"

[delivery]
mode = "smarthost"
smarthosts = ["smtp://127.0.0.1:{sink}"]
tls = "off"
"""


@dataclass(slots=True)
class Ports:
    """Where the gateway listens, on 127.0.0.1."""

    plain: int
    starttls: int
    implicit: int
    web: int

    def of(self, tls: str) -> int:
        """The port for a cell's `tls`."""
        return {"off": self.plain, "starttls": self.starttls, "implicit": self.implicit}[tls]


@dataclass(slots=True)
class Gateway(Relay):
    """The gateway. The first `start` in a site sets it up; later ones find data and keys where they were.

    `consents` are those of all `tenants` together.
    """

    workers: int = 2
    consents: int = load.RECIPIENTS
    count: int = 1  # tenants
    more_config: dict[str, str] = field(default_factory=dict)  # section -> lines, for what scale.py varies
    site: Site | None = None
    ports: Ports | None = None
    tenants: list[seed.Tenant] = field(default_factory=list)

    def install(self) -> None:
        if machine.run_text(sys.executable, "-c", "import relay.cli.app") != "":
            raise Unavailable("relay.cli.app does not import; run `make run` once, or use the project's .venv")

    def versions(self) -> str:
        about = machine.run_text(sys.executable, "-c", "import relay; print(relay.__version__)")
        commit = machine.run_text("git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD")
        return f"zegel {about} ({commit})"

    def start(self, site: Site) -> load.Target:
        """Start, and set up first when this is a new folder. Raises Unavailable."""
        self.prepare(site)
        self.ports = Ports(free_port(), free_port(), free_port(), free_port())
        self._write_config()
        self.group = Group(self.name)
        log = self.folder / "log"
        command = [sys.executable, "-m", "relay", "serve", "-c", str(self.config)]
        self.group.start(command, log=self._log(log), folder=REPOSITORY, environment=self._environment())
        for port in (self.ports.plain, self.ports.starttls, self.ports.implicit, self.ports.web):
            wait_for_port(port, log)
        return self.target()

    def prepare(self, site: Site) -> None:
        """Data, keys and certificate, without starting anything."""
        self.site = site
        if not (self.folder / "data").is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.tenants = seed.provide(self.folder, tenants=self.count, consents=self.consents)
            _make_certificate(self.folder)

    def target(self, *, tls: str = "off", tenant: int = 0, stream: str = "marketing") -> load.Target:
        """Where and as whom to send: `tenant` counts from 0."""
        assert self.ports is not None
        who = self.tenants[tenant]
        login = who.logins[stream]
        return load.Target(
            self.ports.of(tls),
            login.username,
            login.password,
            f"news@{who.domain}",
            who.public_key,
            recipients=self.consents // self.count,
        )

    @property
    def folder(self) -> Path:
        """Where all of this gateway lies."""
        assert self.site is not None
        return self.site.folder / self.name

    @property
    def config(self) -> Path:
        """The configuration file of this gateway."""
        return self.folder / "zegel.toml"

    def _write_config(self) -> None:
        assert self.site is not None and self.ports is not None
        text = CONFIG.format(
            hostname=HOSTNAME,
            workers=self.workers,
            plain=self.ports.plain,
            starttls=self.ports.starttls,
            implicit=self.ports.implicit,
            web=self.ports.web,
            sink=self.site.sink_port,
        )
        limits = "".join(f"{name} = {value}\n" for name, value in LIMITS.items())
        sections = {**self.more_config, "policies.throttle": limits}
        text += "".join(f"\n[{section}]\n{keys}" for section, keys in sections.items())
        self.config.write_text(text)

    def zegel(self, *arguments: str, seconds: float = 600) -> Any:
        """Run one zegel command with --json; the parsed answer. Raises Unavailable with what it said."""
        command = [sys.executable, "-m", "relay", *arguments, "--json", "-c", str(self.config)]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            env={**os.environ, **self._environment()},
            timeout=seconds,
            check=False,
        )
        if done.returncode not in (0, 1) or not done.stdout.strip():
            said = (done.stderr or done.stdout)[-500:]
            raise Unavailable(f"zegel {' '.join(arguments)} ended with {done.returncode}: {said}")
        return json.loads(done.stdout)

    def _environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(REPOSITORY)}

    def import_rate(self, count: int) -> float:
        """Rows a second of `zegel consent import` for `count` new addresses, with the command's own start; not running."""
        path = self.folder / "import.csv"
        columns = ["email", *seed.CONSENT]
        shared = ",".join(f'"{value}"' for value in seed.CONSENT.values())
        lines = (f"new{number}@dest{number % 10}.example,{shared}\n" for number in range(count))
        path.write_text(",".join(columns) + "\n" + "".join(lines))
        began = time.monotonic()
        answer = self.zegel("consent", "import", self.tenants[0].name, str(path))
        spent = time.monotonic() - began
        path.unlink()
        if answer["imported"] != count:
            raise Unavailable(f"consent import took {answer['imported']} of {count}: {answer['errors'][:2]}")
        return count / spent

    def stage_costs(self) -> Any:
        """The gateway's own account of where a message's CPU goes (`zegel bench`)."""
        return self.zegel("bench")


def _make_certificate(folder: Path) -> None:
    """A self-signed P-256 certificate, the kind that ACME clients ask for by default."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = (
        made.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=7))
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTNAME)]), critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "certificate.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    path = folder / "certificate.key"
    path.touch(0o600)
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


def gateway(**changes: Any) -> Gateway:
    """The gateway as the table has it; `changes` are fields of Gateway."""
    return replace(Gateway("zegel", "Zegel, two workers, every policy enforcing", DURABILITY), **changes)
