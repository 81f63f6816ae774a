"""The delivery log's entries: what is written down of a message when it is answered and after each attempt."""

from __future__ import annotations

from typing import Any

from relay.keyring import Keyring
from relay.mail.address import narrow
from relay.mail.envelope import Submission
from relay.mail.mailing import Mailing, name_of, tag_of
from relay.mail.sender import from_domain
from relay.policy.ruling import Ruling, TraceEntry
from relay.spool.item import Item, decode_id
from relay.store.history import TRACE, Event, History, short_hash
from relay.store.widening import person_hash


def who(keyring: Keyring, addresses: list[str], message_id: str = "") -> tuple[int, ...]:
    """Hashes to find a message by: addresses (narrow) and its Message-ID, under the current key; for an erasure also the person
    behind an address with a +part.
    """
    texts = [*map(narrow, addresses), message_id]
    people = [person_hash(keyring.subject_hash, address) for address in addresses if "+" in address]
    found = [short_hash(keyring.subject_hash(TRACE + text)) for text in texts if text]
    return (*found, *(value for value in people if value is not None))


def who_any(keyring: Keyring, text: str) -> list[int]:
    """The same for a search, under every live key."""
    return [short_hash(digest) for digest in keyring.subject_hashes(TRACE + text)]


_PARKED = ("throttle.parked", "throttle.warming")
STAMP = ("prepend", "Received", "SMTP-22")


def parked_by(ruling: Ruling) -> TraceEntry | None:
    """What a policy said of the limit that a message waits for: which, and whose."""
    return next((entry for entry in ruling.trace if entry.reason in _PARKED), None)


class Trace:
    """Writes the events of one process."""

    def __init__(self, history: History, keyring: Keyring) -> None:
        self._history = history
        self._keyring = keyring

    def answered(self, number: int, ruling: Ruling, word: str, *, reply: str, message_id: str, size: int) -> None:
        """The answer at the end of data: accepted, held, parked, refused or deferred."""
        mail = ruling.mail
        envelope = mail.envelope
        data: dict[str, Any] = {
            "tenant": mail.account.tenant.name,
            "credential": mail.account.credential.name,
            "stream": mail.stream,
            "class": mail.mail_class,
            "from": envelope.mail_from,
            "rcpt": [recipient.address for recipient in envelope.recipients],
            "message_id": message_id,
            "size": size,
            "reply": reply,
        }
        if ruling.dropped:
            data["dropped"] = [[recipient.address, reason] for recipient, reason in ruling.dropped]
        if ruling.passes:
            data["domain"] = from_domain(mail.message) if mail.message is not None else ""
            data["edits"] = [*((edit.kind, edit.name, edit.rule) for edit in ruling.edits), STAMP]
        if ruling.due:
            data["due"] = ruling.due
        parked = parked_by(ruling)
        if word == "parked" and parked is not None:
            data["reason"], data["detail"] = parked.reason, dict(parked.detail)
        said = [[e.policy, e.mode, e.action.word, e.reason] for e in ruling.trace if e.reason]
        if said:
            data["policies"] = said
        found_by = [recipient.address for recipient in envelope.recipients]
        found_by += [recipient.address for recipient, _ in ruling.dropped]
        if envelope.mail_from:
            found_by.append(envelope.mail_from)
        found = who(self._keyring, found_by, message_id)
        self._history.add(Event(number, mail.now, word, data, found, mailing_of(mail)))

    def made(self, own: Item) -> None:
        """A report or notice of our own: found by its recipient, and told in the history of the mail that it is about."""
        meta = own.meta
        addresses = [str(row[0]) for row in meta["rcpt"]]
        about = str(meta.get("about", ""))
        data = {
            "tenant": meta["tenant"],
            "class": meta["class"],
            "stream": meta["stream"],
            "from": "",
            "rcpt": addresses,
        }
        found_by = who(self._keyring, addresses)
        self._history.add(Event(own.id, meta["at"], "made", {**data, "about": about}, found_by))
        number = decode_id(about)
        if number is not None:
            mailing = Mailing(meta["tenant"], meta["mailing"]) if "mailing" in meta else None
            self.say(number, "told", meta["at"], mailing=mailing, report=own.queue_id)

    def say(self, number: int, word: str, at: float, *, mailing: Mailing | None = None, **data: Any) -> None:
        """Something that happened to a queued message, by the number behind its id; `mailing`: see Item.mailing."""
        self._history.add(Event(number, at, word, data, (), mailing))


def mailing_of(mail: Submission) -> Mailing | None:
    """As Item.mailing, of mail that is no item. Where no content was seen nothing tags it."""
    if mail.stream != "marketing":
        return None
    listed = mail.purpose.name if mail.purpose else mail.account.credential.name
    return Mailing(mail.account.tenant.name, name_of(tag_of(mail.message), listed, mail.now))


def whose(item: Item) -> dict[str, Any]:
    """What every line about a message says, so that each tenant's are kept for its own time (GDPR-12, GDPR-13)."""
    return {"tenant": item.meta["tenant"], "mailing": item.mailing}
