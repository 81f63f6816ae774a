"""Events to the marketing tools of tenants (GDPR-25): signed, in order for each person, tried for three days.

Theory of operation. The rows are written with the change itself (relay.owner.hook_events), so a gateway that dies loses none:
what was sent and not yet noted goes again with the same event id. Each webhook is a line of its own. It takes a batch, of each
person the oldest event only, sends some at once, notes what became of all of them in one commit, and takes the next. A line
whose receiver failed or is slow sends one at a time, and rests between two tries, so that it costs the others nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from relay.clock import Clock, SystemClock
from relay.keyring import Keyring
from relay.observe import events, metrics, webhook_metrics
from relay.observe.log import log
from relay.owner.hook_events import unseal
from relay.owner.webhooks import place_of_secret
from relay.serve.aside import aside
from relay.serve.channel import OpRefused, OpUnavailable
from relay.serve.safe_http import TOTAL_SECONDS, Request, post
from relay.serve.webhook import Away, Refused, signature
from relay.settings.endpoint import Networks
from relay.settings.model import Settings
from relay.smtp.desk import place_of
from relay.store.restored import is_waiting

LOOK_SECONDS = 0.5
MEASURE_SECONDS = 30.0
BATCH = 40
WIDTH = 4
"""Of one line at once."""
MOST_POSTS = 256
"""Of all lines at once: a bound for descriptors, since lines that are slow or away take one each."""
SLOW_SECONDS = 3.0
PAUSES = (2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Between two tries at a receiver that was away, in seconds; the last one repeats."""
REFUSALS = 10
"""In a row, after which a receiver that answers 3xx or 4xx rests as well."""
NOTE_AGAIN_SECONDS = 2.0
UNREADABLE = "its key is gone: remove the webhook and make it again"
Op = Callable[[str, dict[str, Any]], Awaitable[Any]]
Post = Callable[[Request, Networks], None]


