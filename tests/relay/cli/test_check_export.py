"""docs/check_export.py judges an export by itself: a whole one holds, and whatever is changed in it is named."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.house.tree import ROOT
from tests.relay.cli.conftest import Zegel, consents

CHECKER = ROOT / "docs" / "check_export.py"
Lines = list[dict[str, Any]]


def check(file: Path, *more: str) -> tuple[int, str]:
    """As somebody outside runs it: no package of ours or of anybody can be imported."""
    command = [sys.executable, "-I", "-S", str(CHECKER), str(file), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def exported(shop: Zegel, tmp_path: Path) -> Path:
    """Three given, one withdrawn, one erased."""
    people = [f"{name}@example.net" for name in ("ann", "bob", "cas")]
    shop.ask("consent", "import", "shop", consents(tmp_path / "in.csv", people))
    shop.ask("consent", "withdraw", "shop", people[1])
    shop.ask("privacy", "erase", "shop", people[2], "--yes")
    shop.ask("consent", "export", "shop", tmp_path / "out.jsonl")
    return tmp_path / "out.jsonl"


def read(file: Path) -> Lines:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, lines: Lines) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_whole_export_holds(exported: Path, shop: Zegel) -> None:
    lines = read(exported)
    key = lines[-1]["key"]
    code, said = check(exported, "--key", key, "--anchor", f"2:{lines[1]['hash']}")
    assert (code, f"The chain of {len(lines) - 1} events holds" in said) == (0, True), said
    assert len(lines) > 5 and lines[2]["personal"] is None, "who was erased is in it without a name"
    again = exported.with_name("again.jsonl")
    assert shop.ask("consent", "export", "shop", again)["key"] == key, "the key stays"
    assert check(again, "--key", key)[0] == 0
    shop.ask("tenant", "add", "empty")
    shop.ask("consent", "export", "empty", exported.with_name("empty.jsonl"))
    assert check(exported.with_name("empty.jsonl"), "--key", key)[0] == 0


def set_in(number: int, name: str, value: object) -> Callable[[Lines], None]:
    return lambda lines: lines[number].__setitem__(name, value)


def emptied(lines: Lines, number: int) -> None:
    """As the gateway writes one that has had its time; signed anew, by whoever did it."""
    kept = ("event_id", "prev_hash", "content_hash", "hash")
    lines[number] = {**dict.fromkeys(lines[number]), **{name: lines[number][name] for name in kept}}
    sign_anew(lines)


def hidden(lines: Lines, number: int) -> None:
    lines[number]["personal"] = None
    sign_anew(lines)


def sign_anew(lines: Lines) -> None:
    """With another key."""
    body = "".join(json.dumps(line) + "\n" for line in lines[:-1]).encode()
    statement = lines[-1]["statement"].split("\n")
    statement[4] = f"sha256 {hashlib.sha256(body).hexdigest()}"
    forger = Ed25519PrivateKey.generate()
    public = forger.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    said = "\n".join(statement)
    lines[-1] |= {"statement": said, "key": public, "signature": forger.sign(said.encode()).hex()}


CHANGES: dict[str, tuple[Callable[[Lines], object], str]] = {
    "a basis": (set_in(0, "basis", "soft_optin"), "event 1: basis is not what was hashed"),
    "the text": (set_in(1, "text", "Ja!"), "event 2: the text is not the one that was shown"),
    "who recorded it": (set_in(1, "recorded_by", "operator:x"), "event 2: what it shows is not what was hashed"),
    "the purpose": (set_in(0, "purpose", "offers"), "event 1: what it shows is not what was hashed"),
    "the content": (lambda lines: set_in(0, "content", lines[1]["content"])(lines), "event 1: its content was changed"),
    "content taken out": (lambda lines: emptied(lines, 0), "event 1: its content is gone, and no event"),
    "a word on what expired": (set_in(0, "content", None), "event 1: its content is gone, and it still says something"),
    "the text taken out": (set_in(0, "text", None), "event 1: its text is missing"),
    "a name taken out": (lambda lines: hidden(lines, 0), "event 1: its personal is gone, and no event"),
    "a hash": (set_in(2, "hash", "00" * 32), "event 3: its hash does not match"),
    "an event taken out": (lambda lines: lines.pop(1), "event 2 is missing"),
    "the first taken out": (lambda lines: lines.pop(0), "event 1 is missing"),
    "two in another order": (lambda lines: lines.insert(0, lines.pop(1)), "event 1 is missing"),
    "the end taken off": (lambda lines: lines.pop(-2), "the file is not the one that was signed"),
    "a name": (lambda lines: lines[0]["personal"].update(email="eve@example.net"), "is not the one that was signed"),
    "a time that is only shown": (set_in(0, "at", "2020-01-01T00:00:00Z"), "is not the one that was signed"),
    "the statement": (
        lambda lines: set_in(-1, "statement", lines[-1]["statement"].replace("shop", "show"))(lines),
        "the signature does not match",
    ),
    "the signature": (set_in(-1, "signature", "11" * 64), "the signature does not match"),
    "the key": (set_in(-1, "key", "ff" * 32), "the signature does not match"),
    "the head": (set_in(-1, "head", {"seq": 999, "hash": "00" * 32}), "the last line is not as the gateway writes it"),
    "the head taken out": (set_in(-1, "head", None), "the last line is not as the gateway writes it"),
    "a word more at the end": (set_in(-1, "note", "checked"), "the last line is not as the gateway writes it"),
    "the key in capitals": (
        lambda lines: set_in(-1, "key", lines[-1]["key"].upper())(lines),
        "the last line is not as the gateway writes it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_is_named(exported: Path, change: str) -> None:
    lines = read(exported)
    do, told = CHANGES[change]
    do(lines)
    write(exported, lines)
    code, said = check(exported)
    assert (code, told in said) == (1, True), said


def test_no_octet_of_the_last_line_changes_unseen(exported: Path) -> None:
    """Of 76 in its head nobody saw it. In process, for each octet is a check of its own."""
    loaded = importlib.util.spec_from_file_location("check_export", CHECKER)
    assert loaded is not None and loaded.loader is not None
    checker = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(checker)
    content = exported.read_bytes()
    checker.check(exported)
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    assert len(content) - start > 500
    for place in range(start, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        exported.write_bytes(changed)
        with pytest.raises((checker.Wrong, ValueError, KeyError, TypeError, IndexError)):
            checker.check(exported)


def test_a_file_that_was_signed_by_another_is_told_from_ours(exported: Path) -> None:
    """Whoever changes a line and signs it anew has another key."""
    lines = read(exported)
    key = lines[-1]["key"]
    lines[0]["personal"]["email"] = "eve@example.net"
    sign_anew(lines)
    write(exported, lines)
    assert check(exported)[0] == 0, "in itself it is whole"
    code, told = check(exported, "--key", key)
    assert code == 1 and "signed with another key" in told


def test_a_chain_that_was_written_anew_does_not_go_through_an_old_head(exported: Path) -> None:
    for anchor, told in (
        (f"2:{'ab' * 32}", "event 2 is not the one that the anchor names"),
        (f"99:{'ab' * 32}", "missing at the end"),
    ):
        code, said = check(exported, "--anchor", anchor)
        assert code == 1 and told in said


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"[1]\n", b"\xff\n", b'{"head": null}\n{"event_id": 1}\n', b"null\nnull\n"]
)
def test_what_is_no_export_is_told_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    code, said = check(file)
    assert code == 1 and said.startswith("WRONG: ")
    assert check(tmp_path / "nowhere")[0] == 1
