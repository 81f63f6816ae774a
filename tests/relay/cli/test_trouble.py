"""What a command says of an exception, and that it loads nothing for saying it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from relay.cli.trouble import DOWN, KINDS, NO, WRONG_USE, Trouble, trouble_of
from relay.keyring import KeyringError
from relay.owner import OwnerError
from relay.policy.catalogue import CatalogueError
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.sockets import PortTaken
from relay.serve.supervisor import StartFailed
from relay.store import StoreUnavailable


class Narrower(StoreUnavailable):
    pass


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Trouble(NO, "no"), NO, "no"),
        (OwnerError("tenant.unknown", "there is none"), NO, "there is none"),
        (OwnerError("args.name", "a name is missing"), WRONG_USE, "a name is missing"),
        (OwnerError("owner.busy", "another writes"), DOWN, "another writes"),
        (OpRefused("tenant.unknown", "there is none"), NO, "there is none"),
        (OpRefused("op.unknown", "what"), DOWN, "of another version"),
        (OpUnavailable("gone"), DOWN, "does not answer"),
        (CatalogueError(["a word too many"]), WRONG_USE, "a word too many"),
        (KeyringError("no key"), DOWN, "no key"),
        (PortTaken("port 25 is taken"), DOWN, "port 25 is taken"),
        (StartFailed("worker 1"), DOWN, "worker 1"),
        (StoreUnavailable("an empty file"), DOWN, "an empty file"),
        (Narrower("an empty file"), DOWN, "an empty file"),
        (FileNotFoundError(2, "No such file", "a.csv"), DOWN, "a.csv: No such file"),
        (ZeroDivisionError("ann@dest.example"), DOWN, "a defect in zegel itself: ZeroDivisionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_has_its_exit_code_and_its_words(error: Exception, code: int, says: str) -> None:
    trouble = trouble_of(error)
    assert trouble.code == code and says in trouble.text
    assert "@" not in trouble.text


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_name_is_that_of_a_class(kind: str) -> None:
    module, _, name = kind.partition(":")
    there = getattr(importlib.import_module(module), name)
    assert issubclass(there, Exception) and (there.__module__, there.__qualname__) == (module, name)


def test_nothing_is_loaded_to_say_that_something_is_wrong() -> None:
    """The owner, the supervisor and SQLAlchemy take longer than most commands."""
    asks = "import sys; from relay.cli.trouble import Trouble, trouble_of; trouble_of(Trouble(1, 'no')); trouble_of(OSError())"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{asks}; print(*sys.modules)"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "relay.owner", "relay.serve.supervisor"} & set(loaded)
    assert "relay.cli.trouble" in loaded
