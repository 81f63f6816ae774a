"""`zegel demo` as a newcomer meets it: the samples tell what they should, the printed commands work as pasted."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.ports import free_port

ROOT = Path(__file__).parents[3]


def command(*words: str, smtp: int, web: int) -> list[str]:
    return [sys.executable, "-m", "relay", "demo", "--smtp-port", str(smtp), "--web-port", str(web), *words]


def test_every_sample_goes_as_expected() -> None:
    web = free_port()
    line = command("--samples", "--json", smtp=free_port(), web=web)
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    told = json.loads(done.stdout)
    assert [one["title"] for one in told if not one["as_expected"]] == [], told
    assert done.returncode == 0
    assert {one["policy"] for one in told} == {
        *("consent", "unsubscribe", "suppression", "leaks", "recipients", "classification", "identity", "content"),
        "throttle",
    }
    assert all(link.startswith(f"http://127.0.0.1:{web}/outbox/") for one in told for link in one["links"])
    assert all(one["links"] for one in told)


class Demo:
    """A demo that runs, and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.web = free_port()
        line = command("--data", str(folder), smtp=free_port(), web=self.web)
        self.process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        self.said = ""
        for text in self.process.stdout:
            self.said += text
            if text.startswith("Stop with"):
                break
        watchdog.cancel()

    def commands(self) -> dict[str, str]:
        """Each printed command by its title."""
        _, _, tail = self.said.partition("Copy and paste")
        blocks = re.split(r"\n# ", tail.partition("\nStop with")[0])[1:]
        return {block.partition("\n")[0]: block.partition("\n")[2] for block in blocks}

    def paste(self, word: str) -> subprocess.CompletedProcess[str]:
        """Run the command whose title holds `word` in a shell, as pasted."""
        (text,) = [text for title, text in self.commands().items() if word in title]
        return subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo") / "kept")
    yield made
    made.stop()


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def test_it_has_three_logins_and_a_page(demo: Demo) -> None:
    assert (
        len(re.findall(r"^  (marketing|transactional|personal) +user \S+ +password \S+$", demo.said, re.MULTILINE)) == 3
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{demo.web}/outbox", timeout=15) as page:
        assert page.status == 200


def test_the_swaks_commands_work_as_pasted(demo: Demo) -> None:
    needs("swaks")
    assert "queued as" in demo.paste("swaks: a newsletter").stdout
    refused = demo.paste("swaks: the same to somebody who did not")
    assert refused.returncode != 0 and "550 5.7.1 [CONSENT-1]" in refused.stdout + refused.stderr


def test_the_curl_commands_work_as_pasted(demo: Demo) -> None:
    needs("curl")
    sent = demo.paste("curl: an invoice")
    assert sent.returncode == 0, sent
    assert demo.paste("curl: somebody signs up").stdout.strip() == "202"


def test_the_python_command_works_as_pasted(demo: Demo) -> None:
    sent = demo.paste("Python: a mail with 30 people")
    assert sent.stdout.strip() == "sent", sent


def test_the_printed_config_serves_other_commands(demo: Demo) -> None:
    found = re.search(r"for instance +(.+) trace ann@example.net -c (\S+)", demo.said)
    assert found is not None
    line = f"{found[1]} tenant list --json -c {found[2]}"  # as the reader would type it
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert [row["name"] for row in json.loads(done.stdout)] == ["Voorbeeldwinkel"]


def test_what_is_kept_serves_again(tmp_path: Path) -> None:
    first = Demo(tmp_path / "kept")
    assert first.stop() == 0
    again = Demo(tmp_path / "kept")
    logins = re.compile(r"user \S+ +password \S+")
    assert logins.findall(again.said) == logins.findall(first.said) != []
    assert again.stop() == 0


def test_wrong_use_is_told() -> None:
    for words in (("--exit",), ("--json",), ("-c", "x.toml")):
        line = command(*words, smtp=1, web=2)
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and done.stderr.startswith("zegel: "), words
