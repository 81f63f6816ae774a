"""`zegel privacy incident`: data went where they should not; who is told, until when, and what was done (docs/incidents.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import print_json, say, show_record, show_rows
from relay.cli.private import open_private, refuse_existing
from relay.cli.suppressions import Address
from relay.cli.tenants import Name

app = group("Incidents: who must be told until when, and what was done (GDPR-20 to GDPR-23).")

Ref = Annotated[
    str, typer.Argument(metavar="NUMBER", help="As `zegel privacy incident list` shows it.", show_default=False)
]
Kind = Literal["exposure", "leak", "export", "loss", "access", "other"]
Reader = Literal["tenant", "authority", "people"]
Language = Literal["nl", "en"]
Owner = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="Only where it is this tenant's.")]
_COLUMNS = (
    ("ref", "number"), ("tenant", "tenant"), ("kind", "kind"), ("state", "state"), ("times", "times"), ("risk", "risk"),
    ("detected_at", "detected"), ("tenant_due_at", "tenant until"), ("authority_due_at", "authority until"),
    ("due", "still to tell"), ("late", "late"),
)  # fmt: skip


@command(app, "open", example='zegel privacy incident open shop --kind loss --summary "A laptop was stolen"')
def open_incident(
    frame: Frame,
    tenant: Name,
    *,
    kind: Annotated[Kind, typer.Option(help="What happened.", show_default=False)],
    summary: Annotated[
        str, typer.Option(metavar="TEXT", help="What is known, in a sentence or two.", show_default=False)
    ],
    detected_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it was noticed: the clocks count from there. Default: now.")
    ] = None,
    address: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Somebody whose data it is about; repeat for more.")
    ] = None,
) -> None:
    """Write an incident down; its clocks run from the moment it was noticed."""
    made = frame.call(
        "incident.open",
        tenant=tenant,
        kind=kind,
        summary=summary,
        detected_at=detected_at,
        addresses=address or None,
        **_minutes(frame),
    )
    _tell(frame, made, "Incident opened")


@command(app, "list", example="zegel privacy incident list --state all")
def list_all(
    frame: Frame,
    *,
    tenant: Owner = None,
    state: Annotated[Literal["open", "closed", "all"], typer.Option(help="Which.")] = "open",
) -> None:
    """Show incidents, newest first, with what is still due."""
    rows = frame.call("incident.list", tenant=tenant, state=state)
    show_rows(frame, rows, _COLUMNS, empty="No incidents.")


@command(app, "show", example="zegel privacy incident show 20260301-abcd")
def show(frame: Frame, ref: Ref, *, tenant: Owner = None) -> None:
    """Show what is known of an incident and every step, without the addresses of people. Who looks is kept in the audit."""
    _tell(frame, frame.call("incident.show", ref=ref, tenant=tenant), "Incident")


@command(app, "note", example='zegel privacy incident note 20260301-abcd "The list was sent by mistake"')
def note(
    frame: Frame,
    ref: Ref,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is known now; no names.", show_default=False)],
    *,
    tenant: Owner = None,
) -> None:
    """Add what is known now; nothing that was written is changed."""
    _tell(frame, frame.call("incident.note", ref=ref, text=text, tenant=tenant), "Noted")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the notices have to say (GDPR 33(3))."""

    risk: Annotated[
        Literal["unlikely", "likely", "high"] | None, typer.Option(help="Risk for people; decides who must be told.")
    ] = None
    why: Annotated[str | None, typer.Option(metavar="TEXT", help="Why the risk is so; needed with --risk.")] = None
    categories: Annotated[str | None, typer.Option(metavar="TEXT", help="Kinds of people and data.")] = None
    people: Annotated[int | None, typer.Option(min=0, metavar="N", help="About how many people.")] = None
    records: Annotated[int | None, typer.Option(min=0, metavar="N", help="About how many records.")] = None
    consequences: Annotated[str | None, typer.Option(metavar="TEXT", help="What may come of it.")] = None
    measures: Annotated[str | None, typer.Option(metavar="TEXT", help="What was done and will be done.")] = None


@command(
    app, "assess", example='zegel privacy incident assess 20260301-abcd --risk unlikely --why "All are colleagues"'
)
def assess(
    frame: Frame,
    ref: Ref,
    *,
    judgement: Judgement,
    unintelligible: Annotated[
        bool | None,
        typer.Option("--unintelligible/--intelligible", help="Whether nobody who has the data can read them."),
    ] = None,
    tenant: Owner = None,
) -> None:
    """Judge the risk and say what the notices need; each can be said again as more is known."""
    said = {
        "risk": judgement.risk,
        "why": judgement.why,
        "categories": judgement.categories,
        "people": judgement.people,
        "records": judgement.records,
        "consequences": judgement.consequences,
        "measures": judgement.measures,
    }
    _tell(
        frame,
        frame.call("incident.assess", ref=ref, tenant=tenant, unintelligible=unintelligible, **said),
        "Written down",
    )


