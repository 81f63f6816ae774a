"""DNS: an asynchronous resolver with a cache and a closed set of results.

Theory of operation. `ask` answers `Answer`, `NoRecord` or `Failed`, never an exception. Equal questions that are in
flight at the same time share one query. Answers are kept for their TTL within bounds, a negative one for a minute at
most (RFC 2308 allows it its SOA's minimum), failures for a few seconds so that a dead server is not asked by every
mail. Each question has a deadline; a caller that gives up does not take the query away from the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

MIN_TTL_SECONDS = 5
MAX_TTL_SECONDS = 3_600
NEGATIVE_TTL_SECONDS = 60
FAILURE_TTL_SECONDS = 5
MAX_ENTRIES = 50_000


class Answer(NamedTuple):
    """Records, as text: an address, "10 mx.example" for MX, whole joined strings for TXT. `ttl` in seconds.

    `secure` is the resolver's word (AD flag, RFC 4035 section 3.2.3): trust it only over a path that is trusted.
    """

    records: tuple[str, ...]
    ttl: int
    secure: bool = False


class NoRecord(NamedTuple):
    """The name or the type does not exist, authoritatively. `nxdomain`: the name itself does not."""

    nxdomain: bool
    secure: bool = False


class Failed(NamedTuple):
    """There was no usable answer. `temporary` is false only where asking again cannot help (a name that is none)."""

    temporary: bool
    why: str


Result = Answer | NoRecord | Failed


class Mx(NamedTuple):
    """One mail exchanger; host "" is the null MX (RFC 7505)."""

    preference: int
    host: str


class Resolver:
    """Asks the servers of resolv.conf, or those given as ip or (ip, port). Belongs to one event loop."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]] = (),
        *,
        timeout_seconds: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without any server, given or in resolv.conf, every answer is `Failed`."""
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
        else:
            with contextlib.suppress(dns.resolver.NoResolverConfiguration):
                self._resolver.read_resolv_conf("/etc/resolv.conf")
        self._resolver.cache = None
        self._resolver.use_edns(0, 0, 1_232)  # the size that passes without fragments (DNS flag day 2020)
        self._resolver.flags = dns.flags.RD | dns.flags.AD
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._cache: OrderedDict[tuple[str, str], tuple[float, Result]] = OrderedDict()
        self._in_flight: dict[tuple[str, str], asyncio.Task[Result]] = {}

    async def ask(self, name: str, kind: str, *, timeout_seconds: float | None = None) -> Result:
        """Records of type `kind` (A, AAAA, MX, TXT, TLSA, PTR, ...) at `name` (A-labels, no closing dot needed)."""
        key = (name.rstrip(".").lower(), kind.upper())
        kept = self._cache.get(key)
        if kept is not None and kept[0] > self._monotonic():
            return kept[1]
        task = self._in_flight.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key), name=f"dns {kind}")
            self._in_flight[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        limit = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(task)
        except TimeoutError:
            return Failed(True, f"no answer within {limit:g} s")

    async def txt(self, name: str, *, timeout_seconds: float | None = None) -> Result:
        """TXT records, the strings of each joined (RFC 7208 section 3.3)."""
        return await self.ask(name, "TXT", timeout_seconds=timeout_seconds)

    async def addresses(self, name: str, *, timeout_seconds: float | None = None) -> Result:
        """IPv6 and IPv4 addresses of a host, IPv6 first; one family that fails does not hide the other."""
        found = await asyncio.gather(
            self.ask(name, "AAAA", timeout_seconds=timeout_seconds),
            self.ask(name, "A", timeout_seconds=timeout_seconds),
        )
        answers = [result for result in found if isinstance(result, Answer)]
        if answers:
            records = tuple(record for answer in answers for record in answer.records)
            return Answer(records, min(answer.ttl for answer in answers), all(answer.secure for answer in answers))
        return next((result for result in found if isinstance(result, Failed)), found[0])

    async def reverse(self, ip: str, *, timeout_seconds: float | None = None) -> Result:
        """Names of an address (PTR)."""
        try:
            name = dns.reversename.from_address(str(ipaddress.ip_address(ip))).to_text()
        except ValueError:
            return Failed(False, "not an IP address")
        return await self.ask(name, "PTR", timeout_seconds=timeout_seconds)

    def forget(self) -> None:
        """Empty the cache, for instance before a person's own check of what they just published."""
        self._cache.clear()

    async def close(self) -> None:
        """End what is in flight; callers that still wait are cancelled."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: tuple[str, str], task: asyncio.Task[Result]) -> None:
        self._in_flight.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        result = task.result()
        seconds = _keep_seconds(result)
        if isinstance(result, Failed) and not result.temporary:
            return
        self._cache[key] = (self._monotonic() + seconds, result)
        self._cache.move_to_end(key)
        if len(self._cache) > MAX_ENTRIES:
            self._cache.popitem(last=False)

    async def _fetch(self, key: tuple[str, str]) -> Result:
        name, kind = key
        if not self._resolver.nameservers:
            return Failed(True, "no DNS server is configured")
        try:
            answer = await self._resolver.resolve(
                dns.name.from_text(name), kind, raise_on_no_answer=False, search=False, lifetime=self._timeout_seconds
            )
        except dns.resolver.NXDOMAIN:
            return NoRecord(nxdomain=True)
        except dns.resolver.NoNameservers:
            return Failed(True, "every server failed")
        except dns.resolver.LifetimeTimeout:
            return Failed(True, "no answer from any server")
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape, UnicodeError):
            return Failed(False, "not a DNS name")
        except (dns.exception.DNSException, OSError) as error:
            return Failed(True, type(error).__name__)
        secure = bool(answer.response.flags & dns.flags.AD)
        if answer.rrset is None:
            return NoRecord(nxdomain=False, secure=secure)
        records = tuple(_text(kind, record) for record in answer.rrset)
        return Answer(records, max(MIN_TTL_SECONDS, min(answer.rrset.ttl, MAX_TTL_SECONDS)), secure)


def parse_mx(answer: Answer) -> list[Mx]:
    """Exchangers of an MX answer, best first; equal ones in name order, for the caller to shuffle."""
    found = []
    for record in answer.records:
        preference, _, host = record.partition(" ")
        found.append(Mx(int(preference), host.rstrip(".").lower()))
    return sorted(found)


def _keep_seconds(result: Result) -> float:
    if isinstance(result, Answer):
        return result.ttl
    return NEGATIVE_TTL_SECONDS if isinstance(result, NoRecord) else FAILURE_TTL_SECONDS


def _text(kind: str, record: object) -> str:
    strings = getattr(record, "strings", None)
    if kind == "TXT" and strings is not None:
        return b"".join(strings).decode("utf-8", "replace")
    return str(record).rstrip(".") if kind in ("PTR", "CNAME", "NS") else str(record)
