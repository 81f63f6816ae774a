"""What a process may not do for a moment, so that a test meets the real error and not an invented one."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

# Standard input, output and error, which nobody closes. Not 0: poll() takes no more descriptors than the limit, and other
# tests' servers poll one each in this process.
_STANDARD = 3


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened (EMFILE); what is open goes on."""
    with _limited(resource.RLIMIT_NOFILE, _STANDARD):
        yield


@contextlib.contextmanager
def few_descriptors(most: int) -> Iterator[None]:
    """The soft limit on open files is `most`; the hard one stays."""
    with _limited(resource.RLIMIT_NOFILE, most):
        yield


@contextlib.contextmanager
def no_file_over(octets: int) -> Iterator[None]:
    """No file grows past `octets` (EFBIG), as on a full disk; smaller ones are written as ever."""
    with _limited(resource.RLIMIT_FSIZE, octets):
        yield


@contextlib.contextmanager
def _limited(what: int, most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
