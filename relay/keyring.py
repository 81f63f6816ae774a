"""The keyring: every secret key of the gateway, in `keys_dir`, outside the data folder (GDPR-19).

Theory of operation. One file, `keyring.json` (0600, in a folder 0700), holds keys of five kinds; each has a
number, and whatever was made with a key names that number. Rotation adds a key; the older ones stay live, because
tokens and suppression hashes made with them have no expiry (UNSUB-15, UNSUB-20). A new key is current from its
`created_at` on, a moment after it is written: by then every process can read what is made with it. DKIM keys lie
beside it as PEM files, `dkim/<domain>/<selector>.pem`, and the key that signs exports of the ledger as `export.key`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

FILE = "keyring.json"
EXPORT_KEY = "export.key"
VERSION = 1
KEY_BYTES = 32
HASH_BYTES = 16

_INNER = bytes(octet ^ 0x36 for octet in range(256))  # RFC 2104 section 2
_OUTER = bytes(octet ^ 0x5C for octet in range(256))
_LEFTOVER = re.compile(re.escape(f".{FILE}.") + "[0-9a-f]{8}")
_DKIM_PART = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9])?")


class Kind(StrEnum):
    """What a key is for; no key serves two ends."""

    QUEUE = "queue"  # encrypts queue and held mail
    HASH = "hash"  # keyed hashes of addresses
    TOKEN = "token"  # one-click, self-service and confirmation links
    SUBJECT = "subject"  # wraps the key of each data subject (CONSENT-14)
    DIGEST = "digest"  # keyed digests of credentials and API keys


class Key(NamedTuple):
    """One key. `id` is unique within its kind, from 1 up; the highest whose time has come is the current one."""

    id: int
    kind: Kind
    secret: bytes
    created_at: float  # epoch seconds from which it is current; before, it only opens and is looked up


class KeyringError(Exception):
    """The keyring cannot be used; the text names the file and the remedy."""


class _Hmac:
    """HMAC-SHA-256 (RFC 2104) with its two pads absorbed once: half the cost of `hmac.digest` on short texts."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        block = secret.ljust(64, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def digest(self, data: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Keyring:
    """The keys in force in this process. Make one with `Keyring.open`; `reload` takes in a rotation by another process."""

    def __init__(self, keys_dir: Path, keys: list[Key]) -> None:
        self.keys_dir = keys_dir
        self._take(keys)

    @classmethod
    def open(cls, keys_dir: Path, *, create: bool) -> Keyring:
        """The keyring in `keys_dir`; with `create` a missing one is made, one key of each kind.

        Raises KeyringError where it is missing, unreadable, incomplete or open to others than its owner.
        """
        keys_dir = Path(keys_dir)
        path = keys_dir / FILE
        if not path.exists():
            if not create:
                raise KeyringError(f"{path} does not exist: run `zegel init`, or restore the keys from a backup")
            keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            keys_dir.chmod(0o700)
            with _writing(keys_dir):
                if not path.exists():
                    _write(path, [Key(1, kind, secrets.token_bytes(KEY_BYTES), 0.0) for kind in Kind])
        return cls(keys_dir, _read(path))

    def _take(self, keys: list[Key], now: float = math.inf) -> None:
        by_kind: dict[Kind, dict[int, bytes]] = {kind: {} for kind in Kind}
        for key in sorted(keys, key=lambda key: key.id):
            by_kind[key.kind][key.id] = key.secret
        for kind, ring in by_kind.items():
            if not ring:
                raise KeyringError(f"{self.keys_dir / FILE} holds no {kind} key: restore it from a backup")
        come = {(key.kind, key.id) for key in keys if key.created_at <= now}
        current = {
            kind: max([number for number in ring if (kind, number) in come] or [min(ring)])
            for kind, ring in by_kind.items()
        }
        hash_ids = [current[Kind.HASH], *sorted(by_kind[Kind.HASH].keys() - {current[Kind.HASH]}, reverse=True)]
        self._keys = keys
        self._current = current
        self.next_at = min((key.created_at for key in keys if key.created_at > now), default=math.inf)
        self.queue_keys = by_kind[Kind.QUEUE]
        self.token_keys = by_kind[Kind.TOKEN]
        self.subject_keys = by_kind[Kind.SUBJECT]
        self.digest_keys = by_kind[Kind.DIGEST]
        self.current_queue_key_id = current[Kind.QUEUE]
        self.current_token_key_id = current[Kind.TOKEN]
        self.current_subject_key_id = current[Kind.SUBJECT]
        self.current_digest_key_id = current[Kind.DIGEST]
        # The current one first: most rows carry it.
        self._hashers = tuple(_Hmac(by_kind[Kind.HASH][number]) for number in hash_ids)
        self.has_older_hash_keys = len(self._hashers) > 1
        self._first_hasher = _Hmac(by_kind[Kind.HASH][min(by_kind[Kind.HASH])])
        self._digesters = {number: _Hmac(secret) for number, secret in self.digest_keys.items()}

    def reload(self, *, now: float = math.inf) -> None:
        """Read the file again, for instance after `rotate` in another process. Raises KeyringError; then nothing changed.

        A key whose time comes after `now` is live, but not current yet; `next_at` tells when to reload for it.
        """
        self._take(_read(self.keys_dir / FILE), now)

    def rotate(self, kind: Kind, *, now: float, from_at: float | None = None) -> int:
        """Add a key of `kind`, current from `from_at` on (epoch seconds; default `now`); the older stay live.

        Returns its number. Raises KeyringError, or OSError where the file cannot be written; then nothing changed.
        """
        with _writing(self.keys_dir):
            keys = _read(self.keys_dir / FILE)
            number = max(key.id for key in keys if key.kind == kind) + 1
            keys.append(Key(number, kind, secrets.token_bytes(KEY_BYTES), now if from_at is None else from_at))
            _write(self.keys_dir / FILE, keys)
        self._take(keys, now)
        return number

    def remove_leftovers(self) -> None:
        """What a writer that was killed left beside the keyring holds every secret. Nothing of one that is at work goes."""
        with contextlib.suppress(OSError):  # a folder that cannot be written has none of ours
            if any(map(_LEFTOVER.fullmatch, os.listdir(self.keys_dir))):
                with _writing(self.keys_dir):
                    for name in filter(_LEFTOVER.fullmatch, os.listdir(self.keys_dir)):
                        (self.keys_dir / name).unlink(missing_ok=True)
                    _sync_folder(self.keys_dir)

    def overview(self) -> list[tuple[Key, bool]]:
        """Every key without its secret, by kind and number, and whether it is current."""
        keys = sorted(self._keys, key=lambda key: (key.kind, key.id))
        return [(key._replace(secret=b""), self._current[key.kind] == key.id) for key in keys]

    def subject_hash(self, text: str) -> bytes:
        """16 octets: HMAC-SHA-256 of `text` under the current hash key, truncated (RFC 2104 section 5)."""
        return self._hashers[0].digest(text.encode())[:HASH_BYTES]

    def subject_hashes(self, text: str) -> list[bytes]:
        """The hash of `text` under every live hash key, current first; normally one (UNSUB-20)."""
        data = text.encode()
        return [hasher.digest(data)[:HASH_BYTES] for hasher in self._hashers]

    def lasting_hash(self, text: str) -> bytes:
        """32 octets: the same of the first hash key, whatever is rotated. For what counts and dies of age, never for a lookup."""
        return self._first_hasher.digest(text.encode())

    def digest(self, data: bytes, key_id: int) -> bytes | None:
        """Keyed digest (32 octets) of a secret for storage and comparison; None where key `key_id` is not there."""
        hasher = self._digesters.get(key_id)
        return None if hasher is None else hasher.digest(data)

    def export_key(self) -> bytes:
        """Secret (32 octets) of the Ed25519 key that signs exports of the ledger; made when it is first asked for.

        Raises KeyringError, or OSError where it cannot be written.
        """
        path = self.keys_dir / EXPORT_KEY
        with _writing(self.keys_dir):
            if not path.exists():
                _write_new(path, secrets.token_bytes(KEY_BYTES))
            secret = path.read_bytes()
        if len(secret) != KEY_BYTES:
            raise KeyringError(f"{path} is damaged: restore it from a backup")
        return secret

    def dkim_path(self, domain: str, selector: str) -> Path:
        """Where the private key of `selector` for `domain` lies. Raises ValueError for a name that could leave the folder."""
        if not _DKIM_PART.fullmatch(domain) or not _DKIM_PART.fullmatch(selector) or ".." in domain + selector:
            raise ValueError("not a domain or selector in A-label form")
        return self.keys_dir / "dkim" / domain / f"{selector}.pem"

    def store_dkim(self, domain: str, selector: str, pem: bytes) -> Path:
        """Write a private key durably, 0600. Raises FileExistsError rather than overwrite one."""
        path = self.dkim_path(domain, selector)
        for folder in (self.keys_dir / "dkim", path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        _write_new(path, pem)
        return path

    def dkim_selectors(self, domain: str) -> set[str]:
        """Selectors that have a private key file for `domain`, known to the database or not."""
        return {path.stem for path in self.dkim_path(domain, "x").parent.glob("*.pem")}

    def remove_dkim(self, domain: str, selector: str) -> None:
        """Delete a private key, durably; nothing where there is none. Raises OSError."""
        path = self.dkim_path(domain, selector)
        if path.exists():
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)
        with contextlib.suppress(OSError):  # other keys of the domain, or it is gone
            path.parent.rmdir()

    def load_dkim(self, domain: str, selector: str) -> bytes | None:
        """PEM of a private key, or None where the file is missing or unreadable (an alarm of ours: DKIM-8, `451`)."""
        try:
            return self.dkim_path(domain, selector).read_bytes()
        except OSError:
            return None


