"""What `zegel consent export` writes: page by page, since a ledger may be larger than the memory."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import typer

from relay.cli.output import print_json, say
from relay.cli.private import open_private
from relay.cli.trouble import NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from pathlib import Path

    from relay.cli.client import Link
    from relay.cli.frame import Frame


class Writes(Protocol):
    """What text is written to."""

    def write(self, text: str, /) -> object: ...


def export_to(frame: Frame, tenant: str, file: Path | None, *, as_csv: bool) -> None:
    """The ledger of a tenant into a new file, or to standard output."""
    if as_csv and file is None and frame.as_json:
        raise Trouble(WRONG_USE, "CSV is no JSON: name a file for it, or leave out --json")
    left_out: Counter[tuple[str, str]] = Counter()
    with frame.link() as link:
        if file is None:
            if as_csv:
                write_csv(link, tenant, sys.stdout, left_out)
            else:
                (_write_object if frame.as_json else write_lines)(link, tenant, sys.stdout)
        else:
            with open_private(file) as target:
                count, key = (
                    (write_csv(link, tenant, target, left_out), "") if as_csv else write_lines(link, tenant, target)
                )
    if file is not None:
        _tell(frame, file, {"tenant": tenant, "file": str(file)}, (count, key), left_out if as_csv else None)
    for (field, reason), count in sorted(left_out.items()):
        sys.stderr.write(f"left out: {count}, where {field} {reason}\n")
    if left_out:
        raise typer.Exit(NO)


def _tell(
    frame: Frame, file: Path, told: dict[str, Any], made: tuple[int, str], left_out: Counter[tuple[str, str]] | None
) -> None:
    """`made`: how many events or rows, and the public key that signed them."""
    count, key = made
    if left_out is None:
        told |= {"events": count, "key": key}
    else:
        told["rows"] = count
        told["left_out"] = [
            {"field": field, "reason": reason, "records": number}
            for (field, reason), number in sorted(left_out.items())
        ]
    if frame.as_json:
        print_json(told)
    else:
        say(f"{count} {'events' if left_out is None else 'records'} in {file}.")
        if key:
            say(f"Signed with the key {key}: whoever checks the file gets that from you.")


def write_csv(link: Link, tenant: str, target: Writes, left_out: Counter[tuple[str, str]]) -> int:
    """What holds now in the columns of the import; how many rows."""
    from relay.consent.rows import COLUMNS, harmless

    count = 0
    writer = csv.DictWriter(target, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for page in _pages(link, "consent.records", tenant):
        writer.writerows({name: harmless(value) for name, value in row.items()} for row in page["rows"])
        count += len(page["rows"])
        for row in page["left_out"]:
            left_out[row["field"], row["reason"]] += row["records"]
    return count


def write_lines(link: Link, tenant: str, target: Writes) -> tuple[int, str]:
    """An event a line, then the head and the signature over all of it; how many events, and the public key."""
    count, digest = 0, hashlib.sha256()
    for page in _pages(link, "consent.export", tenant):
        for event in page["events"]:
            line = json.dumps(event) + "\n"
            digest.update(line.encode())
            target.write(line)
        count += len(page["events"])
    head = page["head"]
    place = {"seq": head["seq"], "hash": head["hash"]} if head else {}
    signed = link.call("consent.sign", {"tenant": tenant, "events": count, "sha256": digest.hexdigest(), **place})
    target.write(json.dumps({"head": head, **signed}) + "\n")
    return count, str(signed["key"])


def _write_object(link: Link, tenant: str, target: Writes) -> None:
    """The same as one JSON value."""
    start = f'{{"tenant": {json.dumps(tenant)}, "events": ['
    for page in _pages(link, "consent.export", tenant):
        for event in page["events"]:
            target.write(start + "\n" + json.dumps(event, ensure_ascii=False))
            start = ","
    target.write(f'{"" if start == "," else start}\n], "head": {json.dumps(page["head"])}}}\n')


def _pages(link: Link, op: str, tenant: str) -> Iterator[dict[str, Any]]:
    """At least one; the last one has the head of the chain as it is behind its events."""
    after: int | None = 0
    while after is not None:
        page = link.call(op, {"tenant": tenant, "after": after})
        yield page
        after = page["next"]
