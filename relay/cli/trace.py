"""`zegel trace`: what happened to a message, or to all mail for one address."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.frame import Frame, command
from relay.cli.output import COLOURS, clean, console, moment, print_json
from relay.cli.trouble import NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.keyring import Keyring
    from relay.settings.model import Settings
    from relay.store.history import Event

MAX_MESSAGES = 200
DECIDERS = {
    "operator": "by the operator",
    "tenant": "by the tenant, over the API",
    "sender": "by its sender, over the link in our letter",
    "time": "nobody decided in time",
    "erasure": "its recipient was erased (GDPR-8)",
}
WAYS = {"split": "a copy for each", "hidden": "recipients hidden", "as_written": "as it was written"}


def add_to(app: typer.Typer) -> None:
    command(app, "trace", example="zegel trace 0R3M7K2QX9T1A")(trace)


def trace(
    frame: Frame,
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|MESSAGE-ID|ADDRESS", help="From a 250 reply, a header, or an address.", show_default=False
        ),
    ],
    *,
    limit: Annotated[int, typer.Option(min=1, max=MAX_MESSAGES, help="At most so many messages, newest first.")] = 20,
) -> None:
    """Tell what happened to a message, or to all mail from or to an address. Exits 1 where nothing is known."""
    messages = find(frame.settings(), what, limit)
    _look_at_the_queue(frame, messages)
    if frame.as_json:
        print_json(messages)
    elif messages:
        for message in reversed(messages):
            _show(message)
    if not messages:
        raise Trouble(
            NO, f"nothing is known of {what}: the delivery log is kept for a limited time (privacy.delivery_log_days)"
        )


def _look_at_the_queue(frame: Frame, messages: list[dict[str, Any]]) -> None:
    """What is in the queue of a running gateway gets `waits`: when it may leave, and why no next host takes it."""
    from relay.cli.client import is_running
    from relay.serve.channel import OpRefused, OpUnavailable

    with contextlib.suppress(OpRefused, OpUnavailable, Trouble, OSError):  # what is written down is shown all the same
        if messages and is_running(frame.settings()):
            with frame.link() as link:
                for message in messages:
                    waits = link.call("queue.waits", {"id": message["id"]})
                    if waits is not None:
                        message["waits"] = waits


def find(settings: Settings, what: str, limit: int) -> list[dict[str, Any]]:
    """`[{"id", "events": [{"at", "event", ...}]}]`, newest message first."""
    from relay.cli.client import as_folder_owner, require_folder
    from relay.keyring import Keyring
    from relay.serve.boot import HISTORY
    from relay.spool.cipher import Cipher
    from relay.spool.item import decode_id, encode_id
    from relay.store import history

    require_folder(settings.server.data_dir)
    with as_folder_owner(settings.server.data_dir):
        keyring = Keyring.open(settings.server.keys_dir, create=False)
        folder = settings.server.data_dir / HISTORY
        number = decode_id(what)
        hashes = [] if number is not None else _hashes(keyring, what)
        if not folder.is_dir():
            return []
        ids = history.find(folder, hashes)[:limit] if number is None else [number]
        cipher = Cipher(keyring.queue_keys, keyring.current_queue_key_id)
        events = history.read(folder, ids, cipher.open)
    found = {number: [event for event in events if event.id == number] for number in ids}
    return [
        {"id": encode_id(number), "events": [_as_json(event) for event in lot]} for number, lot in found.items() if lot
    ]


def _hashes(keyring: Keyring, what: str) -> list[int]:
    from relay.mail.address import narrow
    from relay.trace import who_any

    text = what.strip()
    if text.startswith("<") and text.endswith(">"):
        return who_any(keyring, text)
    if "@" not in text:
        raise Trouble(WRONG_USE, f"{what!r} is no queue id, no Message-ID and no address")
    # Without angle brackets it may be either.
    return who_any(keyring, narrow(text)) + who_any(keyring, f"<{text}>")


def _as_json(event: Event) -> dict[str, Any]:
    return {"at": event.at, "event": event.word, **event.data}


def _show(message: dict[str, Any]) -> None:
    from rich.text import Text

    out = console()
    out.print(Text(message["id"], style="bold"))
    for event in message["events"]:
        head = Text(f"  {moment(event['at'])}  ")
        head.append(event["event"], style=COLOURS.get(event["event"], "bold"))
        out.print(head)
        for line in _lines(event):
            out.print(Text(f"      {clean(line)}"))
    hosts = message.get("waits", {}).get("hosts", ())
    if hosts:
        out.print(Text("  waits: no next host takes mail", style="yellow"))
    for host in hosts:
        said = f"{host['host']}: {host['stage']}: {host['why']}; tried again {_when(host['retry_at'])}"
        out.print(Text(f"      {clean(said)}"))


def _when(at: float) -> str:
    return f"at {moment(at)}" if at > time.time() else "now"


def _lines(event: dict[str, Any]) -> list[str]:
    """One event in words."""
    lines = []
    if "from" in event:
        lines.append(
            f"{event.get('tenant', '')}/{event.get('credential', '')}, {event.get('stream', '')}, {event.get('class', '')}"
        )
        lines.append(f"from <{event['from']}> to {', '.join(f'<{address}>' for address in event.get('rcpt', []))}")
    if event.get("message_id"):
        lines.append(f"Message-ID {event['message_id']}, {event.get('size', 0)} octets")
    lines += [
        f"policy {policy} ({mode}): {action}, {reason}" for policy, mode, action, reason in event.get("policies", [])
    ]
    lines += [f"refused for <{address}>: {reason}" for address, reason in event.get("dropped", [])]
    if event.get("about"):
        lines.append(f"tells of {event['about']}")
    if event.get("report"):
        lines.append(f"the sender was told in {event['report']}")
    if event.get("reason"):
        lines.append(_why(event["reason"], event.get("detail", {})))
    if event.get("by"):
        name = f" ({event['name']})" if event.get("name") else ""
        lines.append(DECIDERS.get(event["by"], event["by"]) + name)
    if event.get("way"):
        lines.append(WAYS.get(event["way"], event["way"]))
    lines += [f"change: {' '.join(filter(None, edit[:2]))} ({edit[-1]})" for edit in event.get("edits", [])]
    if event.get("reply"):
        lines.append(f"reply: {event['reply']}")
    for address, word, status, reply, host in event.get("outcomes", []):
        lines.append(" ".join(filter(None, (f"<{address}>", word, status, reply, host and f"at {host}"))))
    if event.get("due") and event["due"] > event["at"]:
        lines.append(f"next attempt {moment(event['due'])}")
    return lines


def _why(code: str, detail: dict[str, str]) -> str:
    """A code of reasons.toml as people read it: its rule and its sentence."""
    from relay.mail.reply import REASONS

    try:
        reason = REASONS[code]
    except KeyError:  # of another version
        return code
    sentence = reason.sentence("en", detail.items())
    return f"[{reason.rule}] {code if '?' in sentence else sentence}"  # the code, where nobody knows what fills it
