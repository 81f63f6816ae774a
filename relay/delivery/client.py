"""Transactions over one ready SMTP session, without I/O: jobs in, bytes out, replies in, outcomes out.

Theory of operation. `_expected` is the queue of commands that were written and not yet answered; each reply
answers its head. With PIPELINING (RFC 2920) MAIL, every RCPT and DATA leave in one write, and the content of
one message with its final dot shares a write with the next message's MAIL, RCPT and DATA, so a busy stream
costs one round trip per message. Without it one command waits for the reply to the one before.

Two transactions at most are open: one whose content is out and one that has got as far as DATA. A reply that
answers nothing, and one that comes before its command was written, end the session (`Broken`): from there on
it would be a guess which message an answer belongs to. Whatever ends the session, `lost` gives every open
recipient its outcome; only a message whose final dot went out is in doubt (OUT-10).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from relay.delivery.commands import Lines, lines_for, rcpt_path
from relay.delivery.content import Content, prepare
from relay.delivery.job import Features, Job, Rendered
from relay.delivery.outcome import Deferred, Failed, Outcome, Scope, Stage, ends_session, judge
from relay.delivery.replies import BadReply, Reply, ReplyReader

__all__ = ["Broken", "Client", "Features", "Job", "Rendered", "Source"]

_MAIL, _RCPT, _DATA, _DOT, _RSET = Stage


class Broken(Exception):
    """The session is over. `why` is safe to log; `reply` is the peer's last word, if it was one."""

    def __init__(self, why: str, reply: Reply | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.reply = reply


class Source(NamedTuple):
    """Where jobs come from. `take(ahead)`: `ahead` while another message is still on its way. `crashed` hears of bugs."""

    take: Callable[[bool], Job | None]
    crashed: Callable[[Exception], None]


class _Transaction:
    """One job on its way. `outcomes[i]` is None while recipient i waits; `answer` holds for all who wait."""

    __slots__ = ("accepted", "content", "dot_sent", "job", "mail_ok", "outcomes", "todo")

    def __init__(self, job: Job, content: Content, outcomes: list[Outcome | None]) -> None:
        self.job = job
        self.content = content
        self.outcomes = outcomes
        self.accepted = 0
        self.mail_ok = False
        self.dot_sent = False
        self.todo: Iterator[tuple[Stage, int, bytes]] = iter(())


class Client:
    """One session's transactions. After each call write `out` and empty it; while `streaming`, call `pump` for more."""

    __slots__ = (
        "_expected",
        "_open",
        "_reader",
        "_source",
        "_stream",
        "_unclean",
        "begun",
        "features",
        "host",
        "out",
        "settled",
    )

    def __init__(self, features: Features, host: str, source: Source) -> None:
        self.features = features
        self.host = host
        self.out: list[bytes] = []
        self.begun = 0  # transactions that were begun on this session
        self.settled = 0  # of these, the ones that the peer answered and went on
        self._source = source
        self._reader = ReplyReader()
        self._expected: deque[tuple[Stage, _Transaction | None, int]] = deque()
        self._open: deque[_Transaction] = deque()
        self._stream: Iterator[bytes] | None = None
        self._unclean = False  # a transaction ended before its dot: RSET before the next MAIL

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return not self._expected and self._stream is None

    @property
    def carries(self) -> bool:
        """A message is on this session whose outcome is not known."""
        return bool(self._open)

    @property
    def streaming(self) -> bool:
        """A large content is being written piece by piece."""
        return self._stream is not None

    @property
    def awaits(self) -> Stage | None:
        """What the next reply answers; None while idle or streaming."""
        return self._expected[0][0] if self._expected else None

    def kick(self) -> bool:
        """Begin the next job if idle. False: there was none. True with `idle` still set: it ended here; kick again."""
        return self.idle and self._begin(ahead=False)

    def receive(self, data: bytes) -> bool:
        """Take bytes from the peer; whether a whole reply was among them. Raises Broken; then call `lost` and close."""
        expected = self._expected
        written = len(expected)
        was_streaming = self._stream is not None
        try:
            replies = self._reader.feed(data)
        except BadReply as bad:
            raise Broken(f"no SMTP reply: {bad}") from None
        for reply in replies:
            if not written:
                self._unasked(reply)
            written -= 1
            stage, transaction, index = expected.popleft()
            if transaction is None:
                self._on_reset(reply)
            else:
                _ANSWERS[stage](self, transaction, reply, index)
        if not written and self._reader.is_partial and not was_streaming:
            self._unasked(None)
        return bool(replies)

    def pump(self) -> None:
        """Put the next piece of a large content into `out`; after the last one the next job may follow."""
        if self._stream is None:
            return
        piece = next(self._stream, None)
        if piece is not None:
            self.out.append(piece)
            return
        self._stream = None
        self._close_content(self._open[0])

    def lost(self, why: str, reply: Reply | None = None) -> None:
        """The session is gone: give every open recipient its outcome. May be called again; then nothing is left to do."""
        begun = self._open[0] if self._stream is not None else None
        unwritten = [id(piece) for piece in self.out]
        self.out.clear()
        self._stream = None
        self._expected.clear()
        while self._open:
            transaction = self._open.popleft()
            if reply is not None and ends_session(reply) and not transaction.dot_sent:
                outcome = judge(reply, self.host, _MAIL)
            elif transaction.dot_sent and id(transaction.content.small) not in unwritten:
                outcome = Deferred("4.4.2", f"{why}, after the message was sent", self.host, doubt=True)
            else:
                scope = Scope.MESSAGE if transaction is begun else Scope.HOST
                outcome = Deferred("4.4.2", why, self.host, scope=scope)
            self._report(transaction, outcome)

    # Beginning a transaction

    def _begin(self, *, ahead: bool) -> bool:
        job = self._source.take(ahead)
        if job is None:
            return False
        self.begun += 1
        outcomes: list[Outcome | None] = [None] * len(job.recipients)
        content = self._render(job)
        if not isinstance(content, Content):
            self._tell(job, self._unmade(job, content))
            return True
        lines = lines_for(job, content, self.features, host=self.host)
        if isinstance(lines, Failed):
            self._tell(job, [lines for _ in outcomes])
            return True
        for index, refusal in lines.refused:
            outcomes[index] = refusal
        transaction = _Transaction(job, content, outcomes)
        if not lines.asked:
            self._report(transaction, Failed("5.1.3", "no recipients", self.host))
            return True
        self._open.append(transaction)
        if self.features.pipelining:
            self._write_all(transaction, lines)
        else:
            transaction.todo = self._one_by_one(lines)
            self._write_next(transaction)
        return True

    def _render(self, job: Job) -> Content | Deferred | Failed:
        try:
            rendered = job.render(self.features)
        except Exception as bug:  # the mail waits and somebody hears of it; no text of ours reaches the report
            self._source.crashed(bug)
            return Deferred("4.3.0", "the message could not be prepared", self.host)
        if isinstance(rendered, (Deferred, Failed)):
            return rendered
        return prepare(rendered) or Failed("5.6.0", "bare CR or LF in the message", self.host)

    def _unmade(self, job: Job, why: Deferred | Failed) -> list[Outcome]:
        """There is no copy for this peer. Whose address has no way either is told of that: another copy would not help."""
        if isinstance(why, Deferred):
            return [why for _ in job.recipients]
        paths = [rcpt_path(recipient.address, self.features, self.host) for recipient in job.recipients]
        return [path if isinstance(path, Failed) else why for path in paths]

    def _write_all(self, transaction: _Transaction, lines: Lines) -> None:
        expect = self._expected.append
        if self._unclean:
            self._reset()
        self.out.append(lines.mail)
        expect((_MAIL, transaction, 0))
        self.out += lines.rcpt
        for index in lines.asked:
            expect((_RCPT, transaction, index))
        self.out.append(b"DATA\r\n")
        expect((_DATA, transaction, 0))

    def _one_by_one(self, lines: Lines) -> Iterator[tuple[Stage, int, bytes]]:
        yield _MAIL, 0, lines.mail
        for index, line in zip(lines.asked, lines.rcpt, strict=True):
            yield _RCPT, index, line
        yield _DATA, 0, b"DATA\r\n"

    def _write_next(self, transaction: _Transaction) -> None:
        """Lock-step: the next command; DATA only if somebody was accepted."""
        if self._unclean:
            self._reset()
            return
        stage, index, line = next(transaction.todo)
        if stage is _DATA and not transaction.accepted:
            self._abandon(transaction)
            return
        self.out.append(line)
        self._expected.append((stage, transaction, index))

    def _reset(self) -> None:
        self._unclean = False
        self.out.append(b"RSET\r\n")
        self._expected.append((_RSET, None, 0))

    # Answers

    def _on_reset(self, reply: Reply) -> None:
        if reply.code // 100 != 2:
            raise Broken("RSET was refused", reply)
        if not self.features.pipelining and self._open:
            self._write_next(self._open[0])

    def _on_mail(self, transaction: _Transaction, reply: Reply, index: int) -> None:
        self._check(reply)
        if reply.code < 300:
            transaction.mail_ok = True
        else:
            self._answer(transaction, reply, _MAIL)
        if not self.features.pipelining:
            if transaction.mail_ok:
                self._write_next(transaction)
            else:
                self._abandon(transaction)

    def _on_rcpt(self, transaction: _Transaction, reply: Reply, index: int) -> None:
        if transaction.mail_ok:
            self._check(reply)
            if reply.code < 300:
                transaction.accepted += 1
            else:
                transaction.outcomes[index] = judge(reply, self.host, _RCPT)
        elif reply.code == 421:
            raise Broken("the host closes the session", reply)
        if not self.features.pipelining:
            self._write_next(transaction)

    def _on_data(self, transaction: _Transaction, reply: Reply, index: int) -> None:
        if reply.code == 354:
            if transaction.accepted:
                self._send(transaction)
            else:  # RFC 2920 section 3.1: nobody to send to, so the content is empty
                self.out.append(b".\r\n")
                self._expected.append((_DOT, transaction, 0))
            return
        if reply.code < 400 or reply.code == 421:
            raise Broken("the host closes the session" if reply.code == 421 else "DATA was answered out of turn", reply)
        if transaction.accepted:
            self._check(reply)
            self._answer(transaction, reply, _DATA)
        self._abandon(transaction)

    def _on_dot(self, transaction: _Transaction, reply: Reply, index: int) -> None:
        if 300 <= reply.code < 400:
            raise Broken("the message was answered out of turn", reply)
        self._answer(transaction, reply, _DOT)
        if ends_session(reply):  # `lost` tells the job: the host has not answered for a message yet
            raise Broken("the host closes the session", reply)
        self._finish(transaction)

    def _check(self, reply: Reply) -> None:
        if 300 <= reply.code < 400:
            raise Broken("a command was answered out of turn", reply)
        if ends_session(reply):
            raise Broken("the host closes the session", reply)

    def _unasked(self, reply: Reply | None) -> None:
        """A reply to nothing. While content is being written it is the peer's last word on that message."""
        if reply is not None and self._stream is not None and reply.code >= 400:
            self._stream = None
            self._answer(self._open[0], reply, _DOT)
            self._finish(self._open[0])
        if reply is not None and reply.code == 421:
            raise Broken("the host closes the session", reply)
        raise Broken("the host spoke out of turn")

    # Content

    def _send(self, transaction: _Transaction) -> None:
        small = transaction.content.small
        if small is None:
            self._stream = transaction.content.pieces()
            return
        self.out.append(small)
        self._close_content(transaction)

    def _close_content(self, transaction: _Transaction) -> None:
        transaction.dot_sent = True
        self._expected.append((_DOT, transaction, 0))
        if self.features.pipelining:
            self._begin(ahead=True)

    # Endings

    def _answer(self, transaction: _Transaction, reply: Reply, stage: Stage) -> None:
        """`reply` is the outcome of every recipient that still waits."""
        outcome = judge(reply, self.host, stage, dsn=self.features.dsn)
        if isinstance(outcome, Failed) and transaction.outcomes.count(None) > 1:
            outcome = outcome._replace(of_nobody=True)  # whom of them it means, nobody knows
        transaction.outcomes = [outcome if known is None else known for known in transaction.outcomes]

    def _abandon(self, transaction: _Transaction) -> None:
        """The transaction ends before its content."""
        self._unclean = True
        self._finish(transaction)

    def _finish(self, transaction: _Transaction) -> None:
        self._open.remove(transaction)
        self.settled += 1
        self._report(transaction, Deferred("4.4.2", "no answer", self.host))

    def _report(self, transaction: _Transaction, otherwise: Outcome) -> None:
        """Tell the job; `otherwise` goes to recipients without an outcome. The transaction is in no queue any more."""
        self._tell(transaction.job, [otherwise if known is None else known for known in transaction.outcomes])

    def _tell(self, job: Job, outcomes: list[Outcome]) -> None:
        try:
            job.done(outcomes)
        except Exception as bug:  # the other transaction of this session must still get its outcome
            self._source.crashed(bug)


_ANSWERS: dict[Stage, Callable[[Client, _Transaction, Reply, int], None]] = {
    _MAIL: Client._on_mail,
    _RCPT: Client._on_rcpt,
    _DATA: Client._on_data,
    _DOT: Client._on_dot,
}
