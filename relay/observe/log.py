"""The log: one JSON object a line on standard error, one event per decision, no personal data unless the operator chose so.

Addresses become a keyed hash and their domain (OPS-2), wherever they stand: in fields meant for them and inside other texts.
Fields that may never be logged are dropped even if some code passes them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable
from typing import Any, Protocol

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from relay.observe import events

HashAddress = Callable[[str], str]
NEVER = frozenset(("subject", "body", "token", "password", "secret", "authorization", "cookie", "raw", "display_name"))
# Wide on purpose: rather a word too many hidden than an address shown. Each part is bounded, so it is linear.
_ADDRESS = re.compile(r"[^\s<>\"',;:()\[\]@]{1,64}@([^\s<>\"',;:()\[\]@]{1,253})")


class PrivacySettings(Protocol):
    @property
    def address_in_logs(self) -> str: ...


class ServerSettings(Protocol):
    @property
    def log_level(self) -> str: ...


class LogSettings(Protocol):
    """What of the settings the log needs; relay.settings.model.Settings is one."""

    @property
    def server(self) -> ServerSettings: ...

    @property
    def privacy(self) -> PrivacySettings: ...


log: FilteringBoundLogger = structlog.get_logger()
"""The logger of the whole program; what it does is set by `configure`, until then as if addresses were to be hidden."""


def configure(settings: LogSettings, *, hash_address: HashAddress | None = None, level: str = "") -> None:
    """Log from now on as the settings say. Without `hash_address` (no keys at hand) of an address only its domain is shown.

    `level` in place of `server.log_level`: one of info, warning, error, critical.
    """
    clear = settings.privacy.address_in_logs == "clear"
    _configure(None if clear else Redactor(hash_address), level or settings.server.log_level, _careful, cache=True)


def _configure(redactor: Redactor | None, level: str, factory: Callable[..., WrappedLogger], *, cache: bool) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            drop_forbidden,
            *([redactor] if redactor is not None else []),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=factory,
        cache_logger_on_first_use=cache,
    )
    vars(log).pop("bind", None)  # what it keeps of the configuration that it met first
    # Libraries speak only when something is wrong: aiosmtpd would log every line of every session.
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryLog()], force=True)


def drop_forbidden(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Fields that are never logged, in no mode; of an exception its type, since its text may hold anything."""
    for name in NEVER.intersection(event):
        del event[name]
    error = event.pop("exc_info", None)
    if error:
        kind = sys.exc_info()[0] if error is True else type(error) if isinstance(error, BaseException) else error[0]
        event.setdefault("kind", kind.__name__ if kind else "")
    return event


class Redactor:
    """Replaces every address in every field by its keyed hash and its domain."""

    def __init__(self, hash_address: HashAddress | None) -> None:
        self._hash = hash_address

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name, value in event.items():
            if isinstance(value, str):
                if "@" in value:
                    event[name] = _ADDRESS.sub(self._hidden, value)
            elif not isinstance(value, int | float | None):
                event[name] = self._inside(value)
        return event

    def _inside(self, value: object) -> object:
        if isinstance(value, dict):
            return {self._inside(key): self._inside(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._inside(inner) for inner in value]
        if isinstance(value, int | float | None):
            return value
        return _ADDRESS.sub(self._hidden, value if isinstance(value, str) else _text(value))

    def _hidden(self, match: re.Match[str]) -> str:
        return f"{'hidden' if self._hash is None else self._hash(match[0])}@{match[1]}"


def render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    """One line of JSON."""
    return orjson.dumps(event, default=_text, option=orjson.OPT_NON_STR_KEYS)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class LibraryLog(logging.Handler):
    """Takes what libraries log into the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning(events.LIBRARY_WARNED, logger=record.name, text=record.getMessage())


class _Careful(structlog.BytesLogger):
    """A log on a full disk stops nothing: what it cannot write is lost, mail is not."""

    def msg(self, message: bytes) -> None:
        with contextlib.suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = exception = log = msg


def _careful(*_arguments: Any) -> _Careful:
    return _Careful(sys.stderr.buffer)


class _Stderr:
    """Standard error as it is at the moment of writing; before `configure`, and in tests that capture it."""

    def msg(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.buffer.write(line + b"\n")
            sys.stderr.buffer.flush()

    debug = info = warning = error = critical = exception = log = msg


def _stderr(*_arguments: Any) -> _Stderr:
    return _Stderr()


_configure(Redactor(None), "info", _stderr, cache=False)
