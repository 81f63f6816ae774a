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
from relay.mail.domain import with_a_labels
from relay.mail.edits import PER_COPY, Edit
from relay.mail.message import Field, Malformed, join_head
from relay.mail.placeholders import Template, template
from relay.mail.recode import has_long_line, to_7bit
from relay.observe import events, metrics
from relay.observe.log import log
from relay.spool.item import Item

SIGNATURE_SECONDS = 14 * 86_400  # DKIM-7
PIECE_BYTES = 256 * 1024


class Links(NamedTuple):
    """The copy's own addresses, in the order of relay.mail.placeholders.NAMES: one-click opt-out and own data."""

    unsubscribe: str
    my: str


class Signer(NamedTuple):
    """What rendering needs from outside: keys in force for a domain, the time, and links for one recipient of a message."""

    keys: Callable[[str, int], Sequence[Key]]
    now: Callable[[], float]
    links: Callable[[Item, str], Links]


class Base:
    """What all copies of a message share towards peers that take, or do not take, 8-bit content."""

    __slots__ = ("body", "digest", "fields", "is_ascii", "is_original", "recoded", "template")

    def __init__(self, fields: list[Field], body: bytes | memoryview, *, is_ascii: bool) -> None:
        self.fields = fields
        self.body = body
        self.is_ascii = is_ascii  # of the body
        self.is_original = True  # the body is the message's own
        self.recoded = ""  # see Rendered
        self.template: Template | None = None
        self.digest = ""  # of `body`


Bases = dict[bool, Base | Failed]
"""By whether the peer takes 8-bit content. Kept while copies of one message leave, so that what they share is made once."""


def render(
    item: Item, recipient: str, features: Features, signer: Signer, bases: Bases
) -> Rendered | Deferred | Failed:
    """The bytes for `recipient` (or for all, when no edit is per copy) towards a peer with `features`.

    Failed 5.6.3 where the peer lacks 8BITMIME and the content may not be touched (OUT-9), 5.6.9 where it lacks SMTPUTF8;
    Deferred where the signing key is missing by our own fault (DKIM-8: the mail waits and an alarm rings).
    """
    plan = item.edits
    base = bases.get(features.eightbitmime)
    if base is None:
        base = bases[features.eightbitmime] = _base(item, plan, keeps_8bit=features.eightbitmime)
    if isinstance(base, Failed):
        return base
    fields, links = base.fields, None
    for edit in plan:
        if edit.kind == "to_self":
            fields = edits.show_only(fields, with_a_labels(recipient))
        elif edit.kind in PER_COPY:
            links = links or signer.links(item, recipient)
            if edit.kind == "unsubscribe":
                fields = _with_unsubscribe(fields, edit, links)
    head_is_ascii = all(raw.isascii() for _, raw in fields)
    if item.meta.get("utf8") and not features.smtputf8 and not head_is_ascii:
        return Failed("5.6.9", "the next server does not take UTF-8 in headers", "")
    body: bytes | memoryview = base.body
    recoded = base.recoded
    if base.template is not None and links is not None:
        body = base.template.fill(links)
        if has_long_line(body):  # a link pushed a line over the limit (MSG-5)
            made = to_7bit(fields, body)
            if isinstance(made, Malformed):
                return Failed("5.6.3", made.detail, "")
            fields, body = made
            recoded = "MSG-5"
    copy = _signed(item, base, fields, body, signer, is_ascii=base.is_ascii and head_is_ascii)
    return copy._replace(recoded=recoded) if recoded and isinstance(copy, Rendered) else copy


def _base(item: Item, plan: Sequence[Edit], *, keeps_8bit: bool) -> Base | Failed:
    message = item.parsed()
    fields = edits.apply(message.fields, plan)
    body: bytes | memoryview = message.body
    base = Base(fields, body, is_ascii=message.is_ascii or _is_ascii(body))
    base.digest = item.body_hash
    is_asked = any(edit.kind == "recode" for edit in plan)
    if is_asked or not (base.is_ascii or keeps_8bit):
        base.recoded = "" if is_asked else "OUT-9"
        recoded = to_7bit(fields, body)
        if isinstance(recoded, Malformed):
            return Failed("5.6.3", recoded.detail, "")
        base.fields, base.body = recoded
        base.is_ascii, base.is_original, base.digest = True, False, ""
    if any(edit.kind == "placeholders" for edit in plan):
        base.template = template(base.fields, bytes(base.body))
    return base


def _is_ascii(body: bytes | memoryview) -> bool:
    """Looked at in pieces: a large body is not copied whole."""
    return all(bytes(body[at : at + PIECE_BYTES]).isascii() for at in range(0, len(body), PIECE_BYTES))


def _signed(
    item: Item, base: Base, fields: list[Field], body: bytes | memoryview, signer: Signer, *, is_ascii: bool
) -> Rendered | Deferred:
    domain = item.meta["domain"]
    is_ours = item.meta["class"] == "system"  # our own notices and reports: signed where the house has a key
    keys = signer.keys(domain, 0 if is_ours else item.tenant) if domain else ()
    if not keys and not is_ours:
        metrics.DKIM_FAILURES.inc()
        log.error(events.KEY_MISSING, queue_id=item.queue_id, domain=domain)
        return Deferred("4.7.5", "the signing key is missing on this gateway", "")
    if keys:
        if body is base.body:
            digest = base.digest = base.digest or body_hash(body)
            if base.is_original:
                item.body_hash = digest  # for the next round, or the next attempt
        else:
            digest = body_hash(body)
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


def is_per_copy(plan: Sequence[Edit]) -> bool:
    """Each recipient gets bytes of his own."""
    return any(edit.kind in PER_COPY for edit in plan)
