"""RFC 8058 as an outside client does it: curl at a running gateway, with the link that stood in a mail's List-Unsubscribe."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.installed import need
from tests.harness.gateway import Gateway, consent_row
from tests.harness.moody import Moody
from tests.scenarios.conftest import Start
from tests.scenarios.test_key_rotation import INJECT, link_to, news

FIELD = "List-Unsubscribe=One-Click"
FORMS = {"urlencoded": ["--data", FIELD], "multipart": ["--form", FIELD]}
BROWSER = ["--header", "Accept: text/html,application/xhtml+xml"]
SCANNERS = ([], ["--head"], BROWSER, ["--user-agent", "LinkScanner/2.1"], ["--header", "Purpose: prefetch"])


class Answer:
    """What curl got: status, head and body."""

    def __init__(self, said: bytes) -> None:
        head, _, self.body = said.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


@pytest.fixture
def curl(tmp_path: Path):  # type: ignore[no-untyped-def]  # a function
    program = need("curl", "curl")
    jar = tmp_path / "cookies"

    def run(link: str, *options: str) -> Answer:
        command = [program, "--silent", "--include", "--max-time", "20", "--cookie-jar", str(jar), *options, link]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        assert "\t" not in jar.read_text(), "a cookie was set"
        return Answer(done.stdout)

    return run


def reader(start: Start, *names: str) -> tuple[Gateway, Moody]:
    gateway, hop = start(policies=INJECT)
    gateway.op("consent.import_rows", tenant="shop", rows=[consent_row(f"{name}@dest.example") for name in names])
    for name in names:
        assert news(gateway, f"{name}@dest.example").startswith("250")
    return gateway, hop


def test_both_forms_of_a_post_opt_out_at_once_and_without_ado(start: Start, curl) -> None:  # type: ignore[no-untyped-def]  # a function
    """UNSUB-7, UNSUB-13."""
    gateway, hop = reader(start, *FORMS)
    for form, options in FORMS.items():
        person = f"{form}@dest.example"
        link = link_to(hop, gateway, person)
        for _ in range(2):  # a provider that did not hear the answer asks again
            answer = curl(link, *options)
            assert answer.status == 200 and len(answer.body) < 200
            assert not {"location", "set-cookie", "www-authenticate", "refresh"} & set(answer.head)
        assert news(gateway, person).startswith("550 5.7.1 [CONSENT-11]")
        again = {**consent_row(person), "given_at": "2026-01-03T10:00:00Z"}
        refused = gateway.op("consent.import_rows", tenant="shop", rows=[again])
        assert [error["reason"] for error in refused["errors"]] == ["objected"], "an old list that says yes"
    log = (gateway.folder / "gateway.log").read_text()
    assert link.rpartition("/")[2] not in log and "@dest.example" not in log


def test_scanners_and_wrong_links_change_nothing(start: Start, curl) -> None:  # type: ignore[no-untyped-def]  # a function
    """UNSUB-8, UNSUB-5."""
    gateway, hop = reader(start, "ann")
    link = link_to(hop, gateway, "ann@dest.example")
    for number in range(100):
        answer = curl(link + ("" if number % 2 else f"?scope=all&{FIELD}"), *SCANNERS[number % len(SCANNERS)])
        assert answer.status == 200 and "location" not in answer.head
    token = link.rpartition("/")[2]
    for at in (0, 5, len(token) // 2, len(token) - 2):
        spoilt = token[:at] + ("x" if token[at] != "x" else "y") + token[at + 1 :]
        for options in (*FORMS.values(), []):
            assert curl(link.replace(token, spoilt), *options).status == 404
    for options, status in (
        (["--request", "POST"], 400),
        (["--data", "List-Unsubscribe=one-click"], 400),
        (["--json", '{"List-Unsubscribe": "One-Click"}'], 400),
        (["--form", FIELD, "--form", "more=x"], 400),
        (["--request", "PUT", "--data", FIELD], 405),
    ):
        answer = curl(link, *options)
        assert answer.status == status, options
    assert answer.head["allow"] == "GET, HEAD, POST"
    assert news(gateway, "ann@dest.example").startswith("250")
    assert curl(link, *FORMS["multipart"]).status == 200, "the link works still"
