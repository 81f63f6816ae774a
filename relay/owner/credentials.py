"""Credentials: made here, shown once, stored as a keyed digest (design, "made, not chosen")."""

from __future__ import annotations

import secrets
import string

import orjson
import sqlalchemy as sa

from relay.directory import secret_digest
from relay.mail.envelope import Stream
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import credential, tenant

DAY_SECONDS = 86_400.0
SECRET_CHARACTERS = 32  # of 62: 190 bits, beyond guessing
_ALPHABET = string.ascii_letters + string.digits  # a leading dash would be an option to some clients


def made_secret() -> str:
    """A long random secret that can be pasted anywhere: letters and digits only."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))


def add(desk: Desk, args: Args) -> Result:
    """`tenant`, `stream`; optional `purpose` (marketing only), `from` (list of addresses), `null_sender`, `name`.

    The answer has exactly the keys of the contract; `password` is never shown again.
    """
    owner = desk.tenant(args.text("tenant"))
    stream = args.choice("stream", [member.value for member in Stream])
    purpose = args.text("purpose", "")
    if purpose and stream != Stream.MARKETING:
        raise OwnerError("credential.purpose", f"a purpose belongs to stream marketing, not {stream}: leave it out")
    if purpose:
        desk.purpose(owner, purpose)
    addresses = [Args({"from": address}).address("from") for address in args.texts("from") or ()]
    name = _free_name(desk, args.name("name", ""), f"{owner.name}-{purpose or stream}")
    password = made_secret()
    key_id = desk.keyring.current_digest_key_id
    statement = credential.insert().values(
        tenant_id=owner.id,
        name=name,
        stream=stream,
        purpose=purpose,
        from_addresses=orjson.dumps(addresses).decode(),
        null_sender=args.flag("null_sender"),
        key_id=key_id,
        digest=secret_digest(desk.keyring, name, password, key_id=key_id),
        created_at=desk.now,
    )
    desk.connection.execute(statement)
    desk.note(name=name, stream=stream, purpose=purpose)
    return {
        "name": name,
        "username": name,
        "password": password,
        "tenant": owner.name,
        "stream": stream,
        "purpose": purpose or None,
    }


def list_all(desk: Desk, args: Args) -> Result:
    """Optional `tenant`."""
    query = sa.select(credential, tenant.c.name.label("owner")).join(tenant).order_by(credential.c.name)
    if args.has("tenant"):
        query = query.where(credential.c.tenant_id == desk.tenant(args.text("tenant")).id)
    return [
        {
            "name": row.name,
            "username": row.name,
            "tenant": row.owner,
            "stream": row.stream,
            "purpose": row.purpose or None,
            "from": orjson.loads(row.from_addresses),
            "null_sender": row.null_sender,
            "created_at": row.created_at,
            "revoked_at": row.revoked_at or None,
            "suspended": row.suspended,
            "suspended_reason": row.suspended_reason,
        }
        for row in desk.connection.execute(query)
    ]


def revoke(desk: Desk, args: Args) -> Result:
    """`name`; optional `tenant`, which must then own it. Revoking twice changes nothing."""
    name = args.text("name")
    query = sa.select(credential.c.id, credential.c.tenant_id, credential.c.revoked_at).where(credential.c.name == name)
    if args.has("tenant"):
        query = query.where(credential.c.tenant_id == desk.tenant(args.text("tenant")).id)
    row = desk.connection.execute(query).first()
    if row is None:
        raise OwnerError("credential.unknown", "there is no such credential: see `zegel credential list`")
    desk.tenant_id = row.tenant_id
    revoked_at = row.revoked_at or desk.now
    desk.connection.execute(credential.update().where(credential.c.id == row.id).values(revoked_at=revoked_at))
    desk.note(name=name)
    return {"name": name, "revoked_at": revoked_at}


def alarm(desk: Desk, args: Args) -> Result:
    """`name`: it raised an alarm, so the next day of its warm-up allows no more (THROTTLE-3). Once in each day of that."""
    name = args.text("name")
    table = credential.c
    row = desk.connection.execute(
        sa.select(table.id, table.tenant_id, table.created_at).where(table.name == name)
    ).first()
    if row is None:
        raise OwnerError("credential.unknown", "there is no such credential: see `zegel credential list`")
    desk.tenant_id = row.tenant_id
    today = row.created_at + (desk.now - row.created_at) // DAY_SECONDS * DAY_SECONDS
    statement = credential.update().where(table.id == row.id, table.alarm_at < today)
    desk.connection.execute(statement.values(alarm_at=desk.now, warmup_behind=table.warmup_behind + 1))
    desk.note(name=name)
    return {"name": name}


def _free_name(desk: Desk, wanted: str, base: str) -> str:
    """`wanted`, or the first free name made from `base`."""
    if wanted:
        if desk.connection.scalar(sa.select(credential.c.id).where(credential.c.name == wanted)):
            raise OwnerError("credential.exists", f"there is a credential {wanted} already: choose another name")
        return wanted
    like = credential.c.name.startswith(base, autoescape=True)
    taken = set(desk.connection.scalars(sa.select(credential.c.name).where(like)))
    number = 1
    name = base
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name
