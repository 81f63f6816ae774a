"""The keyring: made once, readable by its owner only, older keys live on."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from relay.keyring import FILE, Keyring, KeyringError, Kind
from relay.owner import Owner
from relay.settings.model import Settings
from tests.faults.conftest import disk
from tests.faults.disk import fill
from tests.harness.gateway import _Places

__all__ = ["disk"]


def test_a_keyring_is_made_once_and_opens_the_same(tmp_path: Path) -> None:
    made = Keyring.open(tmp_path / "keys", create=True)
    again = Keyring.open(tmp_path / "keys", create=True)
    assert made.queue_keys == again.queue_keys
    assert made.subject_hash("x") == again.subject_hash("x")
    assert (
        len(
            {
                *made.queue_keys.values(),
                *made.token_keys.values(),
                *made.subject_keys.values(),
                *made.digest_keys.values(),
            }
        )
        == 4
    )
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [FILE]


def test_the_hash_is_hmac_sha_256(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path, create=True)
    rows = json.loads((tmp_path / FILE).read_text())["keys"]
    import base64

    secret = base64.b64decode(next(row["secret"] for row in rows if row["kind"] == "hash"))
    for text in ("", "jan@x.test", "ë" * 200):
        assert keyring.subject_hash(text) == hmac.new(secret, text.encode(), hashlib.sha256).digest()[:16]
    digest_key = base64.b64decode(next(row["secret"] for row in rows if row["kind"] == "digest"))
    assert keyring.digest(b"pw", 1) == hmac.new(digest_key, b"pw", hashlib.sha256).digest()
    assert keyring.digest(b"pw", 2) is None


def test_rotation_keeps_the_older_keys(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path, create=True)
    other = Keyring.open(tmp_path, create=False)
    old = keyring.subject_hash("x")
    assert keyring.rotate(Kind.HASH, now=5.0) == 2
    assert keyring.subject_hash("x") != old
    assert keyring.subject_hashes("x") == [keyring.subject_hash("x"), old]
    assert other.subject_hashes("x") == [old]
    other.reload()
    assert other.subject_hashes("x") == keyring.subject_hashes("x")
    assert keyring.rotate(Kind.QUEUE, now=5.0) == keyring.current_queue_key_id == 2
    assert sorted(keyring.queue_keys) == [1, 2]


def test_a_key_that_comes_opens_at_once_and_makes_nothing_before_its_time(tmp_path: Path) -> None:
    """Between the two every process takes it in, so that nobody meets what he cannot read."""
    keyring = Keyring.open(tmp_path, create=True)
    old = keyring.subject_hash("x")
    assert keyring.rotate(Kind.HASH, now=5.0, from_at=6.0) == 2
    assert keyring.subject_hash("x") == old and len(keyring.subject_hashes("x")) == 2
    assert keyring.next_at == 6.0
    keyring.reload(now=6.0)
    assert keyring.subject_hash("x") != old and keyring.subject_hashes("x")[1] == old
    assert keyring.next_at == float("inf")


def _drop_queue_key(text: str) -> str:
    document = json.loads(text)
    document["keys"] = [row for row in document["keys"] if row["kind"] != "queue"]
    return json.dumps(document)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: "{", "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version 9"),
        (lambda text: text.replace('"secret": "', '"secret": "AAAA'), "wrong length"),
        (lambda text: text.replace('"kind": "queue"', '"kind": "house"'), "damaged"),
        (_drop_queue_key, "no queue key"),
    ],
)
def test_a_spoilt_keyring_is_told_with_its_file(tmp_path: Path, spoil: object, told: str) -> None:
    Keyring.open(tmp_path, create=True)
    path = tmp_path / FILE
    assert callable(spoil)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(KeyringError, match=told) as caught:
        Keyring.open(tmp_path, create=True)
    assert str(path) in str(caught.value)


def test_a_missing_or_open_keyring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="zegel init"):
        Keyring.open(tmp_path, create=False)
    Keyring.open(tmp_path, create=True)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(KeyringError, match="chmod 600"):
        Keyring.open(tmp_path, create=False)


def test_a_dkim_key_is_never_overwritten_nor_leaves_the_folder(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path, create=True)
    keyring.store_dkim("shop.example", "g2026a", b"PEM")
    assert keyring.load_dkim("shop.example", "g2026a") == b"PEM"
    assert keyring.load_dkim("shop.example", "g2026b") is None
    assert keyring.dkim_selectors("shop.example") == {"g2026a"}
    with pytest.raises(FileExistsError):
        keyring.store_dkim("shop.example", "g2026a", b"OTHER")
    for domain, selector in (
        ("..", "a"),
        ("shop.example", "../../x"),
        ("a/b.example", "x"),
        ("shop.example", ""),
        ("", "x"),
    ):
        with pytest.raises(ValueError, match="A-label"):
            keyring.dkim_path(domain, selector)


def test_a_keyring_that_cannot_be_written_leaves_nothing(tmp_path: Path, disk: Path) -> None:
    """Each try left a file beside it; one that was killed left every secret there."""
    keyring = Keyring.open(disk / "keys", create=True)
    ballast = fill(disk, 0)
    with pytest.raises(OSError, match="No space left"):
        keyring.rotate(Kind.QUEUE, now=5.0)
    with pytest.raises(OSError, match="No space left"):
        keyring.store_dkim("sender.example", "g1", b"pem" * 4000)
    ballast.unlink()
    assert [path.name for path in keyring.keys_dir.rglob("*") if path.is_file()] == [FILE]
    assert Keyring.open(keyring.keys_dir, create=False).current_queue_key_id == keyring.current_queue_key_id == 1
    assert keyring.rotate(Kind.QUEUE, now=5.0) == 2
    keyring.store_dkim("sender.example", "g1", b"pem" * 4000)


KILLED_BEFORE_THE_REPLACE = """
import os, pathlib, signal, sys
from relay.keyring import Keyring, Kind
os.replace = lambda *paths: {}
Keyring.open(pathlib.Path(sys.argv[1]), create=False).rotate(Kind.QUEUE, now=5.0)
"""


def writer(keys: Path, instead: str) -> subprocess.Popen[str]:
    """A process that does `instead` when it would put the new keyring in place."""
    code = KILLED_BEFORE_THE_REPLACE.format(instead)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(keys)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def leftovers(keys: Path) -> list[Path]:
    return sorted(keys.glob(f".{FILE}.*"))


def test_the_owner_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys", create=True)
    with writer(keyring.keys_dir, "os.kill(os.getpid(), signal.SIGKILL)") as process:
        assert process.wait(30) == -signal.SIGKILL
    (left,) = leftovers(keyring.keys_dir)
    assert left.stat().st_size > 500, "it holds every secret"
    other = [
        tmp_path / "keys" / name for name in (f".{FILE}.mine", f"{FILE}.0a1b2c3d", f".{FILE}.0a1b2c3d.bak", "x.pem")
    ]
    for path in other:
        path.touch()
    settings = Settings.model_validate(
        {"server": {"data_dir": str(tmp_path / "data"), "keys_dir": str(tmp_path / "keys"), "hostname": "gw.test"}}
    )
    Owner.open(_Places(settings), keyring).close()
    assert not left.exists() and all(path.exists() for path in other)
    assert Keyring.open(keyring.keys_dir, create=False).queue_keys == keyring.queue_keys


def test_a_writer_at_work_is_waited_for(tmp_path: Path) -> None:
    """What it has written and not yet put in place is no leftover."""
    keyring = Keyring.open(tmp_path / "keys", create=True)
    waits = "(print('written', flush=True), sys.stdin.readline(), os.rename(*paths))"
    process = writer(keyring.keys_dir, waits)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "written\n"
    tidying = threading.Thread(target=keyring.remove_leftovers)
    tidying.start()
    tidying.join(0.3)
    assert tidying.is_alive() and len(leftovers(keyring.keys_dir)) == 1
    process.communicate("go on\n", timeout=30)
    tidying.join(30)
    assert process.returncode == 0 and not leftovers(keyring.keys_dir)
    keyring.reload()
    assert keyring.current_queue_key_id == 2
