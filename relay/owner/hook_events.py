"""What marketing tools of tenants are told of (GDPR-25): a row for each webhook, in the commit of the change itself.

Theory of operation. Whoever changes what a person wants calls `tell` inside the same transaction, so there is no change
without its row, and no row without its change. The body is sealed with the keyring. The sender (relay.serve.hooks) asks
for `heads`: of each person at each webhook only the oldest row, so that a later one never overtakes it. `settle` takes
in what became of them: delivered rows are gone, others are due again later, or dead after the last try.
"""

from __future__ import annotations

import hmac
import os
import secrets
import struct
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.consent.record import format_time
from relay.consent.suppression import ALL
from relay.keyring import HASH_BYTES, Keyring
from relay.owner.args import Args
from relay.owner.desk import Desk, Person, Result, TenantRow
from relay.store.schema import tenant, webhook, webhook_event
from relay.store.upsert import insert

KINDS = ("unsubscribed", "complained", "confirmed", "suppressed", "unrestricted", "moved", "erased")
PAUSES = (10.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0, 86_400.0)
"""Between one try of an event and the next, in seconds: three days in all."""
GIVE_UP_SECONDS = sum(PAUSES)
CHANNELS = frozenset(("one_click", "page", "mailto", "my", "complaint", "delivery"))
MOST_HEADS = 100
_KEY = struct.Struct("!H")
_NONCE = 12


class News(NamedTuple):
    """What happened to somebody. `scope` is a purpose, or all; `source` as the ledger has it; `to` who he is after a move."""

    kind: str
    scope: str
    reason: str
    source: str = ""
    to: str = ""


def tell(desk: Desk, person: Person, news: News) -> None:
    """A row for every webhook of the tenant that wants to know. Never refuses: who leaves, leaves."""
    query = sa.select(webhook.c.id, webhook.c.events, webhook.c.with_address)
    hooks = [
        hook
        for hook in desk.connection.execute(query.where(webhook.c.tenant_id == person.tenant_id))
        if not hook.events or news.kind in hook.events.split()
    ]
    if not hooks:
        return
    address = _address(desk, person) if any(hook.with_address for hook in hooks) else ""
    channel = news.source if news.source in CHANNELS else desk.actor.partition(":")[0]
    said: dict[str, object] = {
        "event": news.kind,
        "at": format_time(desk.now),
        "scope": news.scope,
        "purpose": None if news.scope == ALL else news.scope,
        "reason": news.reason,
        "channel": channel,
        "subscriber": person.subscriber or None,
        "subject": person.hashes[0].hex(),
        **({"moved_to": news.to} if news.to else {}),
    }
    for hook in hooks:
        _put(desk, hook.id, person, {**said, "address": address or None} if hook.with_address else said)


def tell_test(desk: Desk, hook: TenantRow) -> str:
    """A row that is about nobody; its event id."""
    nobody = Person(hook.tenant_id, "", [os.urandom(HASH_BYTES)])
    return _put(desk, hook.id, nobody, {"event": "test", "at": format_time(desk.now)})


def forget(desk: Desk, person: Person) -> str:
    """Delete every row about a person (GDPR-8); the tool's own id for him, where one of them had it."""
    events = webhook_event.c
    where = sa.and_(events.tenant_id == person.tenant_id, events.subject.in_(person.hashes))
    found = desk.connection.execute(sa.select(webhook_event).where(where).order_by(events.id)).all()
    known = [opened["subscriber"] for opened in (opened_body(desk.keyring, row) for row in found) if opened]
    desk.connection.execute(webhook_event.delete().where(where))
    return next((subscriber for subscriber in reversed(known) if subscriber), "")


def seal(keyring: Keyring, place: str, data: bytes) -> bytes:
    """`data` encrypted under a key that is derived from the current subject key, bound to its place."""
    number, nonce = keyring.current_subject_key_id, os.urandom(_NONCE)
    return _KEY.pack(number) + nonce + _sealer(keyring.subject_keys[number]).encrypt(nonce, data, place.encode())


def unseal(keyring: Keyring, place: str, sealed: bytes) -> bytes | None:
    """What `seal` hid; None where the key is gone or the data were changed."""
    secret = keyring.subject_keys.get(_KEY.unpack_from(sealed)[0])
    if secret is None:
        return None
    start = _KEY.size + _NONCE
    try:
        return _sealer(secret).decrypt(sealed[_KEY.size : start], sealed[start:], place.encode())
    except InvalidTag:
        return None


