"""Decision tables: rows of TOML, each a mail and what a policy must say of it; for `zegel policy test`.

A row says only what it is about; the rest is a shop that may mail: tenant `shop` with the domain shop.example, a DKIM key,
the list `newsletter`, and a plain mail to one person. `[defaults]` stands under each row. `ledger`, `stops` and `requests`
are looked up by the same folded addresses as in the store (CONSENT-16). tests/cases holds a table for each policy.
"""

from __future__ import annotations

import importlib
import re
import zipfile
from base64 import encodebytes
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from relay.cli.trouble import WRONG_USE, Trouble
from relay.mail.address import narrow, wide
from relay.mail.edits import Edit
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
    Standing,
    SuppressionEntry,
    ThreadParent,
    Unavailable,
)
from relay.policy.options import fill
from relay.policy.verdict import Classify, DropRecipient, Note, Park, Verdict
from relay.scan import Scan
from relay.settings.toml import read_toml

NOW = 1_790_000_000.0  # September 2026: the same every time, so that a table keeps its meaning
DAY = 86_400.0
Row = Mapping[str, Any]
ROW_KEYS = frozenset((
    *("why", "rules", "expect", "settings", "at", "tenant", "credential", "stream", "login_purpose", "rcpt", "mail_from"),
    *("smtputf8", "purpose", "class", "bulk", "confirm", "head", "drop", "from", "body", "html", "charset", "received", "nested"),
    *("in_company", "ledger", "stops", "requests", "thread", "equal_mails", "allowance", "standing", "unavailable", "files"),
))  # fmt: skip
EXPECT_KEYS = frozenset((
    *("action", "reason", "drops", "edits", "notes", "detail", "due_in_seconds"),
    *("class", "bulk", "confirm", "purpose"),
))  # fmt: skip
_REPEATED = re.compile(r"\{(\w)\*(\d+)\}")
_SERIES = re.compile(r"\[(\d+)x ([^\]]*)\]")


def run_table(policy: str, file: Path) -> list[dict[str, Any]]:
    """Each row with `kept`, what was `found` and what was `expected`. Raises Trouble for a file that is no table."""
    try:
        table = read_toml(file)
    except (OSError, ValueError) as error:
        raise Trouble(WRONG_USE, f"{file}: {error}") from None
    rows = table.get("case")
    if not isinstance(rows, list) or not rows:
        raise Trouble(WRONG_USE, f"{file} holds no [[case]]: write one row for each mail")
    try:
        module = importlib.import_module(f"policies.{policy}")
    except ImportError:
        raise Trouble(WRONG_USE, f"there is no policy {policy!r}: see `zegel policy list`") from None
    return [_run(module, policy, {**table.get("defaults", {}), **row}, number) for number, row in enumerate(rows, 1)]


def _run(module: Any, policy: str, row: Row, number: int) -> dict[str, Any]:
    why = str(row.get("why", f"row {number}"))
    expect = row.get("expect", {})
    # A misspelt key would make a row that cannot fail.
    unknown = sorted({*row.keys() - ROW_KEYS, *(f"expect.{key}" for key in expect.keys() - EXPECT_KEYS)})
    if unknown:
        raise Trouble(WRONG_USE, f"row {number} ({why}): unknown key {', '.join(unknown)}")
    try:
        mail = submission(row)
        settings, problems = fill(module.Settings(), row.get("settings", {}), policy)
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        if row.get("at") == "mail":
            verdict = module.decide_sender(mail, settings)
        else:
            verdict = module.decide(mail, facts(row, mail), settings)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Trouble(WRONG_USE, f"row {number} ({why}) cannot be read: {error}") from None
    expected = expectation(expect)
    found = {key: value for key, value in _told(verdict).items() if key in expected}
    found["detail"] = {key: found["detail"].get(key) for key in expected["detail"]}
    return {"why": why, "kept": found == expected, "found": found, "expected": expected}


def expectation(given: Row) -> dict[str, Any]:
    """What a row expects, with what it need not say: a plain accept without changes."""
    usual: dict[str, Any] = {
        "action": "accept",
        "reason": "",
        "drops": {},
        "edits": [],
        "notes": [],
        "detail": {},
        "due_in_seconds": None,
    }
    expected = {**usual, **given}
    return {key: sorted(value) if key in ("edits", "notes") else value for key, value in expected.items()}


def _told(verdict: Verdict) -> dict[str, Any]:
    changes = verdict.changes
    shape = next((change for change in changes if isinstance(change, Classify)), None)
    park = next((change for change in changes if isinstance(change, Park)), None)
    return {
        "action": verdict.action.word,
        "reason": verdict.reason,
        "drops": {change.address: change.reason for change in changes if isinstance(change, DropRecipient)},
        "edits": sorted(f"{change.kind} {change.name}".strip() for change in changes if isinstance(change, Edit)),
        "notes": sorted(f"{change.kind} {change.reason}" for change in changes if isinstance(change, Note)),
        "detail": dict(verdict.detail),
        "due_in_seconds": None if park is None else park.due - NOW,
        "class": shape.mail_class.value if shape else None,
        "bulk": shape.bulk if shape else None,
        "confirm": shape.confirm if shape else None,
        "purpose": shape.purpose if shape else None,
    }


