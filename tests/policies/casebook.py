"""Decision tables: reads `tests/cases/<policy>.toml` and turns a row into a submission, facts and settings.

A row says only what it is about; the rest is a shop that may mail: tenant `shop` with the domain shop.example, a DKIM key,
the list `newsletter`, and a plain mail to one person. `ledger`, `stops` and `requests` are kept as the store keeps them,
and looked up by the same folded addresses (CONSENT-16).
"""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from relay.mail.address import narrow, wide
from relay.mail.envelope import (
    Account,
    Credential,
    Domain,
    Envelope,
    MailClass,
    Purpose,
    Recipient,
    SessionInfo,
    Stream,
    Submission,
    Tenant,
)
from relay.mail.message import Malformed, Message
from relay.policy.facts import (
    Allowance,
    ConsentState,
    Fact,
    Facts,
    PendingRequest,
    SuppressionEntry,
    ThreadParent,
    Unavailable,
)
from relay.policy.options import fill

CASES = Path(__file__).parent.parent / "cases"
NOW = 1_790_000_000.0  # September 2026
DAY = 86_400.0

Row = Mapping[str, Any]


def rows(policy: str) -> list[Row]:
    """The rows of one table; `[defaults]` in the file stands under each of them."""
    table = tomllib.loads((CASES / f"{policy}.toml").read_text("utf-8"))
    return [{**table.get("defaults", {}), **row} for row in table["case"]]


def tables() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.toml"))


def policy(name: str) -> ModuleType:
    return importlib.import_module(f"policies.{name}")


def settings(name: str, row: Row) -> Any:
    made, problems = fill(policy(name).Settings(), row.get("settings", {}), name)
    assert not problems, problems
    return made


def tenant(row: Row) -> Tenant:
    given = dict(row.get("tenant", {}))
    domains = {
        name: Domain(name, **{"verified": True, "has_key": True, **flags})
        for name, flags in given.pop("domains", {"shop.example": {}}).items()
    }
    purposes = {
        name: Purpose(name, **flags)
        for name, flags in given.pop("purposes", {"newsletter": {"category": "tuin"}, "partner-offers": {}}).items()
    }
    legal_name = given.pop("legal_name", "Shop BV")
    return Tenant(1, "shop", legal_name, domains=domains, purposes=purposes, **given)


def account(row: Row) -> Account:
    owner = tenant(row)
    given = dict(row.get("credential", {}))
    stream = Stream(row.get("stream", "marketing"))
    name = row.get("login_purpose", "newsletter" if stream is Stream.MARKETING else "")
    listed = tuple(given.pop("from_addresses", ()))
    login = Credential("app", "app", "shop", stream, purpose=name, from_addresses=listed, **given)
    return Account(owner, login, owner.purposes.get(name))


def message(row: Row) -> Message:
    """The mail of a row: `head` fields over defaults that a field of the same name replaces, `drop` leaves out."""
    head = [_expand(line) for line in row.get("head", ())]
    head += [f"Received: from a by b{number}.example" for number in range(row.get("received", 0))]
    body = _expand(row.get("body", row.get("html", "Hello Ann.\n")))
    if "html" in row and "body" in row:
        head += ["MIME-Version: 1.0", "Content-Type: multipart/alternative; boundary=b"]
        parts = [f"--b\nContent-Type: text/{kind}; charset=utf-8\n\n{row[key]}" for kind, key in PARTS]
        body = "\n".join([*parts, "--b--\n"])
    elif "html" in row:
        head += ["MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8"]
    elif "nested" in row:
        head.append("Content-Type: multipart/mixed; boundary=n0")
        body = _nested(row["nested"])
    given = {line.partition(":")[0].lower() for line in head} | {name.lower() for name in row.get("drop", ())}
    base = {
        "From": row.get("from", "Shop <info@shop.example>"),
        "To": "ann@example.net",
        "Subject": "Hello",
        "Date": "Mon, 21 Sep 2026 10:00:00 +0000",
        "Message-ID": "<1@shop.example>",
    }
    fields = [f"{name}: {value}" for name, value in base.items() if name.lower() not in given] + head
    made = Message.split(("\n".join(fields) + "\n\n" + body).replace("\n", "\r\n").encode())
    assert not isinstance(made, Malformed), made
    return made


def _nested(depth: int) -> str:
    opened = "".join(f"--n{i}\nContent-Type: multipart/mixed; boundary=n{i + 1}\n\n" for i in range(depth))
    return f"{opened}--n{depth}\n\ntext\n--n{depth}--\n"


