"""Limits that an operator sets for one tenant, or for one of its logins, streams or From domains (THROTTLE-1, -2)."""

from __future__ import annotations

import sqlalchemy as sa

from relay.counters.contract import SUDDEN, WARM_UP
from relay.mail.envelope import Stream
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.error import OwnerError
from relay.store.schema import credential, domain, own_limit
from relay.store.upsert import upsert

MOST = 1_000_000_000
MOST_AT_THE_DOOR = 1_000_000
PACES = ("messages_per_minute", "recipients_per_day", "first_time_recipients_per_day")
COUNTED = (*PACES, WARM_UP, SUDDEN)
AT_THE_DOOR = ("recipients_per_message", "connections_per_address", "failed_logins_per_10_minutes")
NAMES = (*PACES, *AT_THE_DOOR)
DEFAULT = "default"
SCOPES = ("credential", "stream", "domain")


def change(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`, `value` (0: no limit; none: back to what the config says); one of `credential`, `stream`, `domain`."""
    owner = desk.tenant(args.text("tenant"))
    name = args.choice("name", NAMES)
    scope, subject = place(desk, args, owner)
    if scope == "domain" and name in AT_THE_DOOR:
        raise OwnerError("limit.scope", f"{name} is known before the From field is: leave --domain out")
    if name == "first_time_recipients_per_day" and scope == "domain":
        raise OwnerError("limit.scope", f"{name} counts what one login does: leave --domain out")
    if name == "first_time_recipients_per_day" and (scope, subject) == ("stream", "marketing"):
        raise OwnerError(
            "limit.scope", f"{name} is of personal and transactional mail: a campaign goes by its consents"
        )
    table = own_limit.c
    where = sa.and_(table.tenant_id == owner.id, table.scope == scope, table.subject == subject, table.name == name)
    if args.has("value"):
        value = args.number(
            "value", 0, least=int(name in AT_THE_DOOR), most=MOST_AT_THE_DOOR if name in AT_THE_DOOR else MOST
        )
        row = {"tenant_id": owner.id, "scope": scope, "subject": subject, "name": name, "value": value}
        upsert(desk.connection, own_limit, [{**row, "changed_at": desk.now}])
    else:
        value = None
        desk.connection.execute(own_limit.delete().where(where))
    desk.note(scope=scope, subject=subject, name=name, value=value)
    return {"tenant": owner.name, "scope": scope, "subject": subject or owner.name, "name": name, "value": value}


def reset(desk: Desk, args: Args) -> Result:
    """`tenant`; `name`, and one of `credential`, `stream`, `domain`, `client`: writes down who lifts what. The counts lie
    elsewhere.
    """
    owner = desk.tenant(args.text("tenant"))
    name = args.choice("name", COUNTED, "")
    scope, subject = ("client", args.text("client")) if args.has("client") else place(desk, args, owner)
    desk.note(scope=scope, subject=subject, name=name)
    return {"tenant": owner.name, "scope": scope, "subject": subject or owner.name, "name": name or None}


def find(desk: Desk, args: Args) -> Result:
    """`tenant`; one of `credential`, `stream`, `domain`: whose limit that is, as it is counted."""
    owner = desk.tenant(args.text("tenant"))
    scope, subject = place(desk, args, owner)
    return {"tenant": owner.name, "scope": scope, "subject": subject}


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`: what is set for it; everything else follows the configuration."""
    owner = desk.tenant(args.text("tenant"))
    order = (own_limit.c.scope, own_limit.c.subject, own_limit.c.name)
    query = sa.select(own_limit).where(own_limit.c.tenant_id == owner.id).order_by(*order)
    return [
        {"tenant": owner.name, "scope": row.scope, "subject": row.subject or owner.name, "name": row.name}
        | {"value": row.value, "changed_at": row.changed_at}
        for row in desk.connection.execute(query)
    ]


def place(desk: Desk, args: Args, owner: TenantRow) -> tuple[str, str]:
    """(scope, subject) that the arguments name; ("tenant", "") where they narrow nothing. Raises OwnerError."""
    given = [scope for scope in SCOPES if args.has(scope)]
    if len(given) > 1:
        raise OwnerError("limit.scope", "a limit is of one login, one stream or one domain: name one of them")
    if not given:
        return "tenant", ""
    scope = given[0]
    if scope == "stream":
        return scope, args.choice("stream", [member.value for member in Stream])
    subject = args.domain("domain") if scope == "domain" else args.text("credential")
    table = credential if scope == "credential" else domain
    query = sa.select(table.c.id).where(table.c.tenant_id == owner.id, table.c.name == subject)
    if desk.connection.execute(query).first() is None:
        raise OwnerError(f"{scope}.unknown", f"tenant {owner.name} has no such {scope}: see `zegel {scope} list`")
    return scope, subject
