"""`zegel backup` and `zegel restore`: all stores and the keyring in one encrypted file, and the way back."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import console, counted, moment, print_json, say
from relay.cli.private import new_file
from relay.cli.trouble import DOWN, NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.settings.model import Settings
    from relay.store.restored import Restored

PASSPHRASE = "ZEGEL_BACKUP_PASSPHRASE"
LEAST_LETTERS = 12

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help=f"Its first line is the passphrase; else {PASSPHRASE}, else you are asked."),
]

DeleteDue = Annotated[
    bool,
    typer.Option(
        "--delete-due",
        help="Then delete the backups beside it, of this passphrase, that were to be kept until before today.",
    ),
]

ErasedFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="erased.jsonl of the data folder before: people and tenants erased since the backup are so again.",
    ),
]


def add_to(app: typer.Typer) -> None:
    command(app, "backup", example="zegel backup /mnt/safe/zegel-monday.backup")(backup)
    command(app, "restore", example="zegel restore /mnt/safe/zegel-monday.backup -c /etc/zegel/zegel.toml")(restore)


def backup(frame: Frame, file: File, *, passphrase_file: PassphraseFile = None, delete_due: DeleteDue = False) -> None:
    """Write everything into one encrypted file: queue, consents, opt-outs, logs and keys, as of one moment. The gateway goes on.

    Without the passphrase nobody can read it, you included: keep it apart from the file. The config and the certificates
    are not in it.
    """
    from relay import __version__
    from relay.backup.due import Due
    from relay.backup.due import delete_due as delete
    from relay.backup.take import Backup, day
    from relay.cli.client import as_folder_owner, require_folder

    settings = frame.settings()
    _require_embedded(settings)
    require_folder(settings.server.data_dir)
    if not settings.database_path.exists():
        raise Trouble(NO, f"{settings.database_path} does not exist: there is nothing to back up")
    _require_outside(settings, file)
    secret = _passphrase(frame, passphrase_file, new=True)
    _many_files()
    # The owner of the folder comes last: the file is ours, and he may not be able to read the program.
    with (
        new_file(file, "backup") as out,
        _as_trouble(),
        _bar(frame, "Backing up") as bar,
        as_folder_owner(settings.server.data_dir),
    ):
        work = Backup(settings, version=__version__, progress=bar)
        bar.begin(work.estimate())
        taken = work.write(out, secret)
        size = out.tell()
    due = delete(file.parent, secret, day(time.time())) if delete_due else Due([], [], [])
    if frame.as_json:
        told = {what: [str(path) for path in paths] for what, paths in due._asdict().items()}
        print_json({"file": str(file), "bytes": size, **taken._asdict(), **told})
        _require_gone(due.failed)
        return
    say(
        f"{file}: {size / 1e6:,.1f} MB, everything up to {moment(taken.cut_at)}; waiting in it: "
        f"{counted(taken.messages, 'message')}.",
        f"Delete it after {taken.delete_after}: it keeps what retention takes out of the gateway meanwhile.",
        "Try it now and then: `zegel restore` on another machine tells whether it can be read.",
    )
    if taken.damaged_files:
        say(f"{taken.damaged_files} damaged queue files are in it as they are: see `zegel doctor`.")
    for path in due.deleted:
        say(f"{path}: deleted, its time was over.")
    for path in due.left:
        say(f"{path}: its time is over, and this passphrase does not open it: look whose it is, and delete it.")
    _require_gone(due.failed)


def _require_gone(failed: list[str]) -> None:
    if failed:
        lines = [f"{line}: its time is over, and it could not be deleted" for line in failed]
        raise Trouble(NO, "\n".join([*lines, "the new backup is whole"]))


def restore(frame: Frame, file: File, *, passphrase_file: PassphraseFile = None, erased: ErasedFile = None) -> None:
    """Put a backup into the empty data and keys folders of the config. The queue and marketing then wait for `queue release`.

    The whole backup is read and found whole before anything of it is put in place. A restore that was broken off is begun
    anew, or finished, by the same command. With `--erased` people and tenants
    who were erased since the backup are erased in it again.
    """
    from relay.backup.restore import Restore
    from relay.backup.take import day
    from relay.cli.client import as_folder_owner, is_running, require_folder

    settings = frame.settings()
    _require_embedded(settings)
    data = settings.server.data_dir
    require_folder(data, broken_off=True)
    if is_running(settings):
        raise Trouble(NO, f"a gateway runs on {data}: a backup is restored into empty folders only")
    source = file.open("rb")
    secret = _passphrase(frame, passphrase_file, new=False)
    os.umask(0o077)
    with source, _as_trouble(file), _bar(frame, "Restoring") as bar, as_folder_owner(data):
        bar.begin(os.fstat(source.fileno()).st_size)
        back = Restore(settings, progress=bar, erased=erased).run(source, secret)
    note = back.note
    if frame.as_json:
        told = {
            "finished": back.finished,
            "erased": back.erased,
            "deleted": back.deleted,
            "delete_after": back.delete_after,
        }
        print_json({"file": str(file), **note._asdict(), "gap_seconds": note.gap_seconds, **told})
        return
    if back.finished:
        say("A restore that had been broken off is finished now; its backup was read whole at that time.")
    say(f"Restored: everything up to {moment(note.cut_at)}.", *gap(note))
    if back.delete_after and back.delete_after < day(note.restored_at):
        say(
            f"This backup was to be deleted after {back.delete_after}: what had had its time since then is back, until the "
            "hourly job of the gateway takes it out again. Delete the file."
        )
    if erased is None:
        say(
            "Who was erased since then is back, and so is a tenant that was deleted: `erased.jsonl` in the data folder before "
            "tells who that was. Do it again, into empty folders, with `--erased FILE`, or erase these people with "
            "`zegel privacy erase`, and the tenant with `zegel tenant delete`."
        )
    else:
        say(f"Erased again, since they were erased after the backup was made: {counted(back.erased, 'erasure')}.")
        if back.deleted:
            say(f"Deleted again, since they were deleted after it was made: {counted(back.deleted, 'tenant')}.")
    say("Start it with `zegel serve`. The queue and all marketing wait until you run `zegel queue release`.")


def gap(note: Restored) -> list[str]:
    """What the operator must know before he lets the queue go."""
    if not note.cut_at:
        return ["The note of the restore cannot be read: nobody knows how old its backup is."]
    lost = _span(note.gap_seconds)
    return [
        f"Of the {lost} from {moment(note.cut_at)} to {moment(note.restored_at)} nothing is known here:",
        "  - who opted out or complained in that time is not known, and would get marketing again: enter those people first,",
        "    from your sending tool, web shop and mailboxes, with `zegel suppression add` or `zegel consent withdraw`;",
        f"  - what was delivered in that time is not known: of the {note.messages} restored messages those will arrive twice;",
        "  - logins, API keys and tenants that were revoked or suspended in that time are valid again, a stolen password too:",
        "    end them before you start it, with `zegel credential revoke`, `zegel apikey revoke` or `zegel tenant suspend`.",
    ]


def _span(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _require_embedded(settings: Settings) -> None:
    if not settings.storage.database.startswith("sqlite"):
        raise Trouble(
            WRONG_USE, "this backs up the embedded database; for PostgreSQL use its own tools, and copy keys_dir"
        )
    if settings.database_path.parent != settings.server.data_dir:
        raise Trouble(WRONG_USE, f"storage.database lies outside of {settings.server.data_dir}: write a name within it")


def _require_outside(settings: Settings, file: Path) -> None:
    """A backup within what it copies would copy itself, and each the one before."""
    place = file.parent.resolve()
    for folder in (settings.server.data_dir, settings.server.keys_dir):
        if place.is_relative_to(folder.resolve()):
            raise Trouble(WRONG_USE, f"{file} lies in {folder}, which is what is backed up: choose another place")


def _passphrase(frame: Frame, file: Path | None, *, new: bool) -> str:
    """From the file, the environment or the person; never from the command line, which everybody on the machine can read."""
    if file is not None:
        found = file.read_text("utf-8").partition("\n")[0]
    elif PASSPHRASE in os.environ:
        found = os.environ[PASSPHRASE]
    elif frame.may_ask:
        found = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    else:
        raise Trouble(WRONG_USE, f"there is nobody to ask for the passphrase: use --passphrase-file or {PASSPHRASE}")
    if new and len(found) < LEAST_LETTERS:
        raise Trouble(
            WRONG_USE, f"the passphrase has {len(found)} characters, use {LEAST_LETTERS} or more: some words do well"
        )
    return found


@contextlib.contextmanager
def _as_trouble(file: Path | None = None) -> Iterator[None]:
    """What is wrong with a backup, said with what to do."""
    from relay.backup.restore import BadList, NotEmpty
    from relay.backup.sealed import BadBackup, WrongPassphrase
    from relay.backup.stores import NoRoom
    from relay.spool.cut import NoCut

    try:
        yield
    except WrongPassphrase as error:
        raise Trouble(NO, f"{file} cannot be opened: {error}; nothing was restored") from None
    except BadBackup as error:
        raise Trouble(NO, f"{file} cannot be used: {error}; nothing was restored, take another backup") from None
    except (BadList, NotEmpty) as error:
        raise Trouble(NO, f"{error}; nothing was restored") from None
    except NoRoom as error:
        raise Trouble(DOWN, f"there is no room in the data folder: {error}; make room there") from None
    except NoCut as error:
        raise Trouble(DOWN, str(error)) from None
    except BlockingIOError:
        raise Trouble(NO, "another restore is at work in this folder") from None


def _many_files() -> None:
    """Every queue file is open at once for a moment."""
    from relay.serve.descriptors import raise_limit

    raise_limit()


class _Bar:
    """Progress on the terminal; silent where nobody looks."""

    def __init__(self, begin: Callable[[float], None], step: Callable[[int], None]) -> None:
        self.begin = begin
        self._step = step

    def __call__(self, octets: int) -> None:
        self._step(octets)


@contextlib.contextmanager
def _bar(frame: Frame, title: str) -> Iterator[_Bar]:
    if frame.as_json or not sys.stderr.isatty():
        yield _Bar(lambda total: None, lambda octets: None)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield _Bar(
            lambda total: progress.update(task, total=total), lambda octets: progress.update(task, advance=octets)
        )