def opened_body(keyring: Keyring, row: TenantRow) -> dict[str, Any] | None:
    """What a row tells; None where it cannot be opened."""
    plain = unseal(keyring, row.event_id, row.body)
    return None if plain is None else {"subscriber": None, **orjson.loads(plain)}


def secrets_before(row: TenantRow, now: float) -> list[tuple[float, bytes]]:
    """Those before the secret of a webhook that still sign, sealed, each with its end; the newest first."""
    if row.secret_before is None or row.before_until <= now:
        return []
    if not row.secret_before.startswith(b"["):  # one alone, as it was kept before there could be several
        return [(row.before_until, row.secret_before)]
    return [(end, bytes.fromhex(sealed)) for end, sealed in orjson.loads(row.secret_before) if end > now]


# -- for the sender ---------------------------------------------------------------------------------------------------


def lines(desk: Desk, args: Args) -> Result:
    """No arguments: every webhook for which something waits, with its secrets, sealed."""
    waits = sa.exists().where(webhook_event.c.webhook_id == webhook.c.id, webhook_event.c.dead_at == 0)
    query = sa.select(webhook, tenant.c.name.label("owner")).join(tenant).where(waits).order_by(webhook.c.id)
    return [
        {
            "hook": row.id,
            "tenant": row.owner,
            "name": row.name,
            "url": row.url,
            "called_at": row.called_at,
            "secrets": [row.secret.hex(), *(sealed.hex() for _, sealed in secrets_before(row, desk.now))],
        }
        for row in desk.connection.execute(query)
    ]


def heads(desk: Desk, args: Args) -> Result:
    """`hook`, `limit`: rows that are due and the oldest of their person, those first that were tried least."""
    hook, earlier = args.number("hook", 0, most=2**62), webhook_event.alias()
    events = webhook_event.c
    is_behind = sa.exists().where(
        earlier.c.webhook_id == hook,
        earlier.c.subject == events.subject,
        earlier.c.dead_at == 0,
        earlier.c.id < events.id,
    )
    query = sa.select(events.id, events.event_id, events.at, events.body).where(
        events.webhook_id == hook, events.dead_at == 0, events.due_at <= desk.now, ~is_behind
    )
    limit = args.number("limit", MOST_HEADS, least=1, most=MOST_HEADS)
    rows = desk.connection.execute(query.order_by(events.tries, events.id).limit(limit))
    return [{"id": row.id, "event_id": row.event_id, "at": row.at, "body": row.body.hex()} for row in rows]


def settle(desk: Desk, args: Args) -> Result:
    """`hook`, `told` (numbers of rows), `failed` (rows of `id` and `why`), `away`: the receiver itself was not to be had.

    Answers how many are `dead` by that. A row that is gone meanwhile, with its webhook or its person, changes nothing.
    """
    hook, away = args.number("hook", 0, most=2**62), args.flag("away")
    told = [Args(row).number("id", 0, most=2**62) for row in args.rows("told", MOST_HEADS)]
    events, dead = webhook_event.c, 0
    if told:
        _take_told(desk, hook, told)
    why = ""
    for given in args.rows("failed", MOST_HEADS):
        row = Args(given)
        number, why = row.number("id", 0, most=2**62), row.text("why", max_chars=200)
        tries = desk.connection.scalar(sa.select(events.tries).where(events.id == number, events.webhook_id == hook))
        if tries is None:
            continue
        is_last = tries >= len(PAUSES)
        values: dict[str, object] = {"tries": tries + 1, "failure": why}
        values |= {"dead_at": desk.now} if is_last else {"due_at": desk.now + PAUSES[tries]}
        desk.connection.execute(webhook_event.update().where(events.id == number).values(**values))
        dead += is_last
        if is_last:
            _forget_address(desk, events.id == number)
    if why:
        desk.connection.execute(webhook.update().where(webhook.c.id == hook).values(failure=why))
    if away:  # one that is away is tried with few: the others have had their time as well
        old = sa.and_(events.webhook_id == hook, events.dead_at == 0, events.at <= desk.now - GIVE_UP_SECONDS)
        _forget_address(desk, old)
        dead += desk.connection.execute(
            webhook_event.update().where(old).values(dead_at=desk.now, failure=why)
        ).rowcount
    return {"dead": dead}


