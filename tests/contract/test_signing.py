"""Of an export only what is the tenant's own chain is signed (CONSENT-14)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import World


@pytest.fixture
def head(world: World) -> dict[str, Any]:
    world.load(world.row(), world.row(email="bob@example.net"))
    world.call("tenant.add", name="other")
    found: dict[str, Any] = world.call("consent.export", tenant="shop")["head"]
    return found


def test_the_end_of_a_chain_is_signed_and_an_empty_one_too(world: World, head: dict[str, Any]) -> None:
    signed = world.call("consent.sign", tenant="shop", events=2, sha256="ab" * 32, **head)
    assert f"events 2\nhead {head['hash']}\nsha256 {'ab' * 32}\n" in signed["statement"]
    empty = world.call("consent.sign", tenant="other", events=0, sha256="ab" * 32)
    assert f"events 0\nhead {'00' * 32}\n" in empty["statement"] and empty["key"] == signed["key"]
    assert (world.keyring.keys_dir / "export.key").stat().st_mode & 0o077 == 0
    (row,) = [row for row in world.call("audit.list", tenant="shop", limit=5) if row["op"] == "consent.sign"]
    assert row["detail"]["key"] == signed["key"]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"tenant": "other"}, "export.head"),
        ({"hash": "00" * 32}, "export.head"),
        ({"seq": 1}, "export.head"),
        ({"seq": 3, "events": 3}, "export.head"),
        ({"events": 1}, "export.head"),
        ({"sha256": "x"}, "args.wrong"),
        ({"sha256": "ab" * 31 + "\u0663" * 2}, "args.wrong"),
    ],
)
def test_nothing_else_is_signed(world: World, head: dict[str, Any], wrong: dict[str, Any], code: str) -> None:
    args = {"tenant": "shop", "events": 2, "sha256": "ab" * 32, **head}
    assert world.refused("consent.sign", **{**args, **wrong}) == code


def test_a_damaged_key_signs_nothing(world: World, head: dict[str, Any]) -> None:
    (world.keyring.keys_dir / "export.key").write_bytes(b"short")
    assert world.refused("consent.sign", tenant="shop", events=2, sha256="ab" * 32, **head) == "storage"
