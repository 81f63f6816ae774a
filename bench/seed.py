"""A gateway's data folder with tenants, logins, DKIM keys and as many consents as wanted, made fast and kept.

Tenants and logins are made by the owner's own operations, and so is one consent of each seed. Its row of consent_state
is the model for all others, written straight into the table in the order of their keys: all that a lookup reads, but
without the events behind it, whose writing would take hours for ten million. `zegel consent import` is measured apart.

The result lies in bench/out/seed-*, keyed by the source files that decide what is in it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load
from bench.build import BENCH, OUT, REPOSITORY
from bench.packages import Unavailable
from relay.cli.client import Link, keyring_for
from relay.consent.subject import consent_text, state_id
from relay.keyring import Keyring
from relay.mail.address import narrow
from relay.settings.model import Settings

PURPOSE = "newsletter"
SELECTOR = "bench"
STREAMS = ("marketing", "transactional")
SIGNING_TENANTS = 10  # a key takes a while to make; more tenants than these never send here
ACCOUNTS = "accounts.json"
ROWS_AT_A_TIME = 100_000
CONSENT = {
    "purpose": PURPOSE,
    "basis": "consent",
    "method": "web_form",
    "source": f"https://{load.SENDER_DOMAIN}/join",
    "given_at": "2026-01-02T10:00:00Z",
    "text": "Yes, send me the newsletter",
    "text_language": "en",
    "policy_url": f"https://{load.SENDER_DOMAIN}/privacy",
    "jurisdiction": "NL",
    "provenance": "own",
    "sensitive_audience": "no",
}


@dataclass(frozen=True, slots=True)
class Login:
    """A credential as `credential add` makes it."""

    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant: its domain, its logins by stream, and the DKIM key of the domain (base64, the p= of its record)."""

    name: str
    domain: str
    logins: dict[str, Login]
    public_key: str


def tenant_name(number: int) -> tuple[str, str]:
    """Name and domain of a tenant; number 0 is the one that the table is about."""
    return ("bench", load.SENDER_DOMAIN) if number == 0 else (f"tenant{number}", f"sender{number}.example")


def provide(folder: Path, *, tenants: int, consents: int) -> list[Tenant]:
    """Put `folder`/data and `folder`/keys there: `consents` in all, shared out evenly. Raises Unavailable.

    Each tenant's consents are those of the source's first recipients. The tenants that can send come back.
    """
    kept = OUT / f"seed-{tenants}x{consents // tenants}-{_state_of_sources()}"
    if not (kept / ACCOUNTS).exists():
        for old in OUT.glob(f"seed-{tenants}x{consents // tenants}-*"):
            shutil.rmtree(old)
        _make(kept, tenants=tenants, each=consents // tenants)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("data", "keys"):
        shutil.copytree(kept / name, folder / name)
    return read(kept)


def read(folder: Path) -> list[Tenant]:
    """The tenants of a made folder."""
    accounts: list[dict[str, Any]] = json.loads((folder / ACCOUNTS).read_text())
    return [
        Tenant(
            account["name"],
            account["domain"],
            {stream: Login(*pair) for stream, pair in account["logins"].items()},
            account["public_key"],
        )
        for account in accounts
    ]


def _state_of_sources() -> str:
    """Changes when a kept seed may no longer be what the gateway expects."""
    digest = hashlib.sha256()
    for part in ("relay/store", "relay/owner", "relay/consent"):
        for path in sorted((REPOSITORY / part).rglob("*.py")):
            digest.update(path.read_bytes())
    for path in (REPOSITORY / "relay/keyring.py", BENCH / "seed.py", BENCH / "load.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _make(folder: Path, *, tenants: int, each: int) -> None:
    settings = Settings.model_validate_json(
        json.dumps({"server": {"data_dir": str(folder / "data"), "keys_dir": str(folder / "keys")}})
    )
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(mode=0o700, parents=True)
    keyring = keyring_for(settings)
    accounts = []
    with Link(settings) as link:
        for number in range(tenants):
            account = _make_tenant(link, number)
            if number < SIGNING_TENANTS:
                accounts.append(account)
        model = link.call(
            "consent.import_rows",
            {"tenant": tenant_name(0)[0], "rows": [{**CONSENT, "email": load.recipient(0)}]},
        )
    if model["refused"]:
        raise Unavailable(f"the model of a consent is refused: {model['errors']}")
    _fill(settings.database_path, keyring, each)
    (folder / ACCOUNTS).write_text(json.dumps(accounts))


def _make_tenant(link: Link, number: int) -> dict[str, Any]:
    name, domain = tenant_name(number)
    link.call("tenant.add", {"name": name, "legal_name": "Sender Example B.V.", "contact": f"postmaster@{domain}"})
    link.call("domain.add", {"tenant": name, "domain": domain, "vouched": True})
    link.call("purpose.add", {"tenant": name, "name": PURPOSE, "title_nl": "de nieuwsbrief", "title_en": "the news"})
    account: dict[str, Any] = {"name": name, "domain": domain, "logins": {}, "public_key": ""}
    if number < SIGNING_TENANTS:
        made = link.call("dkim.add", {"domain": domain, "selector": SELECTOR, "vouched": True})
        account["public_key"] = _public_key(made)
    for stream in STREAMS:
        purpose = {"purpose": PURPOSE} if stream == "marketing" else {}
        made = link.call("credential.add", {"tenant": name, "stream": stream, **purpose})
        account["logins"][stream] = [made["username"], made["password"]]
    return account


def _public_key(made: dict[str, Any]) -> str:
    """The p= of a DKIM record as `dkim.add` answers it."""
    value = "".join(str(made["record"]["value"]).replace('"', "").split())
    return value.split("p=", 1)[1].partition(";")[0]


def _fill(database: Path, keyring: Keyring, each: int) -> None:
    """Write `each` consents for every tenant. The file is private to us: it is made anew when this is interrupted."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-500000")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(consent_state)")]
    (model,) = connection.execute("SELECT * FROM consent_state").fetchall()
    owners = [row[0] for row in connection.execute("SELECT id FROM tenant ORDER BY id")]
    if columns[:3] != ["id", "key", "tenant_id"]:
        raise Unavailable("consent_state no longer begins with id, key and tenant_id: adapt bench/seed.py")
    rest = model[3:]
    connection.execute("DELETE FROM consent_state")
    insert = f"INSERT INTO consent_state VALUES ({','.join('?' * len(columns))})"
    keys = sorted(_keys(keyring, owners, each), key=state_id)
    for at in range(0, len(keys), ROWS_AT_A_TIME):
        rows = ((state_id(key), key[:16], int.from_bytes(key[16:]), *rest) for key in keys[at : at + ROWS_AT_A_TIME])
        connection.executemany(insert, rows)
        connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _keys(keyring: Keyring, owners: list[int], each: int) -> Iterator[bytes]:
    """Key and owner (4 octets) of every consent, joined so that ten million of them still sort in memory."""
    addresses = [narrow(load.recipient(number)) for number in range(each)]
    for owner in owners:
        start, end = consent_text(owner, PURPOSE, ""), owner.to_bytes(4)
        for address in addresses:
            yield keyring.subject_hash(start + address) + end
