"""Webhooks of tenants: where their marketing tools hear of who left, came back or was erased (GDPR-25)."""

from __future__ import annotations

import secrets
from typing import Any

import orjson
import sqlalchemy as sa

from relay.owner import hook_events
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.settings.endpoint import is_hook
from relay.store.schema import webhook, webhook_event

MOST_HOOKS = 5
"""Of one tenant."""
MOST_BEFORE = 4
"""Secrets that sign beside the newest one, each for the time that was said when it was replaced."""
MADE_SECONDS = 86_400
MOST_AGAIN = 5_000
"""Events that are sent again at one word."""
LIST_ROWS = 1_000
_REMEDY = "write it as https://crm.example.org/zegel, without a login or a # part; a domain of other letters as xn--..."


def add(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`, `url`; optional `events` (default: all), `with_address`. Answers the secret, this once.

    With `once` it may have been made already, by a run that was cut off before it could tell the secret.
    """
    owner, name = desk.tenant(args.text("tenant")), args.name("name")
    url = args.text("url", max_chars=1_000)
    if not is_hook(url):
        raise OwnerError("webhook.url", f"the address is no https address (http: on loopback): {_REMEDY}")
    wanted = args.texts("events") or []
    if not set(wanted) <= set(hook_events.KINDS):
        raise OwnerError("args.choice", f"events must be among {', '.join(hook_events.KINDS)}")
    values: dict[str, Any] = {
        "url": url,
        "events": " ".join(sorted(set(wanted))),
        "with_address": args.flag("with_address"),
    }
    if args.flag("once") and (made := _made(desk, owner, name, values)) is not None:
        return made
    names = set(desk.connection.scalars(sa.select(webhook.c.name).where(webhook.c.tenant_id == owner.id)))
    if name in names:
        raise OwnerError(
            "webhook.exists", f"tenant {owner.name} has a webhook {name} already: remove it, or rotate its key"
        )
    if len(names) >= MOST_HOOKS:
        raise OwnerError("webhook.too_many", f"a tenant has at most {MOST_HOOKS} webhooks: remove one")
    secret = _new_secret()
    values |= {
        "tenant_id": owner.id,
        "name": name,
        "secret": _sealed(desk, owner, name, secret),
        "created_at": desk.now,
    }
    desk.connection.execute(webhook.insert().values(**values))
    desk.note(name=name, events=values["events"], with_address=values["with_address"])
    return {**_shown(owner.name, _row(desk, owner, name)), "secret": secret}


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`: its webhooks, and for each what waits, what is dead, and how the last try ended."""
    owner = desk.tenant(args.text("tenant"))
    counts = {row["hook"]: row for row in hook_events.counted(desk, webhook.c.tenant_id == owner.id)}
    query = sa.select(webhook).where(webhook.c.tenant_id == owner.id).order_by(webhook.c.name)
    shown = []
    for row in desk.connection.execute(query):
        count = counts[row.id]
        numbers = {"waiting": count["waiting"], "dead": count["dead"], "oldest_at": count["oldest_at"] or None}
        shown.append({**_shown(owner.name, row), **numbers})
    return shown


def remove(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`: nothing is told there any more; what waits for it is deleted. With `once` it may be gone already."""
    owner, name = desk.tenant(args.text("tenant")), args.text("name")
    if args.flag("once") and not desk.connection.scalar(sa.select(webhook.c.id).where(_of(owner, name))):
        return {"tenant": owner.name, "name": name, "removed": True, "events_deleted": 0}
    row = _row(desk, owner, name)
    gone = desk.connection.execute(webhook_event.delete().where(webhook_event.c.webhook_id == row.id)).rowcount
    desk.connection.execute(webhook.delete().where(webhook.c.id == row.id))
    desk.note(name=row.name, events_deleted=gone)
    return {"tenant": owner.name, "name": row.name, "removed": True, "events_deleted": gone}


def rotate(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`; optional `hours` (24, 0 to 168) that the secret before signs too. Answers the new one, this once.

    One that is still to sign for a time goes on with it: who rotates again because an answer was lost must not lose the secret
    that the tool has. With 0 hours every one before ends.
    """
    owner = desk.tenant(args.text("tenant"))
    row = _row(desk, owner, args.text("name"))
    until = desk.now + args.number("hours", 24, most=168) * 3_600
    secret = _new_secret()
    before = [(until, row.secret), *hook_events.secrets_before(row, desk.now)][:MOST_BEFORE] if until > desk.now else []
    values = {
        "secret": _sealed(desk, owner, row.name, secret),
        "secret_before": orjson.dumps([[end, sealed.hex()] for end, sealed in before]),
        "before_until": max((end for end, _ in before), default=desk.now),
    }
    desk.connection.execute(webhook.update().where(webhook.c.id == row.id).values(**values))
    desk.note(name=row.name, before_until=until)
    return {"tenant": owner.name, "name": row.name, "secret": secret, "before_until": until}


def dead(desk: Desk, args: Args) -> Result:
    """`tenant`; optional `name`, `limit`: events that were given up, newest first, without whom they are about."""
    owner = desk.tenant(args.text("tenant"))
    query = (
        sa.select(webhook_event, webhook.c.name)
        .join(webhook)
        .where(webhook_event.c.tenant_id == owner.id, webhook_event.c.dead_at > 0)
    )
    if args.has("name"):
        query = query.where(webhook_event.c.webhook_id == _row(desk, owner, args.text("name")).id)
    limit = args.number("limit", LIST_ROWS, least=1, most=100_000)
    return [
        {
            "webhook": row.name,
            "event_id": row.event_id,
            "event": (hook_events.opened_body(desk.keyring, row) or {}).get("event"),
            "at": row.at,
            "dead_at": row.dead_at,
            "tries": row.tries,
            "failure": row.failure,
            "overtaken": row.overtaken,
        }
        for row in desk.connection.execute(query.order_by(webhook_event.c.id.desc()).limit(limit))
    ]


def retry(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`; optional `event` (its id): send what is dead again, and what waits now, of each the oldest 5,000.

    What was overtaken stays dead: the tool would take an old wish of somebody for a new one.
    """
    owner = desk.tenant(args.text("tenant"))
    row = _row(desk, owner, args.text("name"))
    events = webhook_event.c
    of_it = sa.and_(events.webhook_id == row.id, events.dead_at > 0)
    if args.has("event"):
        wanted = args.text("event")
        of_it = sa.and_(of_it, events.event_id == wanted)
        found = desk.connection.execute(sa.select(events.overtaken).where(of_it)).first()
        if found is None:
            raise OwnerError("webhook.no_event", "no dead event of this webhook has that id: see `zegel webhook dead`")
        if found.overtaken:
            text = "a later event of the same person was delivered since: the old one would undo it"
            raise OwnerError("webhook.overtaken", text)
    again = sa.and_(of_it, ~events.overtaken)
    count = _change(desk, again, dead_at=0.0, tries=0, due_at=0.0)
    _call(desk, row)
    desk.note(name=row.name, again=count)
    return {"tenant": owner.name, "name": row.name, "again": count}


def test(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`: an event `test` that is about nobody goes the way of all others."""
    owner = desk.tenant(args.text("tenant"))
    row = _row(desk, owner, args.text("name"))
    event_id = hook_events.tell_test(desk, row)
    _call(desk, row)
    desk.note(name=row.name)
    return {"tenant": owner.name, "name": row.name, "event_id": event_id}


def place_of_secret(owner: str, name: str) -> str:
    """What a sealed secret is bound to."""
    return f"secret\0{owner}\0{name}"


def _made(desk: Desk, owner: TenantRow, name: str, values: dict[str, Any]) -> dict[str, object] | None:
    """The answer to the making of this very webhook, of the last day, if it was made."""
    row = desk.connection.execute(sa.select(webhook).where(_of(owner, name))).first()
    if row is None or row.before_until or desk.now - row.created_at > MADE_SECONDS:
        return None
    if any(getattr(row, column) != value for column, value in values.items()):
        return None
    secret = hook_events.unseal(desk.keyring, place_of_secret(owner.name, name), row.secret)
    return None if secret is None else {**_shown(owner.name, row), "secret": secret.decode()}


def _of(owner: TenantRow, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(webhook.c.tenant_id == owner.id, webhook.c.name == name)


def _row(desk: Desk, owner: TenantRow, name: str) -> TenantRow:
    row = desk.connection.execute(sa.select(webhook).where(_of(owner, name))).first()
    if row is None:
        raise OwnerError("webhook.unknown", f"tenant {owner.name} has no such webhook: see `zegel webhook list`")
    return row


def _call(desk: Desk, row: TenantRow) -> None:
    """Have it tried now, and not when its pause is over."""
    events = webhook_event.c
    desk.connection.execute(webhook.update().where(webhook.c.id == row.id).values(called_at=desk.now))
    waiting = sa.and_(events.webhook_id == row.id, events.dead_at == 0, events.due_at > desk.now)
    _change(desk, waiting, due_at=0.0)


def _change(desk: Desk, which: sa.ColumnElement[bool], **values: float) -> int:
    """Not all of them at once: an opt-out waits behind it."""
    some = sa.select(webhook_event.c.id).where(which).order_by(webhook_event.c.id).limit(MOST_AGAIN)
    return desk.connection.execute(webhook_event.update().where(webhook_event.c.id.in_(some)).values(**values)).rowcount


def _sealed(desk: Desk, owner: TenantRow, name: str, secret: str) -> bytes:
    return hook_events.seal(desk.keyring, place_of_secret(owner.name, name), secret.encode())


def _new_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(32)}"


def _shown(owner: str, row: TenantRow) -> dict[str, object]:
    return {
        "tenant": owner,
        "name": row.name,
        "url": row.url,
        "events": row.events.split() or list(hook_events.KINDS),
        "with_address": row.with_address,
        "created_at": row.created_at,
        "before_until": row.before_until or None,
        "answered_at": row.answered_at or None,
        "failure": row.failure,
    }