PARTS = (("plain", "body"), ("html", "html"))


_RUN = re.compile(r"\{(\w)\*(\d+)\}")


def _expand(text: str) -> str:
    """`{x*5000}` stands for a run of one character."""
    return _RUN.sub(lambda match: match[1] * int(match[2]), text)


def envelope(row: Row) -> Envelope:
    given = row.get("rcpt", ["ann@example.net"])
    if isinstance(given, int):
        given = [f"person{number}@people{number}.example" for number in range(given)]
    recipients = tuple(Recipient(address) for address in given)
    return Envelope(row.get("mail_from", "info@shop.example"), recipients, smtputf8=row.get("smtputf8", False))


def submission(row: Row) -> Submission:
    """The submission of a row, with `class`, `bulk`, `confirm` and `purpose` as an earlier policy left them."""
    who = account(row)
    mail = Submission(who, envelope(row), SessionInfo("192.0.2.7"), NOW, purpose=who.purpose)
    if row.get("at", "data") == "data":
        mail = replace(mail, message=message(row))
    stream_class = {"marketing": "commercial"}.get(mail.stream.value, mail.stream.value)
    if "purpose" in row:
        mail = replace(mail, purpose=who.tenant.purposes[row["purpose"]] if row["purpose"] else None)
    return replace(
        mail,
        mail_class=MailClass(row.get("class", stream_class)),
        bulk=row.get("bulk", False),
        confirm=row.get("confirm", False),
    )


def facts(row: Row, mail: Submission) -> Facts:
    """Every fact, as the store would answer it for this mail; `unavailable` names those that it could not."""
    purpose = mail.purpose.name if mail.purpose else ""
    addresses = [recipient.address for recipient in mail.recipients]
    values: dict[Fact, object] = {
        Fact.CONSENTS: {address: _consent(row, purpose, address) for address in addresses},
        Fact.SUPPRESSIONS: {address: _stops(row, address) for address in addresses},
        Fact.REQUESTS: {address: _request(row, address) for address in addresses},
        Fact.THREAD: ThreadParent(frozenset(map(narrow, row["thread"]))) if "thread" in row else None,
        Fact.FINGERPRINT: row.get("equal_mails", 1),
        Fact.ALLOWANCE: _allowance(row),
    }
    for name in row.get("unavailable", ()):
        values[Fact(name)] = Unavailable("the store is down")
    return Facts(values)


def _allowance(row: Row) -> Allowance:
    given = dict(row.get("allowance", {"granted": True}))
    in_seconds = given.pop("due_in_seconds", None)
    return Allowance(**given, due=0.0 if in_seconds is None else NOW + in_seconds)


def _consent(row: Row, purpose: str, address: str) -> ConsentState | None:
    for entry in row.get("ledger", ()):
        if narrow(entry["address"]) == narrow(address) and entry.get("purpose", purpose) == purpose:
            return _state(entry)
    return None


def _state(entry: Row) -> ConsentState:
    given = {key: value for key, value in entry.items() if key not in ("address", "purpose")}
    times = {key[:-9] + "_at": NOW - given.pop(key) * DAY for key in list(given) if key.endswith("_days_ago")}
    if "recorded_for" in given:
        given["purpose"] = given.pop("recorded_for")
    return ConsentState(**{"status": "given", "basis": "consent", "given_at": NOW - 30 * DAY, **given, **times})


def _stops(row: Row, address: str) -> tuple[SuppressionEntry, ...]:
    """Bounces by the exact address, the rest by the folded one (CONSENT-16)."""
    return tuple(
        SuppressionEntry(entry.get("scope", "all"), entry["reason"], NOW - DAY)
        for entry in row.get("stops", ())
        if _is_same(entry, address)
    )


def _is_same(entry: Row, address: str) -> bool:
    fold = narrow if entry["reason"] == "bounce" else wide
    return fold(str(entry["address"])) == fold(address)


def _request(row: Row, address: str) -> PendingRequest | None:
    for entry in row.get("requests", ()):
        if narrow(entry["address"]) == narrow(address):
            return PendingRequest(NOW - entry["minutes_ago"] * 60, entry.get("mails_sent", 0))
    return None


def every_row() -> Iterator[tuple[str, Row]]:
    for name in tables():
        for row in rows(name):
            yield name, row


def label(row: Row) -> str:
    return str(row["why"])
