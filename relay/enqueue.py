"""The queued form of a mail that passes: what delivery needs of it, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

from relay.mail.mailing import tag_of
from relay.mail.message import Message
from relay.mail.received import received_value
from relay.mail.sender import from_domain
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action
from relay.spool.item import Item, encode_id


class House(NamedTuple):
    """What the gateway says of itself: its name, its pages, the language before a tenant is known, how soon it answers."""

    hostname: str
    public_url: str
    language: str
    show_client: bool = False
    reply_seconds: float = 30.0  # PIPE-6


def message_id(message: Message | None) -> str:
    """Message-ID of a message as text, or ""."""
    value = message.get(b"message-id") if message else None
    return value.decode("utf-8", "replace")[:998] if value else ""


def make_item(number: int, ruling: Ruling, house: House) -> Item:
    """The queued form of a mail that passes: everything delivery needs, and nothing else."""
    mail = ruling.mail
    message, envelope, account = mail.message, mail.envelope, mail.account
    assert message is not None
    received = received_value(
        mail.session, house.hostname, encode_id(number), mail.now, envelope.recipients, show_client=house.show_client
    )
    subscriber = message.get(b"x-zegel-subscriber")
    meta = {
        "tenant_id": account.tenant.id,
        "tenant": account.tenant.name,
        "credential": account.credential.name,
        "stream": mail.stream.value,
        "class": mail.mail_class.value,
        "purpose": mail.purpose.name if mail.purpose else "",
        "confirm": mail.confirm,
        "from": envelope.mail_from,
        "rcpt": [[r.address, r.notify, r.orcpt] for r in envelope.recipients],
        "ret": envelope.ret,
        "envid": envelope.envid,
        "utf8": envelope.smtputf8,
        "edits": [*map(tuple, ruling.edits), ("prepend", "Received", received, "SMTP-22")],
        "domain": from_domain(message),
        "subscriber": subscriber.decode("utf-8", "replace") if subscriber else "",
        "language": account.tenant.language,
        "at": mail.now,
    }
    tag = tag_of(message) if mail.stream == "marketing" else ""
    if tag:
        meta["tag"] = tag  # of what has none the mailing follows from the rest (GDPR-12)
    if ruling.action is Action.HOLD:
        meta["held"] = ruling.reason
        meta["held_detail"] = dict(ruling.detail)  # fills the sentence in what the sender reads of it
    if ruling.due > mail.now:
        meta["turn"] = ruling.due  # until then it waits by agreement, and no delay counts (THROTTLE-1)
    if ruling.dropped:
        meta["dropped"] = [[r.address, r.notify, r.orcpt, reason] for r, reason in ruling.dropped]
    item = Item(number, meta, message.raw, due=max(ruling.due, mail.now))
    item.message = message
    return item
