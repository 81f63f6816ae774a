"""A job for tests: fixed bytes, and it remembers what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Deferred, Failed, Outcome
from relay.mail.envelope import Recipient

HEAD = b"From: News <news@shop.example>\r\nSubject: Hello\r\nMessage-ID: <1@shop.example>\r\n\r\n"
BODY = b"Dear reader,\r\n.hidden line\r\nbye\r\n"


class Letter:
    """Implements `relay.delivery.job.Job`."""

    def __init__(
        self,
        recipients: Sequence[str | Recipient] = ("ann@dest.example",),
        mail_from: str = "news@shop.example",
        *,
        body: bytes = BODY,
        is_ascii: bool = True,
        answer: Deferred | Failed | Exception | None = None,
    ) -> None:
        self.mail_from = mail_from
        self.recipients = [r if isinstance(r, Recipient) else Recipient(r) for r in recipients]
        self.ret = ""
        self.envid = ""
        self.smtputf8 = False
        self.body = body
        self.is_ascii = is_ascii
        self.answer = answer
        self.seen: list[Features] = []
        self.outcomes: list[Outcome] | None = None
        self.answered = asyncio.Event()
        self.on_done: Callable[[], None] = lambda: None

    @property
    def raw(self) -> bytes:
        return HEAD + self.body

    def render(self, features: Features) -> Rendered | Deferred | Failed:
        self.seen.append(features)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or Rendered(HEAD, memoryview(self.body), self.is_ascii)

    def done(self, outcomes: list[Outcome]) -> None:
        assert self.outcomes is None, "done was called twice"
        assert len(outcomes) == len(self.recipients)
        self.outcomes = outcomes
        self.answered.set()
        self.on_done()