# -- a row as a submission ----------------------------------------------------------------------------------------------


def submission(row: Row) -> Submission:
    """The submission of a row, with `class`, `bulk`, `confirm` and `purpose` as an earlier policy left them."""
    who = account(row)
    mail = Submission(who, envelope(row), SessionInfo("192.0.2.7"), NOW, purpose=who.purpose)
    if row.get("at", "data") == "data":
        mail = replace(mail, message=message(row))
    if "purpose" in row:
        mail = replace(mail, purpose=who.tenant.purposes[row["purpose"]] if row["purpose"] else None)
    usual = {"marketing": "commercial"}.get(mail.stream.value, mail.stream.value)
    kind = MailClass(row.get("class", usual))
    flags = {flag: row.get(flag, False) for flag in ("bulk", "confirm", "in_company")}
    return replace(mail, mail_class=kind, **flags)


def account(row: Row) -> Account:
    """Tenant and login of a row."""
    given = dict(row.get("tenant", {}))
    domains = {
        name: Domain(name, **{"verified": True, "has_key": True, **flags})
        for name, flags in given.pop("domains", {"shop.example": {}}).items()
    }
    lists = given.pop("purposes", {"newsletter": {"category": "tuin"}, "partner-offers": {}})
    purposes = {name: Purpose(name, **flags) for name, flags in lists.items()}
    tenant = Tenant(1, "shop", given.pop("legal_name", "Shop BV"), domains=domains, purposes=purposes, **given)
    login = dict(row.get("credential", {}))
    stream = Stream(row.get("stream", "marketing"))
    name = row.get("login_purpose", "newsletter" if stream is Stream.MARKETING else "")
    listed = tuple(login.pop("from_addresses", ()))
    credential = Credential("app", "app", "shop", stream, purpose=name, from_addresses=listed, **login)
    return Account(tenant, credential, purposes.get(name))


def envelope(row: Row) -> Envelope:
    """Envelope of a row; a number of recipients stands for so many people of as many parties."""
    given = row.get("rcpt", ["ann@example.net"])
    if isinstance(given, int):
        given = [f"person{number}@people{number}.example" for number in range(given)]
    recipients = tuple(Recipient(address) for address in given)
    return Envelope(row.get("mail_from", "info@shop.example"), recipients, smtputf8=row.get("smtputf8", False))


def message(row: Row) -> Message:
    """The mail of a row: `head` fields over defaults that a field of the same name replaces; `drop` leaves some out.

    `received` adds so many Received fields, `nested` makes a body so many parts deep. `files` are attachments: `name`, `type`
    and `text`, or `zip` with texts by name, whose entries are said to be `encrypted` where that is true.
    """
    head = [_expand(line) for line in row.get("head", ())]
    head += [f"Received: from a by b{number}.example" for number in range(row.get("received", 0))]
    body = _expand(row.get("body", row.get("html", "Hello Ann.\n")))
    if "html" in row and "body" in row:
        head += ["MIME-Version: 1.0", "Content-Type: multipart/alternative; boundary=b"]
        parts = (("plain", row["body"]), ("html", row["html"]))
        body = "".join(f"--b\nContent-Type: text/{kind}; charset=utf-8\n\n{text}\n" for kind, text in parts) + "--b--\n"
    elif "html" in row:
        head += ["MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8"]
    elif "nested" in row:
        head.append("Content-Type: multipart/mixed; boundary=n0")
        body = _nested(row["nested"])
    if "files" in row:
        head += ["MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=f"]
        body = f"--f\n\n{body}\n" + "".join(map(_attachment, row["files"])) + "--f--\n"
    given = {line.partition(":")[0].lower() for line in head} | {name.lower() for name in row.get("drop", ())}
    base = {
        "From": row.get("from", "Shop <info@shop.example>"),
        "To": "ann@example.net",
        "Subject": "Hello",
        "Date": "Mon, 21 Sep 2026 10:00:00 +0000",
        "Message-ID": "<1@shop.example>",
    }
    fields = [f"{name}: {value}" for name, value in base.items() if name.lower() not in given] + head
    made = Message.split(("\n".join(fields) + "\n\n" + body).replace("\n", "\r\n").encode(row.get("charset", "utf-8")))
    if isinstance(made, Malformed):
        raise ValueError(made.detail)
    return made


