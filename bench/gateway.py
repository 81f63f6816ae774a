"""Zegel itself under test: a real `zegel serve` with every policy enforcing, set up through its own command line.

Two workers; SQLite with synced commits; queue encrypted at rest: the defaults. The limits are raised, since one tenant
sends more in a run than a customer does in a day; they are counted all the same. Consents: one for each address that
the source writes to, so that every recipient is looked up among as many.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench import load, machine
from bench.account import Group
from bench.build import REPOSITORY
from bench.packages import Unavailable
from bench.peers import HOSTNAME, SELECTOR, Relay, Site, free_port, wait_for_port

TENANT = "bench"
PURPOSE = "newsletter"
UNLIMITED = 1_000_000_000
DURABILITY = "queue committed and synced before 250 (WAL, synchronous=FULL), encrypted at rest"
LIMITS = ("messages_per_minute", "recipients_per_day", "first_time_recipients_per_day")

CONFIG = """\
[server]
hostname = "{hostname}"
data_dir = "{folder}/data"
keys_dir = "{folder}/keys"
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
certificate = "{folder}/certificate.pem"
key = "{folder}/certificate.key"

[[listener]]
kind = "submissions"
address = "127.0.0.1:{implicit}"
tls = "required"
certificate = "{folder}/certificate.pem"
key = "{folder}/certificate.key"

[web]
address = "127.0.0.1:{web}"
public_url = "https://mail.relay.example"

[storage]
database = "sqlite:///{folder}/data/zegel.db"
counters = "embedded"

[delivery]
mode = "smarthost"
smarthosts = ["smtp://127.0.0.1:{sink}"]
tls = "off"
"""


@dataclass(slots=True)
class Login:
    """A credential as `credential add --json` prints it."""

    username: str
    password: str


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
    """The gateway. The first `start` sets it up; later ones find data and keys where they were."""

    workers: int = 2
    consents: int = load.RECIPIENTS
    more_config: dict[str, str] = field(default_factory=dict)  # section -> lines, for what scale.py varies
    site: Site | None = None
    ports: Ports | None = None
    public_key: str = ""
    domains: dict[str, str] = field(default_factory=dict)  # by tenant
    logins: dict[str, Login] = field(default_factory=dict)  # by tenant and stream, "bench/marketing"

    def install(self) -> None:
        if machine.run_text(sys.executable, "-c", "import relay.cli.app") != "":
            raise Unavailable("relay.cli.app does not import; run `make run` once, or use the project's .venv")

    def versions(self) -> str:
        about = machine.run_text(sys.executable, "-c", "import relay; print(relay.__version__)")
        commit = machine.run_text("git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD")
        return f"zegel {about} ({commit})"

    def start(self, site: Site) -> load.Target:
        """Start, and set up first when this is a new folder. Raises Unavailable."""
        self.site = site
        folder = site.folder / self.name
        self.ports = Ports(free_port(), free_port(), free_port(), free_port())
        fresh = not (folder / "data").is_dir()
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        if fresh:
            _make_certificate(folder)
        self._write_config()
        if fresh:
            self._set_up()
        self.group = Group(self.name)
        log = folder / "log"
        command = [sys.executable, "-m", "relay", "serve", "-c", str(self.config)]
        self.group.start(command, log=self._log(log), folder=REPOSITORY, environment=self._environment())
        for port in (self.ports.plain, self.ports.starttls, self.ports.implicit):
            wait_for_port(port, log)
        return self.target()

    def target(self, *, tls: str = "off", tenant: str = TENANT, stream: str = "marketing") -> load.Target:
        """Where and as whom to send."""
        assert self.ports is not None
        login = self.logins[f"{tenant}/{stream}"]
        sender = f"news@{self.domains[tenant]}"
        return load.Target(self.ports.of(tls), login.username, login.password, sender, self.public_key)

    @property
    def config(self) -> Path:
        """The configuration file of this gateway."""
        assert self.site is not None
        return self.site.folder / self.name / "zegel.toml"

    def _write_config(self) -> None:
        assert self.site is not None and self.ports is not None
        text = CONFIG.format(
            hostname=HOSTNAME,
            folder=self.config.parent,
            workers=self.workers,
            plain=self.ports.plain,
            starttls=self.ports.starttls,
            implicit=self.ports.implicit,
            web=self.ports.web,
            sink=self.site.sink_port,
        )
        text += "".join(f"\n[{section}]\n{keys}" for section, keys in self.more_config.items())
        self.config.write_text(text)

    def zegel(self, *arguments: str) -> Any:
        """Run one zegel command with --json; the parsed answer. Raises Unavailable with what it said."""
        command = [sys.executable, "-m", "relay", *arguments, "--json", "-c", str(self.config)]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            env={**os.environ, **self._environment()},
            check=False,
        )
        if done.returncode not in (0, 1) or (done.returncode == 1 and not done.stdout.strip()):
            raise Unavailable(
                f"zegel {' '.join(arguments)} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
            )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def _environment(self) -> dict[str, str]:
        return {"ZEGEL_CONFIG": str(self.config), "PYTHONPATH": str(REPOSITORY)}

    def _set_up(self) -> None:
        self.zegel("init", str(self.config.parent), "--yes", "--hostname", HOSTNAME)
        self._write_config()  # init writes a configuration of its own; ours is the one that counts
        self.add_tenant(TENANT, load.SENDER_DOMAIN)
        records = self.zegel("dkim", "dns", load.SENDER_DOMAIN)
        values = ["".join(record["value"].replace('"', "").split()) for record in records]
        self.public_key = next(
            value.split("p=", 1)[1].rstrip(";") for value in values if "k=rsa" in value or "k=" not in value
        )
        self.seed(TENANT, self.consents)

    def add_tenant(self, name: str, domain: str) -> None:
        """A tenant with a domain, a purpose, a marketing and a transactional login, and no limit that a run could meet."""
        self.zegel("tenant", "add", name, "--legal-name", "Sender Example B.V.", "--contact", f"postmaster@{domain}")
        self.zegel("domain", "add", name, domain, "--vouched")
        self.zegel("dkim", "add", domain, "--selector", SELECTOR, "--vouched")
        self.zegel("purpose", "add", name, PURPOSE)
        self.domains[name] = domain
        for stream, extra in (("marketing", ["--purpose", PURPOSE]), ("transactional", [])):
            made = self.zegel("credential", "add", name, "--stream", stream, *extra)
            self.logins[f"{name}/{stream}"] = Login(made["username"], made["password"])
        for limit in LIMITS:
            self.zegel("limit", "set", name, limit, str(UNLIMITED))

    def seed(self, tenant: str, count: int) -> None:
        """Give the source's first `count` addresses consent for the tenant's purpose, through `zegel consent import`."""
        path = self.config.parent / "consents.csv"
        columns = "email,purpose,basis,method,source,given_at,text,text_language,policy_url,jurisdiction"
        shared = (
            f'{PURPOSE},consent,web_form,https://sender.example/join,2026-01-02T10:00:00Z,"Yes, send me the newsletter",en,'
            "https://sender.example/privacy,NL"
        )
        with path.open("w") as file:
            file.write(columns + "\n")
            file.writelines(f"{load.recipient(number)},{shared}\n" for number in range(count))
        answer = self.zegel("consent", "import", tenant, str(path))
        path.unlink()
        if answer["imported"] != count:
            raise Unavailable(f"consent import took {answer['imported']} of {count}: {answer['errors'][:2]}")

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
