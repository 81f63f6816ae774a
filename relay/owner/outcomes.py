"""What became of mail after it left: bounces that delivery saw or a tenant tells of, and complaints (REP-2, REP-3, FB-6)."""

from __future__ import annotations

import sqlalchemy as sa

from relay.consent.suppression import ALL
from relay.mail.address import narrow
from relay.owner import objections
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import told_outcome
from relay.store.upsert import insert

MOST_ROWS = 500
KINDS = ("bounced", "complained")
BY_DELIVERY = "delivery"


def bounced(desk: Desk, args: Args) -> Result:
    """`rows` of `tenant` and `address`: addresses that a host says do not exist. A row that cannot be kept is left out."""
    stored = 0
    for row in args.rows("rows", MOST_ROWS):
        one = Args(row)
        try:
            owner = desk.tenant(one.text("tenant"))
            person = desk.person(owner.id, one.address("address"))
        except OwnerError:
            continue
        objections.keep_bounce(desk, person, source=BY_DELIVERY)
        stored += 1
    desk.note(stored=stored)
    return {"stored": stored}


def tell(desk: Desk, args: Args) -> Result:
    """`tenant`, `items` of `message` (a queue id), `address`, `kind`; `suppress`: nobody is there, so programs send nothing more.

    The same told twice is kept once; answers for each item whether it was `new`. Whoever asks has seen that the messages are the
    tenant's own.
    """
    owner = desk.tenant(args.text("tenant"))
    answers = []
    for row in args.rows("items", MOST_ROWS):
        one = Args(row)
        message, address = one.name("message"), one.address("address")
        kind, suppress = one.choice("kind", KINDS), one.flag("suppress")
        one.done()
        is_new = _is_new(desk, owner.id, f"{message}\0{narrow(address)}\0{kind}")
        answers.append({"new": is_new})
        if not is_new:
            continue
        person = desk.person(owner.id, address)
        if kind == "complained":
            objections.say_no(desk, person, scope=ALL, reason="complaint", event="objected", source="complaint")
        elif suppress:
            objections.keep_bounce(desk, person, source=desk.actor)
    desk.note(told=len(answers), new=sum(answer["new"] for answer in answers))
    return answers


def _is_new(desk: Desk, tenant_id: int, what: str) -> bool:
    """Keep that it was told, under a keyed hash; False where it was before, under any key."""
    hashes = desk.keyring.subject_hashes(f"outcome\0{tenant_id}\0{what}")
    known = sa.select(told_outcome.c.key).where(told_outcome.c.key.in_(hashes))
    if desk.connection.execute(known).first() is not None:
        return False
    insert(desk.connection, told_outcome, [{"key": hashes[0], "tenant_id": tenant_id, "at": desk.now}])
    return True
