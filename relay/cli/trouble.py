"""What went wrong, as one sentence with the remedy and the exit code of the contract: 1 no, 2 wrong use, 3 something is down."""

from __future__ import annotations

import os
import sqlite3
import traceback
from typing import Final

NO: Final = 1
WRONG_USE: Final = 2
DOWN: Final = 3

_DOWN_CODES = frozenset(("owner.busy", "storage", "busy", "unavailable", "internal"))
_USE_PREFIXES = ("args.", "op.", "usage")
_NO_SUCH_OP = frozenset(("op.unknown", "unknown"))

# Known by their names: to import one takes half a second, and who raised one has loaded its module already.
_OVER_THE_SOCKET = frozenset(("relay.serve.channel:OpRefused",))
_REFUSALS = _OVER_THE_SOCKET | {"relay.owner.error:OwnerError"}
_WRONG_SETTINGS = frozenset(("relay.settings.problem:ConfigError", "relay.policy.catalogue:CatalogueError"))
_SILENT = frozenset(("relay.serve.channel:OpUnavailable",))
_NOT_TO_BE_USED = frozenset(
    (
        "relay.keyring:KeyringError", "relay.serve.sockets:PortTaken", "relay.serve.supervisor:StartFailed",
        "relay.store.connection:StoreUnavailable",
    )
)  # fmt: skip
KINDS = _REFUSALS | _WRONG_SETTINGS | _SILENT | _NOT_TO_BE_USED


class Trouble(Exception):
    """A command ends here. `text` is for people; several lines where several things are wrong."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def code_of(op_code: str) -> int:
    """Exit code for the code of a refused operation."""
    if op_code in _DOWN_CODES:
        return DOWN
    return WRONG_USE if op_code.startswith(_USE_PREFIXES) else NO


def trouble_of(error: Exception) -> Trouble:
    """The trouble behind any exception of a command. What nobody foresaw is a bug of ours and says where it is."""
    if isinstance(error, Trouble):
        return error
    kinds = {f"{kind.__module__}:{kind.__qualname__}" for kind in type(error).__mro__}
    if kinds & _REFUSALS:
        code, text = str(getattr(error, "code", "")), str(getattr(error, "text", ""))
        if kinds & _OVER_THE_SOCKET and code in _NO_SUCH_OP:
            text = "the running gateway is of another version than this command: start it again (docs/upgrading.md)"
            return Trouble(DOWN, text)
        return Trouble(code_of(code), text)
    if kinds & _WRONG_SETTINGS:
        return Trouble(WRONG_USE, str(error))
    if kinds & _SILENT:
        return Trouble(DOWN, "the running gateway does not answer: look at its log, or start it again")
    if kinds & _NOT_TO_BE_USED:
        return Trouble(DOWN, str(error))
    if is_of_storage(error):
        return Trouble(DOWN, f"the storage cannot be used: {_of_storage(error)}; look at the disk with `zegel doctor`")
    if isinstance(error, OSError):
        return Trouble(DOWN, _of_system(error))
    return _bug(error)


def is_of_storage(error: Exception) -> bool:
    """A database said so."""
    return isinstance(error, sqlite3.Error) or type(error).__module__ == "sqlalchemy.exc"


def _of_storage(error: Exception) -> str:
    """What the database said, without the statement and the link that SQLAlchemy writes below it."""
    said = str(getattr(error, "orig", None) or (error.args[0] if error.args else "")) or type(error).__name__
    return said.splitlines()[0]


def _of_system(error: OSError) -> str:
    what = f"{error.filename}: " if error.filename else ""
    remedy = "; run this as the owner of the data folder" if isinstance(error, PermissionError) else ""
    return f"{what}{error.strerror or error}{remedy}"


def _bug(error: Exception) -> Trouble:
    if os.environ.get("ZEGEL_TRACEBACK"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return Trouble(
        DOWN,
        f"a defect in zegel itself: {type(error).__name__}{place}; run it with ZEGEL_TRACEBACK=1 and report what it shows",
    )
