"""One copy as it leaves: edits, the copy's own links, encoding for the peer, and the signature last (DKIM-1, DKIM-11).

The bytes change only as the edits of the message say (MSG-12); the list of edits is what the trace shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Deferred, Failed
from relay.dkim.sign import Signer as Key
from relay.dkim.sign import body_hash, sign
from relay.mail import edits
from relay.mail.edits import PER_COPY, Edit
from relay.mail.message import Field, Malformed, join_head
from relay.mail.recode import to_7bit
from relay.observe import events, metrics
from relay.observe.log import log
from relay.spool.item import Item

SIGNATURE_SECONDS = 14 * 86_400  # DKIM-7
UNSUBSCRIBE_PLACEHOLDER = b"{{zegel_unsubscribe}}"
MY_PLACEHOLDER = b"{{zegel_my}}"


class Links(NamedTuple):
    """The copy's own addresses: one-click opt-out and own data."""

    unsubscribe: str
    my: str


class Signer(NamedTuple):
    """What rendering needs from outside: keys in force for a domain, the time, and links for one recipient of a message."""

    keys: Callable[[str, int], Sequence[Key]]
    now: Callable[[], float]
    links: Callable[[Item, str], Links]


def render(item: Item, recipient: str, features: Features, signer: Signer) -> Rendered | Deferred | Failed:
    """The bytes for `recipient` (or for all, when no edit is per copy) towards a peer with `features`.

    Failed 5.6.3 where the peer lacks 8BITMIME and the content may not be touched (OUT-9), 5.6.7 where it lacks SMTPUTF8;
    Deferred where the signing key is missing by our own fault (DKIM-8: the mail waits and an alarm rings).
    """
    message = item.parsed()
    fields: list[Field] = message.fields
    body: bytes | memoryview = message.body
    plan = item.edits
    fields = edits.apply(fields, plan)
    changed = False
    links: Links | None = None
    for edit in plan:
        if edit.kind == "to_self":
            fields = edits.show_only(fields, recipient)
        elif edit.kind in PER_COPY:
            links = links or signer.links(item, recipient)
            if edit.kind == "unsubscribe":
                fields = _with_unsubscribe(fields, edit, links)
            else:
                body, changed = _fill(body, links), True
        elif edit.kind == "recode":
            recoded = to_7bit(fields, body)
            if isinstance(recoded, Malformed):
                return Failed("5.6.3", recoded.detail, "")
            fields, body = recoded
            changed = True
    if item.meta.get("utf8") and not features.smtputf8 and not all(raw.isascii() for _, raw in fields):
        return Failed("5.6.7", "the next server does not take UTF-8 in headers", "")
    is_ascii = message.is_ascii and not changed
    if not is_ascii:
        is_ascii = bytes(body).isascii() and all(raw.isascii() for _, raw in fields)
    if not is_ascii and not features.eightbitmime and not bytes(body).isascii():
        recoded = to_7bit(fields, body)
        if isinstance(recoded, Malformed):
            return Failed("5.6.3", recoded.detail, "")
        fields, body = recoded
        changed = is_ascii = True
    return _signed(item, fields, body, signer, changed=changed, is_ascii=is_ascii)


def _signed(
    item: Item, fields: list[Field], body: bytes | memoryview, signer: Signer, *, changed: bool, is_ascii: bool
) -> Rendered | Deferred:
    domain = item.meta["domain"]
    is_ours = item.meta["class"] == "system"  # our own notices and reports: signed where the house has a key
    keys = signer.keys(domain, 0 if is_ours else item.tenant) if domain else ()
    if not keys and not is_ours:
        metrics.DKIM_FAILURES.inc()
        log.error(events.KEY_MISSING, queue_id=item.queue_id, domain=domain)
        return Deferred("4.7.5", "the signing key is missing on this gateway", "")
    if keys:
        if changed:
            digest = body_hash(body)
        else:
            digest = item.body_hash = item.body_hash or body_hash(body)
        signatures = sign(fields, digest, keys, now=int(signer.now()), expire_seconds=SIGNATURE_SECONDS)
        fields = [*signatures, *fields]
        for key in keys:
            metrics.DKIM_SIGNATURES.inc((key.algorithm,))
    return Rendered(join_head(fields), body, is_ascii)


def _with_unsubscribe(fields: list[Field], edit: Edit, links: Links) -> list[Field]:
    """Our own pair in place of any other (UNSUB-2, UNSUB-16), and the List-Id where the list has none (UNSUB-18)."""
    kept = [pair for pair in fields if pair[0] not in (b"list-unsubscribe", b"list-unsubscribe-post")]
    own = [
        edits.field("List-Unsubscribe", f"<{links.unsubscribe}>"),
        edits.field("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]
    if edit.value and not any(name == b"list-id" for name, _ in kept):
        own.append(edits.field("List-Id", edit.value))
    return [*kept, *own]


def _fill(body: bytes | memoryview, links: Links) -> bytes:
    return (
        bytes(body)
        .replace(UNSUBSCRIBE_PLACEHOLDER, links.unsubscribe.encode())
        .replace(MY_PLACEHOLDER, links.my.encode())
    )


def is_per_copy(plan: Sequence[Edit]) -> bool:
    """Each recipient gets bytes of his own."""
    return any(edit.kind in PER_COPY for edit in plan)
