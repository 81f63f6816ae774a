"""How a command of ours becomes one of typer's: `-c` and `--json` on each, errors as sentences, an example in the help.

A command is a plain function `(frame, arguments...)`. A parameter that is a dataclass stands for the options in it, so
that many options stay one argument.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.trouble import DOWN, WRONG_USE, Trouble, is_of_storage, trouble_of

if TYPE_CHECKING:
    from relay.cli.client import Link
    from relay.settings.model import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Config file; else ZEGEL_CONFIG, ./zegel.toml, /etc/zegel/zegel.toml."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What every command is told: which config, and whether a program reads the answer."""

    config: Path | None = None
    as_json: bool = False

    def settings(self) -> Settings:
        """The settings in force. Raises ConfigError with every problem."""
        from relay.settings.load import load

        return load(self.config)

    def link(self) -> Link:
        """A way to run several operations, for `with`."""
        from relay.cli.client import Link

        return Link(self.settings())

    def call(self, op: str, **args: object) -> Any:
        """Run one operation in the running gateway, or here when none runs. What is None is not sent."""
        with self.link() as link:
            return link.call(op, {name: value for name, value in args.items() if value is not None})

    @property
    def may_ask(self) -> bool:
        """A person sits there, and nothing but the answer to her is expected."""
        return not self.as_json and sys.stdin.isatty()

    def confirm(self, question: str) -> None:
        """Ask; "no" ends the command. Raises Trouble where nobody can be asked."""
        if not self.may_ask:
            raise Trouble(WRONG_USE, f"{question} There is nobody to ask here: add --yes")
        typer.confirm(question, abort=True, err=True)


Body = Callable[..., None]


def group(help_text: str) -> typer.Typer:
    """A noun: a group of commands that shows its help when called bare."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )


def command(app: typer.Typer, name: str, *, example: str, prints: bool = True) -> Callable[[Body], Body]:
    """Register a function under `name`; its docstring is the help, `example` the line below it.

    `prints`: it has an answer for --json.
    """

    def register(function: Body) -> Body:
        def run(**given: Any) -> None:
            frame = Frame(given.pop("config"), given.pop("json", False))
            try:
                _require_text(given.values())
                function(frame, **_gather(function, given))
            except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
                raise
            except Exception as error:
                raise typer.Exit(tell(_old_data(frame, error) or trouble_of(error))) from None

        run.__name__ = function.__name__
        run.__signature__ = inspect.Signature(_public(function, prints=prints))  # type: ignore[attr-defined]  # PEP 362
        doc = inspect.cleandoc(function.__doc__ or "")
        app.command(name, help=f"{_plain(doc)}\n\n[bold]Example:[/bold] [cyan]{_plain(example)}[/cyan]")(run)
        return function

    return register


def _require_text(values: Iterable[Any]) -> None:
    """Words of a command line that are UTF-8: nothing else can be looked up, hashed or kept. A path may be any octets."""
    for value in values:
        if isinstance(value, list | tuple):
            _require_text(value)
        elif isinstance(value, str) and not _is_text(value):
            raise Trouble(
                WRONG_USE, f"{value} is not UTF-8: have the terminal, or the program that wrote this word, use UTF-8"
            )


def _is_text(word: str) -> bool:
    """No octet of the command line was left over that is no UTF-8: Python keeps it as half of a surrogate pair."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def _old_data(frame: Frame, error: Exception) -> Trouble | None:
    """What a read failed for where this program is installed and the gateway was not started with it yet."""
    if not is_of_storage(error):
        return None
    from relay.cli.client import as_folder_owner
    from relay.store import migrate

    with contextlib.suppress(Exception):  # then the first trouble is the one to tell
        settings = frame.settings()
        with as_folder_owner(settings.server.data_dir):
            if migrate.is_older(settings.database_path):
                text = "the data is still in the form of the version before: start the gateway (docs/upgrading.md)"
                return Trouble(DOWN, text)
    return None


def tell(trouble: Trouble) -> int:
    """Say it on standard error; answers the exit code."""
    lines = trouble.text.splitlines() or ["no reason was given"]
    for line in lines:
        sys.stderr.write(f"zegel: {_visible(line)}\n")
    return trouble.code


def _visible(text: str) -> str:
    """Without control characters: what strangers wrote must not command a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _hints(target: object) -> dict[str, Any]:
    return typing.get_type_hints(target, include_extras=True)


def _is_options(hint: object) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _public(function: Body, *, prints: bool) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    hints = _hints(function)
    found: list[inspect.Parameter] = []
    for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
        hint = hints[name]
        if _is_options(hint):
            inner = _hints(hint)
            found += [
                inspect.Parameter(field.name, kind, default=field.default, annotation=inner[field.name])
                for field in dataclasses.fields(hint)
            ]
        else:
            found.append(inspect.Parameter(name, kind, default=parameter.default, annotation=hint))
    found.append(inspect.Parameter("config", kind, default=None, annotation=Config))
    if prints:
        found.append(inspect.Parameter("json", kind, default=False, annotation=Json))
    return found


def _gather(function: Body, given: dict[str, Any]) -> dict[str, Any]:
    hints = _hints(function)
    made: dict[str, Any] = {}
    for name in list(inspect.signature(function).parameters)[1:]:
        hint = hints[name]
        if _is_options(hint):
            made[name] = hint(**{field.name: given[field.name] for field in dataclasses.fields(hint)})
        else:
            made[name] = given[name]
    return made
