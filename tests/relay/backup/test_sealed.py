"""The file of a backup gives back what was put in, or says what is wrong with it and gives nothing."""

from __future__ import annotations

import hashlib
import io
import os
import struct

import pytest

from relay.backup import sealed
from relay.backup.sealed import PIECE_BYTES, BadBackup, SealedReader, SealedWriter, WrongPassphrase

PASSPHRASE = "correct horse battery"
PIECE = struct.calcsize(">QIB")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "LOG2_N", 10)


def written(*portions: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, PASSPHRASE)
    for portion in portions:
        writer.write(portion)
    writer.finish()
    return file.getvalue()


def read(octets: bytes, size: int, passphrase: str = PASSPHRASE) -> bytes:
    reader = SealedReader(io.BytesIO(octets), passphrase)
    found = reader.read(size)
    reader.finish()
    return found


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
def test_what_was_put_in_comes_back(size: int) -> None:
    content = os.urandom(size)
    octets = written(content[: size // 3], content[size // 3 :])
    assert read(octets, size) == content
    assert content[:32] not in octets or size < 8, "nothing of it lies there in clear"


CONTENT = bytes(range(256)) * (3 * PIECE_BYTES // 256)


def start_of_pieces(octets: bytes) -> int:
    return octets.index(b"\n", octets.index(b"\n") + 1) + 1 + 64


def pieces(octets: bytes) -> tuple[bytes, list[bytes]]:
    at, found = start_of_pieces(octets), []
    begin = octets[:at]
    while at < len(octets):
        length = struct.unpack_from(">QIB", octets, at)[1] + PIECE
        found.append(octets[at : at + length])
        at += length
    return begin, found


def flipped(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]


def swapped(octets: bytes) -> bytes:
    begin, (first, second, *rest) = pieces(octets)
    return begin + second + first + b"".join(rest)


def swapped_and_numbered_anew(octets: bytes) -> bytes:
    begin, (first, second, *rest) = pieces(octets)
    return begin + first[:8] + second[8:] + second[:8] + first[8:] + b"".join(rest)


def without_the_last(octets: bytes) -> bytes:
    begin, found = pieces(octets)
    return begin + b"".join(found[:-1])


def ended_early(octets: bytes) -> bytes:
    """The second piece claims to be the last."""
    begin, (first, second, *_) = pieces(octets)
    return begin + first + second[: PIECE - 1] + b"\1" + second[PIECE:]


def of_another_backup(octets: bytes) -> bytes:
    begin, (_, *rest) = pieces(octets)
    return begin + pieces(written(CONTENT))[1][0] + b"".join(rest)


WRONG = {
    "a bit in a piece": (lambda octets: flipped(octets, len(octets) // 2), "changed after it was written"),
    "a bit in the salt": (lambda octets: flipped(octets, octets.index(b'"salt": "') + 10), "damaged at its beginning"),
    "a bit in the last octet": (lambda octets: flipped(octets, len(octets) - 1), "changed after it was written"),
    "cut in a piece": (lambda octets: octets[:-100], "cut off"),
    "cut in the beginning": (lambda octets: octets[:40], "damaged at its beginning"),
    "the last piece is gone": (without_the_last, "cut off"),
    "said to end early": (ended_early, "changed"),
    "two pieces swapped": (swapped, "out of order"),
    "swapped and numbered anew": (swapped_and_numbered_anew, "changed"),
    "a piece of another backup": (of_another_backup, "changed"),
    "more at its end": (lambda octets: octets + b"x", "added at its end"),
    "another file": (lambda octets: b"PK\3\4" + octets, "no backup of Zegel"),
    "empty": (lambda octets: b"", "no backup of Zegel"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_told(name: str) -> None:
    change, words = WRONG[name]
    octets = written(CONTENT)
    with pytest.raises(BadBackup, match=words) as told:
        read(change(octets), len(CONTENT))
    assert not isinstance(told.value, WrongPassphrase)


def test_another_passphrase_is_told_apart_from_damage() -> None:
    with pytest.raises(WrongPassphrase, match="not made with this passphrase"):
        read(written(CONTENT), len(CONTENT), "correct horse batterx")


def test_a_forged_beginning_takes_no_memory_and_no_time() -> None:
    import hashlib

    head = sealed.MAGIC + b'{"kdf": "scrypt", "log2_n": 40, "r": 8, "p": 1, "salt": "00"}\n'
    with pytest.raises(BadBackup, match="does not know"):
        read(head + hashlib.sha256(head).digest() + bytes(32), 1)


def test_what_it_says_of_itself_can_be_read_by_everybody_and_changed_by_nobody() -> None:
    file = io.BytesIO()
    SealedWriter(file, PASSPHRASE, said={"delete_after": "2026-12-28"}).finish()
    octets = file.getvalue()
    assert b'"delete_after": "2026-12-28"' in octets.split(b"\n")[1]
    assert SealedReader(io.BytesIO(octets), PASSPHRASE).header["delete_after"] == "2026-12-28"
    end = octets.index(b"\n", octets.index(b"\n") + 1) + 1
    later = octets[:end].replace(b"2026-12-28", b"2027-12-28")
    assert later != octets[:end]
    with pytest.raises(BadBackup, match="damaged at its beginning"):
        SealedReader(io.BytesIO(later + octets[end:]), PASSPHRASE)
    forged = later + hashlib.sha256(later).digest() + octets[end + 32 :]
    with pytest.raises(WrongPassphrase):
        SealedReader(io.BytesIO(forged), PASSPHRASE)
