"""Who may send: tenants, domains, purposes, credentials and DKIM keys, as one snapshot in memory.

A process loads a snapshot when generation slot 0 has changed and drops the old one; nothing here touches the
database afterwards. Authentication costs one keyed digest, the same for a user that does not exist (AUTH).
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy.engine import Engine, Row

from relay.keyring import Keyring
from relay.mail.apikey import ApiKey
from relay.mail.envelope import NO_OWN_LIMITS, Account, Credential, Domain, OwnLimits, Purpose, Stream, Tenant
from relay.mail.face import NO_FACE, Face
from relay.store import Generation, StoreUnavailable, reading, schema

MAX_SECRET_CHARS = 256


class DkimKey(NamedTuple):
    """A private key in force; the same four values, in order, as `relay.dkim.sign.SigningKey`."""

    domain: str
    selector: str
    algorithm: str  # rsa-sha256 | ed25519-sha256
    key: RSAPrivateKey | Ed25519PrivateKey


class _Login(NamedTuple):
    key_id: int
    digest: bytes
    credential: Credential | None  # None: nobody, compared all the same


class _KeyPlace(NamedTuple):
    tenant_id: int
    selector: str
    algorithm: str


def secret_digest(keyring: Keyring, name: str, secret: str, *, key_id: int) -> bytes | None:
    """Keyed digest of a made secret, bound to its name; None where the keyring has no key `key_id`."""
    return keyring.digest(f"{name}\0{secret}".encode(), key_id)


def start_key(keyring: Keyring, tenant_id: int) -> str:
    """Public key of a tenant's start page of own data. It stands on his web site, so it lasts over rotations."""
    return keyring.lasting_hash(f"start\0{tenant_id}").hex()[:24]


