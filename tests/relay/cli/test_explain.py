"""`zegel explain` and `zegel policy test`: the contract's JSON, and nothing charged, sent or kept."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest

from relay.counters.contract import MINUTE, Limit
from relay.counters.embedded import EmbeddedCounters
from relay.policy.catalogue import ORDER
from tests.harness.counters import Driven
from tests.harness.ports import free_ports
from tests.harness.redis import RedisServer
from tests.relay.cli.conftest import NEWSLETTER, Answer, Zegel, consents

CASES = Path(__file__).parents[2] / "cases"
MARKETING = ("--credential", "shop-newsletter", "--mail-from", "news@shop.example")


@pytest.fixture
def reader(shop: Zegel, tmp_path: Path) -> Zegel:
    """The shop, with one subscriber and a mail in a file."""
    shop.ask("consent", "import", "shop", consents(tmp_path / "in.csv", ["ann@example.net"]))
    (tmp_path / "news.eml").write_text(NEWSLETTER)
    return shop


def explain(zegel: Zegel, *to: str, words: tuple[str, ...] = MARKETING, file: str = "news.eml") -> Answer:
    recipients = [word for address in to for word in ("--rcpt-to", address)]
    return zegel("explain", zegel.config.parent / file, *words, *recipients, "--json")


def test_a_lawful_newsletter_has_every_key_of_the_contract(reader: Zegel) -> None:
    answer = explain(reader, "ann@example.net")
    assert answer.code == 0, answer
    told = answer.json
    assert set(told) == {"action", "reply", "recipients", "policies", "headers_after"}
    assert told["action"] == "accept" and told["reply"].startswith("250 2.0.0")
    assert told["recipients"] == [{"address": "ann@example.net", "action": "accept", "rule": "", "reason": ""}]
    in_force = [policy for policy in ORDER if policy != "leaks"]  # which leaves campaigns alone
    assert [entry["policy"] for entry in told["policies"]] == in_force
    assert all(set(entry) == {"policy", "mode", "action", "rule", "reason", "edits"} for entry in told["policies"])
    assert ["Subject", "News"] in told["headers_after"]


def test_who_lacks_consent_is_refused_at_rcpt_and_the_rest_goes_on(reader: Zegel) -> None:
    answer = explain(reader, "zoe@example.com", "ann@example.net")
    told = answer.json
    assert answer.code == 0 and told["action"] == "accept"
    outcomes = {row["address"]: (row["action"], row["rule"]) for row in told["recipients"]}
    assert outcomes == {"zoe@example.com": ("reject", "CONSENT-1"), "ann@example.net": ("accept", "")}
    consent = next(entry for entry in told["policies"] if entry["policy"] == "consent")
    assert (consent["action"], consent["reason"]) == ("reject", "consent.missing")


@pytest.mark.parametrize(
    ("language", "advice"), [("en", "Send a confirmation mail"), ("nl", "Stuur een bevestigingsmail")]
)
def test_who_did_not_confirm_where_that_is_asked_is_told_so(
    shop: Zegel, tmp_path: Path, language: str, advice: str
) -> None:
    """CONSENT-8: by the end of the address, until the tenant does without; `consent-not-confirmed.smtp` shows it live."""
    shop.ask("tenant", "set", "shop", "--language", language)
    shop.ask("consent", "import", "shop", consents(tmp_path / "in.csv", ["hans@example.de"]))
    (tmp_path / "news.eml").write_text(NEWSLETTER)
    answer = explain(shop, "hans@example.de")
    assert answer.code == 1 and answer.json["reply"].startswith("550 5.7.1 [CONSENT-8]"), answer
    assert advice in answer.json["reply"]
    (row,) = answer.json["recipients"]
    assert (row["action"], row["rule"]) == ("reject", "CONSENT-8")
    shop.ask("policy", "mode", "shop", "consent", "--set", "double_optin=[]")
    assert explain(shop, "hans@example.de").json["action"] == "accept"


def test_a_question_to_confirm_goes_where_the_newsletter_may_not(shop: Zegel, tmp_path: Path) -> None:
    """CONSENT-8, CLASS-7: the way out that the refusal names is open: ask, confirm by mail, and only then the rest."""
    shop.ask("consent", "import", "shop", consents(tmp_path / "in.csv", ["hans@example.de"]))
    (tmp_path / "news.eml").write_text(NEWSLETTER)
    text = "You asked for our newsletter. Confirm: https://shop.example/confirm/1\n"
    head = "From: News <news@shop.example>\nTo: hans@example.de\nSubject: Please confirm\nX-Zegel-Class: confirm\n\n"
    (tmp_path / "confirm.eml").write_text(head + text)
    assert explain(shop, "hans@example.de", file="confirm.eml").json["action"] == "reject"
    shop.ask("consent", "request", "shop", "hans@example.de", "--purpose", "newsletter")
    assert explain(shop, "hans@example.de", file="confirm.eml").json["action"] == "accept"
    (row,) = explain(shop, "hans@example.de").json["recipients"]
    assert (row["action"], row["rule"]) == ("reject", "CONSENT-8")


def test_a_mail_for_nobody_is_refused_with_the_reply_of_rcpt(reader: Zegel) -> None:
    answer = explain(reader, "zoe@example.com")
    assert answer.code == 1 and answer.json["action"] == "reject"
    assert answer.json["reply"].startswith("550 5.7.1 [CONSENT-1]")


def test_a_foreign_sender_is_refused_at_mail(reader: Zegel) -> None:
    words = ("--credential", "shop-newsletter", "--mail-from", "boss@other.example")
    answer = explain(reader, "ann@example.net", words=words)
    assert answer.code == 1 and "[ID-1]" in answer.json["reply"]
    assert answer.json["recipients"][0]["rule"] == "ID-1"


def test_a_mended_mail_is_accepted_with_edits(reader: Zegel) -> None:
    reader.ask("policy", "mode", "shop", "unsubscribe", "--set", "missing=inject")
    lines = [line for line in NEWSLETTER.splitlines() if not line.startswith("List-")]
    (reader.config.parent / "bare.eml").write_text("\n".join(lines) + "\n")
    told = explain(reader, "ann@example.net", file="bare.eml").json
    entry = next(entry for entry in told["policies"] if entry["policy"] == "unsubscribe")
    assert told["action"] == "accept" and entry["rule"] == "UNSUB-16" and entry["edits"]


def test_what_only_observes_is_shown_and_changes_nothing(reader: Zegel) -> None:
    reader.ask("policy", "mode", "shop", "consent", "observe")
    told = explain(reader, "zoe@example.com").json
    entry = next(entry for entry in told["policies"] if entry["policy"] == "consent")
    assert told["action"] == "accept" and (entry["mode"], entry["action"]) == ("observe", "reject")


def test_what_is_no_mail_is_refused_by_its_rule(reader: Zegel) -> None:
    (reader.config.parent / "broken.eml").write_bytes(b"Sub\0ject: x\n\nbody\n")
    answer = explain(reader, "ann@example.net", file="broken.eml")
    assert answer.code == 1 and answer.json["policies"] == []
    assert answer.json["recipients"][0]["rule"] == "SMTP-24"


def test_nothing_is_charged(reader: Zegel, tmp_path: Path) -> None:
    personal = ("--credential", "shop-personal", "--mail-from", "a@shop.example")
    (tmp_path / "note.eml").write_text("From: a@shop.example\nTo: b@example.net\nSubject: hi\n\nhi\n")
    reader.ask("policy", "mode", "shop", "throttle", "--set", "personal_messages_per_minute=1")
    for _ in range(3):
        assert explain(reader, "b@example.net", words=personal, file="note.eml").json["action"] == "accept"
    counters = EmbeddedCounters(tmp_path / "data")
    used = counters.used(Limit("messages_per_minute", "credential", "c:shop-personal", 1, MINUTE, 1), 1_790_000_000.0)
    counters.close()
    assert used == 0
    assert reader.ask("queue", "list") == [] and reader("trace", "b@example.net").code == 1


def test_for_people_it_is_a_sentence_and_tables(reader: Zegel, tmp_path: Path) -> None:
    answer = reader(
        "explain", tmp_path / "news.eml", *MARKETING, "--rcpt-to", "zoe@example.com", "--rcpt-to", "ann@example.net"
    )
    assert "would be taken and sent. Not for 1 of its 2 recipients." in answer.out and "CONSENT-1" in answer.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--credential", "nobody", "--mail-from", "", "--rcpt-to", "a@b.example"), "zegel credential list"),
        (("--credential", "shop-newsletter", "--mail-from", "", "--rcpt-to", "nonsense"), "is not an address"),
    ],
)
def test_wrong_use_is_told(reader: Zegel, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    answer = reader("explain", tmp_path / "news.eml", *words)
    assert answer.code == 2 and told in answer.err


@pytest.mark.parametrize("policy", ORDER)
def test_the_decision_tables_of_the_house_run_from_the_command_line(zegel: Zegel, policy: str) -> None:
    rows = zegel.ask("policy", "test", policy, CASES / f"{policy}.toml")
    assert len(rows) == len(tomllib.loads((CASES / f"{policy}.toml").read_text())["case"])
    assert all(row["kept"] for row in rows)


def test_a_row_that_is_not_kept_is_shown(zegel: Zegel, tmp_path: Path) -> None:
    table = tmp_path / "cases.toml"
    table.write_text('[[case]]\nwhy = "nobody said yes"\nexpect = { action = "accept" }\n')
    answer = zegel("policy", "test", "consent", table, "--json")
    assert answer.code == 1 and answer.json[0]["found"]["drops"] == {"ann@example.net": "consent.missing"}
    assert "0 of 1 rows kept" in zegel("policy", "test", "consent", table).out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml [",
        '[[case]]\nwhy = "x"\nledgr = []\n',
        '[[case]]\nexpect = { action = "accept", reasn = "x" }\n',
        '[[case]]\nstream = "nonsense"\n',
    ],
)
def test_a_table_that_cannot_be_read_is_wrong_use(zegel: Zegel, tmp_path: Path, text: str) -> None:
    (tmp_path / "cases.toml").write_text(text)
    assert zegel("policy", "test", "consent", tmp_path / "cases.toml").code == 2


def test_one_policy_is_tried_on_a_mail(reader: Zegel, tmp_path: Path) -> None:
    words = ("policy", "test", "consent", tmp_path / "news.eml", *MARKETING)
    assert reader(*words, "--rcpt-to", "ann@example.net").code == 0
    refused = reader(*words, "--rcpt-to", "zoe@example.com", "--json")
    assert refused.code == 1 and refused.json["rule"] == "CONSENT-1"


def test_where_redis_counts_it_is_asked_and_not_charged(reader: Zegel, tmp_path: Path) -> None:
    """The limits of the node beside it are only what it would fall back on."""
    server = RedisServer(tmp_path / "redis", free_ports(1)[0], "--save", "").start()
    limit = Limit("messages_per_minute", "tenant", "t:1", 1_800, MINUTE, 1_800, 1)
    text = reader.config.read_text()
    try:
        reader.config.write_text(f'{text}\n[storage]\ncounters = "{server.url}"\ncounters_degraded_share = 1.0\n')
        assert explain(reader, "ann@example.net").json["reply"].startswith("250")
        driven = Driven(server.url)
        assert driven.used(limit, time.time()) == 0
        driven.take([(limit, 1_801 + 600)], time.time(), park=True)
        driven.close()
        throttle = explain(reader, "ann@example.net").json["policies"][-1]
        assert (throttle["policy"], throttle["reason"]) == ("throttle", "throttle.parked")
        server.kill()
        throttle = explain(reader, "ann@example.net").json["policies"][-1]
        assert throttle["reason"] == "", "it goes on with what this node knows"
    finally:
        server.stop()


def test_what_an_operator_set_for_a_login_holds_here_too(reader: Zegel, tmp_path: Path) -> None:
    """It was taken here, and the session said 452 and 525."""
    reader.ask("consent", "import", "shop", consents(tmp_path / "more.csv", ["bob@example.net"]))
    reader.ask("limit", "set", "shop", "recipients_per_message", "1", "--credential", "shop-newsletter")
    told = explain(reader, "ann@example.net", "bob@example.net").json
    outcomes = {row["address"]: (row["action"], row["reason"]) for row in told["recipients"]}
    assert outcomes == {
        "ann@example.net": ("accept", ""),
        "bob@example.net": ("defer", "session.recipients_per_message"),
    }
    for what, name in (("credential", "shop-newsletter"), ("tenant", "shop")):
        reader.ask(what, "suspend", name)
        answer = explain(reader, "ann@example.net")
        assert answer.code == 1 and answer.json["action"] == "reject" and answer.json["reply"].startswith("525")
        reader.ask(what, "resume", name)
    assert explain(reader, "ann@example.net").json["action"] == "accept"
