"""`zegel tenant export`: everything that is held of a tenant, in one archive that it can take along (GDPR-18).

Theory of operation. The archive is written from the front to the end, a line at a time: the database by its owner, page by page;
queue, delivery log and use records from their files. Nothing is collected in memory. `manifest.json`, which comes last, names
every file with its lines and its SHA-256; an archive without it is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from relay.cli.consent_files import write_csv, write_lines
from relay.cli.frame import Frame
from relay.cli.output import console, print_json, say
from relay.cli.private import new_file, refuse_existing
from relay.cli.tenants import Name
from relay.cli.trouble import NO, Trouble

if TYPE_CHECKING:
    from relay.cli.client import Link
    from relay.keyring import Keyring
    from relay.settings.model import Settings

FORMAT = 1
ABOUT = Path(__file__).with_name("takeaway.txt")

Archive = Annotated[Path, typer.Argument(metavar="FILE", help="The archive, a zip file.", show_default=False)]


class Source(NamedTuple):
    """Whose data are taken along, and from where."""

    settings: Settings
    link: Link
    keyring: Keyring
    tenant: str
    number: int


def export(frame: Frame, tenant: Name, file: Archive) -> None:
    """Write all that is held of a tenant into one zip file: settings, consents, mail that is held, logs, files of incidents.

    Secrets are not in it: logins and webhooks get new ones wherever they go. It names people: keep it as you keep the
    data themselves. The layout is in its README.txt and in docs/leaving.md.
    """
    from relay.cli.client import as_folder_owner, require_folder
    from relay.keyring import Keyring

    refuse_existing(file)
    settings = frame.settings()
    require_folder(settings.server.data_dir)
    with frame.link() as link, new_file(file, "export") as out, _bar(frame) as step:
        held = link.call("tenant.holds", {"name": tenant})
        if held["deleted_at"]:
            raise Trouble(NO, f"{tenant} was deleted: of what is kept, `zegel consent export` gives the ledger")
        _require_released(settings)
        with as_folder_owner(settings.server.data_dir):
            source = Source(settings, link, Keyring.open(settings.server.keys_dir, create=False), tenant, held["id"])
            step(None, sum((*held["goes"].values(), *held["stays"].values())))
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
                manifest = _Archive(archive, source, step).write()
        size = out.tell()
    if frame.as_json:
        print_json({"file": str(file), "bytes": size, **manifest})
        return
    lines = sum(one["lines"] for one in manifest["files"])
    say(
        f"{file}: {size / 1e6:,.1f} MB, {len(manifest['files'])} files, {lines:,} lines; its README.txt says what is in which."
    )
    say("It names people and is not encrypted: hand it over in a way that nobody else can read.")


def _require_released(settings: Settings) -> None:
    from relay.serve.boot import QUEUE
    from relay.spool.cut import waiting

    if waiting(settings.server.data_dir / QUEUE):
        raise Trouble(NO, "a restore waits for its release: `zegel queue release` first, or its mail would be left out")


class _Archive:
    """Writes the files of one archive in their order."""

    def __init__(self, archive: zipfile.ZipFile, source: Source, step: Callable[[str | None, int], None]) -> None:
        self._archive, self._source, self._step = archive, source, step
        self._files: list[dict[str, Any]] = []

    def write(self) -> dict[str, Any]:
        """Everything, and the manifest; what that says."""
        from relay import __version__
        from relay.owner.takeaway import PARTS

        source, made_at = self._source, time.time()
        self._plain("README.txt", ABOUT.read_bytes())
        for name in PARTS:
            self._lines(f"{name}.jsonl", self._rows(name))
        self._consents()
        self._lines("uses.jsonl", _uses(source))
        self._lines("delivery-log.jsonl", _log(source))
        self._mail()
        self._captured()
        self._plain("register.json", json.dumps(_register(source), ensure_ascii=False, indent=1).encode())
        manifest = {
            "format": FORMAT,
            "tenant": source.tenant,
            "zegel": __version__,
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made_at)),
            "files": self._files,
        }
        self._archive.writestr("manifest.json", json.dumps(manifest, indent=1))
        return manifest

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[_File]:
        with self._archive.open(name, "w", force_zip64=True) as entry:
            made = _File(entry)
            yield made
        self._files.append({"name": name, "lines": made.lines, "sha256": made.digest.hexdigest()})

    def _plain(self, name: str, data: bytes) -> None:
        with self._file(name) as out:
            out.write_octets(data)

    def _lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        self._step(name, 0)
        with self._file(name) as out:
            for row in rows:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                self._step(None, -1)

    def _rows(self, part: str) -> Iterator[dict[str, Any]]:
        after: list[str] | None = None
        while True:
            args = {"tenant": self._source.tenant, "part": part}
            page = self._source.link.call("tenant.export", args if after is None else {**args, "after": after})
            yield from page["rows"]
            after = page["next"]
            if after is None:
                return

    def _consents(self) -> None:
        """The signed form, and what stands now in the columns that another gateway imports."""
        self._step("consents.jsonl", 0)
        with self._file("consents.jsonl") as out:
            write_lines(self._source.link, self._source.tenant, out)
        with self._file("consents.csv") as out:
            write_csv(self._source.link, self._source.tenant, out, Counter())

    def _mail(self) -> None:
        """What waits, as a list; what is held, as it came in, beside it."""
        from relay.serve.boot import QUEUE
        from relay.serve.queue_ops import recipients, summary
        from relay.spool.carry import mail_of
        from relay.spool.cipher import Cipher
        from relay.spool.cut import Cut

        source = self._source
        cipher = Cipher(source.keyring.queue_keys, source.keyring.current_queue_key_id)
        queue = source.settings.server.data_dir / QUEUE
        queue.mkdir(mode=0o700, exist_ok=True)

        def listed() -> Iterator[dict[str, Any]]:
            for item in mail_of(cut, cipher, source.number):
                yield {**summary(item), "recipients": recipients(item)}

        self._step("queue.jsonl", 0)
        with contextlib.closing(Cut(queue)) as cut:
            cut.take(lambda: None)
            self._lines("queue.jsonl", listed())
            for item in mail_of(cut, cipher, source.number):
                if item.held and item.raw is not None:
                    self._plain(f"held/{item.queue_id}.eml", item.raw)

    def _captured(self) -> None:
        """Mail of a demo or sandbox, as it would have left; nothing of it where mail is delivered."""
        from relay.store.outbox import FILE, Outbox

        path = self._source.settings.server.data_dir / FILE
        if not path.exists():
            return
        with contextlib.closing(Outbox(path, self._source.keyring)) as outbox:
            for stored in outbox.entries(limit=1_000_000):
                whole = outbox.entry(stored.id) if stored.entry.tenant == self._source.tenant else None
                if whole is not None:
                    raw = whole.entry.outgoing or whole.entry.incoming
                    self._plain(f"captured/{stored.id}-{whole.entry.verdict}.eml", raw)


class _File:
    """One file of the archive, with what the manifest says of it."""

    def __init__(self, entry: Any) -> None:
        self._entry = entry
        self.digest = hashlib.sha256()
        self.lines = 0

    def write(self, text: str) -> None:
        self.write_octets(text.encode())

    def write_octets(self, data: bytes) -> None:
        self._entry.write(data)
        self.digest.update(data)
        self.lines += data.count(b"\n")


def _uses(source: Source) -> Iterator[dict[str, Any]]:
    """Which mail rested on which event of the ledger (CONSENT-15)."""
    from relay.consent.record import format_time
    from relay.spool.item import encode_id
    from relay.store import uses

    for use in uses.of_tenant(source.settings.server.data_dir / uses.FOLDER, source.number):
        said = {
            "at": format_time(use.at),
            "id": encode_id(use.id),
            "event_id": use.event or None,
            "rule": use.rule or None,
        }
        yield {**said, "consent": f"{use.hash:016x}"}


def _log(source: Source) -> Iterator[dict[str, Any]]:
    from relay.consent.record import format_time
    from relay.serve.boot import HISTORY
    from relay.spool.cipher import Cipher
    from relay.spool.item import encode_id
    from relay.store.thinning import lines_of

    cipher = Cipher(source.keyring.queue_keys, source.keyring.current_queue_key_id)
    for event in lines_of(source.settings.server.data_dir / HISTORY, source.tenant, cipher.open):
        yield {"id": encode_id(event.id), "at": format_time(event.at), "event": event.word, **event.data}


def _register(source: Source) -> dict[str, Any]:
    from relay.portal.register import register

    language = str(source.link.call("tenant.show", {"name": source.tenant})["language"])
    return register(source.settings, source.link.call("register.show", {"tenant": source.tenant}), language)


@contextlib.contextmanager
def _bar(frame: Frame) -> Iterator[Callable[[str | None, int], None]]:
    """Progress on the terminal: told the name of a file with 0, how many rows there are, or -1 for one that was written."""
    if frame.as_json or not sys.stderr.isatty():
        yield lambda name, rows: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("Exporting", total=None)

        def step(name: str | None, rows: int) -> None:
            if name is not None:
                progress.update(task, description=name)
            elif rows > 0:
                progress.update(task, total=rows)
            else:
                progress.advance(task)

        yield step