def figures(desk: Desk, args: Args) -> Result:
    """No arguments: for every webhook how many events `waiting` and `dead` it has, and `oldest_at` of those that wait."""
    return counted(desk, sa.true())


def counted(desk: Desk, which: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    """The same of some webhooks: what waits of others costs nothing."""
    events = webhook_event.c
    waits = sa.case((events.dead_at == 0, 1), else_=0)
    counts = (
        sa.select(
            events.webhook_id,
            sa.func.sum(waits).label("waiting"),
            sa.func.sum(1 - waits).label("dead"),
            sa.func.min(sa.case((events.dead_at == 0, events.at))).label("oldest_at"),
        )
        .where(events.webhook_id.in_(sa.select(webhook.c.id).where(which)))
        .group_by(events.webhook_id)
        .subquery()
    )
    query = (
        sa.select(webhook.c.id, tenant.c.name, counts.c.waiting, counts.c.dead, counts.c.oldest_at)
        .join(tenant, tenant.c.id == webhook.c.tenant_id)
        .join(counts, counts.c.webhook_id == webhook.c.id, isouter=True)
        .where(which)
    )
    return [
        {"hook": row[0], "tenant": row[1], "waiting": row[2] or 0, "dead": row[3] or 0, "oldest_at": row[4] or 0.0}
        for row in desk.connection.execute(query)
    ]


def _forget_address(desk: Desk, which: sa.ColumnElement[bool]) -> None:
    """Of who was erased no address waits until somebody looks at what could not be told (GDPR-8)."""
    for row in desk.connection.execute(sa.select(webhook_event).where(which)).all():
        told = opened_body(desk.keyring, row)
        if told and told["event"] == "erased" and told.get("address"):
            body = seal(desk.keyring, row.event_id, orjson.dumps({**told, "address": None}))
            desk.connection.execute(webhook_event.update().where(webhook_event.c.id == row.id).values(body=body))


def _take_told(desk: Desk, hook: int, told: list[int]) -> None:
    events = webhook_event.c
    where = sa.and_(events.webhook_id == hook, events.id.in_(told))
    dead = sa.select(events.id).where(events.webhook_id == hook, events.dead_at > 0).limit(1)
    if desk.connection.execute(dead).first() is not None:
        for row in desk.connection.execute(sa.select(events.id, events.subject).where(where)).all():
            earlier = sa.and_(events.webhook_id == hook, events.subject == row.subject, events.id < row.id)
            desk.connection.execute(webhook_event.update().where(earlier, events.dead_at > 0).values(overtaken=True))
    desk.connection.execute(webhook_event.delete().where(where))
    values = {"answered_at": desk.now, "failure": ""}
    desk.connection.execute(webhook.update().where(webhook.c.id == hook).values(**values))


def _put(desk: Desk, hook: int, person: Person, said: dict[str, object]) -> str:
    """Behind what there is of this person already, under whichever hash key it came in."""
    events, event_id = webhook_event.c, f"evt_{secrets.token_hex(12)}"
    known = sa.select(events.subject).where(events.webhook_id == hook, events.subject.in_(person.hashes))
    subject = desk.connection.scalar(known.order_by(events.id).limit(1)) or person.hashes[0]
    row = {
        "webhook_id": hook,
        "tenant_id": person.tenant_id,
        "event_id": event_id,
        "subject": subject,
        "at": desk.now,
        "body": seal(desk.keyring, event_id, orjson.dumps({"id": event_id, **said})),
    }
    insert(desk.connection, webhook_event, [row])
    return event_id


def _address(desk: Desk, person: Person) -> str:
    """As given, or as the ledger has it last; "" where nobody knows."""
    if person.address:
        return person.address
    past = desk.ledger.latest(desk.connection, person.tenant_id, person.hashes)
    known = (event.personal["email"] for event in past if event.personal and event.personal.get("email"))
    return next((address for address in known if desk.is_own(person, address)), "")


def _sealer(secret: bytes) -> AESGCM:
    return AESGCM(hmac.digest(secret, b"zegel webhook seal", "sha256"))
