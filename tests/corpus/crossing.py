"""Sends specimens through a real gateway and keeps, for each, the answer, what the trace says and what the sink got."""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Iterable
from typing import NamedTuple

from tests.clients.gateway import Gateway
from tests.clients.sink import Sink
from tests.corpus.explain import Change
from tests.corpus.sources import Specimen

SENDER = "jan@sender.example"
SETTLE_SECONDS = 120.0
_QUEUED = re.compile(rb"queued as (\w{13})")


class Sent(NamedTuple):
    """What became of one specimen. `queue_id` is "" where it was refused; `left` is b"" where nothing reached the sink."""

    specimen: Specimen
    recipient: str
    reply: str
    queue_id: str = ""
    changes: tuple[Change, ...] = ()
    word: str = ""  # of the last event: finished, held
    statuses: tuple[str, ...] = ()
    on_the_way: tuple[Change, ...] = ()  # what the trace of the delivery tells
    left: bytes = b""


def recipients(count: int) -> list[str]:
    """The addresses that `send` uses."""
    return [f"m{number}@receiver.example" for number in range(count)]


def send(gateway: Gateway, login: str, specimens: Iterable[Specimen]) -> list[Sent]:
    """Hand each one in, over one connection; the answers."""
    result = []
    with smtplib.SMTP("127.0.0.1", gateway.plain, timeout=60) as client:
        client.login(*gateway.logins[login])
        for number, specimen in enumerate(specimens):
            recipient = f"m{number}@receiver.example"
            code, text = _one(client, specimen, recipient)
            found = _QUEUED.search(text) if code == 250 else None
            reply = f"{code} {text.decode()}"
            result.append(Sent(specimen, recipient, reply, found[1].decode() if found else ""))
    return result


def _one(client: smtplib.SMTP, specimen: Specimen, recipient: str) -> tuple[int, bytes]:
    raw = specimen.raw
    options = ["SMTPUTF8"] if specimen.utf8 else []
    if not raw.isascii():
        options.append("BODY=8BITMIME")
    for code, text in (client.mail(SENDER, options), client.rcpt(recipient)):
        if code != 250:
            client.rset()
            return code, text
    if raw.endswith(b"\r\n"):
        return client.data(raw)
    client.send(b"BDAT %d LAST\r\n" % len(raw) + raw)  # DATA could not say that the last line has no end
    return client.getreply()


def follow(gateway: Gateway, sink: Sink, sent: list[Sent]) -> list[Sent]:
    """The same with trace and outcome, when every message is out of the queue or held. Refused ones are left out."""
    accepted = [one for one in sent if one.queue_id]
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        events = gateway.history([one.queue_id for one in accepted])
        words = {event.id: event for event in events if event.word in ("finished", "held")}
        if len(words) == len(accepted):
            break
        assert time.monotonic() < until, f"{len(accepted) - len(words)} of {len(accepted)} messages are still waiting"
        time.sleep(0.2)  # the log is written twice a second
    copies = [one for one in sink.all() if one.sender]  # the rest are reports and notices to the sender
    left = {one.recipients[0]: one.content for one in copies}
    assert len(left) == len(copies), "something was delivered twice"
    began = {event.id: event for event in events if event.word in ("accepted", "held")}
    result = []
    for one, number in zip(accepted, _numbers(accepted), strict=True):
        changes = tuple(Change(*edit) for edit in began[number].data.get("edits", ()))
        statuses = tuple(row[2] for row in words[number].data.get("outcomes", ()))
        later = tuple(Change(*edit) for edit in words[number].data.get("edits", ()))
        content = left.get(one.recipient, b"")
        result.append(
            one._replace(changes=changes, word=words[number].word, statuses=statuses, on_the_way=later, left=content)
        )
    return result


def _numbers(sent: list[Sent]) -> list[int]:
    from relay.spool.item import decode_id

    return [decode_id(one.queue_id) or 0 for one in sent]
