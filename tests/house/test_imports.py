"""Who may import whom: the layers of pyproject.toml, and what a policy may touch, read from its syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from importlinter import cli

from tests.house.tree import ROOT, name, nodes, sources

# A policy decides on values. Of the standard library it may use what has no effect and asks nothing of the world.
POLICY_MODULES = frozenset(("__future__", "collections", "dataclasses", "enum", "fnmatch", "ipaddress", "re", "typing"))
POLICY_PACKAGES = ("relay.mail", "relay.policy")
FORBIDDEN_CALLS = frozenset(("open", "exec", "eval", "compile", "__import__", "print", "input", "globals"))


def imported(path: Path) -> list[str]:
    """Dotted names of the modules that a file imports, wherever in it."""
    names: list[str] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return names


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_layers_point_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The contracts of pyproject.toml, by import-linter."""
    monkeypatch.chdir(ROOT)
    code = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, is_debug_mode=False)
    assert code == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("path", sources("policies"), ids=name)
def test_a_policy_imports_only_what_it_may(path: Path) -> None:
    strange = [
        module
        for module in imported(path)
        if module.partition(".")[0] not in POLICY_MODULES and not any(within(module, each) for each in POLICY_PACKAGES)
    ]
    assert strange == []


@pytest.mark.parametrize("path", sources("policies"), ids=name)
def test_a_policy_neither_waits_nor_reaches_out(path: Path) -> None:
    for node in nodes(path):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global), f"{name(path)}:{node.lineno}"  # type: ignore[attr-defined]  # each of them has a line
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{name(path)}:{node.lineno} calls {node.func.id}"


def test_mail_imports_nothing_of_ours_but_mail() -> None:
    own = {
        f"{name(path)}: {module}"
        for path in sources("relay/mail")
        for module in imported(path)
        if (within(module, "relay") and not within(module, "relay.mail")) or within(module, "policies")
    }
    assert own == set()


# Third-party packages have one home each, so that a change of theirs is a change in one place.
HOMES = {
    "aiosmtpd": ("relay/smtp/",),
    "structlog": ("relay/observe/", "relay/portal/guard.py"),
    "prometheus_client": ("relay/observe/",),
    "fastapi": ("relay/portal/", "relay/serve/web.py"),
    "jinja2": ("relay/portal/",),
    "uvicorn": ("relay/portal/", "relay/serve/"),
    "alembic": ("relay/store/",),
    "dns": ("relay/dns.py", "relay/dkim/", "relay/cli/"),
    "tldextract": ("relay/mail/",),
    "typer": ("relay/cli/",),
    "rich": ("relay/cli/",),
}


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_used_in_its_home_only(package: str) -> None:
    users = {name(path) for path in sources("relay") if any(within(module, package) for module in imported(path))}
    assert {user for user in users if not user.startswith(HOMES[package])} == set()
