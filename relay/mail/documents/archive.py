"""ZIP archives within the limits of DLP-8: sizes as declared are looked at first and believed never.

Theory of operation. The standard library reads the directory of a ZIP as a whole, so the size of that directory is checked
before it may. Then come the number of entries and the sum of the declared sizes, which refuse an honest bomb at once,
files that overlap included. While unpacking every chunk is paid for, against the mail's budget and the archive's ratio,
which stops the ones that lie. Only `stored` and `deflate` are read: the others unpack without asking how much is wanted.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO

from relay.mail.documents.budget import CHUNK, RATIO_FROM_BYTES, Bomb, Broken, Budget, Chunks, slices

PACKED = (".zip", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".tar")

_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_MAX_COMMENT = 65_535
END_BYTES = _MAX_COMMENT + 22  # at the end of a ZIP, in which its end record begins
_ENTRY_BYTES = 1_024  # of the directory for one entry, generously: 46 octets, a name, extra fields
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FAILURES = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    struct.error,
    NotImplementedError,
    LookupError,
)


class Archive:
    """One ZIP. Raises Broken where it is none, Bomb where it is over the limits."""

    def __init__(self, content: bytes, budget: Budget) -> None:
        self._budget = budget
        self._most = max(RATIO_FROM_BYTES, len(content) * budget.limits.ratio)
        self._unpacked = 0
        if _directory_bytes(content) > budget.limits.entries * _ENTRY_BYTES:
            raise Bomb("entries")
        try:
            self._zip = zipfile.ZipFile(BytesIO(content))
        except _FAILURES:
            raise Broken("broken") from None
        entries = self._zip.infolist()
        if len(entries) > budget.limits.entries:
            raise Bomb("entries")
        declared = sum(entry.file_size for entry in entries)
        if declared > budget.left:
            raise Bomb("unpacked_bytes")
        if declared > self._most:
            raise Bomb("ratio")
        self.entries = [entry for entry in entries if not entry.is_dir()]
        self.names = list(dict.fromkeys(entry.filename for entry in self.entries))
        self.declared = declared

    def is_encrypted(self, name: str) -> bool:
        return bool(self._zip.getinfo(name).flag_bits & 1)

    def chunks(self, name: str | zipfile.ZipInfo) -> Chunks:
        """The octets of one entry. Raises Broken where they cannot be had, Bomb or OutOfTime at a limit."""
        entry = self._zip.getinfo(name) if isinstance(name, str) else name
        if entry.flag_bits & 1:
            raise Broken("encrypted")
        if entry.compress_type not in _METHODS:
            raise Broken("unsupported")
        return self._unpack(entry)

    def _unpack(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self._zip.open(entry) as stream:
                while chunk := stream.read(CHUNK):
                    self._unpacked += len(chunk)
                    if self._unpacked > self._most:
                        raise Bomb("ratio")
                    self._budget.spend(len(chunk))
                    yield chunk
        except (*_FAILURES, RuntimeError):
            raise Broken("broken") from None


def gunzip(content: bytes, budget: Budget) -> Chunks:
    """The octets of a gzip file, all its members, within the same limits. Raises Broken, Bomb, OutOfTime."""
    most, done = max(RATIO_FROM_BYTES, len(content) * budget.limits.ratio), 0
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    between = False  # two members, where blocks of a tape are filled up with zeros
    for left in slices(content):  # what is not taken in yet is copied with each chunk, so it may not be all
        while left:
            if between:
                left = left.lstrip(b"\0")
                between = not left
                continue
            try:
                chunk = unpack.decompress(left, CHUNK)
            except zlib.error:
                raise Broken("broken") from None
            left = unpack.unconsumed_tail
            done += len(chunk)
            if done > most:
                raise Bomb("ratio")
            budget.spend(len(chunk))
            if chunk:
                yield chunk
            if unpack.eof:
                left, between = unpack.unused_data, True
                unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)


def ends_as_zip(content: bytes | bytearray) -> bool:
    """Whether the end record of a ZIP stands where one may stand."""
    return _end(content) >= 0


def _end(content: bytes | bytearray) -> int:
    """Where the end record begins that zipfile will believe; -1 where there is none."""
    end = content.rfind(_END, max(0, len(content) - END_BYTES))
    return end if end + 22 <= len(content) else -1


def _directory_bytes(content: bytes) -> int:
    """Size of the central directory by the end record; 0 where there is none."""
    end = _end(content)
    if end < 0:
        return 0
    size: int = struct.unpack_from("<L", content, end + 12)[0]
    if content[end - 20 : end - 16] == _LOCATOR and content[end - 76 : end - 72] == _END64:
        size = struct.unpack_from("<Q", content, end - 76 + 40)[0]
    return size
