"""`zegel limit`: how much mail may leave, who has used how much of it, and which limit bites whom."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relay.cli.frame import Frame, command, group, tell
from relay.cli.output import moment, say, show_record, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import DOWN, NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.settings.model import Settings

app = group("How much mail may leave, what is used of it, and which limit bites whom. See docs/limits.md.")

_Pace = Literal["messages_per_minute", "recipients_per_day", "first_time_recipients_per_day"]
_Sign = Literal["warmup_recipients_per_day", "sudden_change"]
_Bound = Literal["recipients_per_message", "connections_per_address", "failed_logins_per_10_minutes"]

LimitName = Annotated[Literal[_Pace, _Bound], typer.Argument(metavar="NAME", help="Which limit.", show_default=False)]
Shown = Annotated[Literal[_Pace, _Sign, _Bound] | None, typer.Argument(metavar="[NAME]", help="Only this limit.")]
Counted = Annotated[
    Literal[_Pace, _Sign] | None,
    typer.Argument(metavar="[NAME]", help="Only this limit; sudden_change by name only."),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Narrowed:
    """Whose limit it is, where it is not the tenant's as a whole."""

    credential: Annotated[str | None, typer.Option(metavar="USERNAME", help="Of one login.")] = None
    stream: Annotated[Literal["marketing", "transactional", "personal"] | None, typer.Option(help="Of one stream.")] = (
        None
    )
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="Of one From domain.")] = None

    def given(self) -> dict[str, str]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def place(self) -> tuple[str, str]:
        """(scope, subject); ("", "") for all of the tenant's. Raises Trouble for more than one."""
        given = self.given()
        if len(given) > 1:
            raise Trouble(WRONG_USE, f"name one of --{', --'.join(given)}: a limit is of one of them")
        return next(iter(given.items()), ("", ""))


@dataclasses.dataclass(frozen=True, slots=True)
class Looked(Narrowed):
    """The same, or an address that mail comes from, which all tenants behind it share."""

    client: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the address that the mail comes from, for all behind it.")
    ] = None

    def place(self) -> tuple[str, str]:
        scope, subject = Narrowed.place(self)
        if scope != "client":
            return scope, subject
        from relay.limits import client_key

        try:
            ipaddress.ip_address(subject)
        except ValueError:
            raise Trouble(WRONG_USE, "--client wants an address, for instance 192.0.2.7 or 2001:db8::7") from None
        return scope, client_key(subject)


@command(app, "show", example="zegel limit show shop --stream marketing")
def show(frame: Frame, tenant: Name, name: Shown = None, *, narrowed: Looked) -> None:
    """Show every limit of a tenant, its streams, logins and From domains: what is allowed, used and left, when it frees,
    and how often it bit in 24 hours. Where several limits bite at once, the one that frees last is named. Of limits per message,
    address and failed logins those are shown that `limit set` has set; for the others see `[limits]` of the config.

    Which addresses mail comes from is not kept, so one is shown where you name it, with what all tenants behind it used:
    `--client 192.0.2.7`. A message's own stands in `zegel trace`.
    """
    scope, subject = _place(frame, tenant, narrowed)
    rows = [
        row
        for row in _rows(frame.settings(), tenant, subject if scope == "client" else "")
        if name in (None, row["name"]) and scope in ("", row["scope"]) and subject in ("", row["subject"])
    ]
    if not frame.as_json:
        rows = [
            {**row, "subject": _whose(row), "frees_at": moment(row["frees_at"]) if row["frees_at"] else None}
            for row in rows
        ]
    columns = (
        ("scope", "counted by"), ("subject", "whose"), ("name", "limit"), ("allowed", "allowed"), ("used", "used"),
        ("left", "left"), ("frees_at", "frees at"), ("bites_24h", "bit in 24 h"), ("set_by", "set by"),
    )  # fmt: skip
    show_rows(frame, rows, columns, empty="No limit holds for this.")


@command(app, "set", example="zegel limit set shop recipients_per_day 5000 --stream marketing")
def change(
    frame: Frame,
    tenant: Name,
    name: LimitName,
    value: Annotated[
        str,
        typer.Argument(
            metavar="VALUE",
            help="A number; 0: no limit, of the first three; default: as the config.",
        ),
    ],
    *,
    narrowed: Narrowed,
) -> None:
    """Set a limit of a tenant, or of one login, stream or From domain of it; in force everywhere on this gateway within
    2 seconds.

    Mail that the limit has parked already keeps its turn, and is told of: see `zegel queue retry`.
    """
    place = narrowed.place()
    if value != "default" and not re.fullmatch(r"[0-9]{1,10}", value):
        raise Trouble(WRONG_USE, f"{value} is no number: write for instance 500, or default")
    number = None if value == "default" else int(value)
    waiting = _waiting(
        frame.settings(), tenant, name, place
    )  # before it is another one, which would count them otherwise
    done = frame.call("limit.set", tenant=tenant, name=name, value=number, **narrowed.given())
    show_record(frame, {**done, "waiting": waiting}, title="Set", skip=("waiting",))
    if waiting and not frame.as_json:
        unit = "messages" if name == "messages_per_minute" else "recipients"
        say(
            f"This limit has parked mail ({unit}: {waiting}), which leaves at its turn as before. What comes from now on",
            "is judged by the new limit. `zegel queue retry ID` sends one now.",
        )


