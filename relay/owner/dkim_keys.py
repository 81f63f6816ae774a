"""DKIM keys: the private key lies in the keyring's folder, the table knows its state (DKIM-2, -3, -8, -9)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from string import ascii_lowercase
from typing import Any

import sqlalchemy as sa

from relay.dkim import keys, rotation
from relay.dkim.sign import SigningKey
from relay.owner.args import Args
from relay.owner.desk import Desk, Result, TenantRow
from relay.owner.domains import owner_of, texts_at
from relay.owner.error import OwnerError
from relay.store.schema import dkim_key

ALGORITHMS = (keys.RSA, keys.ED25519)


def add(desk: Desk, args: Args) -> Result:
    """`domain`; optional `tenant`, `selector`, `algorithm` (rsa-sha256, ed25519-sha256), `vouched`: active without DNS."""
    name = args.domain("domain")
    owner = owner_of(desk, name, args.text("tenant", ""))
    algorithm = args.choice("algorithm", ALGORITHMS, keys.RSA)
    # A file without a row is left from a call that did not commit, or from before a restore: never overwritten.
    taken = set(desk.connection.scalars(sa.select(dkim_key.c.selector).where(dkim_key.c.domain == name)))
    taken |= desk.keyring.dkim_selectors(name)
    selector = args.text("selector", "").lower() or _next_selector(taken, desk.now)
    if selector in taken:
        raise OwnerError("dkim.exists", "that selector is in use for this domain: choose another, each key has its own")
    try:
        pem = keys.generate(name, selector, algorithm)
        signer = keys.load_pem(pem, name, selector, is_new=True)
    except ValueError as error:
        raise OwnerError("dkim.name", str(error)) from None
    if isinstance(signer, keys.BadKey):
        raise OwnerError("dkim.bad_key", signer.why)
    desk.keyring.store_dkim(name, selector, pem)
    statement = dkim_key.insert().values(
        tenant_id=owner.id,
        domain=name,
        selector=selector,
        algorithm=algorithm,
        state="inactive",
        record=keys.dns_record(signer).value,
        created_at=desk.now,
    )
    desk.connection.execute(statement)
    row = _row(desk, name, selector)
    vouched = args.flag("vouched")
    if vouched:
        _activate(desk, row, vouched=True)
    desk.note(domain=name, selector=selector, vouched=vouched)
    return _shown(_row(desk, name, selector))


def rotate(desk: Desk, args: Args) -> Result:
    """As `add`: a new key under a new selector. It takes over when `check` sees it in DNS, or at once with `vouched`.

    One at a time: a second one would leave the first published for nothing.
    """
    name, algorithm = args.domain("domain"), args.choice("algorithm", ALGORITHMS, keys.RSA)
    table = dkim_key.c
    same = sa.and_(table.domain == name, table.algorithm == algorithm, table.state == "inactive")
    waiting = desk.connection.scalar(sa.select(table.selector).where(same))
    if waiting is not None:
        raise OwnerError(
            "dkim.waiting",
            f"{waiting} is the next key already: publish what `zegel dkim dns {name}` prints, then check it",
        )
    return add(desk, args)


def dns(desk: Desk, args: Args) -> Result:
    """`domain`; optional `selector`, `keep_seconds`: the records to publish, those of retired keys last (DKIM-9).

    The record of a retired key stays for `keep_seconds`, which `until` tells; after that its p= is empty.
    """
    keep = args.number("keep_seconds", int(rotation.keep_seconds(rotation.QUEUE_HOURS)), most=1_000_000_000)
    wanted = {row.selector for row in _rows(desk, args)}
    everything = desk.connection.execute(sa.select(dkim_key).where(dkim_key.c.domain == args.domain("domain")))
    current, retired = [], []
    for shown in _all_shown(everything):
        if shown["selector"] not in wanted:
            continue
        record = dict(shown["record"])
        if shown["state"] != "retired":
            current.append(record)
        elif desk.now < shown["retired_at"] + keep:
            retired.append({**record, "until": shown["retired_at"] + keep})
        else:
            retired.append(keys.revoked_record(shown["domain"], shown["selector"])._asdict())
    return current + retired


def list_all(desk: Desk, args: Args) -> Result:
    """Optional `domain`, `tenant`. `retired_at` is when the next key took over."""
    query = sa.select(dkim_key).order_by(dkim_key.c.domain, dkim_key.c.created_at)
    if args.has("tenant"):
        query = query.where(dkim_key.c.tenant_id == desk.tenant(args.text("tenant")).id)
    if args.has("domain"):
        query = query.where(dkim_key.c.domain == args.domain("domain"))
    return _all_shown(desk.connection.execute(query))


def check(desk: Desk, args: Args) -> Result:
    """`domain`; optional `selector`; `seen`: {record name: [TXT texts]} as `relay.owner.questions` fetched it.

    A key that is seen becomes active; one that differs stays active and the time of the first difference is kept. A
    name that is not in `seen` was not answered, and changes nothing (DKIM-8).
    """
    seen = args.table("seen") or {}
    answers = []
    for row in _rows(desk, args):
        name = keys.record_name(row.domain, row.selector)
        if row.state == "retired":
            continue
        if name not in seen:
            answers.append({**_shown(row), "match": "unknown", "sentence": f"no answer from DNS for {name}: try again"})
            continue
        found = keys.check(texts_at(seen, name), _signer(desk, row))
        is_ours = found.match is keys.Match.MATCHES
        values = {"checked_at": desk.now, "mismatch_since": 0.0 if is_ours else row.mismatch_since or desk.now}
        desk.connection.execute(dkim_key.update().where(dkim_key.c.id == row.id).values(**values))
        if is_ours and row.state == "inactive":
            _activate(desk, row, vouched=False)
        answers.append(
            {**_shown(_row(desk, row.domain, row.selector)), "match": found.match.value, "sentence": found.sentence}
        )
    desk.note(matches={str(answer["selector"]): answer["match"] for answer in answers})
    return answers


def activate(desk: Desk, args: Args) -> Result:
    """`domain`, `selector`; `vouched` (audited), or `seen` as for `check`."""
    row = _row(desk, args.domain("domain"), args.text("selector"))
    vouched = args.flag("vouched")
    seen = args.table("seen") or {}
    if not vouched:
        found = keys.check(texts_at(seen, keys.record_name(row.domain, row.selector)), _signer(desk, row))
        if found.match is not keys.Match.MATCHES:
            raise OwnerError(
                "dkim.not_published", f"{found.sentence}: publish what `zegel dkim dns` prints, or use --vouched"
            )
    if row.state != "active":
        _activate(desk, row, vouched=vouched)
    desk.note(domain=row.domain, selector=row.selector, vouched=vouched)
    return _shown(_row(desk, row.domain, row.selector))


def questions(desk: Desk, args: Args) -> list[str]:
    """The names whose TXT records `check` and `activate` want to see."""
    return [keys.record_name(row.domain, row.selector) for row in _rows(desk, args) if row.state != "retired"]


def _activate(desk: Desk, row: TenantRow, *, vouched: bool) -> None:
    table = dkim_key.c
    older = sa.and_(
        table.domain == row.domain, table.algorithm == row.algorithm, table.state == "active", table.id != row.id
    )
    desk.connection.execute(dkim_key.update().where(older).values(state="retired"))
    values = {"state": "active", "activated_at": desk.now, "vouched_by": desk.actor if vouched else ""}
    desk.connection.execute(dkim_key.update().where(table.id == row.id).values(**values))


def _rows(desk: Desk, args: Args) -> list[TenantRow]:
    name = args.domain("domain")
    query = sa.select(dkim_key).where(dkim_key.c.domain == name).order_by(dkim_key.c.created_at, dkim_key.c.id)
    if args.has("selector"):
        query = query.where(dkim_key.c.selector == args.text("selector"))
    rows = list(desk.connection.execute(query))
    if not rows:
        raise OwnerError("dkim.unknown", "there is no such key: make one with `zegel dkim add`")
    desk.tenant_id = rows[0].tenant_id
    return rows


def _row(desk: Desk, name: str, selector: str) -> TenantRow:
    where = sa.and_(dkim_key.c.domain == name, dkim_key.c.selector == selector)
    row = desk.connection.execute(sa.select(dkim_key).where(where)).first()
    if row is None:
        raise OwnerError("dkim.unknown", "there is no such key: make one with `zegel dkim add`")
    desk.tenant_id = row.tenant_id
    return row


def _signer(desk: Desk, row: TenantRow) -> SigningKey:
    pem = desk.keyring.load_dkim(row.domain, row.selector)
    signer = keys.BadKey("the file is missing") if pem is None else keys.load_pem(pem, row.domain, row.selector)
    if isinstance(signer, keys.BadKey):
        raise OwnerError(
            "dkim.bad_key", f"the private key of {row.selector} cannot be used: {signer.why}; restore it from a backup"
        )
    return signer


def _next_selector(taken: set[str], now: float) -> str:
    """`g2026a`, `g2026b`, ...: a new one for each key (DKIM-9)."""
    year = datetime.fromtimestamp(now, UTC).year
    names = [f"g{year}{letter}" for letter in ascii_lowercase]
    names += [f"g{year}{first}{second}" for first in ascii_lowercase for second in ascii_lowercase]
    return next(name for name in names if name not in taken)


def _all_shown(rows: Iterable[TenantRow]) -> list[dict[str, Any]]:
    """All keys of a domain, or of more: when one was retired can be told from the next."""
    shown = [_shown(row) for row in rows]
    return [{**row, "retired_at": rotation.retired_at(row, shown)} for row in shown]


def _shown(row: TenantRow) -> dict[str, Any]:
    return {
        "domain": row.domain,
        "selector": row.selector,
        "algorithm": row.algorithm,
        "state": row.state,
        "vouched_by": row.vouched_by,
        "created_at": row.created_at,
        "activated_at": row.activated_at or None,
        "checked_at": row.checked_at or None,
        "mismatch_since": row.mismatch_since or None,
        "record": {"name": keys.record_name(row.domain, row.selector), "type": "TXT", "value": row.record},
    }
