"""Alarms to people: into the log always, by mail through our own queue and by webhook where the operator asked for it.

All that changes at one look goes into one letter. Each way has a short line of its own, so that one that is away holds up
none of the others; what cannot be told after the last try is counted and logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import orjson

from relay.clock import Clock, SystemClock
from relay.mail.domain import with_a_labels
from relay.mail.edits import field
from relay.mail.message import join_head
from relay.mail.received import rfc5322_date
from relay.mail.words import encode_words
from relay.observe import events, metrics
from relay.observe.alarms import Alarms, Change
from relay.observe.log import log
from relay.observe.registry import Snapshot
from relay.serve.aside import aside
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.webhook import TIMEOUT_SECONDS, Away, Refused, post
from relay.settings.load import secret
from relay.settings.model import Settings
from relay.smtp.desk import place_of

LOOK_SECONDS = 15.0
PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0)
"""Between one try and the next, in seconds."""
MOST_LETTERS = 100
STOPPED = "the gateway stops"
RUNBOOK = "docs/operating.md#"

Submit = Callable[[dict[str, Any]], Awaitable[object]]
Tell = Callable[["Letter"], Awaitable[None]]


class Letter(NamedTuple):
    """What is told at once. `id` is the same for every try and way."""

    id: str
    at: float
    host: str
    changes: tuple[Change, ...]

    @property
    def subject(self) -> str:
        """One line: the gravest of what began or goes on, else what is over."""
        changes = sorted(self.changes, key=lambda change: (change.state == "over", change.condition.severity))
        first = changes[0]
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        word = "over" if first.state == "over" else first.condition.severity
        return f"[{self.host}] {word}: {first.condition.says}{more}"

    def as_json(self) -> bytes:
        alarms = [
            {
                "alarm": change.condition.name,
                "labels": change.labels,
                "severity": change.condition.severity,
                "state": change.state,
                "says": change.condition.says,
                "value": change.value,
                "since": change.since,
                "times": change.times,
                "runbook": RUNBOOK + change.condition.name.lower(),
            }
            for change in self.changes
        ]
        return orjson.dumps({"id": self.id, "at": self.at, "gateway": self.host, "alarms": alarms})

    def as_mail(self, recipient: str) -> str:
        """A whole message, which no out-of-office answers."""
        lines = []
        for change in self.changes:
            again = f", {change.times} more times since the last letter about it" if change.times else ""
            of = f" ({change.labels})" if change.labels else ""
            lines += [f"{change.state}, {change.condition.severity}: {change.condition.says}{of}", ""]
            lines += [f"    {change.condition.name} since {_moment(change.since)}, value {change.value:g}{again}"]
            lines += [f"    What it means and what to do: {RUNBOOK}{change.condition.name.lower()}", ""]
        fields = [
            field("From", f"Zegel <postmaster@{self.host}>"),
            field("To", f"<{with_a_labels(recipient)}>"),
            field("Subject", encode_words(self.subject)),
            field("Date", rfc5322_date(int(self.at))),
            field("Message-ID", f"<{self.id}.{secrets.token_hex(4)}@{self.host}>"),
            field("Auto-Submitted", "auto-generated"),
            field("MIME-Version", "1.0"),
            field("Content-Type", "text/plain; charset=utf-8"),
            field("Content-Transfer-Encoding", "8bit"),
        ]
        return (join_head(fields) + "\r\n".join(lines).encode() + b"\r\n").decode()


class Line:
    """Letters that wait for one way to one reader."""

    def __init__(self, way: str, tell: Tell) -> None:
        self.way = way
        self.tell = tell
        self.letters: asyncio.Queue[Letter] = asyncio.Queue(MOST_LETTERS)


class Bell:
    """Call `watch` once. `numbers` are those of the whole gateway, `submit` takes a mail of our own (worker.submit)."""

    def __init__(
        self, settings: Settings, numbers: Callable[[], Snapshot], submit: Submit, *, clock: Clock | None = None
    ) -> None:
        self._settings = settings.alarms
        self._host = settings.server.hostname
        self._numbers = numbers
        self._submit = submit
        self._clock = clock or SystemClock()
        self._alarms = Alarms(settings.alarms.repeat_hours * 3600)
        self._lines = [Line("mail", partial(self._mail, address)) for address in settings.alarms.mail_to]
        if settings.alarms.webhook_url:
            self._lines.append(Line("webhook", self._post))

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look and tell until the gateway stops."""
        try:
            async with asyncio.TaskGroup() as tasks:
                carriers = [tasks.create_task(self._carry(line)) for line in self._lines]
                while not stopping.is_set():
                    try:
                        self.look()
                    except Exception as error:  # who looks must go on looking, or nobody hears of anything any more
                        _crashed(error)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await stopping.wait()
                for carrier in carriers:
                    carrier.cancel()
        finally:
            for line in self._lines:
                while not line.letters.empty():
                    _lost(line, line.letters.get_nowait(), STOPPED)

    def look(self) -> None:
        """Judge the numbers of now; what changed goes into the log and into every line."""
        now = self._clock.now()
        changes = self._alarms.look(now, self._numbers())
        for change in changes:
            name, severity = change.condition.name, change.condition.severity
            event = events.ALARM_ENDED if change.state == "over" else events.ALARM_RAISED
            log.warning(event, alarm=name, severity=severity, state=change.state, labels=change.labels)
        if changes:
            letter = Letter(secrets.token_hex(8), now, self._host, tuple(changes))
            for line in self._lines:
                if line.letters.full():
                    _lost(line, line.letters.get_nowait(), "too many wait")
                line.letters.put_nowait(letter)

    async def _carry(self, line: Line) -> None:
        while True:
            letter = await line.letters.get()
            try:
                await self.tell(line, letter)
            except asyncio.CancelledError:
                _lost(line, letter, STOPPED)
                raise
            except Exception as error:  # a bug in one letter must not end the line
                _crashed(error)
                _lost(line, letter, type(error).__name__)

    async def tell(self, line: Line, letter: Letter, pauses: Sequence[float] = PAUSES) -> None:
        """Try until it is told, refused, or tried for the last time."""
        why = ""
        for pause in (*pauses, 0.0):
            try:
                await line.tell(letter)
            except Refused as error:
                why = str(error)
                break
            except (Away, OpRefused, OpUnavailable) as error:
                why = str(error) if isinstance(error, Away) else type(error).__name__
                await asyncio.sleep(pause)
            else:
                if line.way != "mail":  # that is in our own queue now: whoever delivers it counts it
                    metrics.ALARMS.inc((line.way, "told"))
                return
        _lost(line, letter, why)

    async def _post(self, letter: Letter) -> None:
        file, at = self._settings.webhook_secret_file, int(self._clock.now())
        assert file is not None

        def send() -> None:
            try:
                key = secret(file)
            except OSError as error:
                raise Away(type(error).__name__) from None
            post(self._settings.webhook_url, key, letter.as_json(), at=at, key=letter.id)

        await aside(send, 3 * TIMEOUT_SECONDS)

    async def _mail(self, recipient: str, letter: Letter) -> None:
        raw = letter.as_mail(recipient)
        nobody = {"id": 0, "name": ""}  # of the house, and of no tenant
        await self._submit(
            {
                "tenant": nobody,
                "recipient": recipient,
                "language": "en",
                "domain": self._host,
                "raw": raw,
                "alarm": True,
            }
        )


def _lost(line: Line, letter: Letter, why: str) -> None:
    metrics.ALARMS.inc((line.way, "lost"))
    log.error(events.ALARM_DROPPED, way=line.way, why=why, alarms=[change.condition.name for change in letter.changes])


def _crashed(error: Exception) -> None:
    metrics.CRASHES.inc(("supervisor",))
    log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
