"""The same commands against a running gateway: over its control socket, in force within two seconds."""

from __future__ import annotations

import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli.demo_setup import config_text
from relay.cli.output import moment
from tests.harness.gateway import AGREED, MESSAGE, UNCONFIRMED, Gateway
from tests.relay.cli.conftest import Zegel, consents

IN_FORCE_SECONDS = 2.0  # contract, "Command line"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(
        tmp_path_factory.mktemp("gateway"), delivery={"mode": "capture", "smarthosts": [], "tls": "required"}
    ).start()
    yield made
    made.stop()


@pytest.fixture
def running(gateway: Gateway) -> Zegel:
    config = gateway.folder / "zegel.toml"
    config.write_text(config_text(gateway.settings))
    return Zegel(config)


def send(
    gateway: Gateway, login: tuple[str, str], raw: bytes, to: list[str], *, sender: str = "info@sender.example"
) -> str:
    """The last reply of one transaction."""
    with smtplib.SMTP("127.0.0.1", gateway.doors["plain"].port, timeout=15) as smtp:
        smtp.login(*login)
        smtp.mail(sender)
        replies = [smtp.rcpt(address) for address in to]
        code, text = smtp.data(raw) if any(code == 250 for code, _ in replies) else replies[-1]
        return f"{code} {text.decode()}"


def logs_in(gateway: Gateway, login: tuple[str, str]) -> bool:
    with smtplib.SMTP("127.0.0.1", gateway.doors["plain"].port, timeout=15) as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = login
        try:
            return smtp.auth("PLAIN", smtp.auth_plain)[0] == 235
        except smtplib.SMTPAuthenticationError:
            return False


def within(gateway: Gateway, check: object) -> None:
    gateway.within(check, IN_FORCE_SECONDS, "not in force within two seconds")


def test_a_login_works_and_ends_within_two_seconds(gateway: Gateway, running: Zegel) -> None:
    made = running.ask("credential", "add", "shop", "--stream", "personal")
    login = (made["username"], made["password"])
    within(gateway, lambda: logs_in(gateway, login))
    running.ask("credential", "revoke", made["name"])
    within(gateway, lambda: not logs_in(gateway, login))


def test_an_opt_out_holds_at_once(gateway: Gateway, running: Zegel, tmp_path: Path) -> None:
    running.ask("consent", "import", "shop", consents(tmp_path / "in.csv", ["leaver@dest.example"]))
    to = ["leaver@dest.example"]
    assert send(gateway, gateway.logins["marketing"], NEWS, to).startswith("250")
    running.ask("consent", "withdraw", "shop", to[0])
    assert send(gateway, gateway.logins["marketing"], NEWS, to).startswith("550")


NEWS = (
    b"From: Shop <info@sender.example>\r\nTo: ann@dest.example\r\nSubject: News\r\n"
    b"List-Unsubscribe: <https://sender.example/leave/a>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    b"News. Unsubscribe: https://sender.example/leave/a\r\n"
)


@pytest.mark.parametrize(
    ("login", "raw", "to"),
    [
        ("marketing", NEWS, [AGREED[0]]),
        ("marketing", NEWS, ["zoe@dest.example"]),
        ("marketing", NEWS, [UNCONFIRMED]),
        ("marketing", MESSAGE, [AGREED[0]]),
        ("personal", MESSAGE, ["ann@dest.example"]),
        ("personal", MESSAGE.replace(b"sender.example", b"bank.example"), ["ann@dest.example"]),
        ("transactional", MESSAGE.replace(b"on its way", b"on its way, now 20% off everything"), ["ann@dest.example"]),
        ("personal", b"nonsense\r\n\r\n", ["ann@dest.example"]),
    ],
)
def test_explain_says_what_the_gateway_answers(
    gateway: Gateway, running: Zegel, tmp_path: Path, login: str, raw: bytes, to: list[str]
) -> None:
    (tmp_path / "mail.eml").write_bytes(raw)
    words = ("--credential", login, "--mail-from", "info@sender.example", *(w for a in to for w in ("--rcpt-to", a)))
    told = running("explain", tmp_path / "mail.eml", *words, "--json").json
    reply = send(gateway, gateway.logins[login], raw, to)
    assert (told["reply"] == reply) or (reply.startswith("250 2.0.0 queued as") and told["action"] == "accept")