@command(app, "reset", example="zegel limit reset shop --credential shop-newsletter")
def reset(frame: Frame, tenant: Name, name: Counted = None, *, narrowed: Looked) -> None:
    """Lift what bites: forget what was charged to the limits of a tenant, or of one login, stream, From domain or client address
    (`--client`, for all tenants behind it).

    It is written down who did it. Mail that is parked already keeps its turn: `zegel queue retry --tenant shop --parked` sends it
    now. With `sudden_change` a
    login that is held for sending far more than ever may go on, and is measured again when two weeks are counted; what is held
    already waits for `zegel held release`.
    """
    scope, subject = _place(frame, tenant, narrowed)
    settings = frame.settings()
    _require_counted(settings, tenant, (name or "", scope, subject))  # it is written down before it is done
    told = frame.call("limit.reset", tenant=tenant, name=name, **({scope: subject} if scope else {}))
    count = _reset(settings, tenant, (name or "", scope, subject))
    show_record(frame, {**told, "limits": count}, title="Lifted")
    if not frame.as_json:
        whose = f"--credential {subject}" if scope == "credential" else f"--tenant {tenant}"
        say(f"What is parked already keeps its turn. To send it now: zegel queue retry {whose} --parked")


def _place(frame: Frame, tenant: str, narrowed: Looked) -> tuple[str, str]:
    """(scope, subject) as they are counted. Raises Trouble, also for a login or domain that the tenant does not have."""
    scope, subject = narrowed.place()
    if scope in ("", "client"):
        return scope, subject
    found = frame.call("limit.place", tenant=tenant, **narrowed.given())
    return found["scope"], found["subject"]


def _require_counted(settings: Settings, tenant: str, which: tuple[str, str, str]) -> None:
    """Raises Trouble where there is nothing to lift, or it lies in a Redis that does not answer."""
    from relay.cli import counting
    from relay.limitbook import chosen

    with counting.opened(settings) as (book, directory, counters):
        found = directory.tenant(tenant)
        if found is None:
            return  # who is asked to write it down says so
        client, now = which[2] if which[1] == "client" else "", time.time()
        credentials = directory.credentials_of(found)
        if not chosen(book.rows(found, credentials, now, client=client), *which):
            raise Trouble(NO, "no limit holds for this: see `zegel limit show`")
        counting.run(counters, book.show(found, credentials, now, client=client))
        if counters.note:
            raise Trouble(DOWN, f"{counters.note}; lift it again when `zegel doctor` finds it")


def _whose(row: dict[str, Any]) -> str | None:
    """The warm-up of a domain is counted by stream, so it stands there once for each."""
    subject: str | None = row["subject"]
    is_of_stream = row["scope"] == "domain" and row["name"] == "warmup_recipients_per_day"
    return f"{subject} ({', '.join(row['streams'])})" if is_of_stream else subject


def _rows(settings: Settings, tenant: str, client: str) -> list[dict[str, Any]]:
    from relay.cli import counting

    with counting.opened(settings) as (book, directory, counters):
        found = directory.tenant(tenant)
        if found is None:
            raise Trouble(NO, "there is no tenant of that name: see `zegel tenant list`")
        credentials = directory.credentials_of(found)
        rows = counting.run(counters, book.show(found, credentials, time.time(), client=client))
        if counters.note:
            tell(Trouble(DOWN, counters.note))
        return rows


def _waiting(settings: Settings, tenant: str, name: str, place: tuple[str, str]) -> int:
    """Units of the mail that a limit has parked."""
    from relay.cli import counting
    from relay.counters.contract import FIRST_TIME
    from relay.limitbook import AT_THE_DOOR, chosen

    if name in AT_THE_DOOR or not settings.database_path.exists():
        return 0
    scope, subject = place
    with counting.opened(settings) as (book, directory, counters):
        found = directory.tenant(tenant)
        if found is None:
            return 0  # who is asked to set it says so
        now = time.time()
        rows = book.rows(found, directory.credentials_of(found), now)
        if name == FIRST_TIME:  # of a tenant or stream it is one of each login
            rows = [row for row in chosen(rows, name, "", "") if subject in ("", row.subject, *row.streams)]
        else:
            rows = chosen(rows, name, scope or "tenant", subject)
        return counting.run(counters, book.waiting(rows, now))


def _reset(settings: Settings, tenant: str, which: tuple[str, str, str]) -> int:
    """How many limits were lifted. Raises Trouble where they lie in a Redis that does not answer."""
    from relay.cli import counting
    from relay.limitbook import chosen

    with counting.opened(settings) as (book, directory, counters):
        found = directory.tenant(tenant)
        assert found is not None, "the owner knew it a moment ago"
        client = which[2] if which[1] == "client" else ""
        rows = chosen(book.rows(found, directory.credentials_of(found), time.time(), client=client), *which)
        count = counting.run(counters, book.reset(rows, [each.id for each in directory.tenants()]))
        if counters.note:
            raise Trouble(DOWN, f"{counters.note}; lift it again when `zegel doctor` finds it")
        return count
