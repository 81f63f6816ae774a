"""Puts many messages into a gateway's queue before it starts, through the gateway's own queue files."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from typing import TYPE_CHECKING

from bench.packages import Unavailable
from relay.cli.bench_ground import Ground, newsletter, recipient
from relay.clock import SystemClock
from relay.enqueue import make_item
from relay.mail.envelope import Recipient
from relay.mail.message import Message
from relay.policy.ruling import Ruling
from relay.serve.boot import QUEUE
from relay.settings.model import Settings
from relay.spool.files import QueueFiles

if TYPE_CHECKING:
    from bench.gateway import Gateway

MESSAGE_BYTES = 1_024
AT_A_TIME = 256  # one transaction of the queue's writer
ADOPT_SECONDS = 120.0
_WAITING = re.compile(r'^zegel_queue_messages\{[^}]*state="(?:ready|waiting)"[^}]*\} ([0-9.e+]+)$', re.MULTILINE)


def fill(gateway: Gateway, count: int, *, due: float) -> None:
    """Queue `count` small newsletters of the gateway's first tenant, to be sent from `due` (epoch seconds) on.

    The gateway is prepared and does not run. Takes some 60 seconds a million.
    """
    server = {"data_dir": str(gateway.folder / "data"), "keys_dir": str(gateway.folder / "keys")}
    settings = Settings.model_validate_json(json.dumps({"server": server}))
    ground = Ground.open(settings, gateway.tenants[0].logins["marketing"].username)
    everyone = (Recipient(recipient(0)),)
    message = Message.split(newsletter(MESSAGE_BYTES))
    assert isinstance(message, Message)
    ruling = ground.intake.judge(ground.submission(everyone, message))
    if not ruling.passes:
        raise Unavailable(f"the message to fill the queue with is refused: {ruling.reason}")
    asyncio.run(_fill(ground, ruling, count, due))


async def _fill(ground: Ground, ruling: Ruling, count: int, due: float) -> None:
    folder = ground.settings.server.data_dir / QUEUE
    queue = QueueFiles(folder, ground.cipher, SystemClock(), on_work=lambda: None)
    await queue.start()
    for at in range(0, count, AT_A_TIME):
        commits = []
        for number in range(at, min(count, at + AT_A_TIME)):
            item = make_item(queue.next_id(), ruling, ground.intake.house)
            item.meta["rcpt"] = [[recipient(number), (), ""]]
            item.due = due
            commits.append(queue.commit(item))
        await asyncio.gather(*commits)
    await queue.stop()


def waiting(gateway: Gateway) -> int:
    """Messages in the queue of the running gateway, from its own metrics."""
    assert gateway.ports is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.ports.web}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return int(sum(float(value) for value in _WAITING.findall(text)))


def wait_adopted(gateway: Gateway, count: int) -> float:
    """Return when the started gateway has at least `count` messages in its queue; the seconds it took."""
    began = time.monotonic()
    while (there := waiting(gateway)) < count:
        if time.monotonic() - began > ADOPT_SECONDS:
            raise Unavailable(f"{there:,} of {count:,} queued messages were taken up after {ADOPT_SECONDS:.0f} s")
        time.sleep(0.25)
    return time.monotonic() - began
