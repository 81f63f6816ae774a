"""`zegel privacy register` and beside it: who processes what, as instructed, with whose help (GDPR-16 to GDPR-18)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from relay.cli.frame import Frame, command, group
from relay.cli.output import console, print_json, say, show_record, show_rows, table
from relay.cli.private import open_private, refuse_existing
from relay.cli.tenants import Name

app = group("Sub-processors: who works for the operator with the data of tenants (GDPR-16, GDPR 28(2)).")

Other = Annotated[str, typer.Argument(metavar="NAME", help="Name of the sub-processor.", show_default=False)]
_OTHERS = (
    ("name", "name"), ("service", "service"), ("country", "country"), ("ground", "ground"), ("state", "state"),
    ("from_at", "from"), ("until_at", "until"),
)  # fmt: skip
_VERSIONS = (("version", "version"), ("at", "since"), ("by", "by"), ("op", "change"), ("sha256", "SHA-256"))


def add_to(parent: typer.Typer) -> None:
    """The commands that stand beside the group `processor`."""
    command(parent, "register", example="zegel privacy register --html register.html")(register)
    command(parent, "instructions", example="zegel privacy instructions shop --version 3")(instructions)


def register(
    frame: Frame,
    *,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only this controller. Default: all.")] = None,
    language: Annotated[
        Literal["nl", "en"] | None, typer.Option(help="Of the register. Default: server.language.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that prints well.")] = None,
) -> None:
    """Show the register of processing (GDPR 30), made from what is configured; names what is still missing in it."""
    from relay.portal.register import register as made_of
    from relay.portal.register import words_of

    if html is not None:
        refuse_existing(html)
    settings = frame.settings()
    tongue = language or settings.server.language
    document = made_of(settings, frame.call("register.show", tenant=tenant), tongue)
    if html is not None:
        from relay.portal.register_page import render

        with open_private(html) as target:
            target.write(render(document))
    if frame.as_json:
        print_json(document)
    elif html is not None:
        say(f"The register is in {html}.", *(f"still missing: {gap}" for gap in document["missing"]))
    else:
        _tell(frame, document, words_of(tongue))


def instructions(
    frame: Frame,
    tenant: Name,
    *,
    version: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show what this version says. Default: list all.")
    ] = None,
) -> None:
    """Show what a tenant has the gateway do, version by version: since when, by whom, and its hash (GDPR-18)."""
    if version is None:
        rows = frame.call("instruction.list", tenant=tenant)
        show_rows(frame, rows, _VERSIONS, empty="No versions yet: the next change of a setting makes one.")
        return
    found = frame.call("instruction.show", tenant=tenant, version=version)
    show_record(frame, found, skip=("document",))
    if not frame.as_json:
        show_record(frame, found["document"], title="\nWhat it says")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the data are then, and how to reach who has them."""

    country: Annotated[str, typer.Option(metavar="CC", help="Two letters.", show_default=False)]
    ground: Annotated[
        str | None, typer.Option(metavar="TEXT", help='Outside of the EEA: "adequacy: WHICH", clauses, rules, consent.')
    ] = None
    contact: Annotated[str | None, typer.Option(metavar="TEXT", help="How to reach it.")] = None


@command(app, "add", example='zegel privacy processor add "Backup BV" --service "stores backups" --country DE')
def add(
    frame: Frame,
    name: Other,
    *,
    service: Annotated[str, typer.Option(metavar="TEXT", help="What it does.", show_default=False)],
    where: Whereabouts,
    from_at: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="When it begins. Default: when the notice is over.")
    ] = None,
    without_notice: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why it begins before the notice is over.")
    ] = None,
) -> None:
    """Write down who is to work with data of tenants; it begins when they have had time to object (GDPR 28(2)).

    The time is processing.sub_processor_notice_days. Telling them is yours to do; the register shows it from now on.
    """
    place = {"country": where.country, "ground": where.ground, "contact": where.contact}
    start = {"from_at": from_at, "without_notice": without_notice}
    days = frame.settings().processing.sub_processor_notice_days
    show_record(frame, frame.call("processor.add", name=name, service=service, notice_days=days, **place, **start))


@command(app, "list", example="zegel privacy processor list --state all")
def list_all(
    frame: Frame,
    *,
    state: Annotated[Literal["present", "all"], typer.Option(help="Which; all: those that ended too.")] = "present",
) -> None:
    """Show sub-processors, with country, ground and time."""
    show_rows(frame, frame.call("processor.list", state=state), _OTHERS, empty="No sub-processors.")


@command(app, "end", example='zegel privacy processor end "Backup BV"')
def end(
    frame: Frame,
    name: Other,
    *,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When it ends. Default: now.")] = None,
) -> None:
    """Write down that a sub-processor has no data any more; the register keeps that it was."""
    show_record(frame, frame.call("processor.end", name=name, at=at))


def _tell(frame: Frame, found: dict[str, Any], words: dict[str, str]) -> None:
    out = console()
    show_record(frame, found["processor"], title=words["title"])
    for one in found["controllers"]:
        lists = [purpose[f"title_{found['language']}"] or purpose["name"] for purpose in one["purposes"]]
        held = words["instruction_is"].format(**one["instruction"])
        shown = {
            words["contact"]: one["contact"],
            words["processing"]: " ".join(one["processing"]),
            words["purposes"]: lists,
            words["people"]: one["people"],
            words["special"]: one["special"],
            words["instruction"]: held,
        }
        show_record(frame, shown, title=f"\n{one['legal_name']}")
    for name, columns in (
        ("data", ("what", "basis", "period")),
        ("recipients", ("who", "what", "country")),
        ("sub_processors", ("name", "service", "country", "ground", "from_at", "until_at")),
        ("transfers", ("to", "what", "country", "law", "which")),
    ):
        say("", words[name])
        if found[name]:
            titles = [(key, words.get(key, key.replace("_", " "))) for key in columns]
            out.print(table(found[name], titles))
        else:
            say(words["none"])
    say("", words["measures"], *(f"- {measure}" for measure in found["measures"]))
    if found["missing"]:
        say("", words["missing"], *(f"- {gap}" for gap in found["missing"]))
