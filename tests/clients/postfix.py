"""A Postfix of the test's own: its configuration, queue and log in a folder, on loopback, beside any that is there."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.clients.installed import need
from tests.harness.ports import free_port

DAEMONS = Path("/usr/lib/postfix/sbin")
START_SECONDS = 30.0

_MAIN = {
    "compatibility_level": "3.6",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "virtual_mailbox_domains": "",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtpd_peername_lookup": "no",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    "smtpd_tls_security_level": "none",
    "biff": "no",
}
# As Debian's master.cf, without chroot and without the services that never run here.
_MASTER = """\
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
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def need_postfix() -> str:
    """Path of `postfix`, or the test is skipped by name; nothing is installed, so no other mail server has to go."""
    if os.geteuid() != 0:
        pytest.skip("Postfix can only be started by root")
    return need("postfix", "postfix, unless this machine has another mail server that it would replace")


class Postfix:
    """Listens on 127.0.0.1:`port` while open. `settings` are lines of main.cf by name, `files` lie in its "{folder}".

    Its folder is not pytest's: the daemons leave root behind, and every start of pytest closes its own to others.
    """

    def __init__(self, settings: Mapping[str, str], files: Mapping[str, str] | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="zegel-postfix-")
        self.folder = Path(self._temporary.name)
        self.folder.chmod(0o711)
        self.mailboxes = self.folder / "mailboxes"
        self.port = free_port()
        self._settings = settings
        self._files = files or {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postfix:
        program = need_postfix()
        folder, config = self.folder, self.folder / "etc"
        for name in ("etc", "queue", "data"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(folder / "data", "postfix")
        (folder / "data").chmod(0o700)
        self.mailboxes.mkdir()
        shutil.chown(self.mailboxes, "postfix")
        places = {
            "queue_directory": folder / "queue",
            "data_directory": folder / "data",
            "daemon_directory": DAEMONS,
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": folder / "mail.log",
            "maillog_file_prefixes": folder,
        }
        user = pwd.getpwnam("postfix")
        mailboxes = {
            "virtual_mailbox_base": self.mailboxes,
            "virtual_mailbox_maps": "static:all/",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{user.pw_uid}",
            "virtual_gid_maps": f"static:{user.pw_gid}",
        }
        for name, text in self._files.items():
            (folder / name).write_text(text)
        settings = {name: value.replace("{folder}", str(folder)) for name, value in self._settings.items()}
        lines = {**mailboxes, **_MAIN, **places, **settings}
        (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        (config / "master.cf").write_text(_MASTER.format(port=self.port))
        with (folder / "start.log").open("wb") as log:
            command = [program, "-c", str(config), "start-fg"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait()
        return self

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with smtplib.SMTP("127.0.0.1", self.port, timeout=5):
                    return
            except OSError:
                if time.monotonic() > until:
                    self.__exit__()
                    raise AssertionError(f"Postfix does not start: {self.log()[-1000:]}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        """Ends the session that `start-fg` leads: it and its daemons, and nothing else."""
        assert self._process is not None
        config = str(self.folder / "etc")
        subprocess.run([need_postfix(), "-c", config, "stop"], capture_output=True, check=False, timeout=30)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._temporary.cleanup()

    def log(self) -> str:
        """What Postfix said."""
        files = (self.folder / "start.log", self.folder / "mail.log")
        return "".join(path.read_text() for path in files if path.exists())