@dataclass(frozen=True, slots=True)
class Notice:
    """What is recorded of a notice."""

    at: Annotated[str | None, typer.Option(metavar="TIME", help="When; RFC 3339 with an offset. Default: now.")] = None
    reference: Annotated[str | None, typer.Option(metavar="TEXT", help="Number that the authority gave.")] = None
    late: Annotated[str | None, typer.Option(metavar="TEXT", help="Why the deadline was missed.")] = None


@command(app, "notify", example="zegel privacy incident notify 20260301-abcd --to tenant --whom privacy@shop.example")
def notify(
    frame: Frame,
    ref: Ref,
    *,
    to: Annotated[Reader, typer.Option(help="Who was told.", show_default=False)],
    whom: Annotated[
        str, typer.Option(metavar="TEXT", help="Name or address, or how people were told.", show_default=False)
    ],
    notice: Notice,
    tenant: Owner = None,
) -> None:
    """Record that a notice went out, to whom and when; that ends its clock. It sends nothing: `draft` writes the text."""
    said = {"to": to, "whom": whom, "at": notice.at, "reference": notice.reference, "late": notice.late}
    _tell(frame, frame.call("incident.notify", ref=ref, tenant=tenant, **said), "Recorded")


@command(app, "close", example='zegel privacy incident close 20260301-abcd --reason "All have confirmed deletion"')
def close(
    frame: Frame,
    ref: Ref,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="How it ended.", show_default=False)],
    without_notice: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why somebody who should be told is not.")
    ] = None,
    tenant: Owner = None,
) -> None:
    """Close an incident; refused while somebody must still be told."""
    said = {"reason": reason, "without_notice": without_notice}
    _tell(frame, frame.call("incident.close", ref=ref, tenant=tenant, **said), "Incident closed")


@command(app, "draft", example="zegel privacy incident draft 20260301-abcd --to authority --language nl")
def draft(
    frame: Frame,
    ref: Ref,
    *,
    to: Annotated[Reader, typer.Option(help="For whom.", show_default=False)],
    language: Annotated[Language | None, typer.Option(help="Default: the tenant's.")] = None,
    tenant: Owner = None,
) -> None:
    """Write the text of a notice from what is known; gaps stand between brackets. It sends nothing."""
    from relay.mail.breach import draft as written

    found = frame.call("incident.show", ref=ref, tenant=tenant)
    tongue = language or found["controller"]["language"]
    made = written(to, found, language=tongue, contact=frame.settings().incidents.contact)
    if frame.as_json:
        print_json({"ref": found["ref"], "to": to, "language": tongue, **made._asdict()})
        return
    say(made.subject, "", made.text)
    for gap in made.missing:
        say(f"still missing: {gap}")


@command(app, "ask", example='zegel privacy incident ask 20260301-abcd eve@example.net --what "A list of members"')
def ask(
    frame: Frame,
    ref: Ref,
    address: Address,
    *,
    what: Annotated[
        str, typer.Option(metavar="TEXT", help="What is to be deleted, so that it is known.", show_default=False)
    ],
    language: Annotated[Language | None, typer.Option(help="Of the letter. Default: the tenant's.")] = None,
    tenant: Owner = None,
) -> None:
    """Ask a wrong recipient to delete and to confirm it in writing; reminded after 2 and 5 days (GDPR-23).

    The letters leave while the gateway runs; `show` tells who has confirmed, and when.
    """
    made = frame.call("deletion.ask", ref=ref, address=address, what=what, language=language, tenant=tenant)
    _tell(frame, made, "Asked")


@command(app, "export", example="zegel privacy incident export 20260301-abcd incident.json")
def export(
    frame: Frame,
    ref: Ref,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; default: standard output.")] = None,
    *,
    tenant: Owner = None,
) -> None:
    """Write everything of an incident as JSON, addresses in clear included, for the authority or the tenant."""
    if file is not None:
        refuse_existing(file)
    found = frame.call("incident.export", ref=ref, tenant=tenant)
    if file is None:
        print_json(found)
        return
    with open_private(file) as target:
        target.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    if frame.as_json:
        print_json({"ref": found["ref"], "file": str(file), "people": len(found["people"])})
        return
    say(f"The file of incident {found['ref']} is in {file}; it holds personal data.")


def _minutes(frame: Frame) -> dict[str, int]:
    own = frame.settings().incidents
    return {"tenant_minutes": round(own.tenant_hours * 60), "authority_minutes": round(own.authority_hours * 60)}


def _tell(frame: Frame, found: dict[str, Any], title: str) -> None:
    if frame.as_json:
        print_json(found)
        return
    show_record(frame, found, title=title, skip=("facts", "controller", "deletion", "steps"))
    if found["facts"]:
        show_record(frame, found["facts"], title="\nWhat is known")
    for request in found["deletion"]:
        show_record(frame, request, title="\nAsked to delete")
    for step in found["steps"]:
        show_record(frame, step, title=f"\n{step['step'].capitalize()}", skip=("step",))
