"""Sign an export of the ledger, so that anybody can check it without us (CONSENT-14, docs/ledger.md).

What is signed names the tenant, the head of its chain and the digest of the file: nobody else's chain, no part of it and no
changed line can pass for it. Only a head that stands in the ledger is signed.
"""

from __future__ import annotations

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.consent.ledger import GENESIS
from relay.consent.record import format_time
from relay.keyring import KeyringError
from relay.owner.args import Args
from relay.owner.desk import Desk, Result
from relay.owner.error import OwnerError
from relay.store.schema import consent_event

_HEX = frozenset("0123456789abcdef")


def sign(desk: Desk, args: Args) -> Result:
    """`tenant`, `events`, `sha256` of their lines, `seq` and `hash` of the last one (left out where there is none).

    Answers {"statement", "key", "signature"}: Ed25519 (RFC 8032) over the statement, key and signature in hex.
    """
    owner = desk.tenant(args.text("tenant"), gone=True)
    events, seq = args.number("events", 0, most=1 << 60), args.number("seq", 0, most=1 << 60)
    digest, head = args.text("sha256"), args.text("hash", GENESIS.hex())
    if len(digest) != 64 or not set(digest) <= _HEX:
        raise OwnerError("args.wrong", "sha256 is not a SHA-256 in hex")
    table = consent_event.c
    query = sa.select(table.hash).where(table.tenant_id == owner.id, table.seq == seq)
    found = desk.connection.scalar(query) if seq else GENESIS
    if found is None or found.hex() != head or events != seq:
        raise OwnerError("export.head", "this is not the chain of this tenant up to an event of it: export it again")
    statement = (
        f"zegel consent export 1\ntenant {owner.id} {owner.name}\nevents {events}\nhead {head}\n"
        f"sha256 {digest}\nmade {format_time(desk.now)}\n"
    )
    try:
        key = Ed25519PrivateKey.from_private_bytes(desk.keyring.export_key())
    except (OSError, KeyringError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OwnerError("storage", f"the key that signs exports cannot be had: {why}") from error
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    desk.note(events=events, head=head, key=public)
    return {"statement": statement, "key": public, "signature": key.sign(statement.encode()).hex()}
