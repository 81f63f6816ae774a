"""Facts for the policies: which are needed, read together, each present or Unavailable, never a guess.

Reads are point lookups in a database on this machine and take microseconds, so they run where they are asked for; what
has been read stays good while the generation counter of the store has not moved.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from relay.consent.held import HeldConsents
from relay.consent.lookup import Lookup
from relay.counters import known
from relay.counters.contract import Charge, NodeCounters, SharedCounters
from relay.mail.envelope import Submission
from relay.mail.fingerprint import marks_of, text_of
from relay.mail.sender import from_domain
from relay.mail.visible import Unreadable, visible_addresses
from relay.observe import metrics
from relay.policy.facts import Allowance, Fact, Facts, PendingRequest, Standing, ThreadParent, Unavailable
from relay.reputation.book import WELL, Book, Sender
from relay.scan import Scan
from relay.store.threads import Threads

DAY_SECONDS = 86_400
MAX_PARENTS = 20
TEXT_PLACES = 1 << 17
_PERSON = frozenset((Fact.CONSENTS, Fact.SUPPRESSIONS))
_REFERENCE = re.compile(rb"<[^<>\s]{1,500}>")
Address = str


class Counting(NamedTuple):
    """`own` are the counters of this node; `shared` count limits and logins, over all gateways where they share them."""

    own: NodeCounters
    shared: SharedCounters
    book: Book | None = None  # how senders stand; None: all well


@dataclass(slots=True)
class Counted:
    """What a message counts for before it is known whether it is taken."""

    number: int
    mail: Submission
    charges: Sequence[Charge] = ()
    allowance: Allowance | None = None
    confirmations: Sequence[str] = ()
    is_kept: bool = False  # durable, so that it leaves, whether or not the client heard of it


class Gather:
    """The facts of one process. Its lookups are for the event loop's thread."""

    def __init__(
        self,
        lookup: Lookup,
        threads: Threads,
        counting: Counting,
        *,
        generation: Callable[[], int] = lambda: 0,
        dry: bool = False,
        scan: Scan | None = None,
    ) -> None:
        """`generation` tells the state of the consent store; `dry`: look without counting, for `explain` (PIPE-4).

        `scan` looks for leaks; intake asks it, since it may take longer than the loop can wait.
        """
        self.lookup = lookup
        self.threads = threads
        self.counters, self.shared, self.book = counting
        self.generation = generation
        self.dry = dry
        self.scan = scan or Scan()
        self._held: HeldConsents | None = None
        self._marks_keys: dict[str, bytes] = {}

    def facts(self, needs: Set[Fact], mail: Submission, addresses: Sequence[Address]) -> Facts:
        """The facts in `needs` for `mail`, per recipient for `addresses` only."""
        values: dict[Fact, object] = (
            self._of_one(mail, addresses[0]) if len(addresses) == 1 and needs >= _PERSON else {}
        )
        for fact in needs:
            read = _READ.get(fact)
            if read is None or fact in values:
                continue  # intake scans for leaks before, and takes the allowance last
            try:
                values[fact] = read(self, mail, addresses)
            except (sqlite3.Error, OSError) as error:
                metrics.FACTS_UNAVAILABLE.inc((fact.value,))
                values[fact] = Unavailable(type(error).__name__)
        return Facts(values)

    def _of_one(self, mail: Submission, address: Address) -> dict[Fact, object]:
        """Consent and what stands against it for one recipient, as at nearly every RCPT; {} where it cannot be read so."""
        tenant, purpose = mail.account.tenant, _purpose(mail)
        try:
            read = self.lookup.of_one(tenant.id, purpose, address, others=tenant.purposes if purpose else ())
        except (sqlite3.Error, OSError):
            return {}  # each alone tells what is the matter
        return dict(zip((Fact.CONSENTS, Fact.SUPPRESSIONS), read, strict=True))

    def _consents(self, mail: Submission, addresses: Sequence[Address]) -> object:
        tenant, purpose = mail.account.tenant, _purpose(mail)
        return self.lookup.consents(tenant.id, purpose, addresses, others=tenant.purposes if purpose else ())

    def _suppressions(self, mail: Submission, addresses: Sequence[Address]) -> object:
        return self.lookup.suppressions(mail.account.tenant.id, addresses, purpose=_purpose(mail))

    def _requests(self, mail: Submission, addresses: Sequence[Address]) -> object:
        found = self.lookup.requests(mail.account.tenant.id, _purpose(mail), addresses)
        # The ledger learns of a mail after its 250; of many at once the counter knows before (CLASS-7).
        return {
            address: request._replace(mails_sent=max(request.mails_sent, self._confirmations(mail, address, request)))
            if request
            else None
            for address, request in found.items()
        }

    def _confirmations(self, mail: Submission, address: Address, request: PendingRequest) -> int:
        return self.counters.count(self._confirmation(mail, address, request), DAY_SECONDS, mail.now)

    def _confirmation(self, mail: Submission, address: Address, request: PendingRequest) -> str:
        name = self.lookup.request_name(mail.account.tenant.id, _purpose(mail), address)
        return f"confirm:{name}:{request.requested_at}"

    def claim_confirmation(self, mail: Submission) -> list[str]:
        """Count a confirmation that is about to be taken, once for each recipient, in the same turn of the loop that
        judged it; under which keys. Who only looks counts nothing.
        """
        if self.dry:
            return []
        keys = []
        addresses = [recipient.address for recipient in mail.recipients]
        found = self.lookup.requests(mail.account.tenant.id, _purpose(mail), addresses)
        for address, request in found.items():
            if request is not None:
                keys.append(self._confirmation(mail, address, request))
                self.counters.hit(keys[-1], DAY_SECONDS, mail.now)
        return keys

    def _thread(self, mail: Submission, addresses: Sequence[Address]) -> ThreadParent | None:
        if mail.message is None:
            return None
        parents = mail.message.get_all(b"in-reply-to") + mail.message.get_all(b"references")
        if not parents:
            return None
        shown = visible_addresses(mail.message)
        if isinstance(shown, Unreadable):
            return None
        best: frozenset[str] | None = None
        # One parent must have shown them all: the union of several would introduce the readers of one to another's.
        for reference in _REFERENCE.findall(b" ".join(parents))[-MAX_PARENTS:]:
            seen = self.threads.seen(mail.account.tenant.id, reference, list(shown), now=mail.now)
            if seen is not None and (best is None or len(seen) > len(best)):
                best = seen
        return None if best is None else ThreadParent(best)

    def _standing(self, mail: Submission, addresses: Sequence[Address]) -> Standing:
        return self.standing(mail)

    def standing(self, mail: Submission) -> Standing:
        """How the sender of a message stands."""
        if self.book is None:
            return WELL
        account = mail.account
        domain = from_domain(mail.message) if mail.message is not None else ""
        credential = account.credential
        return self.book.stands(Sender(account.tenant.id, credential.name, credential.stream.value, domain))

    def marks(self, mail: Submission) -> bytes:
        """Who the recipients are, for whoever counts those that this login never wrote to: keyed hashes, one of each."""
        login = mail.account.credential.name
        key = self._marks_keys.get(login)
        if key is None:
            key = self._marks_keys[login] = self.lookup.marks_key(login)
        return known.marks_of((recipient.address for recipient in mail.recipients), key)

    async def agreed(self, mail: Submission, allowance: Allowance, times: int) -> Allowance:
        """What was allowed to a campaign that is sudden, with how many have agreed to it (THROTTLE-7). Where that cannot be read,
        nothing is sudden: no mail is held because something of ours broke.
        """
        if self._held is None:
            self._held = HeldConsents(self.lookup.path)
        wanted = -(-allowance.sudden // max(times, 1))
        try:
            agreed = await self._held.count(mail.account.tenant.id, _purpose(mail), wanted, mail.now)
        except (sqlite3.Error, OSError):
            metrics.FACTS_UNAVAILABLE.inc((Fact.ALLOWANCE.value,))
            return allowance._replace(sudden=0)
        return allowance._replace(agreed=agreed)

    def _fingerprint(self, mail: Submission, addresses: Sequence[Address]) -> int:
        if mail.message is None:
            return 0
        if mail.message.seen is not None:
            return mail.message.seen[1]
        marks = marks_of(text_of(mail.message))
        if not marks:
            return 1
        # All logins of a tenant together: a newsletter in slow drips over many accounts is one. A short text is alike by chance
        # as well, so it counts for its login only. Few enough places that no flood of texts fills the memory, and enough
        # that strangers do not meet in them.
        tenant = mail.account.tenant.id
        if len(marks) == 1:
            marks = (crc32(mail.account.credential.name.encode(), marks[0]),)
        keys = [f"{{t{tenant}}}text:{number}:{mark % TEXT_PLACES}" for number, mark in enumerate(marks)]
        if self.dry:
            found = [self.counters.count(key, DAY_SECONDS, mail.now) + 1 for key in keys]
        else:
            found = self.shared.seen(keys, DAY_SECONDS, mail.now)
        times = sorted(found)[len(found) // 2]  # most marks must agree: one alone says too little
        if not self.dry:
            mail.message.seen = (keys, times)
        return times

    def give_back(self, counted: Counted) -> None:
        """A message was not taken, so that it shall not have counted: not its text, nor its recipients, nor a confirmation."""
        if self.dry:
            return
        mail, now = counted.mail, counted.mail.now
        if mail.message is not None and mail.message.seen is not None:
            self.shared.unseen(mail.message.seen[0], DAY_SECONDS, now)
        if counted.allowance is not None and counted.allowance.granted:
            self.shared.give_back(counted.charges, now, counted.allowance, once=counted.number)
        for key in counted.confirmations:
            self.counters.hit(key, DAY_SECONDS, now, -1)


def _purpose(mail: Submission) -> str:
    return mail.purpose.name if mail.purpose else ""


_READ: dict[Fact, Callable[[Gather, Submission, Sequence[Address]], object]] = {
    Fact.CONSENTS: Gather._consents,
    Fact.SUPPRESSIONS: Gather._suppressions,
    Fact.REQUESTS: Gather._requests,
    Fact.THREAD: Gather._thread,
    Fact.FINGERPRINT: Gather._fingerprint,
    Fact.STANDING: Gather._standing,
}
