"""Tenants, domains, logins, keys, purposes: what the contract says of their commands, while no gateway runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay.directory import Directory
from relay.keyring import Keyring
from tests.relay.cli.conftest import Zegel
from tests.relay.portal.test_faces import png

ROOT = Path(__file__).parents[3]


def test_a_tenant_shows_what_add_took(zegel: Zegel) -> None:
    words = ("--legal-name", "Shop B.V.", "--kind", "charity", "--category", "tuin", "--sensitive-audience")
    zegel.ask(
        "tenant", "add", "shop", *words, "--language", "en", "--contact", "a@shop.example", "--postal-address", "Dorp 1"
    )
    shown = zegel.ask("tenant", "show", "shop")
    told = {
        "name": "shop",
        "legal_name": "Shop B.V.",
        "kind": "charity",
        "category": "tuin",
        "sensitive_audience": True,
        "language": "en",
        "contact": "a@shop.example",
        "postal_address": "Dorp 1",
    }
    assert shown.items() >= told.items()
    changed = zegel.ask("tenant", "set", "shop", "--no-sensitive-audience", "--language", "nl")
    assert (changed["sensitive_audience"], changed["language"], changed["category"]) == (False, "nl", "tuin")
    assert zegel.ask("tenant", "suspend", "shop", "--reason", "unpaid")["suspended"] is True
    assert zegel.ask("tenant", "resume", "shop")["suspended"] is False
    assert [row["name"] for row in zegel.ask("tenant", "list")] == ["shop"]


def test_a_tenant_gets_a_face_and_forms_for_its_own_site(zegel: Zegel, tmp_path: Path) -> None:
    zegel.ask("tenant", "add", "shop", "--legal-name", "Shop <B.V.>", "--language", "en")
    zegel.ask("purpose", "add", "shop", "news", "--title-nl", "Nieuws & meer")
    logo = tmp_path / "logo.png"
    logo.write_bytes(png())
    look = (
        "--logo",
        str(logo),
        "--colour",
        "#0B5D3B",
        "--origin",
        "https://shop.example",
        "--origin",
        "https://b.example/",
    )
    made = zegel.ask("tenant", "set", "shop", *look)
    assert (made["colour"], made["text_colour"]) == ("#0b5d3b", "#ffffff") and made["logo"].endswith(".png")
    assert zegel.ask("tenant", "show", "shop")["origins"] == ["https://b.example", "https://shop.example"]
    pale = zegel("tenant", "set", "shop", "--colour", "#7fd0a0")
    assert pale.code != 0 and "4.5:1" in pale.err and "take the text colour #000000" in pale.err
    missing = zegel("tenant", "set", "shop", "--logo", str(tmp_path / "none.png"))
    assert missing.code == 2 and "cannot be read" in missing.err
    ended = zegel.ask("tenant", "set", "shop", "--logo", "", "--origin", "")
    assert (ended["logo"], ended["origins"], ended["colour"]) == ("", [], "#0b5d3b")
    own = zegel.ask("tenant", "snippet", "shop")
    assert "/my/start/" in own["url"] and own["url"].endswith("?lang=en") and "See my data" in own["html"]
    join = zegel.ask("tenant", "snippet", "shop", "--purpose", "news", "--language", "nl")
    assert "/optin/" in join["url"] and "Aanmelden voor Nieuws &amp; meer" in join["html"]
    plain = zegel("tenant", "snippet", "shop", "--purpose", "news", "--language", "nl")
    assert plain.out == join["html"] and 'method="post"' in plain.out and "<script" not in plain.out
    assert zegel("tenant", "snippet", "shop", "--purpose", "none").code == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("tenant", "show", "nobody"), 1, "zegel tenant list"),
        (("tenant", "add", "shop"), 1, "zegel tenant set"),
        (("tenant", "set", "shop"), 2, "nothing to set"),
        (("tenant", "set", "shop", "--language", "fr"), 2, "language"),
        (("tenant", "set", "shop", "--contact", "no address"), 2, "contact"),
        (("credential", "add", "shop", "--stream", "personal", "--purpose", "x"), 1, "purpose"),
        (("credential", "revoke", "nobody"), 1, "zegel credential list"),
        (("domain", "add", "shop", "gmail.com"), 1, "mailbox provider"),
        (("domain", "list", "nobody"), 1, "zegel tenant list"),
        (("domain", "list", "shop", "--tenant", "other"), 2, "two tenants"),
        (("dkim", "add", "other.example"), 1, "zegel domain add"),
        (("queue", "show", "short"), 2, "13 characters"),
        (("queue", "show", "0AKY71YWHN100"), 1, "zegel trace"),
        (("queue", "list", "--limit", "0"), 2, "limit"),
        (("held", "refuse", "0AKY71YWHN100"), 1, "zegel trace"),
        (("trace", "nonsense"), 2, "no queue id"),
        (("trace", "ann@example.net"), 1, "nothing is known"),
        (("suppression", "remove", "shop", "ann@example.net"), 1, "no objection of scope all stands"),
        (("policy", "mode", "shop", "consent"), 2, "nothing to set"),
        (("policy", "mode", "shop", "nonsense", "off"), 2, "no such policy"),
        (("policy", "mode", "shop", "unsubscribe", "--set", "missing=injct"), 2, "refuse, inject"),
        (
            ("explain", "/nowhere.eml", "--credential", "x", "--mail-from", "", "--rcpt-to", "a@b.example"),
            2,
            "cannot be read",
        ),
        (("no-such-command",), 2, "No such command"),
    ],
)
def test_a_refusal_is_one_clear_sentence_and_the_right_code(
    shop: Zegel, words: tuple[str, ...], code: int, told: str
) -> None:
    answer = shop(*words)
    assert answer.code == code, answer
    assert told in " ".join(answer.err.split()) and "Traceback" not in answer.err
    assert answer.out == ""


def test_a_credential_is_shown_once_and_works(zegel: Zegel, tmp_path: Path) -> None:
    zegel.ask("tenant", "add", "shop")
    zegel.ask("purpose", "add", "shop", "newsletter")
    words = ("--stream", "marketing", "--purpose", "newsletter", "--from", "a@shop.example", "--from", "b@shop.example")
    made = zegel.ask("credential", "add", "shop", *words)
    assert set(made) == {"name", "username", "password", "tenant", "stream", "purpose"}
    (row,) = zegel.ask("credential", "list")
    assert row["from"] == ["a@shop.example", "b@shop.example"] and "password" not in row
    keyring = Keyring.open(tmp_path / "keys", create=False)
    directory = Directory.load(tmp_path / "data" / "zegel.db", keyring)
    assert directory.authenticate(made["username"], made["password"]) is not None
    zegel.ask("credential", "revoke", made["name"])
    assert (
        Directory.load(tmp_path / "data" / "zegel.db", keyring).authenticate(made["username"], made["password"]) is None
    )


def test_dns_records_are_what_the_contract_prints(shop: Zegel) -> None:
    (record,) = shop.ask("dkim", "dns", "shop.example")
    assert set(record) == {"name", "type", "value"}
    assert record["name"].endswith("._domainkey.shop.example") and record["value"].startswith("v=DKIM1; k=rsa; p=")
    plain = shop("dkim", "dns", "shop.example").out
    assert record["value"] in plain, "a value that is wrapped cannot be copied"


def test_a_domain_that_nobody_vouched_for_prints_its_record(zegel: Zegel) -> None:
    zegel.ask("tenant", "add", "shop")
    told = zegel("domain", "add", "shop", "shop.example").out
    assert "_zegel.shop.example" in told and "zegel-verify=" in told
    (row,) = zegel.ask("domain", "list", "shop")
    assert (row["verified"], row["vouched"], row["has_key"]) == (False, False, False)


def test_domains_are_listed_of_all_tenants_or_of_one(shop: Zegel) -> None:
    """The contract names the tenant by place; by option as well, as it once was."""
    shop.ask("tenant", "add", "other")
    shop.ask("domain", "add", "other", "other.example", "--vouched")
    for words, names in {
        (): {"shop.example", "other.example"},
        ("other",): {"other.example"},
        ("--tenant", "other"): {"other.example"},
        ("other", "--tenant", "other"): {"other.example"},
    }.items():
        assert {row["domain"] for row in shop.ask("domain", "list", *words)} == names


def test_an_api_key_is_shown_once(shop: Zegel, tmp_path: Path) -> None:
    made = shop.ask("apikey", "add", "shop", "web")
    assert "secret" not in shop.ask("apikey", "list", "shop")[0]
    keyring = Keyring.open(tmp_path / "keys", create=False)
    assert Directory.load(tmp_path / "data" / "zegel.db", keyring).api_caller(made["secret"]) is not None
    shop.ask("apikey", "revoke", "shop", "web")
    assert Directory.load(tmp_path / "data" / "zegel.db", keyring).api_caller(made["secret"]) is None


def test_an_api_key_is_made_with_scopes_and_an_end(shop: Zegel) -> None:
    words = ("--scope", "consents:write", "--scope", "limits:read", "--expires", "2999-12-31")
    made = shop.ask("apikey", "add", "shop", "web", *words)
    (row,) = shop.ask("apikey", "list", "shop")
    assert row["scopes"] == made["scopes"] == ["consents:write", "limits:read"] and row["expires_at"] > 0
    told = shop("apikey", "list", "shop").out
    assert "limits:read" in told and "last used" in told and ("2999-12-31" in told or "3000-01-01" in told)
    refused = shop("apikey", "add", "shop", "other", "--scope", "everything")
    assert refused.code != 0 and "consents:write" in refused.err and len(shop.ask("apikey", "list", "shop")) == 1


def test_a_policy_is_set_and_shown_and_cleared(shop: Zegel) -> None:
    shop.ask("policy", "mode", "shop", "unsubscribe", "observe", "--stream", "marketing", "--set", "missing=inject")
    rows = {row["stream"]: row for row in shop.ask("policy", "list", "shop") if row["policy"] == "unsubscribe"}
    assert rows["marketing"]["mode"] == "observe" and rows["marketing"]["settings"]["missing"]["value"] == "inject"
    assert rows["personal"]["mode"] == "enforce" and rows["personal"]["settings"]["missing"]["value"] == "refuse"
    shop.ask("policy", "mode", "shop", "unsubscribe", "default", "--stream", "marketing", "--set", "")
    rows = {row["stream"]: row for row in shop.ask("policy", "list", "shop") if row["policy"] == "unsubscribe"}
    assert rows["marketing"]["mode"] == "enforce" and rows["marketing"]["settings"]["missing"]["value"] == "refuse"


def test_what_strangers_wrote_does_not_command_the_terminal(shop: Zegel) -> None:
    answer = shop("tenant", "show", "\x1b[31mred[/bold]")
    assert answer.code in (1, 2) and "\x1b" not in answer.err


def test_module_and_command_are_the_same_and_help_is_quick(tmp_path: Path) -> None:
    """Nothing that only a command needs is imported for --help."""
    heavy = ("sqlalchemy", "cryptography", "pydantic", "asyncio", "fastapi", "relay.settings", "relay.owner")
    code = (
        "import sys, runpy; sys.argv = ['zegel', '--help']\n"
        "try:\n    runpy.run_module('relay', run_name='__main__')\nexcept SystemExit as end:\n    assert not end.code\n"
        f"sys.stderr.write(','.join(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "explain" in done.stdout and "zegel demo --samples" in done.stdout
    assert done.stderr == ""


def test_every_command_teaches_with_an_example(zegel: Zegel) -> None:
    from relay.cli.app import app

    def words_of(typer_app: object, before: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = [(*before, str(info.name)) for info in typer_app.registered_commands]  # type: ignore[attr-defined]  # a Typer
        for inner in typer_app.registered_groups:  # type: ignore[attr-defined]  # a Typer
            found += words_of(inner.typer_instance, (*before, inner.name))
        return found

    everything = words_of(app, ())
    assert len(everything) > 50
    for words in everything:
        shown = zegel(*words, "--help", config=False)
        assert shown.code == 0 and "Example: zegel" in " ".join(shown.out.split()), words
