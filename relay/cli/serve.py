"""`zegel serve`: the gateway itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import say
from relay.cli.trouble import DOWN, Trouble

if TYPE_CHECKING:
    from pathlib import Path

    from relay.settings.model import Settings

ANYWHERE = ("0.0.0.0", "::")


def add_to(app: typer.Typer) -> None:
    command(app, "serve", example="zegel serve -c /etc/zegel/zegel.toml", prints=False)(serve)


def serve(frame: Frame) -> None:
    """Run the gateway. SIGTERM drains and ends it, SIGHUP takes in changed settings and certificates."""
    from relay.cli.running import run

    settings = frame.settings()
    check(settings)
    run(settings, greet=_greet, read=lambda: read_again(frame))


def read_again(frame: Frame) -> Settings:
    """The settings as they are now, checked as for a start. Raises SettingsRefused."""
    from relay.cli.trouble import trouble_of
    from relay.serve.renewal import SettingsRefused

    try:
        settings = frame.settings()
        check(settings)
    except Exception as error:
        raise SettingsRefused(trouble_of(error).text.splitlines()) from None
    return settings


def check(settings: Settings) -> None:
    """What would only fail in a child process. Raises CatalogueError, PeerError, KeyringError, Trouble, each with a remedy."""
    from relay.cli.client import keyring_for, require_folder
    from relay.delivery import route
    from relay.policy.catalogue import Catalogue

    require_folder(settings.server.data_dir)
    _refuse_foreign_root(settings.server.data_dir)
    Catalogue.load(settings.policies)
    if settings.delivery.mode == "smarthost":
        route.peers(settings.delivery)
    keyring_for(settings)


def _refuse_foreign_root(data: Path) -> None:
    """As root in somebody else's folder the gateway would leave files there that its owner cannot open."""
    if os.geteuid() == 0 and data.exists() and data.stat().st_uid != 0:
        from relay.cli.client import name_of

        name = name_of(data.stat().st_uid)
        raise Trouble(
            DOWN, f"{data} belongs to {name}: run `zegel serve` as that user, for instance with User={name} in systemd"
        )


def _greet(settings: Settings) -> None:
    for line in places(settings):
        say(line)
    if settings.delivery.mode == "capture":
        say(f"Nothing leaves this machine (delivery.mode = capture): see {outbox_of(settings)}")
    say(f"Ready, process {os.getpid()}. Stop it with Ctrl-C or SIGTERM.")


def outbox_of(settings: Settings) -> str:
    """Where captured mail is to be seen; mostly by this machine only."""
    if settings.web.expose_outbox:
        return f"{settings.web.public_url}/outbox"
    endpoint = settings.web.endpoint
    host = endpoint.host if endpoint.is_loopback else "127.0.0.1"
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}:{endpoint.port}/outbox (for this machine only, unless web.expose_outbox says otherwise)"


def places(settings: Settings) -> list[str]:
    """Where it listens, one line each."""
    words = {"required": "STARTTLS", "opportunistic": "STARTTLS if the client wants", "off": "no TLS"}
    lines = []
    for listener in settings.listener:
        tls = "TLS from the first byte" if listener.kind == "submissions" else words[listener.tls]
        lines.append(f"SMTP {listener.kind:<11} {listener.endpoint} ({tls})")
    return [*lines, f"Web              {settings.web.endpoint}, for people {settings.web.public_url}"]
