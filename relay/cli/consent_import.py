"""`zegel consent import`: a file of any size, with what was refused of it; the memory stays flat however much that is."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Any, Self

import typer

from relay.cli.output import console, say, table
from relay.cli.private import open_private, refuse_existing
from relay.cli.trouble import NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from relay.cli.client import Link
    from relay.cli.frame import Frame
    from relay.consent.importer import Batch, Bought

SHOWN_ERRORS = 50
REPORT_COLUMNS = ("line", "last_line", "field", "reason", "remedy")
_IN_MEMORY = 1 << 20
_COUNTS = ("imported", "unchanged", "refused")


def import_from(frame: Frame, tenant: str, file: Path, report: Path | None, *, restart: bool) -> None:
    """Take in `file`, tell what became of it, and exit 1 where a row was refused.

    An import that broke off goes on where its last rows were made durable, as long as the file and what the tenant may
    record are the same; with `restart` all is read again.
    """
    from relay.consent.importer import Place, batches, look_bought

    if not file.is_file():
        raise Trouble(WRONG_USE, f"{file} cannot be read: name a CSV or JSON Lines file")
    if report is not None:
        refuse_existing(report)
    identity = _identity(file)  # of now: what is written to it from here on makes it another one
    bought = look_bought(file)
    with frame.link() as link, _progress(file, quiet=frame.as_json) as advance:
        held = _held(link, tenant, bought)
        released = bought.digest if bought is not None and held is not None and held["state"] == "released" else ""
        waits = held is not None and held["state"] in ("waiting", "refused")
        identity += f":{released}"  # rows that were passed over before are read then
        known = link.call("consent.import_place", {"tenant": tenant, "file": identity})
        total = {name: 0 if restart else known[name] for name in _COUNTS}
        start = Place() if restart else Place(known["done_bytes"], known["done_lines"])
        if start.done_lines and not frame.as_json:
            again = f"; the {total['refused']} rows refused before are told with --restart" if total["refused"] else ""
            say(f"Going on after line {start.done_lines}, where an import of this file broke off{again}.")
        with Refused(report, keep=frame.as_json) as refused:
            place = {"file": identity, **({"released": released} if released else {})}
            for batch in batches(file, start=start, but_bought=waits):
                refused.add(_send(link, tenant, batch, total, place))
                advance(batch.done.done_bytes)
            link.call("consent.import_done", {"tenant": tenant})
            if frame.as_json:
                went_on = {"resumed_after_line": start.done_lines} if start.done_lines else {}
                waiting: dict[str, Any] = (
                    {"held": bought.rows, "held_import": held} if bought and held and waits else {}
                )
                refused.write_json({**total, **waiting, **went_on}, sys.stdout)
                sys.stdout.flush()
            else:
                _tell(total, refused, report)
                if bought and held and waits:
                    _tell_held(tenant, bought, held)
    if total["refused"] or waits:
        raise typer.Exit(NO)


def _identity(file: Path) -> str:
    """Tells a file from every other, and from itself once somebody has written to it."""
    seen = file.stat()
    return f"{seen.st_dev}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}:{seen.st_ctime_ns}"


def _held(link: Link, tenant: str, bought: Bought | None) -> dict[str, Any] | None:
    """What the operator said of a file that looks bought: its number and state; None for any other file."""
    if bought is None:
        return None
    answer: dict[str, Any] = link.call("consent.hold", {"tenant": tenant, **bought._asdict()})
    return answer


def _tell_held(tenant: str, bought: Bought, held: dict[str, Any]) -> None:
    say(f"{bought.rows} bought addresses are not in: {bought.shared} of them share one time of consent (CONSENT-7).")
    if held["state"] == "refused":
        say(f"This file was refused: see `zegel consent held list {tenant}`.")
    else:
        say(
            "That is the date of a file, not an act of each person. Look at the seller, the contract and the text, then"
        )
        say(f"  zegel consent held release {tenant} {held['import']} --reason TEXT   and import the file again, or")
        say(f"  zegel consent held refuse {tenant} {held['import']} --reason TEXT")


def _send(link: Link, tenant: str, batch: Batch, total: dict[str, int], file: dict[str, str]) -> list[dict[str, Any]]:
    """Record one batch; what was refused of it, by line. `file`: its identity, and its digest where it was let in."""
    from relay.owner.consents import shown_refusal

    lines = {refusal.line: refusal.line_count for refusal in batch.refused}  # a line may have several reasons
    total["refused"] += sum(lines.values())
    errors = []
    for refusal in batch.refused:
        more = {"last_line": refusal.last_line} if refusal.last_line else {}
        errors.append(shown_refusal(refusal) | more)
    if batch.rows:
        rest = {name: value for name, value in file.items() if name != "file"}
        place = {"file": file["file"], **batch.done._asdict(), **total}
        answer = link.call("consent.import_rows", {"tenant": tenant, "rows": batch.rows, "place": place, **rest})
        for key in _COUNTS:
            total[key] += answer[key]
        errors += answer["errors"]
    return sorted(errors, key=lambda error: int(error["line"]))


class Refused:
    """What was refused: the first of it for a look, all of it in the report, and on disk where one JSON value is wanted."""

    def __init__(self, report: Path | None, *, keep: bool) -> None:
        self._path = report
        self._report: IO[str] | None = None
        self._kept: IO[str] | None = None
        self._keeps = keep
        self.first: list[dict[str, Any]] = []
        self.count = 0

    def __enter__(self) -> Self:
        if self._path is not None:
            self._report = open_private(self._path)
            self._writer = csv.DictWriter(self._report, REPORT_COLUMNS, restval="", lineterminator="\n")
            self._writer.writeheader()
        if self._keeps:
            self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8")  # closed below
        return self

    def __exit__(self, *exception: object) -> None:
        for file in (self._report, self._kept):
            if file is not None:
                file.close()

    def add(self, errors: Iterable[dict[str, Any]]) -> None:
        """Of one batch. The report has it when this returns: the next batch may be the one that fails."""
        for error in errors:
            if len(self.first) < SHOWN_ERRORS:
                self.first.append(error)
            if self._report is not None:
                self._writer.writerow(error)
            if self._kept is not None:
                self._kept.write((", " if self.count else "") + json.dumps(error, ensure_ascii=False))
            self.count += 1
        if self._report is not None:
            self._report.flush()

    def write_json(self, total: dict[str, int], target: IO[str]) -> None:
        """The counts and every error, as one JSON value."""
        assert self._kept is not None
        self._kept.seek(0)
        target.write(json.dumps(total)[:-1] + ', "errors": [')
        shutil.copyfileobj(self._kept, target)
        target.write("]}\n")


def _tell(total: dict[str, int], refused: Refused, report: Path | None) -> None:
    known = f" ({total['unchanged']} of them had been imported before)" if total["unchanged"] else ""
    say(f"{total['imported']} imported{known}, {total['refused']} refused.")
    if refused.first:
        columns = (("line", "line"), ("field", "field"), ("reason", "what is wrong"))
        console().print(table(refused.first, columns))
    if refused.count > len(refused.first):
        where = str(report) if report is not None else "--report FILE"
        say(f"... and {refused.count - len(refused.first)} more: see them all with {where}.")
    elif report is not None:
        say(f"The report is in {report}.")


class _progress:  # noqa: N801  # read as a verb in `with`
    """A bar on standard error while a person looks; a function that takes the bytes done."""

    def __init__(self, file: Path, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._size = file.stat().st_size

    def __enter__(self) -> Any:
        if not self._shown:
            return lambda done: None
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console(stderr=True)).__enter__()
        task = self._bar.add_task("import", total=self._size)
        return lambda done: self._bar.update(task, completed=done)

    def __exit__(self, *exception: Any) -> None:
        if self._shown:
            self._bar.__exit__(*exception)
