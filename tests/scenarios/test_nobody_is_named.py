"""Every gateway of the suite is looked at when it ends: no address in its log, access log and metrics (OPS-2). This can fail."""

from __future__ import annotations

import pytest

from tests.harness.gateway import Gateway
from tests.harness.privacy import require_no_address
from tests.harness.web import ask
from tests.scenarios.conftest import Start


def test_an_address_in_the_log_fails_whatever_test_it_was(start: Start) -> None:
    gateway, _ = start()
    log = gateway.folder / "gateway.log"
    clean = log.read_bytes()
    with log.open("ab") as file:
        file.write(b'{"event": "session.crashed", "place": "RCPT TO:<Ann.Other@dest.example>"}\n')
    with pytest.raises(AssertionError, match="the log holds an address in clear"):
        gateway.stop()
    log.write_bytes(clean)


def test_an_address_in_a_url_reaches_no_log(start: Start) -> None:
    """Programs and people put it there; nobody may read it back."""
    gateway, _ = start()
    for path in ("/my/ann@dest.example", "/u/x?email=ann%40dest.example", "/api/v1/messages?email=ann@dest.example"):
        assert ask(gateway, path)[0] >= 400


@pytest.mark.parametrize(
    "line", [b'zegel_x{tenant="ann@dest.example"} 1', b"GET /my?e=ann@dest.example 200", b'to <"a b"@dest.example>']
)
def test_what_is_looked_for(line: bytes) -> None:
    with pytest.raises(AssertionError):
        require_no_address("it", line)
    require_no_address("it", b"user@host\nzegel_x 1\n@decorator\n")


def test_a_gateway_that_was_killed_is_looked_at_too(start: Start) -> None:
    gateway: Gateway = start()[0]
    assert gateway.process is not None
    gateway.process.kill()
    gateway.wait()
    gateway.stop()