def test_a_message_is_traced_by_each_of_its_names(gateway: Gateway, running: Zegel) -> None:
    raw = MESSAGE.replace(b"Subject:", b"Message-ID: <trace-1@sender.example>\r\nSubject:")
    reply = send(gateway, gateway.logins["personal"], raw, ["traced@dest.example"])
    queue_id = reply.rpartition(" ")[2]
    gateway.until(lambda: len(running("trace", queue_id, "--json").out) > 3, 5, "the delivery log has nothing")
    gateway.until(
        lambda: {"accepted", "finished"} <= {e["event"] for e in running.ask("trace", queue_id)[0]["events"]},
        5,
        "not delivered",
    )
    for name in ("<trace-1@sender.example>", "trace-1@sender.example", "Traced@DEST.example", queue_id.lower()):
        assert [message["id"] for message in running.ask("trace", name)] == [queue_id], name
    told = running("trace", queue_id).out
    assert "traced@dest.example" in told and "captured" in told


def test_the_queue_of_all_workers_is_one(gateway: Gateway, running: Zegel) -> None:
    running.ask(
        "policy",
        "mode",
        "shop",
        "throttle",
        "--stream",
        "transactional",
        "--set",
        "transactional_messages_per_minute=1",
    )
    time_before = len(running.ask("queue", "list"))
    to = ["dave@dest.example"]
    ids = []

    def parked() -> bool:
        ids.append(send(gateway, gateway.logins["transactional"], MESSAGE, to).rpartition(" ")[2])
        return len(running.ask("queue", "list")) >= time_before + 2

    gateway.until(parked, 10, "nothing was parked")
    listed = running.ask("queue", "list", "--tenant", "shop")
    number = listed[-1]["id"]
    assert number in ids and running.ask("queue", "show", number)["recipients"][0]["address"] == to[0]
    limit = {"limit": "messages_per_minute", "scope": "credential"}
    gateway.until(lambda: bool(running("trace", number, "--json").json), 10, "it is not written down")
    assert limit.items() <= running("trace", number, "--json").json[0]["events"][0]["detail"].items()
    assert "The limit for messages per minute per login is reached" in running("trace", number).out
    login = gateway.logins["transactional"][0]
    running.ask("credential", "suspend", login, "--reason", "stolen")
    row = next(row for row in running.ask("queue", "list") if row["id"] == number)
    assert row["frozen"] and row["credential"] == login and not row["held"]
    line = next(line for line in running("queue", "list").out.splitlines() if number in line)
    assert "suspended" in line, "not a next attempt that will not be made (THROTTLE-9)"
    running.ask("credential", "resume", login)
    assert not any(row["frozen"] for row in running.ask("queue", "list"))
    assert "held_until" not in running.ask("held", "show", number), "it waits for its turn, not for a person"
    assert running.ask("queue", "hold", number)["state"] == "held"
    (held,) = (row for row in running.ask("held", "list") if row["id"] == number)
    assert held["held_until"] - held["held_since"] == 72 * 3600 and abs(held["held_since"] - time.time()) < 60
    assert running.ask("held", "show", number)["held_until"] == held["held_until"]
    assert moment(held["held_until"]) in running("held", "list").out
    told = running.ask("held", "show", number, "--content")
    assert told["text"] and told["subject"] and told["files"] == []
    assert told["text"].splitlines()[0] in running("held", "show", number, "--content").out
    assert running("held", "release", number, "--split", "--hidden").code == 2
    assert running.ask("held", "release", number, "--split")["state"] == "parked", "its turn is still to come"
    for row in running.ask("queue", "list"):
        running("queue", "delete", row["id"], "--yes")
    words = ["held", "released"]

    def told() -> list[str]:
        events = [event["event"] for lot in running("trace", number, "--json").json for event in lot["events"]]
        return [event for event in events if event in words]

    gateway.until(lambda: told() == words, 5, "the trace does not tell what people did")
    assert set(running.ask("queue", "stats")) >= {"ready", "waiting", "in_flight", "held"}


def test_a_confirmation_is_mailed_on_request(gateway: Gateway, running: Zegel) -> None:
    made = running.ask("consent", "request", "shop", "new@dest.example", "--purpose", "newsletter", "--send")
    gateway.until(lambda: running("trace", made["queued"]).code == 0, 10, "the confirmation did not leave")


def test_commands_do_not_take_the_lock_of_a_running_gateway(gateway: Gateway, running: Zegel) -> None:
    assert running.ask("tenant", "add", "made-while-running")["name"] == "made-while-running"
    assert gateway.op("tenant.show", name="made-while-running")["name"] == "made-while-running"


def test_what_the_starter_closed_is_nobody_elses(tmp_path: Path) -> None:
    """`2>&-`: a database must not become standard error, nor may the first word that is said end the program."""
    line = 'exec "$0" -m relay init "$1" --hostname gw.test --yes <&- >&- 2>&-'
    words = ["/bin/sh", "-c", line, sys.executable, str(tmp_path / "made")]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "made" / "zegel.toml").exists()
