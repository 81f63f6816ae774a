"""The log: one JSON object a line, and nobody's address in it unless the operator chose so (OPS-2)."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.observe.log import Redactor, drop_forbidden, render

ROOT = Path(__file__).parents[3]
PROGRAM = """
import logging, sys
from relay.observe.log import configure, log
from relay.settings.model import Settings
mode = sys.argv[1]
if mode != "unset":
    configure(Settings.model_validate({"privacy": {"address_in_logs": mode}}), hash_address=lambda text: "h4sh")
log.info("login.refused", client="192.0.2.1", address="ann@example.net", password="hunter2")
log.debug("policy.rejected")
logging.getLogger("mail.log").info("a line of a session")
logging.getLogger("lib").warning("trouble with %s", "bob@example.net")
try:
    raise ValueError("carol@example.net is not on the list")
except ValueError:
    log.exception("session.crashed")
"""


def run(mode: str) -> tuple[list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "", "standard output belongs to what a command prints"
    return [json.loads(line) for line in done.stderr.splitlines()], done.stderr


def redact(**fields: Any) -> dict[str, Any]:
    event = drop_forbidden(None, "info", dict(fields))
    return dict(Redactor(lambda address: f"<{len(address)}>")(None, "info", event))


@pytest.mark.parametrize("mode", ["unset", "hash"])
def test_by_default_no_address_is_shown(mode: str) -> None:
    lines, text = run(mode)
    assert [line["event"] for line in lines] == ["login.refused", "library.warned", "session.crashed"]
    assert lines[0]["address"] == ("hidden" if mode == "unset" else "h4sh") + "@example.net"
    assert lines[0]["client"] == "192.0.2.1" and lines[0]["level"] == "info" and lines[0]["at"].endswith("Z")
    assert lines[2]["kind"] == "ValueError"
    for word in ("ann", "bob", "carol", "hunter2"):
        assert word not in text


def test_an_operator_may_choose_clear_addresses_but_no_secrets() -> None:
    lines, text = run("clear")
    assert lines[0]["address"] == "ann@example.net"
    assert lines[1]["text"] == "trouble with bob@example.net"
    assert "hunter2" not in text and "carol" not in text


def test_addresses_are_found_wherever_they_stand() -> None:
    event = redact(
        why="550 <ann@example.net>: no such user; ask postmaster@example.net",
        recipients=["ann@example.net", ("bob@example.org",)],
        nested={"ann@example.net": {"to": b"bob@example.org"}},
        error=ValueError("jörg@exämple.net"),
        queue_id="6kq0t2",
        size_bytes=12,
        is_bulk=True,
        nothing=None,
    )
    assert event["why"] == "550 <<15>@example.net>: no such user; ask <22>@example.net"
    assert event["recipients"] == ["<15>@example.net", ["<15>@example.org"]]
    assert event["nested"] == {"<15>@example.net": {"to": "<15>@example.org"}}
    assert event["error"] == "<16>@exämple.net"
    assert (event["queue_id"], event["size_bytes"], event["is_bulk"], event["nothing"]) == ("6kq0t2", 12, True, None)


def test_hiding_is_linear() -> None:
    """MSG-11: five megabytes of what almost looks like addresses."""
    event = redact(text="a@" * 2_500_000)
    assert len(event["text"]) > 0


def test_fields_that_are_never_logged_are_dropped_in_every_mode() -> None:
    assert drop_forbidden(None, "info", {"event": "x", "subject": "Hi", "token": "t", "body": b"..."}) == {"event": "x"}


def test_whatever_is_passed_becomes_one_line() -> None:
    line = render(None, "info", {"event": "x", "path": Path("/tmp"), "raw": b"\xff\n", 3: "\n"})
    assert b"\n" not in line and json.loads(line)["path"] == "/tmp"


def test_libraries_below_a_warning_cost_no_formatting() -> None:
    """aiosmtpd logs every line of every session at INFO."""
    assert not logging.getLogger("mail.log").isEnabledFor(logging.INFO)
    assert structlog.is_configured()
