"""config/zegel.service: how little it may do, and that it runs so under a real systemd."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.deploy.debian import ROOT, SITE, make_root, need, need_same_python

UNIT = ROOT / "config" / "zegel.service"
MOST_EXPOSURE = 2.5
BOOT_SECONDS = 400.0

CONFIG = """
[server]
hostname = "relay.example.org"
data_dir = "/var/lib/zegel"
keys_dir = "/var/lib/zegel-keys"
workers = 2
drain_timeout_seconds = 5.0
[[listener]]
address = "127.0.0.1:587"
tls = "off"
[web]
address = "127.0.0.1:8025"
public_url = "http://127.0.0.1:8025"
"""

PROGRAM = """\
#!/usr/bin/python3
import sys
sys.path[:0] = ["/opt/zegel-source", "/opt/zegel-libraries"]
from relay.cli.app import main
main()
"""

# Runs in there, with nothing but systemd around it. The waits are for systemd, which tells nobody when it is done.
PROBE = """\
#!/usr/bin/python3
import json, os, signal, socket, subprocess, time, urllib.request

def show():
    names = "ActiveState,MainPID,NRestarts,StatusText,Result"
    text = subprocess.run(["systemctl", "show", "zegel", "-p", names], capture_output=True, text=True).stdout
    return dict(line.partition("=")[::2] for line in text.splitlines())

def until(is_so):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if is_so():
                return True
        except (OSError, ValueError):
            pass
        time.sleep(0.1)
    return False

def main():
    until(lambda: int(show()["MainPID"]) > 0)
    return int(show()["MainPID"])

def again(times):
    return lambda: int(show()["NRestarts"]) >= times and show()["ActiveState"] == "active" and is_ready()

def serves():
    with socket.create_connection(("127.0.0.1", 587), timeout=5) as smtp:
        return smtp.recv(100).startswith(b"220 relay.example.org")

def is_ready():
    return json.load(urllib.request.urlopen("http://127.0.0.1:8025/readyz", timeout=5))["ready"]

found = {"started": show(), "serves": until(serves), "ready": until(is_ready)}
found["reloaded"] = subprocess.run(["systemctl", "reload", "zegel"]).returncode
found["after_reload"] = show()
os.kill(main(), signal.SIGSTOP)
found["woken"] = until(again(1))
before = int(show()["NRestarts"])
os.kill(main(), signal.SIGKILL)
found["again"] = until(again(before + 1))
status = open("/proc/%s/status" % main()).read().split("\\n")
found["status"] = {line.partition(":")[0]: line.partition(":")[2].strip() for line in status if line}
limits = open("/proc/%s/limits" % main()).read()
found["files"] = next(line.split()[3] for line in limits.split("\\n") if line.startswith("Max open files"))
found["stopped"] = subprocess.run(["systemctl", "stop", "zegel"]).returncode
found["after_stop"] = show()
found["modes"] = {path: oct(os.stat(path).st_mode & 0o7777) for path in ("/var/lib/zegel", "/var/lib/zegel-keys")}
found["journal"] = subprocess.run(["journalctl", "-u", "zegel", "--no-pager"], capture_output=True, text=True).stdout
json.dump(found, open("/found.json", "w"))
subprocess.run(["systemctl", "poweroff", "--no-block"])
"""

PROBE_UNIT = """
[Unit]
After=zegel.service
[Service]
Type=oneshot
ExecStart=/probe
TimeoutStartSec=300
ExecStopPost=/usr/bin/systemctl poweroff --no-block
[Install]
WantedBy=multi-user.target
"""


def test_it_may_do_no_more_than_it_needs() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    line = ["systemd-analyze", "security", "--offline=true", str(UNIT)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"exposure level for zegel\.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) < MOST_EXPOSURE, done.stdout


def test_the_time_to_stop_is_longer_than_the_longest_drain() -> None:
    from relay.settings.model import Settings

    seconds = int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.M)[1])  # type: ignore[index]  # it is there
    assert seconds >= 2 * Settings().server.drain_timeout_seconds + 10


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_it_runs_under_a_real_systemd(tmp_path: Path) -> None:
    """Started, reloaded, stopped dead and woken by the watchdog, killed and started again, drained."""
    if not os.environ.get("ZEGEL_TEST_SYSTEMD"):
        pytest.skip("takes minutes: set ZEGEL_TEST_SYSTEMD")
    need("systemd-nspawn")
    root = make_root(tmp_path / "root", "systemd", "dbus", "python3")
    need_same_python(root)
    subprocess.run(
        ["chroot", root, "useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "zegel"],
        check=True,
    )
    system = root / "etc/systemd/system"
    write(system / "zegel.service", UNIT.read_text())
    write(system / "zegel.service.d/quick.conf", "[Service]\nWatchdogSec=8\nRestartSec=0\n")
    write(system / "probe.service", PROBE_UNIT)
    write(root / "opt/zegel/bin/zegel", PROGRAM.replace("/usr/bin/python3", "/opt/zegel/bin/python3"), 0o755)
    write(root / "opt/zegel/lib/python.pth", "")
    (root / "opt/zegel/bin/python3").symlink_to("/usr/bin/python3")
    write(root / "etc/zegel/zegel.toml", textwrap.dedent(CONFIG))
    write(root / "probe", PROBE, 0o755)
    # Workers are children of their own and find the libraries by the environment.
    write(
        system / "zegel.service.d/libraries.conf",
        "[Service]\nEnvironment=PYTHONPATH=/opt/zegel-source:/opt/zegel-libraries PYTHONDONTWRITEBYTECODE=1\n",
    )
    for unit in ("zegel", "probe"):
        link = system / "multi-user.target.wants" / f"{unit}.service"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/etc/systemd/system/{unit}.service")
    line = [
        "systemd-nspawn", "--directory", str(root), "--boot", "--private-network", "--register=no", "--keep-unit",
        "--link-journal=no", f"--bind-ro={ROOT}:/opt/zegel-source", f"--bind-ro={SITE}:/opt/zegel-libraries",
    ]  # fmt: skip
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=BOOT_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    if not (root / "found.json").exists() and "Reached target" not in done.stdout:
        pytest.skip(f"systemd does not boot in a container here: {(done.stderr or done.stdout)[-300:]}")
    found = json.loads((root / "found.json").read_text())
    journal = found["journal"]
    assert found["started"]["ActiveState"] == "active" and found["started"]["StatusText"] == "2 workers serve", journal
    assert found["serves"] and found["ready"], journal
    assert found["reloaded"] == 0 and found["after_reload"]["ActiveState"] == "active", journal
    assert found["woken"] and "Watchdog timeout" in journal, journal
    assert found["again"], journal
    status = found["status"]
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and set(status["Uid"].split()) != {"0"}
    assert int(status["CapBnd"], 16) == 1 << 10, "CAP_NET_BIND_SERVICE, and nothing else"
    assert int(found["files"]) == min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert found["stopped"] == 0
    assert (found["after_stop"]["ActiveState"], found["after_stop"]["Result"]) == ("inactive", "success"), journal
    assert set(found["modes"].values()) == {"0o700"}