class Line:
    """One webhook of a tenant."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        self.failures = 0  # in a row
        self.away = 0  # of these, those after which it rests
        self.is_slow = False
        self.next_at = 0.0
        self.task: asyncio.Task[None] | None = None

    @property
    def where(self) -> dict[str, str]:
        return {"tenant": self.row["tenant"], "webhook": self.row["name"]}

    def renew(self, row: dict[str, Any]) -> None:
        """Take in how it is now; who asks for a try now gets one."""
        if row["called_at"] != self.row["called_at"]:
            self.next_at = 0.0
        self.row = row


class Hooks:
    """Call `watch` once. `op` runs an operation of the owner; `keyring` tells the keys in force."""

    def __init__(
        self,
        settings: Settings,
        op: Op,
        keyring: Callable[[], Keyring],
        *,
        clock: Clock | None = None,
        post: Post = post,
    ) -> None:
        self.settings = settings
        self._op = op
        self._keyring = keyring
        self._clock = clock or SystemClock()
        self._post = post
        self._lines: dict[int, Line] = {}
        self._room = asyncio.Semaphore(MOST_POSTS)
        self._measured_at = float("-inf")
        self._tenants: set[str] = set()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Look and send until the gateway stops."""
        try:
            while not stopping.is_set():
                try:
                    await self.look()
                except (OpRefused, OpUnavailable):
                    pass  # the database is not to be had, which others say
                except Exception as error:  # who looks must go on looking
                    _crashed(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await stopping.wait()
        finally:
            for task in self._running():
                task.cancel()

    async def look(self) -> None:
        """Once: every line that has something to send, and does not rest, begins."""
        if is_waiting(self.settings.server.data_dir):
            return  # a restore: what was told since its backup is not known, so nobody is told what may be undone by now
        now = self._clock.monotonic()
        if now - self._measured_at >= MEASURE_SECONDS:
            await self._measure()
            self._measured_at = now
        rows = {row["hook"]: row for row in await self._op("webhook.lines", {})}
        for number in [number for number, line in self._lines.items() if number not in rows and line.task is None]:
            del self._lines[number]
        for number, row in rows.items():
            line = self._lines.setdefault(number, Line(row))
            line.renew(row)
            if line.task is None and now >= line.next_at:
                line.task = asyncio.get_running_loop().create_task(self._run(line))

    async def settled(self) -> None:
        """Wait until every line that has begun rests or has nothing to send."""
        while tasks := self._running():
            await asyncio.wait(tasks)

    def _running(self) -> list[asyncio.Task[None]]:
        return [line.task for line in self._lines.values() if line.task is not None]

    async def _run(self, line: Line) -> None:
        """One batch after the other, until nothing is due or the receiver fails."""
        try:
            while True:
                limit = 1 if line.away else BATCH
                rows = await self._op("webhook.heads", {"hook": line.row["hook"], "limit": limit})
                if not rows:
                    return
                await self._send(line, rows)
                if line.away:
                    line.next_at = self._clock.monotonic() + PAUSES[min(line.away, len(PAUSES)) - 1]
                    return
        except (OpRefused, OpUnavailable):
            line.next_at = self._clock.monotonic() + NOTE_AGAIN_SECONDS
        except Exception as error:  # a bug in one line ends neither the others nor this one for ever
            line.next_at = self._clock.monotonic() + PAUSES[-1]
            _crashed(error)
        finally:
            line.task = None

    async def _send(self, line: Line, rows: list[dict[str, Any]]) -> None:
        """Each of them, some at once, until the receiver is found to be away; then note what became of them."""
        secrets = [self._secret(line, sealed) for sealed in line.row["secrets"]]
        queue, told, failed = list(reversed(rows)), [], []

        async def carry() -> None:
            while queue and not line.away:
                row = queue.pop()
                why = await self._tell(line, row, [secret for secret in secrets if secret])
                if why:
                    failed.append({"id": row["id"], "why": why})
                else:
                    told.append({"id": row["id"]})

        was = line.away
        line.away = 0
        width = 1 if was or line.is_slow else WIDTH
        await asyncio.gather(*(carry() for _ in range(min(width, len(rows)))))
        if line.away:
            line.away = was + 1
            if not was:
                log.warning(events.WEBHOOK_FAILED, kind=failed[-1]["why"], **line.where)
        elif was:
            log.info(events.WEBHOOK_RECOVERED, **line.where)
        await self._note(line, {"told": told, "failed": failed, "away": bool(line.away)})

    async def _tell(self, line: Line, row: dict[str, Any], secrets: list[str]) -> str:
        """Why it was not taken; "" where it was."""
        body = unseal(self._keyring(), row["event_id"], bytes.fromhex(row["body"]))
        if body is None or not secrets:
            line.away += 1
            return UNREADABLE
        at = int(self._clock.now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "zegel",
            "Idempotency-Key": row["event_id"],
            "X-Zegel-Signature": signatures(secrets, at, body),
        }
        request, allowed = Request(line.row["url"], headers, body), Networks(self.settings.webhooks.allowed_networks)
        began = asyncio.get_running_loop().time()
        try:
            async with self._room:
                # The thread ends by itself at its deadline; only a name server can keep it, and then it sends nothing.
                await aside(lambda: self._post(request, allowed), TOTAL_SECONDS + 5.0)
        except (Away, Refused) as error:
            line.failures += 1
            if isinstance(error, Away) or line.failures >= REFUSALS:
                line.away += 1
            return str(error)
        finally:
            line.is_slow = asyncio.get_running_loop().time() - began > SLOW_SECONDS
        line.failures = 0
        return ""

    def _secret(self, line: Line, sealed: str) -> str:
        plain = unseal(self._keyring(), place_of_secret(line.row["tenant"], line.row["name"]), bytes.fromhex(sealed))
        return "" if plain is None else plain.decode()

    async def _note(self, line: Line, outcome: dict[str, Any]) -> None:
        """Until it is noted: what was taken must not be sent again and again because our database is full."""
        while True:
            try:
                answer = await self._op("webhook.settle", {"hook": line.row["hook"], **outcome})
                break
            except (OpRefused, OpUnavailable):
                await asyncio.sleep(NOTE_AGAIN_SECONDS)
        webhook_metrics.TRIES.inc(("delivered",), len(outcome["told"]))
        webhook_metrics.TRIES.inc(("failed",), len(outcome["failed"]))
        if answer["dead"]:
            webhook_metrics.TRIES.inc(("dead",), answer["dead"])
            log.error(events.WEBHOOK_ABANDONED, count=answer["dead"], **line.where)

    async def _measure(self) -> None:
        """By tenant; one that has no webhook any more reads 0."""
        figures: dict[str, list[float]] = {tenant: [0, 0, 0] for tenant in self._tenants}
        now = self._clock.now()
        for row in await self._op("webhook.figures", {}):
            sums = figures.setdefault(row["tenant"], [0, 0, 0])
            sums[0] += row["waiting"]
            sums[1] += row["dead"]
            sums[2] = max(sums[2], now - row["oldest_at"] if row["oldest_at"] else 0.0)
        for tenant, (waiting, dead, oldest) in figures.items():
            webhook_metrics.WAITING.set(waiting, (tenant,))
            webhook_metrics.DEAD.set(dead, (tenant,))
            webhook_metrics.OLDEST.set(oldest, (tenant,))
        self._tenants = set(figures)


def signatures(secrets: list[str], at: int, body: bytes) -> str:
    """The value of X-Zegel-Signature: one v1 for each secret that is valid now, the newest first."""
    first, *rest = (signature(secret, at, body) for secret in secrets)
    return ",".join([first, *(each.partition(",")[2] for each in rest)])


def _crashed(error: Exception) -> None:
    metrics.CRASHES.inc(("supervisor",))
    log.error(events.SUPERVISOR_CRASHED, kind=type(error).__name__, place=place_of(error))
