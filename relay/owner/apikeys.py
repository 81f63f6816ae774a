"""Keys of tenants for /api/v1: made here, shown once, stored as a keyed digest; with scopes, and an end if need be."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from relay.directory import secret_digest
from relay.mail.apikey import ALL, Scope
from relay.owner.args import Args
from relay.owner.credentials import made_secret
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import api_key

PREFIX = "zk_"  # so that a secret scanner can find a leaked one
DAY = 86_400
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def add(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`; optional `scopes` (default: every one) and `expires`. The answer holds the `secret`, once."""
    owner = desk.tenant(args.text("tenant"))
    name = args.name("name")
    scopes = _scopes(args)
    expires_at = _expiry(desk, args)
    table = api_key.c
    if desk.connection.scalar(sa.select(table.id).where(table.tenant_id == owner.id, table.name == name)):
        raise OwnerError("apikey.exists", f"tenant {owner.name} has an API key {name} already: choose another name")
    secret = PREFIX + made_secret()
    key_id = desk.keyring.current_digest_key_id
    digest = secret_digest(desk.keyring, "api", secret, key_id=key_id)
    values = {"tenant_id": owner.id, "name": name, "key_id": key_id, "digest": digest, "created_at": desk.now}
    desk.connection.execute(api_key.insert().values(**values, scopes=" ".join(scopes), expires_at=expires_at))
    desk.note(name=name, scopes=scopes, expires_at=expires_at)
    return {
        "tenant": owner.name,
        "name": name,
        "secret": secret,
        "scopes": scopes,
        "expires_at": expires_at or None,
    }


def list_all(desk: Desk, args: Args) -> Result:
    """`tenant`. `used_on` is the day of the last use (UTC), no more exact."""
    owner = desk.tenant(args.text("tenant"))
    query = sa.select(api_key).where(api_key.c.tenant_id == owner.id).order_by(api_key.c.name)
    return [
        {
            "tenant": owner.name,
            "name": row.name,
            "scopes": row.scopes.split(),
            "created_at": row.created_at,
            "expires_at": row.expires_at or None,
            "used_on": datetime.fromtimestamp(row.used_at, UTC).date().isoformat() if row.used_at else None,
            "revoked_at": row.revoked_at or None,
        }
        for row in desk.connection.execute(query)
    ]


def revoke(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`."""
    owner = desk.tenant(args.text("tenant"))
    name = args.text("name")
    table = api_key.c
    statement = api_key.update().where(table.tenant_id == owner.id, table.name == name, table.revoked_at == 0)
    if not desk.connection.execute(statement.values(revoked_at=desk.now)).rowcount:
        raise OwnerError("apikey.unknown", "there is no such API key in force: see `zegel apikey list`")
    desk.note(name=name)
    return {"tenant": owner.name, "name": name, "revoked_at": desk.now}


def used(desk: Desk, args: Args) -> Result:
    """`tenant`, `name`: it was used today. Whoever cleans up sees which keys nobody needs."""
    owner = desk.tenant(args.text("tenant"))
    table = api_key.c
    day = desk.now // DAY * DAY
    where = sa.and_(table.tenant_id == owner.id, table.name == args.text("name"), table.used_at < day)
    desk.connection.execute(api_key.update().where(where).values(used_at=day))
    return {}


def _scopes(args: Args) -> list[str]:
    """Each once, in the order of the list of all."""
    known = [ALL, *(scope.value for scope in Scope)]
    given = args.texts("scopes") or [ALL]
    strange = sorted(set(given) - set(known))
    if strange:
        # What was given is not repeated: it may hold anything.
        raise OwnerError("apikey.scope", f"a scope is one of {', '.join(known)}")
    return [scope for scope in known if scope in given]


def _expiry(desk: Desk, args: Args) -> float:
    """0 for never. A bare date counts to the end of that day, UTC."""
    if not args.has("expires"):
        return 0.0
    text = args.text("expires")
    if _DATE.fullmatch(text):
        try:
            at = (datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
        except (ValueError, OverflowError):
            raise OwnerError("args.time", "expires is no date: write it as 2027-01-31") from None
    else:
        at = args.time("expires", 0.0)
    if at <= desk.now:
        raise OwnerError("apikey.expired", "a key cannot expire in the past: give a later date, or none")
    return at
