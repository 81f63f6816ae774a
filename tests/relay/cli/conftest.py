"""The command line in this process, with a data folder of its own and no gateway running."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer import testing
from typer.testing import CliRunner

from relay.cli.app import app


class Answer:
    """What a command said, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Zegel:
    """`zegel(words...)` runs a command with this config and tells what it said; `ask` wants success and gives its JSON."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def __call__(self, *words: str | Path, stdin: str = "", config: bool = True) -> Answer:
        line = [str(word) for word in words] + (["-c", str(self.config)] if config else [])
        result = CliRunner().invoke(app, line, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def ask(self, *words: str | Path) -> Any:
        answer = self(*words, "--json")
        assert answer.code == 0, answer
        return answer.json


CONFIG = """
[server]
hostname = "localhost"
data_dir = "data"
keys_dir = "keys"
workers = 1
language = "en"
[[listener]]
address = "127.0.0.1:2525"
tls = "off"
"""


@pytest.fixture(scope="session", autouse=True)
def put_together_once() -> Iterator[None]:
    """The runner puts all commands together for each that it runs, which takes longer than most of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing, "_get_command", cache(testing._get_command))
        yield


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command sets the log of its process; the tests' process goes on."""
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)


def configured(folder: Path) -> Zegel:
    config = folder / "zegel.toml"
    config.write_text(CONFIG)
    return Zegel(config)


@pytest.fixture
def zegel(tmp_path: Path) -> Zegel:
    return configured(tmp_path)


@pytest.fixture(scope="session")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every `shop` is a copy of."""
    zegel = configured(tmp_path_factory.mktemp("shop"))
    zegel.ask("tenant", "add", "shop", "--legal-name", "Shop B.V.", "--language", "en")
    zegel.ask("domain", "add", "shop", "shop.example", "--vouched")
    zegel.ask("dkim", "add", "shop.example", "--vouched")
    zegel.ask("purpose", "add", "shop", "newsletter", "--title-en", "the newsletter")
    zegel.ask("credential", "add", "shop", "--stream", "marketing", "--purpose", "newsletter")
    for stream in ("transactional", "personal"):
        zegel.ask("credential", "add", "shop", "--stream", stream)
    return zegel.config.parent


@pytest.fixture
def shop(zegel: Zegel, made_shop: Path) -> Zegel:
    """A tenant `shop` that may send as shop.example, with the list `newsletter` and one login for each stream."""
    for name in ("data", "keys"):
        shutil.copytree(made_shop / name, zegel.config.parent / name)
    return zegel


COLUMNS = "email,purpose,basis,method,source,given_at,text,text_language,policy_url,jurisdiction,provenance,sensitive_audience"


def consents(path: Path, addresses: Sequence[str]) -> Path:
    """A CSV file with a full record for each address."""
    rest = 'newsletter,consent,web_form,https://shop.example/join,2026-01-02T10:00:00Z,"Ja, graag",nl,https://shop.example/p,NL,own,no'
    path.write_text("\n".join([COLUMNS, *(f"{address},{rest}" for address in addresses)]) + "\n")
    return path


NEWSLETTER = """\
From: News <news@shop.example>
To: ann@example.net
Subject: News
Date: Mon, 21 Sep 2026 10:00:00 +0000
Message-ID: <n1@shop.example>
List-Unsubscribe: <https://shop.example/leave/a>
List-Unsubscribe-Post: List-Unsubscribe=One-Click

News. Unsubscribe: https://shop.example/leave/a
"""