class Directory:
    """A snapshot. Values are frozen and may be shared between tasks.

    One that was never loaded knows nobody, and says so by `is_known`: nobody may be refused on its word (PIPE-3).
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self.is_known = False
        self._tenants: dict[str, Tenant] = {}
        self._by_id: dict[int, Tenant] = {}
        self._logins: dict[str, _Login] = {}
        self._accounts: dict[str, Account] = {}
        self._with_purpose: dict[tuple[str, str], Account] = {}
        self._optins: dict[str, tuple[Tenant, Purpose]] = {}
        self._api_keys: dict[bytes, ApiKey] = {}
        self._faces: dict[int, Face] = {}
        self._starts: dict[str, Tenant] | None = None  # made when it is first asked: only the web process asks
        self._suspended: dict[int | str, float] = {}  # by id of the tenant or name of the login: since when
        self._key_places: dict[str, list[_KeyPlace]] = {}
        self._keys: dict[tuple[str, int | None], tuple[DkimKey, ...]] = {}
        self._nobody = _Login(keyring.current_digest_key_id, secrets.token_bytes(32), None)

    @classmethod
    def load(cls, source: Engine | str | Path, keyring: Keyring) -> Directory:
        """A snapshot of the database now. Raises StoreUnavailable or sqlalchemy.exc.SQLAlchemyError."""
        if isinstance(source, Engine):
            return cls(keyring)._fill(source)
        try:
            with reading(source) as engine:
                return cls(keyring)._fill(engine)
        except (ValueError, KeyError) as error:
            raise StoreUnavailable("the database holds what was never written: it is damaged", damaged=True) from error

    @classmethod
    def load_safely(cls, source: Path, keyring: Keyring, generation: Generation) -> Directory:
        """As `load`, but only of a database that is as its owner left it: a damaged one has lost logins. Raises the same."""
        if not generation.is_readable:
            raise StoreUnavailable("its owner has set the database aside")
        loaded = cls.load(source, keyring)
        if not generation.is_as_left(source):
            raise StoreUnavailable("somebody else has changed the database")
        return loaded

    def authenticate(self, username: str, password: str) -> Account | None:
        """The account behind a login, or None; in the same time whether the user exists or not.

        `name+purpose` chooses a purpose of the tenant. Who is suspended authenticates: the session answers
        `525 5.7.13` by `account.suspended` (THROTTLE-9).
        """
        name, plus, purpose = username.partition("+")
        login = self._logins.get(name, self._nobody)
        given = secret_digest(self._keyring, name, password[:MAX_SECRET_CHARS], key_id=login.key_id) or b""
        if not hmac.compare_digest(given, login.digest) or login.credential is None or login.credential.revoked:
            return None
        return self._for_purpose(name, purpose) if plus else self._accounts[name]

    def _for_purpose(self, name: str, purpose: str) -> Account | None:
        account = self._with_purpose.get((name, purpose))
        if account is None:
            plain = self._accounts[name]
            chosen = plain.tenant.purposes.get(purpose)
            if chosen is None:
                return None
            account = Account(plain.tenant, plain.credential, chosen)
            self._with_purpose[name, purpose] = account
        return account

    def account(self, credential_name: str) -> Account | None:
        """The account of a credential by name, `name+purpose` too, without a password (for `explain`); not a revoked one."""
        name, plus, purpose = credential_name.partition("+")
        account = self._accounts.get(name)
        if account is None or account.credential.revoked:
            return None
        return self._for_purpose(name, purpose) if plus else account

    def credentials_of(self, tenant: Tenant) -> list[Credential]:
        """The logins of a tenant that are in force, by name."""
        found = (login.credential for _, login in sorted(self._logins.items()))
        return [each for each in found if each is not None and each.tenant == tenant.name and not each.revoked]

    def suspended_since(self, tenant_id: int, credential_name: str) -> float | None:
        """When the tenant or this login of it was suspended, the first of the two; None: neither is (THROTTLE-9)."""
        suspended = self._suspended
        if not suspended:
            return None
        return min((suspended[key] for key in (tenant_id, credential_name) if key in suspended), default=None)

    def tenant(self, name: str) -> Tenant | None:
        return self._tenants.get(name)

    def tenant_by_id(self, tenant_id: int) -> Tenant | None:
        return self._by_id.get(tenant_id)

    def tenants(self) -> Iterator[Tenant]:
        """Every tenant, by name."""
        return iter(self._tenants.values())

    def optin(self, purpose_key: str) -> tuple[Tenant, Purpose] | None:
        """Tenant and purpose behind the public key of an opt-in form."""
        return self._optins.get(purpose_key)

    def face(self, tenant_id: int) -> Face:
        """How the pages of a tenant look."""
        return self._faces.get(tenant_id, NO_FACE)

    def with_logo(self, name: str) -> Tenant | None:
        """A tenant whose logo has that name."""
        return next((self._by_id[number] for number, face in self._faces.items() if face.logo == name), None)

    def start_page(self, key: str) -> Tenant | None:
        """The tenant whose start page of own data has that key (`start_key`)."""
        if self._starts is None:
            self._starts = {start_key(self._keyring, tenant.id): tenant for tenant in self._tenants.values()}
        return self._starts.get(key)

    def api_caller(self, secret: str) -> ApiKey | None:
        """An API key by its secret, or None; expired ones too. Looked up by keyed digest: its time tells nothing of it."""
        for key_id in self._keyring.digest_keys:
            digest = secret_digest(self._keyring, "api", secret[:MAX_SECRET_CHARS], key_id=key_id)
            found = self._api_keys.get(digest or b"")
            if found is not None:
                return found
        return None

    def keys_for(self, domain: str, tenant_id: int | None = None) -> tuple[DkimKey, ...]:
        """Active keys for mail from `domain` (A-labels), RSA first: its own, else those of the nearest parent.

        With `tenant_id` only keys of that tenant count. Empty where there is none, or where the private key
        cannot be read: `Domain.has_key` tells the two apart (DKIM-8).
        """
        cached = self._keys.get((domain, tenant_id))
        if cached is None:
            cached = self._keys[domain, tenant_id] = self._load_keys(domain, tenant_id)
        return cached

    def _load_keys(self, domain: str, tenant_id: int | None) -> tuple[DkimKey, ...]:
        owner, places = _nearest(self._key_places, domain, tenant_id)
        keys = []
        for place in places:
            pem = self._keyring.load_dkim(owner, place.selector)
            key = None if pem is None else load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
            if isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
                keys.append(DkimKey(owner, place.selector, place.algorithm, key))
        return tuple(sorted(keys, key=lambda key: key.algorithm != "rsa-sha256"))

    def _fill(self, engine: Engine) -> Directory:
        with engine.connect() as connection:
            self._fill_keys(connection)
            domains = self._read_domains(connection)
            purposes = self._read_purposes(connection)
            modes, settings = _read_modes(connection)
            limits = _read_limits(connection)
            for row in connection.execute(sa.select(schema.tenant).order_by(schema.tenant.c.name)):
                tenant = _tenant(row, domains, purposes, modes, settings, limits)
                self._by_id[tenant.id] = tenant
                if tenant.suspended:
                    self._suspended[tenant.id] = row.suspension_at
                if row.deleted_at:  # its links still lead somewhere, and nothing else does (GDPR-18)
                    continue
                self._tenants[tenant.name] = tenant
                for name, purpose in tenant.purposes.items():
                    self._optins[self._optin_keys[tenant.id, name]] = (tenant, purpose)
            self._fill_logins(connection)
            self._fill_faces(connection)
            table = schema.api_key
            for row in connection.execute(sa.select(table).where(table.c.revoked_at == 0)):
                scopes = frozenset(row.scopes.split())
                self._api_keys[row.digest] = ApiKey(self._by_id[row.tenant_id], row.name, scopes, row.expires_at)
        self.is_known = True
        return self

    def _fill_faces(self, connection: sa.Connection) -> None:
        table = schema.tenant_face.c
        for row in connection.execute(
            sa.select(table.tenant_id, table.colour, table.text_colour, table.logo, table.origins)
        ):
            origins = frozenset(row.origins.split())
            self._faces[row.tenant_id] = Face(row.colour, row.text_colour, row.logo, origins)

    def _fill_keys(self, connection: sa.Connection) -> None:
        table = schema.dkim_key
        for row in connection.execute(
            sa.select(table).where(table.c.state == "active").order_by(table.c.activated_at.desc())
        ):
            places = self._key_places.setdefault(row.domain, [])
            # One of each algorithm signs: the one activated last (DKIM-3, DKIM-9).
            if all(place.algorithm != row.algorithm for place in places):
                places.append(_KeyPlace(row.tenant_id, row.selector, row.algorithm))

    def _read_domains(self, connection: sa.Connection) -> dict[int, dict[str, Domain]]:
        result: dict[int, dict[str, Domain]] = {}
        for row in connection.execute(sa.select(schema.domain)):
            has_key = bool(_nearest(self._key_places, row.name, row.tenant_id)[1])
            domain = Domain(
                row.name,
                verified=row.verified_at > 0,
                vouched=row.vouched_at > 0,
                has_key=has_key,
                created_at=row.created_at,
            )
            result.setdefault(row.tenant_id, {})[row.name] = domain
        return result

    def _read_purposes(self, connection: sa.Connection) -> dict[int, dict[str, Purpose]]:
        result: dict[int, dict[str, Purpose]] = {}
        self._optin_keys: dict[tuple[int, str], str] = {}
        for row in connection.execute(sa.select(schema.purpose)):
            purpose = Purpose(row.name, row.controller, row.category, row.title_nl, row.title_en)
            result.setdefault(row.tenant_id, {})[row.name] = purpose
            self._optin_keys[row.tenant_id, row.name] = row.optin_key
        return result

    def _fill_logins(self, connection: sa.Connection) -> None:
        for row in connection.execute(sa.select(schema.credential)):
            tenant = self._by_id[row.tenant_id]
            credential = Credential(
                name=row.name,
                username=row.name,
                tenant=tenant.name,
                stream=Stream(row.stream),
                purpose=row.purpose,
                from_addresses=tuple(json.loads(row.from_addresses)),
                null_sender=row.null_sender,
                revoked=row.revoked_at > 0,
                suspended=row.suspended,
                created_at=row.created_at,
                warmup_behind=row.warmup_behind,
            )
            if row.suspended:
                self._suspended[row.name] = row.suspension_at
            self._logins[row.name] = _Login(row.key_id, row.digest, credential)
            self._accounts[row.name] = Account(tenant, credential, tenant.purposes.get(row.purpose))


def _nearest(places: Mapping[str, list[_KeyPlace]], domain: str, tenant_id: int | None) -> tuple[str, list[_KeyPlace]]:
    name = domain
    while name:
        found = [place for place in places.get(name, ()) if tenant_id is None or place.tenant_id == tenant_id]
        if found:
            return name, found
        name = name.partition(".")[2]
    return "", []


def tenant_of(connection: sa.Connection, row: Row[tuple[object, ...]]) -> Tenant:
    """One tenant as it is judged by what is on record of somebody: without domains and limits."""
    table = schema.purpose
    purposes = {
        found.name: Purpose(found.name, found.controller, found.category, found.title_nl, found.title_en)
        for found in connection.execute(sa.select(table).where(table.c.tenant_id == row.id))
    }
    modes, settings = _read_modes(connection, schema.policy_mode.c.tenant_id == row.id)
    return _tenant(row, {}, {row.id: purposes}, modes, settings, {})


def _read_modes(
    connection: sa.Connection, *where: sa.ColumnElement[bool]
) -> tuple[dict[int, dict[str, str]], dict[int, dict[str, Mapping[str, object]]]]:
    modes: dict[int, dict[str, str]] = {}
    settings: dict[int, dict[str, Mapping[str, object]]] = {}
    for row in connection.execute(sa.select(schema.policy_mode).where(*where)):
        key = f"{row.policy}/{row.stream}" if row.stream else row.policy
        if row.mode:
            modes.setdefault(row.tenant_id, {})[key] = row.mode
        if row.settings != "{}":
            settings.setdefault(row.tenant_id, {})[key] = json.loads(row.settings)
    return modes, settings


def _read_limits(connection: sa.Connection) -> dict[int, OwnLimits]:
    limits: dict[int, OwnLimits] = {}
    for row in connection.execute(sa.select(schema.own_limit)):
        limits.setdefault(row.tenant_id, OwnLimits())[row.scope, row.subject, row.name] = row.value
    return limits


def _tenant(
    row: Row[tuple[object, ...]],
    domains: Mapping[int, Mapping[str, Domain]],
    purposes: Mapping[int, Mapping[str, Purpose]],
    modes: Mapping[int, Mapping[str, str]],
    settings: Mapping[int, Mapping[str, Mapping[str, object]]],
    limits: Mapping[int, OwnLimits],
) -> Tenant:
    return Tenant(
        id=row.id,
        name=row.name,
        legal_name=row.legal_name,
        kind=row.kind,
        category=row.category,
        sensitive_audience=row.sensitive_audience,
        language=row.language,
        contact=row.contact,
        refusal_letters=row.refusal_letters,
        postal_address=row.postal_address,
        suspended=row.suspended,
        domains=domains.get(row.id, {}),
        purposes=purposes.get(row.id, {}),
        modes=modes.get(row.id, {}),
        settings=settings.get(row.id, {}),
        limits=limits.get(row.id, NO_OWN_LIMITS),
        grounds=grounds_of(row),
    )


def grounds_of(row: Any) -> frozenset[str]:
    """On what a tenant may advertise: the one place where `zegel tenant set` becomes what the consent policy asks."""
    switches = {
        "consent": True,
        "soft_optin": row.allow_soft_optin,
        "published_for_marketing": row.allow_published,
        "non_eea_b2b": row.allow_non_eea,
        "third_party": row.allow_third_party,
        "free_tier": row.free_tier_reason,
    }
    return frozenset(ground for ground, is_on in switches.items() if is_on)