def _read(path: Path) -> list[Key]:
    try:
        mode = path.stat().st_mode
        document = json.loads(path.read_bytes())
        if mode & 0o077:
            raise KeyringError(f"{path} may be read by others: run `chmod 600 {path}`")
        if document["version"] != VERSION:
            raise KeyringError(
                f"{path} is of version {document['version']}, this program reads {VERSION}: upgrade Zegel"
            )
        keys = [
            Key(
                int(row["id"]),
                Kind(row["kind"]),
                base64.b64decode(row["secret"], validate=True),
                float(row["created_at"]),
            )
            for row in document["keys"]
        ]
    except OSError as error:
        raise KeyringError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise KeyringError(f"{path} is damaged: restore it from a backup") from None
    if any(len(key.secret) != KEY_BYTES for key in keys):
        raise KeyringError(f"{path} holds a key of the wrong length: restore it from a backup")
    return keys


def _write(path: Path, keys: list[Key]) -> None:
    rows = [
        {
            "id": key.id,
            "kind": key.kind.value,
            "secret": base64.b64encode(key.secret).decode(),
            "created_at": key.created_at,
        }
        for key in keys
    ]
    fresh = path.with_name(f".{FILE}.{secrets.token_hex(4)}")
    try:
        _write_new(fresh, json.dumps({"version": VERSION, "keys": rows}, indent=1).encode())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def _writing(keys_dir: Path) -> Iterator[None]:
    """Nobody else writes the keyring meanwhile, or takes what we write for left behind."""
    handle = os.open(keys_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a network share may lock no folder: the owner's lock has to do there
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_new(path: Path, content: bytes) -> None:
    """Durable when this returns; after an error nothing is left of it. Raises FileExistsError, too."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
