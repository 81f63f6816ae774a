"""`zegel demo`: the real gateway on loopback with a made-up shop, and nothing leaves this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import print_json, say
from relay.cli.trouble import DOWN, NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.cli.demo_samples import Told
    from relay.cli.demo_setup import Demo, Login
    from relay.settings.model import Settings

# Beside the packages in a checkout; an installed wheel has no such file and the values below say the same.
CONFIG = Path(__file__).parent.parent.parent / "config" / "demo.toml"
DRAIN_SECONDS = 3.0


def add_to(app: typer.Typer) -> None:
    command(app, "demo", example="zegel demo --samples")(demo)


def demo(
    frame: Frame,
    *,
    samples: Annotated[
        bool, typer.Option("--samples", help="First send one mail for each policy, and tell what happened.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep everything there; default: gone at the end.")
    ] = None,
    smtp_port: Annotated[int, typer.Option(min=1, max=65_535, help="SMTP on 127.0.0.1.")] = 2525,
    web_port: Annotated[int, typer.Option(min=1, max=65_535, help="Pages on 127.0.0.1.")] = 8025,
    exit_: Annotated[
        bool, typer.Option("--exit", help="With --samples: leave when they are told; 0 if all went as expected.")
    ] = False,
) -> None:
    """Run the gateway with a made-up shop and ready commands to try; see what would have left at /outbox.

    --json (with --samples) prints what became of each sample and leaves, as --exit does.
    """
    if frame.config is not None:
        raise Trouble(WRONG_USE, "the demo has a config of its own: leave out -c")
    if (exit_ or frame.as_json) and not samples:
        raise Trouble(WRONG_USE, "--exit and --json tell of the samples: add --samples")
    with _folder(data) as folder:
        told = _Run(frame, leaves=exit_ or frame.as_json).run(
            _settings(folder, smtp_port, web_port), folder, samples=samples
        )
    if told is not None and not all(one.as_expected for one in told):
        raise typer.Exit(NO)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield kept.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="zegel-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _settings(folder: Path, smtp_port: int, web_port: int) -> Settings:
    """config/demo.toml with folders and ports of this run, written beside the data so that other commands can use it."""
    from relay.cli.demo_setup import config_text
    from relay.settings.load import load

    own = {
        "server.data_dir": folder / "data",
        "server.keys_dir": folder / "keys",
        "server.workers": 1,
        "server.log_level": "warning",  # a newcomer's first lines are not JSON
        "server.drain_timeout_seconds": DRAIN_SECONDS,
        "limits.max_connections": 500,  # within what any machine lets one program open
        "listener": [{"kind": "submission", "address": f"127.0.0.1:{smtp_port}", "tls": "off"}],
        "web.address": f"127.0.0.1:{web_port}",
        "web.public_url": f"http://127.0.0.1:{web_port}",
        "delivery.mode": "capture",
    }
    if not CONFIG.is_file():
        own["server.language"] = "en"
    settings = load(CONFIG if CONFIG.is_file() else Path(os.devnull), environment={}, overrides=own)
    (folder / "zegel.toml").write_text(config_text(settings), encoding="utf-8")
    return settings


class _Run:
    """One demo, from the set-up to the end of the gateway."""

    def __init__(self, frame: Frame, *, leaves: bool) -> None:
        self._frame = frame
        self._leaves = leaves
        self._told: list[Told] | None = None

    def run(self, settings: Settings, folder: Path, *, samples: bool) -> list[Told] | None:
        """What became of the samples; None without them, or where the demo was stopped before."""
        from relay.cli import demo_samples, running
        from relay.cli.client import is_running
        from relay.cli.demo_setup import provide

        if is_running(settings):
            raise Trouble(DOWN, f"a demo runs in {folder} already: stop it, or choose another --data")
        demo = provide(settings, folder)
        club = demo_samples.make_club(demo) if samples else None
        running.run(
            settings,
            greet=lambda ready: self._greet(demo),
            meanwhile=None if club is None else lambda: self._samples(demo, club),
        )
        if samples and self._leaves and self._told is None:
            raise Trouble(DOWN, "the demo was stopped before the samples were told")
        return self._told if self._leaves else None

    def _greet(self, demo: Demo) -> None:
        if not self._leaves:
            say(*demo.welcome())

    def _samples(self, demo: Demo, club: Login) -> bool:
        """In a thread beside the gateway. True: the gateway may end."""
        from relay.cli.demo_samples import run_samples, show

        self._told = run_samples(demo, club)
        if self._frame.as_json:
            print_json([one.as_json() for one in self._told])
        else:
            show(self._told, demo)
            if not self._leaves:
                say("", f"Look at them at {demo.settings.web.public_url}/outbox. Stop with Ctrl-C.")
        return self._leaves
