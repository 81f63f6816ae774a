"""The Dockerfile is built and its image run, without a Docker engine: not as root, on a root file system that nobody can write.

Takes minutes and a network, so it runs where ZEGEL_TEST_IMAGE is set. ZEGEL_TEST_BUILD_VOLUMES may name, divided by commas, what
the build needs to see of this machine (`/etc/pip.conf:/etc/pip.conf:ro`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.debian import ROOT, make_root, need
from tests.harness.gateway import free_port

BASE = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.M)[-1]
USER = 10001


class Images:
    """Buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._line = [
            "buildah",
            "--root",
            str(folder / "images"),
            "--runroot",
            str(folder / "run"),
            "--storage-driver",
            "vfs",
        ]

    def __call__(self, *words: str, seconds: float = 900.0) -> str:
        done = subprocess.run([*self._line, *words], capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    def tag(self, root: Path, name: str) -> None:
        """An image of what lies in `root`."""
        made = self("from", "scratch")
        self("add", "--quiet", made, str(root), "/")
        self("commit", "--quiet", made, name)
        self("rm", made)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The root of the built image, and what it says of itself."""
    if not os.environ.get("ZEGEL_TEST_IMAGE"):
        pytest.skip("takes minutes: set ZEGEL_TEST_IMAGE")
    need("buildah", "runc")
    folder = tmp_path_factory.mktemp("image")
    images = Images(folder)
    images.tag(make_root(folder / "base"), BASE)
    volumes = [volume for volume in os.environ.get("ZEGEL_TEST_BUILD_VOLUMES", "").split(",") if volume]
    options = [word for volume in volumes for word in ("--volume", volume)]
    images("bud", "--isolation", "chroot", "--pull-never", "--format", "docker", *options, "--tag", "zegel", str(ROOT))
    made = images("from", "--pull-never", "zegel")
    told = json.loads(images("inspect", made))["Docker"]["config"]
    yield Path(images("mount", made)), told
    images("umount", made)


def bundle(folder: Path, root: Path, told: dict[str, Any], words: list[str], environment: dict[str, str]) -> Path:
    """What a container engine would hand to its runtime, with the restrictions of compose.yaml."""
    folder.mkdir()
    volume = folder.parent / "volume"
    if not volume.exists():
        volume.mkdir(mode=0o700)
        os.chown(volume, USER, USER)
    user, _, group = told["User"].partition(":")
    plain = ["nosuid", "noexec", "nodev"]
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": int(user), "gid": int(group), "umask": 0o077},
            "args": [*told["Entrypoint"], *words],
            "env": [*told["Env"], *(f"{key}={value}" for key, value in environment.items())],
            "cwd": told["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": plain},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": plain},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": plain},
            {
                "destination": "/srv/zegel",
                "type": "bind",
                "source": str(volume),
                "options": ["bind", "nosuid", "nodev"],
            },
        ],
        "linux": {"namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts")]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def runtime(folder: Path, *words: str) -> list[str]:
    """A command line of runc for the containers of one test."""
    return ["runc", "--root", str(folder / "containers"), *words]


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    line = runtime(folder.parent, "run", "--bundle", str(folder), name)
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_image_runs_as_nobody_and_writes_into_its_volume_only(
    image: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root, told = image
    assert told["User"] == f"{USER}:{USER}" and list(told["Volumes"]) == ["/srv/zegel"]
    assert {"465/tcp", "587/tcp", "8025/tcp"} == set(told["ExposedPorts"])
    assert told["Healthcheck"]["Test"][0] == "CMD"
    prepared = start(
        bundle(tmp_path / "init", root, told, ["init", "/srv/zegel/gateway", "--hostname", "localhost", "--yes"], {}),
        "init",
    )
    said, _ = prepared.communicate(timeout=120)
    assert prepared.returncode == 0, said
    smtp, web = free_port(), free_port()
    environment = {
        "ZEGEL_LISTENER__0__ADDRESS": f"127.0.0.1:{smtp}",
        "ZEGEL_LISTENER__1__ADDRESS": f"127.0.0.1:{free_port()}",
        "ZEGEL_WEB__ADDRESS": f"127.0.0.1:{web}",
        "ZEGEL_SERVER__WORKERS": "1",
    }
    gateway = start(bundle(tmp_path / "serve", root, told, told["Cmd"], environment), "serve")
    try:
        assert gateway.stdout is not None
        heard = ""
        while "Ready" not in heard:
            line = gateway.stdout.readline()
            assert line, heard
            heard += line
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/healthz", timeout=10) as answer:
            assert answer.status == 200
        processes = [
            status
            for status in map(status_of, Path("/proc").glob("[0-9]*"))
            if status.get("Uid", "").split()[:1] == [str(USER)]
        ]
        assert len(processes) >= 3, "supervisor, worker, web"
        assert {status["CapBnd"] for status in processes} == {"0" * 16}
        assert {status["NoNewPrivs"] for status in processes} == {"1"}
        # What the image itself asks, where its port is another one here.
        health = [*told["Healthcheck"]["Test"][1:-1], told["Healthcheck"]["Test"][-1].replace("8025", str(web))]
        line = runtime(tmp_path, "exec", "serve", *health)
        assert subprocess.run(line, timeout=60, check=False).returncode == 0
    finally:
        subprocess.run(runtime(tmp_path, "kill", "serve", "TERM"), check=False)
        said, _ = gateway.communicate(timeout=120)
    assert gateway.returncode == 0, said
    written = [
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_uid == USER
    ]
    assert written == []
    assert (tmp_path / "volume" / "gateway" / "data" / "zegel.db").exists()


def test_the_image_holds_the_program_and_no_tools(image: tuple[Path, dict[str, Any]]) -> None:
    root, _ = image
    names = {path.name for path in (root / "opt/zegel/bin").iterdir()}
    assert "zegel" in names and not names & {"pip", "pytest", "mypy", "ruff"}
    assert not (root / "source").exists() and not (root / "opt/zegel/lib/python3.11/site-packages/tests").exists()
    octets = sum(path.lstat().st_size for path in (root / "opt/zegel").rglob("*") if path.is_file())
    assert octets < 250_000_000


def status_of(process: Path) -> dict[str, str]:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return {}
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}
