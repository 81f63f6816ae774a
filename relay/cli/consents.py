"""`zegel consent`: who said yes to what, with the proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli import consent_held
from relay.cli.consent_files import export_to
from relay.cli.consent_import import import_from
from relay.cli.frame import Frame, command, group
from relay.cli.output import console, print_json, say, show_record, table
from relay.cli.private import open_private, refuse_existing
from relay.cli.suppressions import Address
from relay.cli.tenants import Name
from relay.cli.trouble import NO, Trouble

if TYPE_CHECKING:
    from relay.cli.client import Link
    from relay.settings.model import Settings

app = group("Who said yes to what, with the proof (CONSENT-2).")
app.add_typer(consent_held.app, name="held")

PurposeName = Annotated[str, typer.Option("--purpose", help="The list.", show_default=False)]


@command(app, "import", example="zegel consent import shop subscribers.csv --report refused.csv")
def import_file(
    frame: Frame,
    tenant: Name,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with the names of the columns first, or JSON Lines; UTF-8.")
    ],
    *,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every refused row here, as CSV: line, field, reason.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Read all of it, where an import of it broke off.")
    ] = False,
) -> None:
    """Record consents from a file; rows without full proof are refused with their line, the good ones are in.

    Exits 1 when any row was refused, or waits: bought addresses that share one time of consent count only once you have let
    them in with `zegel consent held release` (CONSENT-7). An import that broke off goes on where it was, if neither the file
    nor what the tenant may record has changed.
    """
    import_from(frame, tenant, file, report, restart=restart)


@command(app, "request", example="zegel consent request shop ann@example.net --purpose newsletter")
def request(
    frame: Frame,
    tenant: Name,
    address: Address,
    *,
    purpose: PurposeName,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Where it was asked, for instance a URL.")] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Let the gateway mail the question; it must be running.")
    ] = False,
) -> None:
    """Record that somebody asked to be on a list, so that one confirmation mail may go there in the next 24 hours (CLASS-7)."""
    settings = frame.settings()
    if send:
        from relay.cli.client import is_running

        if not is_running(settings):
            raise Trouble(3, "the gateway is not running: start it with `zegel serve`, or leave out --send")
    with frame.link() as link:
        args = {"tenant": tenant, "address": address, "purpose": purpose, "mail": send}
        found = link.call("consent.request", {**args, "source": source} if source else args)
        # The token is the person's own yes: it goes into the mail and nowhere else.
        token = found.pop("token")
        if send and not found["may_mail"]:
            raise Trouble(NO, "the request is recorded, but its confirmation and reminder have gone out (CLASS-7)")
        if send:
            found["queued"] = _mail_question(settings, link, found, token)["id"]
    show_record(frame, found, title="Recorded; a confirmation mail may go out now")


def _mail_question(settings: Settings, link: Link, found: dict[str, Any], token: str) -> Any:
    from relay.directory import Directory
    from relay.keyring import Keyring
    from relay.mail.letters import confirmation

    keyring = Keyring.open(settings.server.keys_dir, create=False)
    tenant = Directory.load(settings.database_path, keyring).tenant(found["tenant"])
    assert tenant is not None, "the request was recorded for it"
    url = f"{settings.web.public_url}/optin/confirm/{token}?lang={tenant.language}"
    letter = confirmation(tenant, found["purpose"], found["address"], url, language=tenant.language)
    args = {
        "tenant": {"id": tenant.id, "name": tenant.name},
        "purpose": found["purpose"],
        "recipient": found["address"],
        "language": tenant.language,
        "domain": letter.domain,
        "raw": letter.raw,
    }
    return link.call("worker.submit", args)


@command(app, "show", example="zegel consent show shop ann@example.net")
def show(frame: Frame, tenant: Name, address: Address) -> None:
    """Show what holds for a person now: consents per list, and what is suppressed."""
    found = frame.call("consent.show", tenant=tenant, address=address)
    if frame.as_json:
        print_json(found)
        return
    say(f"{found['address']} at {found['tenant']}:")
    _tell_states(found["consents"])
    if found["suppressions"]:
        columns = (("scope", "suppressed for"), ("reason", "reason"), ("at", "since"), ("lifted", "lifted for"))
        console().print(table(found["suppressions"], columns))


def _tell_states(states: list[dict[str, Any]]) -> None:
    columns = (
        ("purpose", "purpose"), ("status", "status"), ("basis", "basis"), ("given_at", "given"), ("confirmed_at", "confirmed"),
        ("expires_at", "expires"),
    )  # fmt: skip
    if states:
        console().print(table(states, columns))
    else:
        say("  no consent on record.")


@command(app, "proof", example="zegel consent proof shop ann@example.net --at 2026-03-01T00:00:00Z")
def proof(
    frame: Frame,
    tenant: Name,
    address: Address,
    *,
    purpose: Annotated[str | None, typer.Option(help="Only of this list.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="As it was then; RFC 3339 with an offset.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page that prints well, in the tenant's language.")
    ] = None,
) -> None:
    """Show every event behind a consent with the text that was shown, what stood and counted at a time, and which mails went.

    Who asked is kept in the audit (GDPR-2).
    """
    if html is not None:
        refuse_existing(html)
    found = frame.call("consent.proof", tenant=tenant, address=address, purpose=purpose, at=at)
    if html is not None:
        from relay.portal.proof_page import render

        with open_private(html) as target:
            target.write(render(found))
    if frame.as_json:
        print_json(found)
        return
    if html is not None:
        say(f"The proof is in {html}; it holds personal data.")
        return
    say(f"{found['address']} at {found['tenant']}, as of {found['at']}:")
    _tell_states(found["states"])
    for judged in found["judgements"]:
        why = f": {judged['why']['en']}" if judged["why"] else ""
        say(
            f"  {judged['purpose']}: advertising {'counted' if judged['counts'] else 'did not count'} [{judged['rule']}]{why}"
        )
    for entry in found["suppressions"]:
        say(f"  {entry['reason']} against {entry['scope']} since {entry['at']}")
    for mail in found["mails"]:
        rested = f"event {mail['event_id']} [{mail['rule']}]" if mail["event_id"] else "nothing on record"
        say(f"  mail {mail['queue_id']} of {mail['purpose'] or '-'} at {mail['at']}: {rested}")
    for event in found["events"]:
        show_record(frame, event, title=f"\n{event.get('event') or 'event'} #{event.get('event_id', '')}")


@command(app, "withdraw", example="zegel consent withdraw shop ann@example.net")
def withdraw(
    frame: Frame,
    tenant: Name,
    address: Address,
    *,
    purpose: Annotated[str | None, typer.Option(help="Only this list; default: every list.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the person said so, for instance phone.")
    ] = None,
) -> None:
    """Record that somebody leaves; counts as an objection from then on, whatever is imported later."""
    found = frame.call("consent.withdraw", tenant=tenant, address=address, purpose=purpose, source=source)
    show_record(frame, found, title="Recorded" if found["changed"] else "This stood already")


@command(app, "verify", example="zegel consent verify shop")
def verify(frame: Frame, tenant: Name) -> None:
    """Walk the tenant's chain of events; exits 1 where it is broken (CONSENT-14)."""
    found = frame.call("consent.verify", tenant=tenant)
    show_record(frame, found, title="The chain holds" if found["ok"] else "The chain is BROKEN")
    if not found["ok"]:
        raise typer.Exit(NO)


@command(app, "export", example="zegel consent export shop consents.csv")
def export(
    frame: Frame,
    tenant: Name,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; default: standard output.")] = None,
    *,
    form: Annotated[
        Literal["jsonl", "csv"] | None,
        typer.Option("--format", help="csv, or jsonl; default: csv for a file that ends on it.", show_default=False),
    ] = None,
) -> None:
    """Write what is on record, decrypted. Who exports is kept in the audit (GDPR-2).

    As JSON Lines: every event; the last line is the head of the chain and the gateway's signature over all of it, which anybody
    can check (docs/ledger.md). With --json and no file: one JSON object of tenant, events and head. As CSV: what holds now, to
    be imported again; exits 1 where a record is left out because the import would refuse it.
    """
    form = form or ("csv" if file is not None and file.suffix.lower() == ".csv" else "jsonl")
    export_to(frame, tenant, file, as_csv=form == "csv")