def _nested(depth: int) -> str:
    opened = "".join(f"--n{at}\nContent-Type: multipart/mixed; boundary=n{at + 1}\n\n" for at in range(depth))
    return f"{opened}--n{depth}\n\ntext\n--n{depth}--\n"


def _attachment(given: Row) -> str:
    """One file of a row as a MIME part."""
    content = _expand(given.get("text", "")).encode()
    if "zip" in given:
        held = BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in given["zip"].items():
                archive.writestr(name, _expand(text))
        content = held.getvalue()
        if given.get("encrypted"):  # the flag in the directory: without the password nobody sees more
            at = content.rfind(b"PK\x01\x02")
            content = content[: at + 8] + b"\x01\x00" + content[at + 10 :]
    return (
        f"--f\nContent-Type: {given.get('type', 'application/octet-stream')}\nContent-Transfer-Encoding: base64\n"
        f'Content-Disposition: attachment; filename="{given["name"]}"\n\n{encodebytes(content).decode()}\n'
    )


def _expand(text: str) -> str:
    """`{x*5000}` stands for a run of one character, `[40x person#@example.net ]` for a series with # as its number."""
    text = _SERIES.sub(lambda match: "".join(match[2].replace("#", str(n)) for n in range(int(match[1]))), text)
    return _REPEATED.sub(lambda match: match[1] * int(match[2]), text)


# -- a row as facts -----------------------------------------------------------------------------------------------------


def facts(row: Row, mail: Submission) -> Facts:
    """Every fact as the store would answer it for this mail; `unavailable` names those that it could not, `unfinished` those of
    which it is only what was known when the time was over."""
    purpose = mail.purpose.name if mail.purpose else ""
    addresses = [recipient.address for recipient in mail.recipients]
    values: dict[Fact, object] = {
        Fact.CONSENTS: {address: _consent(row, purpose, address) for address in addresses},
        Fact.SUPPRESSIONS: {address: _stops(row, address) for address in addresses},
        Fact.REQUESTS: {address: _request(row, address) for address in addresses},
        Fact.THREAD: ThreadParent(frozenset(map(narrow, row["thread"]))) if "thread" in row else None,
        Fact.FINGERPRINT: row.get("equal_mails", 1),
        Fact.STANDING: Standing(**row.get("standing", {})),
        Fact.ALLOWANCE: _allowance(row),
    }
    if mail.message is not None:
        values[Fact.LEAKS] = Scan().here(mail, _settings("leaks", row), _settings("recipients", row))
    for name in row.get("unavailable", ()):
        values[Fact(name)] = Unavailable("the store is down")
    for name in row.get("unfinished", ()):
        values[Fact(name)] = Unavailable("its time was over", values[Fact(name)])
    return Facts(values)


def _settings(policy: str, row: Row) -> Any:
    """Settings of the policy by the row's table, as far as they are its own."""
    own = importlib.import_module(f"policies.{policy}").Settings()
    return fill(own, row.get("settings", {}), policy)[0]


def _allowance(row: Row) -> Allowance:
    given = dict(row.get("allowance", {"granted": True}))
    in_seconds = given.pop("due_in_seconds", None)
    return Allowance(**given, due=0.0 if in_seconds is None else NOW + in_seconds)


def _consent(row: Row, purpose: str, address: str) -> ConsentState | None:
    """The record for this list, or else one that stands for another (relay.consent.lookup)."""
    entries = [entry for entry in row.get("ledger", ()) if narrow(entry["address"]) == narrow(address)]
    for entry in entries:
        if entry.get("purpose", purpose) == purpose:
            return _state(entry)
    others = (_state(entry)._replace(purpose=entry["purpose"]) for entry in entries)
    return next((state for state in others if state.status in ("given", "confirmed")), None)


def _state(entry: Row) -> ConsentState:
    given = {key: value for key, value in entry.items() if key not in ("address", "purpose")}
    times = {key[:-9] + "_at": NOW - given.pop(key) * DAY for key in list(given) if key.endswith("_days_ago")}
    return ConsentState(**{"status": "given", "basis": "consent", "given_at": NOW - 30 * DAY, **given, **times})


def _stops(row: Row, address: str) -> tuple[SuppressionEntry, ...]:
    """Bounces by the exact address, the rest by the folded one (CONSENT-16)."""
    found = []
    for entry in row.get("stops", ()):
        fold = narrow if entry["reason"] == "bounce" else wide
        if fold(str(entry["address"])) == fold(address):
            found.append(SuppressionEntry(entry.get("scope", "all"), entry["reason"], NOW - DAY))
    return tuple(found)


def _request(row: Row, address: str) -> PendingRequest | None:
    for entry in row.get("requests", ()):
        if narrow(entry["address"]) == narrow(address):
            return PendingRequest(NOW - entry["minutes_ago"] * 60, entry.get("mails_sent", 0))
    return None
