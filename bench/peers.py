"""The relays that Zegel is measured against, each set up in a folder of its own and bound to 127.0.0.1.

postfix                  Postfix as Debian ships it: what taking and passing on costs, unsigned
postfix-opendkim         the same, signing through OpenDKIM
postfix-opendkim-postfwd the reference: signing, a policy daemon with rate limits, a recipient map of a million
                         entries and header checks: what a user would assemble instead of Zegel
haraka                   Haraka with two workers, its own queue and its own DKIM plugin

None of them asks for a login or speaks TLS here, which Zegel does: the comparison leans their way. Nothing of a system's
own mail set-up is touched: own configuration, queue and data folders, own ports, own processes.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench import load, machine
from bench.account import Group
from bench.build import OUT
from bench.packages import Unavailable, debian_version, require_debian, require_haraka
from tests.harness.ports import free_port

SELECTOR = "bench"
START_SECONDS = 30.0
HOSTNAME = "relay.example"
DAEMONS = Path("/usr/lib/postfix/sbin")


@dataclass(frozen=True, slots=True)
class Site:
    """What every relay under test is given: a folder of its own, where the sink listens, the key to sign with."""

    folder: Path  # traversable for other users, on a real disk
    sink_port: int
    key_file: Path  # RSA-2048, PEM, PKCS#1 (OpenDKIM and Haraka both read it)
    public_key: str
    consents: int = load.RECIPIENTS  # recipients that are known, by the gateway's ledger or a peer's map

    def subfolder(self, name: str, *, owner: str = "", mode: int = 0o755) -> Path:
        """An empty folder below this site's."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        path.chmod(mode)
        if owner:
            shutil.chown(path, owner)
        return path


def make_site(folder: Path, sink_port: int, *, consents: int = load.RECIPIENTS) -> Site:
    """A site with a fresh key."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    key_file = folder / "bench.pem"
    key_file.touch(0o600)
    encoding, shape = serialization.Encoding, serialization.PrivateFormat.TraditionalOpenSSL
    key_file.write_bytes(key.private_bytes(encoding.PEM, shape, serialization.NoEncryption()))
    public = key.public_key().public_bytes(encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Site(folder, sink_port, key_file, base64.b64encode(public).decode(), consents)


def wait_for_port(port: int, log: Path, *, seconds: float = START_SECONDS) -> None:
    """Return when something listens. Raises Unavailable with the end of its log."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise Unavailable(f"nothing listens on port {port} after {seconds:.0f} s: {log.read_text(errors='replace')[-500:]}")


@dataclass(slots=True)
class Relay:
    """One relay under test. `start` gives where to send; `stop` ends its processes and leaves its folder for a look."""

    name: str
    title: str
    durability: str
    signs: bool = True
    group: Group | None = None
    _logs: list[IO[bytes]] = field(default_factory=list)

    def install(self) -> None:
        """Make the software present. Raises packages.Unavailable."""
        raise NotImplementedError

    def versions(self) -> str:
        """Name and version of every program involved."""
        raise NotImplementedError

    def start(self, site: Site) -> load.Target:
        """Configure and start, and wait until it answers. Raises packages.Unavailable."""
        raise NotImplementedError

    def stop(self) -> None:
        """End every process that `start` started."""
        if self.group:
            self.group.stop()
            self.group = None
        for log in self._logs:
            log.close()
        self._logs.clear()

    def _log(self, path: Path) -> IO[bytes]:
        log = path.open("ab")
        self._logs.append(log)
        return log


POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = {hostname}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{sink}
smtp_dns_support_level = disabled
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
maillog_file = {log}
maillog_file_prefixes = {folder}
"""

# As Debian's master.cf, without chroot and without the services that never run here.
POSTFIX_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

OPENDKIM = """\
Mode s
Syslog no
UserID opendkim
UMask 000
Domain {domain}
Selector {selector}
KeyFile {key}
RequireSafeKeys no
SignatureAlgorithm rsa-sha256
Canonicalization relaxed/relaxed
OversignHeaders From
SignHeaders *,+List-Unsubscribe,+List-Unsubscribe-Post
InternalHosts 127.0.0.1
Socket local:{socket}
"""

# Limits that are kept count of but never reached, and one check of the sender's domain.
POSTFWD_RULES = """\
id=SENDER; action=rate(sender/100000000/60/450 4.7.1 too many messages of this sender)
id=DOMAIN; action=rate(recipient_domain/100000000/60/450 4.7.1 too many messages for this domain)
id=OWNER; sender_domain!!={domain}; action=REJECT not a domain of yours
"""

HEADER_CHECKS = "/^Cc:/ IGNORE\n/^Bcc:/ IGNORE\n/^List-Unsubscribe:/ DUNNO\n"


@dataclass(slots=True)
class Postfix(Relay):
    """Postfix, by itself or with a signer and a policy daemon beside it."""

    opendkim: bool = False
    policy: bool = False

    def install(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable("Postfix can only be started by root")
        require_debian("postfix", "postfix-pcre")
        if self.opendkim:
            require_debian("opendkim")
        if self.policy:
            require_debian("postfwd")

    def versions(self) -> str:
        names = ["postfix", *(["opendkim"] if self.opendkim else []), *(["postfwd"] if self.policy else [])]
        return ", ".join(f"{name} {debian_version(name)}" for name in names)

    def start(self, site: Site) -> load.Target:
        folder = site.subfolder(self.name)
        self.group = Group(self.name)
        log, port = folder / "log", free_port()
        log.touch()
        extra = self._start_signer(folder, site) if self.opendkim else ""
        config = folder / "etc"
        config.mkdir()
        if self.policy:
            extra += self._start_policy(folder, config, site)
        queue = folder / "queue"
        queue.mkdir()
        values = {
            "queue": queue,
            "data": site.subfolder(f"{self.name}/data", owner="postfix", mode=0o700),
            "daemons": DAEMONS,
            "hostname": HOSTNAME,
            "sink": site.sink_port,
            "log": folder / "mail.log",
            "folder": folder,
        }
        (config / "main.cf").write_text(POSTFIX_MAIN.format(**values) + extra)
        (config / "master.cf").write_text(POSTFIX_MASTER.format(port=port))
        self.group.start(["postfix", "-c", str(config), "start-fg"], log=self._log(log))
        wait_for_port(port, log)
        return load.Target(port, public_key=site.public_key if self.opendkim else "", recipients=site.consents)

    def _start_signer(self, folder: Path, site: Site) -> str:
        assert self.group is not None
        home = site.subfolder(f"{self.name}/opendkim", owner="opendkim")
        key, config, listener = home / "key.pem", home / "opendkim.conf", home / "socket"
        shutil.copy(site.key_file, key)
        shutil.chown(key, "opendkim")
        key.chmod(0o600)
        config.write_text(OPENDKIM.format(domain=load.SENDER_DOMAIN, selector=SELECTOR, key=key, socket=listener))
        self.group.start(["opendkim", "-f", "-x", str(config)], log=self._log(folder / "opendkim.log"))
        deadline = time.monotonic() + START_SECONDS
        while not (listener.exists() and stat.S_ISSOCK(listener.stat().st_mode)):
            if time.monotonic() > deadline:
                raise Unavailable(f"OpenDKIM does not start: {(folder / 'opendkim.log').read_text()[-300:]}")
            time.sleep(0.05)
        return f"smtpd_milters = unix:{listener}\nmilter_default_action = tempfail\n"

    def _start_policy(self, folder: Path, config: Path, site: Site) -> str:
        assert self.group is not None
        home = site.subfolder(f"{self.name}/postfwd", owner="nobody")
        rules, port, log = home / "rules", free_port(), folder / "postfwd.log"
        rules.write_text(POSTFWD_RULES.format(domain=load.SENDER_DOMAIN))
        command = ["postfwd2", "--file", str(rules), "--interface", "127.0.0.1", "--port", str(port)]
        command += [
            "--cache_interface",
            "127.0.0.1",
            "--cache_port",
            str(free_port()),
            "--user",
            "nobody",
            "--group",
            "nogroup",
        ]
        command += ["--pidfile", str(home / "pid"), "--nodns", "--stdout"]
        command += ["--cache=600", "--cache-rdomain-only", "--cache-no-size"]
        self.group.start(command, log=self._log(log))
        wait_for_port(port, log)
        with contextlib.suppress(OSError, ValueError):
            self.group.adopt(int((home / "pid").read_text()))
        consents = consent_map(site)
        (config / "header_checks").write_text(HEADER_CHECKS)
        return (
            f"smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:{port},\n"
            f"  check_recipient_access hash:{consents}, permit_mynetworks, reject\n"
            f"header_checks = pcre:{config / 'header_checks'}\n"
        )


def consent_map(site: Site) -> Path:
    """A Postfix table that knows as many recipients as the gateway has consents, in the site's folder.

    Returns the path without ".db". Takes about half a minute the first time; bench/out/ keeps it.
    """
    table = site.folder / "consents"
    if not table.with_name("consents.db").exists():
        kept = OUT / f"consent-map-{site.consents}"
        if not (kept / "consents.db").exists():
            _make_map(kept, site.consents)
        for name in ("consents", "consents.db"):  # the table after its source, or Postfix calls it out of date
            shutil.copy(kept / name, site.folder / name)
            (site.folder / name).chmod(0o644)
    return table


def _make_map(home: Path, count: int) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    table = home / "consents"
    with table.open("w") as file:
        file.writelines(f"{load.recipient(number)} OK\n" for number in range(count))
    (home / "main.cf").write_text(f"daemon_directory = {DAEMONS}\nberkeley_db_create_buffer_size = 536870912\n")
    done = subprocess.run(["postmap", "-c", str(home), f"hash:{table}"], capture_output=True, text=True, check=False)
    if done.returncode:
        table.with_name("consents.db").unlink(missing_ok=True)
        raise Unavailable(f"postmap cannot build the recipient map: {done.stderr[-300:]}")


HARAKA_ROUTE = """\
// Every domain's mail goes to the benchmark's sink, and no name is ever looked up outside this machine.
require('node:dns').setServers(['127.0.0.1:9'])
require('node:dns').promises.setServers(['127.0.0.1:9'])
exports.hook_get_mx = function (next) { next(OK, { priority: 0, exchange: '127.0.0.1', port: %d }) }
"""

HARAKA_SIGNED = (
    "From,To,Subject,Date,Message-ID,MIME-Version,Content-Type,Content-Transfer-Encoding,List-Id,"
    "List-Unsubscribe,List-Unsubscribe-Post"
)


@dataclass(slots=True)
class Haraka(Relay):
    """Haraka with its outbound queue on disk."""

    workers: int = 2
    _home: Path = Path()

    def install(self) -> None:
        self._home = require_haraka()

    def versions(self) -> str:
        package = machine.run_text(
            "node", "-p", f"require({str(self._home / 'node_modules/haraka/package.json')!r}).version"
        )
        return f"haraka {package}, node {machine.run_text('node', '--version')}"

    def start(self, site: Site) -> load.Target:
        folder = site.subfolder(self.name)
        port, log = free_port(), folder / "log"
        modules = self._home / "node_modules"
        settings = {
            "smtp.ini": f"listen=127.0.0.1:{port}\nnodes={self.workers}\n",
            "me": f"{HOSTNAME}\n",
            "log.ini": "[main]\nlevel=info\n",
            "plugins": "bench_route\nrelay\ndkim\n",
            "relay.ini": "[relay]\nacl=true\n",
            "relay_acl_allow": "127.0.0.0/8\n",
            "outbound.ini": "local_mx_ok=true\nconcurrency_max=100\nenable_tls=false\n",
            "dkim.ini": f"[sign]\nenabled=true\nselector={SELECTOR}\ndomain={load.SENDER_DOMAIN}\nheaders={HARAKA_SIGNED}\n"
            "[canon]\nbody=relaxed\n[verify]\nenabled=false\n",
        }
        for name in ("config", "plugins", "queue"):
            (folder / name).mkdir()
        for name in ("connection.ini", "tls.ini"):
            shutil.copy(modules / "haraka" / "config" / name, folder / "config")
        for name, text in settings.items():
            (folder / "config" / name).write_text(text)
        shutil.copy(site.key_file, folder / "config" / "dkim.private.key")
        (folder / "plugins" / "bench_route.js").write_text(HARAKA_ROUTE % site.sink_port)
        (folder / "node_modules").symlink_to(modules)
        self.group = Group(self.name)
        self.group.start(
            ["node", str(modules / "haraka/bin/haraka"), "-c", str(folder)], log=self._log(log), folder=folder
        )
        wait_for_port(port, log)
        return load.Target(port, public_key=site.public_key, recipients=site.consents)


POSTFIX_DURABILITY = "queue file synced before 250 (Postfix default), unencrypted"
HARAKA_DURABILITY = "queue file written and renamed before 250, NOT synced, unencrypted"
REFERENCE = "postfix-opendkim-postfwd"


def all_peers() -> list[Relay]:
    """Every peer, not yet started, the reference among them."""
    return [
        Postfix("postfix", "Postfix, unsigned", POSTFIX_DURABILITY, signs=False),
        Postfix("postfix-opendkim", "Postfix + OpenDKIM", POSTFIX_DURABILITY, opendkim=True),
        Postfix(REFERENCE, "Postfix + OpenDKIM + postfwd (reference)", POSTFIX_DURABILITY, opendkim=True, policy=True),
        Haraka("haraka", "Haraka, two workers", HARAKA_DURABILITY),
    ]
