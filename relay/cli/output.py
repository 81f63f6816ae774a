"""What commands print: one JSON value for programs, tables and cards for people.

Values come from mail and from tenants, so nothing of them is read as markup and control characters never reach the terminal.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from relay.cli.frame import Frame

PIPE_WIDTH = 200  # columns where nobody looks: a table in a file must not be cut
COLOURS = {
    "accept": "green", "accepted": "green", "delivered": "green", "finished": "green", "active": "green", "ok": "green",
    "hold": "yellow", "held": "yellow", "parked": "yellow", "defer": "yellow", "deferred": "yellow", "warn": "yellow",
    "inactive": "yellow", "attempted": "yellow", "postponed": "yellow", "released": "green", "deleted": "red",
    "reject": "red", "refused": "red", "failed": "red", "wrong": "red", "retired": "dim", "observe": "yellow", "off": "dim",
}  # fmt: skip
_TIMES = frozenset((
    "created_at", "revoked_at", "activated_at", "retired_at", "checked_at", "mismatch_since", "accepted_at", "due", "at",
    "given_at", "first_at", "confirmed_at", "sale_at", "expires_at",
    "detected_at", "last_at", "opened_at", "closed_at", "tenant_due_at", "tenant_told_at", "authority_due_at",
    "authority_told_at", "people_told_at", "asked_at", "next_mail_at", "sent_at",
    "due_at", "settled_at", "extended_at", "announced_at", "from_at", "until_at",
    "deleted_at", "emptied_at", "held_since", "held_until", "answered_at", "oldest_at", "before_until", "dead_at",
))  # fmt: skip

Columns = Sequence[tuple[str, str]]


def console(*, stderr: bool = False) -> Console:
    """A console as wide as its terminal, or wide enough for a file."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")


def say(*lines: str) -> None:
    """Plain lines on standard output: never wrapped, so that they can be copied and pasted."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def clean(text: str) -> str:
    """Without control characters; the folds of a field are line breaks."""
    text = text.replace("\r\n", "\n")
    return text if text.isprintable() else "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def cell(value: object, key: str = "") -> Text:
    """A value for people: yes and no, local time, lists with commas, a dash for nothing."""
    from rich.text import Text

    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if value in (None, "", [], {}):
        return Text("–", style="dim")
    if key in _TIMES and isinstance(value, int | float):
        return Text(moment(value))
    if isinstance(value, list | tuple):
        return Text(clean(", ".join(str(item) for item in value)))
    if isinstance(value, dict):
        return Text(clean(json.dumps(value, ensure_ascii=False)))
    text = clean(str(value))
    return Text(text, style=COLOURS.get(text, ""))


def moment(at: float) -> str:
    """Local time with its offset, to the second; "now" for what has no time to wait for."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at)) if at else "now"


def counted(number: int, noun: str) -> str:
    """ "1 message", "2 messages"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def show_rows(frame: Frame, rows: Sequence[Mapping[str, Any]], columns: Columns, *, empty: str) -> None:
    """A list as JSON, or as a table of `columns` (key, title)."""
    if frame.as_json:
        print_json(rows)
    elif rows:
        console().print(table(rows, columns))
    else:
        say(empty)


def table(rows: Iterable[Mapping[str, Any]], columns: Columns) -> Any:
    """A rich table."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for _, title in columns:
        made.add_column(title, overflow="fold")
    for row in rows:
        made.add_row(*(cell(row.get(key), key) for key, _ in columns))
    return made


def show_record(frame: Frame, record: Mapping[str, Any], *, title: str = "", skip: Sequence[str] = ()) -> None:
    """One object as JSON, or as lines of name and value."""
    if frame.as_json:
        print_json(record)
        return
    from rich.table import Table

    out = console()
    if title:
        out.print(title, style="bold", markup=False)
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for key, value in record.items():
        if key not in skip:
            made.add_row(key.replace("_", " "), cell(value, key))
    out.print(made)


def show_records_to_publish(records: Iterable[Mapping[str, Any]]) -> None:
    """DNS records, unwrapped, so that they can be copied into a zone."""
    for record in records:
        say(f"  name   {record['name']}", f"  type   {record['type']}", f"  value  {record['value']}", "")
