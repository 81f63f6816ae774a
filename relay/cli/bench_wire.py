"""The two conversations of a message over real loopback sockets, with nothing behind them: what speaking SMTP costs.

The other end runs in a thread and is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from relay.cli.running import loop_factory
from relay.delivery.connection import Terms
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Outcome
from relay.delivery.peers import Peer
from relay.delivery.pool import Pool, PoolSettings
from relay.mail.address import Address
from relay.mail.envelope import Account, Recipient
from relay.smtp.auth import Login
from relay.smtp.front import Gate, InFlight, Limits, Listens, Transaction
from relay.smtp.session import Session

SESSIONS = 8  # at one time, so that one turn of the loop serves several, as under load
CONNECTIONS = 4
READ = 1 << 16


class _Front:
    """Keeps relay.smtp.front.Front and says yes to everything."""

    hostname = "bench.example"
    limits = Limits(max_message_bytes=64_000_000)

    def __init__(self, account: Account) -> None:
        self._account = account

    async def login(self, login: Login, client_ip: str) -> Account | str:
        return self._account

    def mail(self, transaction: Transaction) -> str | None:
        return None

    def recipient(self, transaction: Transaction, address: Address, recipient: Recipient) -> str | None:
        return None

    def message(self, transaction: Transaction, raw: bytes) -> Awaitable[str]:
        return self._yes()

    async def _yes(self) -> str:
        return "250 2.0.0 queued"

    def unsent(self, transaction: Transaction) -> None:
        return

    def say(self, reason: str, account: Account | None = None, **detail: str) -> str:
        return f"550 5.7.1 {reason}"

    def count(self, event: str) -> None:
        return

    def crashed(self, error: BaseException) -> None:
        raise error


class _Present:
    """Keeps relay.smtp.front.Presence."""

    def enter(self, key: str, member: int, now: float) -> int:
        return 1

    def leave(self, key: str, member: int, now: float) -> int:
        return 0


def sessions(account: Account, sender: str, recipient: str, raw: bytes, *, count: int) -> float:
    """CPU seconds of one message through a session that stays: MAIL, RCPT, DATA, message, four replies."""
    steps = [f"MAIL FROM:<{sender}>\r\n".encode(), f"RCPT TO:<{recipient}>\r\n".encode(), b"DATA\r\n", raw + b".\r\n"]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_sessions(account, steps, count))


async def _sessions(account: Account, steps: Sequence[bytes], count: int) -> float:
    loop = asyncio.get_running_loop()
    kind = Listens(plain_auth=True, uncounted=lambda address: True)
    gate = Gate(total=SESSIONS, per_address=SESSIONS, presence=_Present(), member=0)
    in_flight = InFlight(1 << 40, share=1 << 40)
    front = _Front(account)
    server = await loop.create_server(
        lambda: Session(loop, front, gate, in_flight, tls=None, listener=kind), "127.0.0.1", 0
    )
    address = server.sockets[0].getsockname()
    with contextlib.ExitStack() as stack:
        clients = await loop.run_in_executor(None, _log_in, stack, address)
        await loop.run_in_executor(None, _talk, clients, steps, 20)
        before = time.thread_time()
        await loop.run_in_executor(None, _talk, clients, steps, count // SESSIONS)
        spent = time.thread_time() - before
    server.close()
    return spent / (count // SESSIONS * SESSIONS)


def _log_in(stack: contextlib.ExitStack, address: tuple[str, int]) -> list[socket.socket]:
    clients = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(SESSIONS)]
    for client in clients:
        _hear(client)
        for line in (b"EHLO client.example\r\n", b"AUTH PLAIN AGEAYg==\r\n"):
            client.sendall(line)
            _hear(client)
    return clients


def _talk(clients: Sequence[socket.socket], steps: Sequence[bytes], times: int) -> None:
    for _ in range(times):
        for step in steps:
            for client in clients:
                client.sendall(step)
            for client in clients:
                _hear(client)


def _hear(client: socket.socket) -> None:
    heard = b""
    while not heard.endswith(b"\r\n") or heard.rstrip().rpartition(b"\n")[2][3:4] == b"-":
        more = client.recv(READ)
        if not more:
            raise ConnectionError("the session ended")
        heard += more


class _Copy:
    """Keeps relay.delivery.job.Job: the same copy as often as it is asked for."""

    ret = envid = ""
    smtputf8 = False

    def __init__(self, sender: str, recipient: str, copy: Rendered, told: Callable[[], None]) -> None:
        self.mail_from = sender
        self.recipients = [Recipient(recipient)]
        self._copy = copy
        self._told = told

    def render(self, features: Features) -> Rendered:
        return self._copy

    def done(self, outcomes: list[Outcome]) -> None:
        self._told()


def deliveries(sender: str, recipient: str, copy: Rendered, *, count: int) -> float:
    """CPU seconds of one message through the pool to a next hop that takes everything, connections staying."""
    with _next_hop() as port, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_deliveries(port, _Letters(sender, recipient, copy), count))


class _Letters:
    """So many copies to hand out, and an event when all had their outcome."""

    def __init__(self, sender: str, recipient: str, copy: Rendered) -> None:
        self._job = _Copy(sender, recipient, copy, self._told)
        self._left = self._open = 0
        self.finished = asyncio.Event()

    def more(self, count: int) -> None:
        self._left = self._open = count
        self.finished.clear()

    def take(self) -> _Copy | None:
        if not self._left:
            return None
        self._left -= 1
        return self._job

    def _told(self) -> None:
        self._open -= 1
        if not self._open:
            self.finished.set()


async def _deliveries(port: int, letters: _Letters, count: int) -> float:
    settings = PoolSettings(
        (Peer("127.0.0.1", port, tls="off"),),
        Terms("bench.example"),
        connections=CONNECTIONS,
        messages_per_connection=1 << 30,
    )
    pool = Pool(settings, letters.take)
    spent = 0.0
    for many in (100, count):  # the first ones open the connections
        letters.more(many)
        before = time.thread_time()
        pool.wake()
        await letters.finished.wait()
        spent = time.thread_time() - before
    await pool.drain(5.0)
    return spent / count


@contextlib.contextmanager
def _next_hop() -> Iterator[int]:
    """The port of a server in threads that takes every message."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True, name="next-hop").start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer, _ = server.accept()
            threading.Thread(target=_serve, args=(peer,), daemon=True, name="next-hop").start()


def _serve(peer: socket.socket) -> None:
    """One connection: all complete lines that lie there are answered in one write."""
    with peer, contextlib.suppress(OSError):
        peer.sendall(b"220 next.example\r\n")
        rest, in_data = b"", False
        while data := peer.recv(READ):
            rest += data
            replies = []
            while True:
                mark = b"\r\n.\r\n" if in_data else b"\r\n"
                line, found, after = rest.partition(mark)
                if not found:
                    break
                rest = after
                replies.append(b"250 taken\r\n" if in_data else _reply(line))
                in_data = not in_data and line[:4].upper() == b"DATA"
            if replies:
                peer.sendall(b"".join(replies))


def _reply(line: bytes) -> bytes:
    verb = line[:4].upper()
    if verb == b"EHLO":
        return b"250-next.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n"
    return {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 ok\r\n")
