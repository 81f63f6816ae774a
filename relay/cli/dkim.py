"""`zegel dkim`: the keys that mail is signed with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from relay.cli.domains import DomainName
from relay.cli.frame import Frame, command, group
from relay.cli.output import console, moment, print_json, say, show_record, show_records_to_publish, show_rows, table
from relay.cli.trouble import DOWN, NO, Trouble

app = group("The keys that mail is signed with: made here, published by you, checked in DNS.")

Selector = Annotated[str | None, typer.Option(help="Name of the key; default for a new one: the year and a letter.")]
Algorithm = Annotated[
    Literal["rsa-sha256", "ed25519-sha256"], typer.Option(help="Ed25519 only beside an RSA key, never instead of it.")
]
Vouched = Annotated[bool, typer.Option("--vouched", help="Sign with it at once, without a look at DNS; audited.")]


@command(app, "add", example="zegel dkim add shop.example")
def add(
    frame: Frame,
    domain: DomainName,
    *,
    selector: Selector = None,
    algorithm: Algorithm = "rsa-sha256",
    vouched: Vouched = False,
) -> None:
    """Make a key and print the record to publish."""
    args = {"domain": domain, "selector": selector, "algorithm": algorithm, "vouched": vouched or None}
    _made(frame, frame.call("dkim.add", **args))


@command(app, "rotate", example="zegel dkim rotate shop.example")
def rotate(
    frame: Frame,
    domain: DomainName,
    *,
    selector: Selector = None,
    algorithm: Algorithm = "rsa-sha256",
    vouched: Vouched = False,
) -> None:
    """Make the next key. It takes over when DNS shows it: `dkim check` looks at once, a running gateway every hour.

    Until then the present key signs. Its record must stay published for some weeks longer; `dkim dns` tells until when.
    """
    args = {"domain": domain, "selector": selector, "algorithm": algorithm, "vouched": vouched or None}
    _made(frame, frame.call("dkim.rotate", **args))
    if not frame.as_json:
        days = keep_seconds(frame) / 86_400
        say(
            f"The present key signs until then. Leave its record in DNS for {days:.0f} days after that, for mail that is on",
            f"its way; `zegel dkim dns {domain}` and `zegel doctor` tell when its p= is to be made empty.",
        )


def keep_seconds(frame: Frame) -> int:
    """How long the record of a retired key stays."""
    from relay.dkim import rotation

    return int(rotation.keep_seconds(frame.settings().delivery.give_up_after_hours))


@command(app, "dns", example="zegel dkim dns shop.example --json")
def dns(frame: Frame, domain: DomainName, *, selector: Selector = None) -> None:
    """Print the records to publish: of keys that sign or are to sign, and of retired ones, with an empty p= in the end."""
    records = frame.call("dkim.dns", domain=domain, selector=selector, keep_seconds=keep_seconds(frame))
    if frame.as_json:
        print_json(records)
        return
    for record in records:
        if "until" in record:
            say(f"Of a retired key; leave it there until {moment(record['until'])}:")
        elif record["value"].endswith("p="):
            say("Of a retired key; nothing may be signed with it any more:")
        show_records_to_publish([record])


@command(app, "list", example="zegel dkim list")
def list_all(
    frame: Frame,
    domain: Annotated[str | None, typer.Argument(metavar="[DOMAIN]", help="Only of this domain.")] = None,
    *,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
) -> None:
    """Show keys and their state: inactive until DNS shows them, active, or retired."""
    columns = (
        ("domain", "domain"), ("selector", "selector"), ("algorithm", "algorithm"), ("state", "state"),
        ("vouched_by", "vouched by"), ("activated_at", "since"), ("retired_at", "retired"), ("mismatch_since", "differs since"),
    )  # fmt: skip
    rows = frame.call("dkim.list", domain=domain, tenant=tenant)
    show_rows(frame, rows, columns, empty="No keys yet: make one with `zegel dkim add DOMAIN`.")


@command(app, "check", example="zegel dkim check shop.example")
def check(frame: Frame, domain: DomainName, *, selector: Selector = None) -> None:
    """Compare DNS with each key, then sign a mail and let dkimpy verify it against DNS; a key that is seen becomes active.

    Exits 1 where a key that signs is not to be seen, and 3 where DNS does not answer.
    """
    settings = frame.settings()
    rows = frame.call("dkim.check", domain=domain, selector=selector)
    for row in rows:
        row["verified"] = _verified(settings.server.keys_dir, row) if row["match"] == "matches" else None
    if frame.as_json:
        print_json(rows)
    else:
        shown = [{**row, "proof": _proof(row)} for row in rows]
        columns = (("selector", "selector"), ("state", "state"), ("sentence", "in DNS"), ("proof", "test mail"))
        console().print(table(shown, columns))
    if any(row["match"] == "unknown" for row in rows):
        raise typer.Exit(DOWN)
    if any(row["match"] != "matches" or not row["verified"] for row in rows):
        raise typer.Exit(NO)


def _proof(row: dict[str, Any]) -> str:
    return {True: "verifies with dkimpy", False: "does not verify with dkimpy", None: ""}[row["verified"]]


def _verified(keys_dir: Any, row: dict[str, Any]) -> bool:
    """Whether dkimpy verifies a mail signed with this key, by the record that DNS shows."""
    import time

    from relay.dkim import keys
    from relay.dkim.sign import body_hash, sign
    from relay.keyring import Keyring
    from relay.mail.message import Malformed, Message

    pem = Keyring.open(keys_dir, create=False).load_dkim(row["domain"], row["selector"])
    key = keys.BadKey("the file is missing") if pem is None else keys.load_pem(pem, row["domain"], row["selector"])
    if isinstance(key, keys.BadKey):
        raise Trouble(NO, f"the private key of {row['selector']} cannot be used: {key.why}")
    raw = f"From: test@{row['domain']}\r\nTo: test@{row['domain']}\r\nSubject: zegel dkim check\r\n\r\nA test.\r\n".encode()
    message = Message.split(raw)
    assert not isinstance(message, Malformed), "written above"
    fields = sign(list(message.fields), body_hash(b"A test.\r\n"), [key], now=int(time.time()), expire_seconds=3600)
    signed = b"".join(field for _, field in fields) + raw
    published = {row["record"]["name"]: _published(row["record"]["name"])}
    return all(found.good for found in keys.verify_with_dkimpy(signed, published.get))


def _published(name: str) -> str | None:
    """The one TXT record at `name` that holds a key, as DNS shows it now."""
    import asyncio

    from relay.dns import Answer, Resolver

    async def ask() -> str | None:
        found = await Resolver().txt(name)
        return next((text for text in found.records if "p=" in text), None) if isinstance(found, Answer) else None

    return asyncio.run(ask())


def _made(frame: Frame, made: dict[str, Any]) -> None:
    if frame.as_json:
        print_json(made)
        return
    show_record(frame, made, title="Key made", skip=("record",))
    say("", "Publish this in DNS:", "")
    show_records_to_publish([made["record"]])
    if made["state"] != "active":
        say(f"Then run `zegel dkim check {made['domain']}`: the key signs once DNS shows it.")
