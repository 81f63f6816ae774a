"""The file of a backup: a stream, encrypted to a passphrase in pieces that cannot be changed, moved, left out or cut off.

    magic line | header, one line of JSON | SHA-256 of both (32) | HMAC of both under the passphrase (32) | pieces

A piece is `number (8) | length (4) | 1 where it is the last (1) | ciphertext and tag`, AES-256-GCM with a key that scrypt
makes from the passphrase and a salt of this file alone; so number and end may be the nonce, and everything before the
pieces is bound into each of them. The sum without a key tells a damaged file from a wrong passphrase.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC: Final = b"zegel-backup 1\n"
PIECE_BYTES: Final = 1024 * 1024
LOG2_N, BLOCK, LANES = 17, 8, 1  # 128 MiB and about half a second for each guess
MOST_LOG2_N = LOG2_N  # a forged header must not take more memory than ours do
HEADER_BYTES = 512
_PIECE = struct.Struct(">QIB")
_SUM = 32
_TAG = 16


class BadBackup(Exception):
    """The file cannot be used; the text says what is wrong with it. Nothing of it may be believed."""


class WrongPassphrase(BadBackup):
    """The file is whole as far as can be seen, and was made with another passphrase."""


class SealedWriter:
    """Takes octets in any portions. The file is of use only after `finish`."""

    def __init__(self, file: BinaryIO, passphrase: str, *, said: dict[str, str] | None = None) -> None:
        """`said` is for everybody to read, and nobody can change it: short, and nothing personal."""
        self._file = file
        self._waiting = bytearray()
        self._number = 0
        kdf = {"kdf": "scrypt", "log2_n": LOG2_N, "r": BLOCK, "p": LANES, "salt": os.urandom(16).hex()}
        header = {**(said or {}), **kdf}
        head = MAGIC + json.dumps(header).encode() + b"\n"
        key, check = _keys(passphrase, header)
        self._bound = head + hashlib.sha256(head).digest()
        file.write(self._bound + hmac.digest(check, head, "sha256"))
        self._cipher = AESGCM(key)

    def write(self, data: bytes | memoryview) -> None:
        self._waiting += data
        while len(self._waiting) > PIECE_BYTES:  # one is kept back: `finish` must have a last one
            self._seal(self._waiting[:PIECE_BYTES], last=False)
            del self._waiting[:PIECE_BYTES]

    def finish(self) -> None:
        """Write the last piece. The caller makes the file durable."""
        self._seal(self._waiting, last=True)

    def _seal(self, plain: bytearray, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last), bytes(plain), self._bound)
        self._file.write(_PIECE.pack(self._number, len(sealed), last) + sealed)
        self._number += 1


class SealedReader:
    """Gives the octets back, each only after its piece was found whole. Every method raises BadBackup."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        self._ready = bytearray()
        self._number = 0
        self._is_over = False
        if file.read(len(MAGIC)) != MAGIC:
            raise BadBackup("it is no backup of Zegel, or of a version that this one does not know")
        line = file.readline(HEADER_BYTES)
        self.header = _header(line)
        """To be believed only when the passphrase was right, that is after this constructor."""
        head = MAGIC + line
        total, proof = file.read(_SUM), file.read(_SUM)
        if not line.endswith(b"\n") or total != hashlib.sha256(head).digest():
            raise BadBackup("it is damaged at its beginning")
        key, check = _keys(passphrase, self.header)
        if not hmac.compare_digest(proof, hmac.digest(check, head, "sha256")):
            raise WrongPassphrase("it was not made with this passphrase")
        self._bound = head + total
        self._cipher = AESGCM(key)

    def read(self, size: int) -> bytes:
        """Exactly `size` octets."""
        while len(self._ready) < size:
            if self._is_over:
                raise BadBackup("its content ends in the middle of something")
            self._open()
        found = bytes(self._ready[:size])
        del self._ready[:size]
        return found

    def finish(self) -> None:
        """Nothing is left, and nothing was cut off or added."""
        while not self._is_over:
            self._open()
        if self._ready:
            raise BadBackup("there is more in it than there should be")
        if self._file.read(1):
            raise BadBackup("something was added at its end")

    def _open(self) -> None:
        head = self._file.read(_PIECE.size)
        if len(head) < _PIECE.size:
            raise BadBackup(f"it was cut off: it ends after piece {self._number}, and that was not the last")
        number, length, last = _PIECE.unpack(head)
        if number != self._number:
            raise BadBackup(
                f"its pieces are out of order: piece {number + 1} stands where piece {self._number + 1} belongs"
            )
        sealed = self._file.read(length) if length <= PIECE_BYTES + _TAG else b""
        if len(sealed) < length and length <= PIECE_BYTES + _TAG:
            raise BadBackup(f"it was cut off in the middle of piece {number + 1}")
        try:
            self._ready += self._cipher.decrypt(_nonce(number, bool(last)), sealed, self._bound)
        except InvalidTag:
            raise BadBackup(f"it is damaged: piece {number + 1} was changed after it was written") from None
        self._is_over = bool(last)
        self._number += 1


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


def _keys(passphrase: str, header: dict[str, Any]) -> tuple[bytes, bytes]:
    """The key of the pieces, and the one that shows that the passphrase is right."""
    try:
        log2_n, salt = header["log2_n"], bytes.fromhex(header["salt"])
        known = header["kdf"] == "scrypt" and (header["r"], header["p"]) == (BLOCK, LANES) and type(log2_n) is int
    except (KeyError, TypeError, ValueError):
        known, log2_n, salt = False, 0, b""
    if not known or not 10 <= log2_n <= MOST_LOG2_N:
        raise BadBackup("it was encrypted in a way that this version does not know")
    both = Scrypt(salt=salt, length=64, n=1 << log2_n, r=BLOCK, p=LANES).derive(passphrase.encode())
    return both[:32], both[32:]


def _header(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}
