"""The resolver against a real DNS server on loopback: closed results, one query for many, bounded memory of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from relay.dns import Answer, Failed, Mx, NoRecord, Resolver, parse_mx
from relay.owner.evidence import gather_evidence

ZONE = {
    ("shop.example.", "TXT"): ('300 IN TXT "v=spf1 -all"', '300 IN TXT "zegel-verify=" "abc"'),
    ("shop.example.", "MX"): ("300 IN MX 20 b.example.", "300 IN MX 10 A.example."),
    ("null.example.", "MX"): ("300 IN MX 0 .",),
    ("a.example.", "A"): ("1 IN A 192.0.2.1",),
    ("a.example.", "AAAA"): ("300 IN AAAA 2001:db8::1",),
    ("four.example.", "A"): ("300 IN A 192.0.2.4",),
    ("1.2.0.192.in-addr.arpa.", "PTR"): ("300 IN PTR mail.example.",),
}
NAMES = {name for name, _ in ZONE}


class Server(asyncio.DatagramProtocol):
    """Answers from ZONE; names with `servfail` fail, names with `silent` get no answer until `gate` opens."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.arrived = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # what UDP gives
        self.transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        self.arrived.set()
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AD | dns.flags.RA
        if "servfail" in name:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif name not in NAMES and "silent" not in name:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for line in ZONE.get((name, kind), ()):
            reply.answer.append(dns.rrset.from_text(name, *_split(line)))
        if "silent" in name:
            reply.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.9"))
            task = asyncio.get_running_loop().create_task(self._later(reply.to_wire(), peer))
            self._waiting.add(task)
            return
        self.transport.sendto(reply.to_wire(), peer)

    async def _later(self, wire: bytes, peer: tuple[str, int]) -> None:
        await self.gate.wait()
        self.transport.sendto(wire, peer)

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()
        self.transport.close()


def _split(line: str) -> tuple[int, str, str, str]:
    ttl, klass, kind, rest = line.split(" ", 3)
    return int(ttl), klass, kind, rest


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def _running(timeout_seconds: float = 5.0) -> AsyncIterator[tuple[Server, Resolver, Clock]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    clock = Clock()
    resolver = Resolver(
        [("127.0.0.1", transport.get_extra_info("sockname")[1])], timeout_seconds=timeout_seconds, monotonic=clock
    )
    try:
        yield server, resolver, clock
    finally:
        await resolver.close()
        server.close()


def test_the_results_are_closed() -> None:
    async def main() -> None:
        async with _running() as (_, resolver, _clock):
            txt = await resolver.txt("Shop.Example.")
            assert isinstance(txt, Answer)
            assert sorted(txt.records) == ["v=spf1 -all", "zegel-verify=abc"]
            assert (txt.ttl, txt.secure) == (300, True)
            assert await resolver.ask("shop.example", "A") == NoRecord(nxdomain=False, secure=True)
            nothing = await resolver.ask("nothing.example", "A")
            assert isinstance(nothing, NoRecord) and nothing.nxdomain
            failed = await resolver.ask("servfail.example", "A")
            assert isinstance(failed, Failed) and failed.temporary
            for name in ("a..b.example", "x" * 64 + ".example", ".".join(["abcdefgh"] * 40)):
                wrong = await resolver.ask(name, "A")
                assert isinstance(wrong, Failed) and not wrong.temporary, name

    asyncio.run(main())


def test_exchangers_come_in_order_and_the_null_mx_is_empty() -> None:
    async def main() -> None:
        async with _running() as (_, resolver, _clock):
            found = await resolver.ask("shop.example", "MX")
            assert isinstance(found, Answer)
            assert parse_mx(found) == [Mx(10, "a.example"), Mx(20, "b.example")]
            null = await resolver.ask("null.example", "MX")
            assert isinstance(null, Answer)
            assert parse_mx(null) == [Mx(0, "")]

    asyncio.run(main())


def test_addresses_of_both_families() -> None:
    async def main() -> None:
        async with _running() as (_, resolver, _clock):
            both = await resolver.addresses("a.example")
            assert isinstance(both, Answer) and both.records == ("2001:db8::1", "192.0.2.1")
            four = await resolver.addresses("four.example")
            assert isinstance(four, Answer) and four.records == ("192.0.2.4",)
            assert isinstance(await resolver.addresses("nothing.example"), NoRecord)
            assert isinstance(await resolver.addresses("servfail.example"), Failed)
            back = await resolver.reverse("192.0.2.1")
            assert isinstance(back, Answer) and back.records == ("mail.example",)
            assert isinstance(await resolver.reverse("not an ip"), Failed)

    asyncio.run(main())


def test_an_answer_is_kept_for_its_ttl_and_a_failure_for_seconds() -> None:
    async def main() -> None:
        async with _running() as (server, resolver, clock):
            await resolver.txt("shop.example")
            await resolver.txt("SHOP.example.")
            assert len(server.asked) == 1
            clock.now += 299
            await resolver.txt("shop.example")
            assert len(server.asked) == 1
            clock.now += 2
            await resolver.txt("shop.example")
            assert len(server.asked) == 2
            before = len(server.asked)
            await resolver.ask("servfail.example", "A")
            tried = len(server.asked) - before
            await resolver.ask("servfail.example", "A")
            assert len(server.asked) == before + tried
            clock.now += 6
            await resolver.ask("servfail.example", "A")
            assert len(server.asked) > before + tried
            resolver.forget()
            count = len(server.asked)
            await resolver.txt("shop.example")
            assert len(server.asked) == count + 1

    asyncio.run(main())


def test_equal_questions_share_one_query_and_one_that_gives_up_takes_nothing_away() -> None:
    async def main() -> None:
        async with _running() as (server, resolver, _clock):
            others = [asyncio.create_task(resolver.ask("silent.example", "A")) for _ in range(20)]
            await server.arrived.wait()
            hasty = await resolver.ask("silent.example", "A", timeout_seconds=0.01)
            assert isinstance(hasty, Failed) and hasty.temporary
            others[0].cancel()
            server.gate.set()
            results = await asyncio.gather(*others[1:])
            assert {result.records for result in results if isinstance(result, Answer)} == {("192.0.2.9",)}
            assert len(results) == 19 and len(server.asked) == 1

    asyncio.run(main())


def test_silence_ends_at_the_deadline() -> None:
    async def main() -> None:
        async with _running(timeout_seconds=0.05) as (_, resolver, _clock):
            result = await resolver.ask("silent.example", "A")
            assert isinstance(result, Failed) and result.temporary

    asyncio.run(main())


def test_evidence_leaves_out_what_was_not_answered() -> None:
    async def main() -> None:
        async with _running() as (_, resolver, _clock):
            names = ["shop.example", "a.example", "nothing.example", "servfail.example"]
            found = (await gather_evidence(resolver, names))["seen"]
            assert sorted(found["shop.example"]) == ["v=spf1 -all", "zegel-verify=abc"]
            assert (found["a.example"], found["nothing.example"]) == ([], [])
            assert "servfail.example" not in found

    asyncio.run(main())


def test_no_server_at_all_is_an_answer_too() -> None:
    async def main() -> None:
        resolver = Resolver([("127.0.0.1", 1)], timeout_seconds=0.3)
        result = await resolver.ask("shop.example", "A")
        assert isinstance(result, Failed) and result.temporary
        await resolver.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["a", "A"])
def test_the_kind_is_read_in_any_case(kind: str) -> None:
    async def main() -> None:
        async with _running() as (_, resolver, _clock):
            assert isinstance(await resolver.ask("four.example", kind), Answer)

    asyncio.run(main())
