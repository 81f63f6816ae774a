"""The owner: operations by name, all or nothing, one process at a time, and a counter that tells readers."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from relay import store
from relay.consent.erased import FILE as LIST
from relay.consent.erased import Deleted, Erased, read_list
from relay.dkim import keys
from relay.keyring import Keyring, Kind
from relay.mail.envelope import Domain
from relay.owner import OPERATIONS, READ_ONLY, Owner, OwnerError, Reader
from relay.store import schema
from relay.store.generation import CONSENT, DIRECTORY, Generation
from tests.contract.conftest import START, World

_SPOILT = ["A\r\nBcc: x", "A\nB", "A\0B", "A\x7fB", "A\u2028B"]


def test_show_prints_what_add_took(world: World) -> None:
    took = {
        "name": "kerk", "legal_name": "Stichting Kerk", "kind": "charity", "category": "church", "sensitive_audience": True,
        "language": "en", "contact": "office@kerk.example", "postal_address": "Plein 1, Utrecht",
    }  # fmt: skip
    world.call("tenant.add", **took)
    shown = world.call("tenant.show", name="kerk")
    assert {name: shown[name] for name in took} == took
    assert shown["suspended"] is False
    world.call("tenant.set", name="kerk", language="nl")
    changed = world.call("tenant.show", name="kerk")
    assert (changed["language"], changed["legal_name"]) == ("nl", "Stichting Kerk")
    assert [tenant["name"] for tenant in world.call("tenant.list")] == ["kerk", "shop"]


@pytest.mark.parametrize("text", _SPOILT, ids=repr)
def test_no_text_with_a_control_character_gets_in(world: World, text: str) -> None:
    """MSG-7."""
    calls = [
        ("tenant.add", {"name": text}),
        ("tenant.add", {"name": "x", "legal_name": text}),
        ("tenant.set", {"name": "shop", "postal_address": text}),
        ("purpose.add", {"tenant": "shop", "name": "p", "title_nl": text}),
        ("domain.add", {"tenant": "shop", "domain": text}),
        ("credential.add", {"tenant": "shop", "stream": "personal", "name": text}),
        ("suppression.add", {"tenant": "shop", "address": f"{text}@example.net"}),
    ]
    for op, args in calls:
        assert world.refused(op, **args).startswith("args."), op
    assert [tenant["name"] for tenant in world.call("tenant.list")] == ["shop"]
    assert world.call("domain.list") == []


def test_a_refused_call_changes_nothing_and_says_what_to_do(world: World) -> None:
    before = _rows(world)
    assert world.refused("tenant.add", name="SHOP") == "tenant.exists"
    assert world.refused("tenant.add", name="x", kind="bakery") == "args.choice"
    assert world.refused("tenant.add", name="x", colour="blue") == "args.unknown"
    assert world.refused("tenant.show", name="nobody") == "tenant.unknown"
    assert world.refused("nothing.at_all") == "op.unknown"
    assert world.refused("purpose.add", tenant="shop", name="all") == "purpose.reserved"
    assert world.refused("purpose.add", tenant="shop", name="two words") == "args.name"
    assert world.refused("credential.add", tenant="shop", stream="personal", purpose="offers") == "credential.purpose"
    assert world.refused("consent.give", tenant="shop", email="ann@example.net") == "consent.incomplete"
    assert world.refused("domain.add", tenant="shop", domain="gmail.com") == "domain.freemail"
    for suffix in ("co.uk", "CO.UK", "github.io"):
        assert world.refused("domain.add", tenant="shop", domain=suffix, vouched=True) == "domain.public_suffix"
    assert _rows(world) == before


def test_calls_of_one_batch_stand_or_fall_alone(world: World) -> None:
    answers = world.owner.call_many(
        [
            ("tenant.add", {"name": "one"}, "operator"),
            ("tenant.add", {"name": "shop"}, "operator"),
            ("purpose.add", {"tenant": "one", "name": "news"}, "operator"),
        ]
    )
    assert isinstance(answers[1], OwnerError) and answers[1].code == "tenant.exists"
    assert isinstance(answers[2], dict) and answers[2]["tenant"] == "one"


def test_readers_are_told_after_the_commit(world: World) -> None:
    generation = Generation.open(world.settings.server.data_dir)
    before = (generation.read(DIRECTORY), generation.read(CONSENT))
    world.call("tenant.add", name="one")
    assert (generation.read(DIRECTORY), generation.read(CONSENT)) == (before[0] + 1, before[1])
    world.give()
    assert (generation.read(DIRECTORY), generation.read(CONSENT)) == (before[0] + 1, before[1] + 1)
    world.refused("tenant.add", name="one")
    world.call("tenant.list")
    assert (generation.read(DIRECTORY), generation.read(CONSENT)) == (before[0] + 1, before[1] + 1)
    generation.close()


def test_a_folder_has_one_owner(world: World) -> None:
    with pytest.raises(OwnerError) as caught:
        Owner.open(world.settings, world.keyring)
    assert caught.value.code == "owner.busy"
    world.owner.close()
    world.owner = Owner.open(world.settings, world.keyring, now=lambda: world.now)
    assert world.call("tenant.show", name="shop")["legal_name"] == "Shop BV"


def test_every_change_leaves_an_audit_row_without_an_address(world: World) -> None:
    """GDPR-2."""
    world.owner.call("suppression.add", {"tenant": "shop", "address": "ann@example.net"}, actor="operator:eva")
    world.call("tenant.list")
    rows = _audit(world)
    assert (rows[-1].op, rows[-1].actor, rows[-1].tenant_id, rows[-1].at) == (
        "suppression.add",
        "operator:eva",
        1,
        START,
    )
    assert "ann" not in rows[-1].detail and '"subject"' in rows[-1].detail
    assert {row.op for row in rows} == {"tenant.add", "purpose.add", "suppression.add"}


def test_a_reader_answers_what_only_reads(world: World) -> None:
    world.give()
    reader = Reader.open(world.settings, world.keyring, now=lambda: world.now)
    assert reader.call("consent.verify", {"tenant": "shop"}) == world.call("consent.verify", tenant="shop")
    with pytest.raises(OwnerError) as caught:
        reader.call("tenant.add", {"name": "x"})
    assert caught.value.code == "op.writes"
    reader.close()
    assert {"consent.verify", "tenant.list", "domain.list"} <= READ_ONLY < set(OPERATIONS)


def test_a_credential_has_the_keys_of_the_contract_and_works_once_made(world: World) -> None:
    made = world.call("credential.add", tenant="shop", stream="marketing", purpose="newsletter")
    assert list(made) == ["name", "username", "password", "tenant", "stream", "purpose"]
    assert len(made["password"]) >= 32
    account = world.directory().authenticate(made["username"], made["password"])
    assert account is not None and account.purpose is not None
    assert (account.tenant.name, account.credential.stream, account.purpose.name) == ("shop", "marketing", "newsletter")
    other = world.directory().authenticate(f"{made['username']}+offers", made["password"])
    assert other is not None and other.purpose is not None and other.purpose.name == "offers"
    for username, password in (
        (made["username"], made["password"][:-1]),
        (made["username"] + "+nothing", made["password"]),
        ("nobody", made["password"]),
        (made["username"], ""),
    ):
        assert world.directory().authenticate(username, password) is None
    world.call("credential.revoke", name=made["name"])
    assert world.directory().authenticate(made["username"], made["password"]) is None
    assert world.directory().account(made["name"]) is None


def test_names_of_credentials_do_not_collide(world: World) -> None:
    names = [world.call("credential.add", tenant="shop", stream="personal")["name"] for _ in range(3)]
    assert names == ["shop-personal", "shop-personal-2", "shop-personal-3"]


def test_no_secret_is_stored_or_listed(world: World) -> None:
    made = world.call("credential.add", tenant="shop", stream="personal", **{"from": ["ann@shop.example"]})
    key = world.call("apikey.add", tenant="shop", name="tool")
    listed = repr([world.call("credential.list"), world.call("apikey.list", tenant="shop")])
    content = b"".join(path.read_bytes() for path in world.settings.server.data_dir.iterdir())
    for secret in (made["password"], key["secret"]):
        assert secret not in listed
        assert secret.encode() not in content
    assert world.call("credential.list", tenant="shop")[0]["from"] == ["ann@shop.example"]


def test_an_api_key_names_its_tenant_until_revoked(world: World) -> None:
    secret = world.call("apikey.add", tenant="shop", name="tool")["secret"]
    found = world.directory().api_caller(secret)
    assert found is not None and (found.tenant.name, found.name) == ("shop", "tool")
    assert world.directory().api_caller(secret + "x") is None
    world.call("apikey.revoke", tenant="shop", name="tool")
    assert world.directory().api_caller(secret) is None


def test_an_api_key_has_scopes_an_end_and_the_day_of_its_use(world: World) -> None:
    made = world.call(
        "apikey.add", tenant="shop", name="tool", scopes=["consents:write", "limits:read"], expires="2026-03-31"
    )
    end = 1_775_001_600.0  # 2026-04-01T00:00:00Z: the day itself still counts
    assert (made["scopes"], made["expires_at"]) == (["consents:write", "limits:read"], end)
    found = world.directory().api_caller(made["secret"])
    assert found is not None and found.may("limits:read") and not found.may("held:read")
    assert not found.has_expired(end - 1) and found.has_expired(end)
    world.call("apikey.add", tenant="shop", name="zz")
    before = world.owner._generation.read(DIRECTORY)
    world.now = START + 5_000
    for _ in range(2):
        world.call("apikey.used", tenant="shop", name="tool")
    assert world.owner._generation.read(DIRECTORY) == before, "a use is no change of the directory"
    tool, other = world.call("apikey.list", tenant="shop")
    assert (tool["used_on"], tool["expires_at"], tool["scopes"]) == ("2026-01-02", end, made["scopes"])
    assert (other["used_on"], other["expires_at"], other["scopes"]) == (None, None, ["all"])
    world.now = START + 86_400
    world.call("apikey.used", tenant="shop", name="tool")
    assert world.call("apikey.list", tenant="shop")[0]["used_on"] == "2026-01-03"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"scopes": ["consents"]}, "apikey.scope"),
        ({"scopes": ["all", "ann@example.net"]}, "apikey.scope"),
        ({"expires": "2026-01-01"}, "apikey.expired"),
        ({"expires": "2026-01-02T10:00:00Z"}, "apikey.expired"),
        ({"expires": "2026-02-30"}, "args.time"),
        ({"expires": "9999-12-31"}, "args.time"),
        ({"expires": "soon"}, "args.time"),
    ],
)
def test_a_key_with_rights_that_cannot_be_is_not_made(world: World, args: dict[str, object], code: str) -> None:
    assert world.refused("apikey.add", tenant="shop", name="tool", **args) == code
    assert world.call("apikey.list", tenant="shop") == []


def test_a_domain_is_usable_once_dns_says_so(world: World) -> None:
    """ID-1."""
    added = world.call("domain.add", tenant="shop", domain="Shop.Example.")
    record = added["records"][0]
    assert (added["domain"], record["name"], record["type"]) == ("shop.example", "_zegel.shop.example", "TXT")
    assert world.owner.questions("domain.verify", {"tenant": "shop", "domain": "shop.example"}) == [record["name"]]
    missed = world.call("domain.verify", tenant="shop", domain="shop.example", seen={record["name"]: ["v=spf1 -all"]})
    assert (missed["verified"], missed["records"][0]["seen"]) == (False, False)
    assert not _domain(world, "shop").usable
    seen = world.call(
        "domain.verify", tenant="shop", domain="shop.example", seen={record["name"]: ["v=spf1 -all", record["value"]]}
    )
    assert (seen["verified"], seen["records"][0]["seen"]) == (True, True)
    assert (
        world.call("domain.verify", tenant="shop", domain="shop.example", seen={record["name"]: []})["verified"] is True
    )
    assert _domain(world, "shop").usable


def test_a_domain_belongs_to_one_tenant(world: World) -> None:
    world.call("tenant.add", name="other")
    world.call("domain.add", tenant="shop", domain="shop.example", vouched=True)
    assert world.call("domain.list", tenant="shop")[0]["vouched_by"] == "operator"
    assert world.refused("domain.add", tenant="other", domain="shop.example", vouched=True) == "domain.taken"
    theirs = world.call("domain.add", tenant="other", domain="shop.example")["records"][0]
    assert (
        world.refused("domain.verify", tenant="other", domain="shop.example", seen={theirs["name"]: [theirs["value"]]})
        == "domain.taken"
    )


def test_a_dkim_key_becomes_active_when_dns_shows_it(world: World) -> None:
    """DKIM-8."""
    assert world.refused("dkim.add", domain="shop.example") == "domain.unknown"
    world.call("domain.add", tenant="shop", domain="shop.example", vouched=True)
    made = world.call("dkim.add", domain="shop.example")
    assert (made["selector"], made["state"], made["algorithm"]) == ("g2026a", "inactive", "rsa-sha256")
    assert world.call("dkim.dns", domain="shop.example") == [made["record"]]
    assert world.directory().keys_for("shop.example") == ()
    name = made["record"]["name"]
    assert world.owner.questions("dkim.check", {"domain": "shop.example"}) == [name]
    assert world.call("dkim.check", domain="shop.example", seen={name: []})[0]["match"] == "missing"
    assert world.call("dkim.check", domain="shop.example")[0]["match"] == "unknown"
    assert (
        world.refused("dkim.activate", domain="shop.example", selector="g2026a", seen={name: []})
        == "dkim.not_published"
    )
    checked = world.call("dkim.check", domain="shop.example", seen={name: [made["record"]["value"]]})
    assert (checked[0]["match"], checked[0]["state"], checked[0]["mismatch_since"]) == ("matches", "active", None)
    directory = world.directory()
    for domain in ("shop.example", "nieuws.mail.shop.example"):
        found = directory.keys_for(domain, 1)
        assert [(key.domain, key.selector) for key in found] == [("shop.example", "g2026a")]
    assert directory.keys_for("other.example") == ()
    assert directory.keys_for("shop.example", 2) == ()
    assert _domain(world, "shop").has_key


def test_an_active_key_survives_a_difference_and_remembers_when(world: World) -> None:
    world.call("domain.add", tenant="shop", domain="shop.example", vouched=True)
    made = world.call("dkim.add", domain="shop.example", vouched=True)
    assert (made["state"], made["vouched_by"]) == ("active", "operator")
    for _ in range(2):
        found = world.call("dkim.check", domain="shop.example", seen={made["record"]["name"]: ["v=DKIM1; p="]})
        assert (found[0]["state"], found[0]["match"], found[0]["mismatch_since"]) == ("active", "differs", START)
        world.now += 3_600


def test_rotation_hands_over_and_ed25519_signs_second(world: World) -> None:
    """DKIM-3, DKIM-9."""
    world.call("domain.add", tenant="shop", domain="shop.example", vouched=True)
    world.call("dkim.add", domain="shop.example", algorithm=keys.ED25519, vouched=True)
    world.call("dkim.add", domain="shop.example", vouched=True)
    world.now += 1
    assert world.call("dkim.rotate", domain="shop.example")["state"] == "inactive"
    assert [key.selector for key in world.directory().keys_for("shop.example")] == ["g2026b", "g2026a"]
    world.call("dkim.activate", domain="shop.example", selector="g2026c", vouched=True)
    assert [key.selector for key in world.directory().keys_for("shop.example")] == ["g2026c", "g2026a"]
    states = {row["selector"]: row["state"] for row in world.call("dkim.list", domain="shop.example")}
    assert states == {"g2026a": "active", "g2026b": "retired", "g2026c": "active"}


def test_private_keys_lie_in_the_keyring_folder_for_its_owner_only(world: World) -> None:
    world.call("domain.add", tenant="shop", domain="shop.example", vouched=True)
    world.call("dkim.add", domain="shop.example")
    path = world.keyring.dkim_path("shop.example", "g2026a")
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = b"".join(found.read_bytes() for found in world.settings.server.data_dir.iterdir())
    assert b"PRIVATE KEY" not in content
    assert world.refused("dkim.add", domain="shop.example", selector="../../x") == "dkim.name"
    assert world.refused("dkim.add", domain="shop.example", selector="g2026a") == "dkim.exists"


def test_modes_and_settings_reach_the_directory(world: World) -> None:
    world.call("policy.mode", tenant="shop", policy="recipients", mode="observe")
    world.call(
        "policy.mode",
        tenant="shop",
        policy="unsubscribe",
        stream="marketing",
        mode="enforce",
        settings={"missing": "inject"},
    )
    tenant = world.directory().tenant("shop")
    assert tenant is not None
    assert dict(tenant.modes) == {"recipients": "observe", "unsubscribe/marketing": "enforce"}
    assert tenant.settings["unsubscribe/marketing"] == {"missing": "inject"}
    world.call("policy.mode", tenant="shop", policy="recipients", mode="default")
    assert [row["policy"] for row in world.call("policy.list", tenant="shop")] == ["unsubscribe"]


def test_a_policy_mode_that_no_mail_could_meet_is_not_stored(world: World) -> None:
    """Whoever asks: the command line looks before it asks, the control socket and the API do not."""
    assert world.refused("policy.mode", tenant="shop", policy="gravity", mode="off") == "args.choice"
    for settings in ({"mising": "inject"}, {"missing": "sometimes"}, {"on_unavailable": "perhaps"}, {"mode": "off"}):
        assert world.refused("policy.mode", tenant="shop", policy="unsubscribe", settings=settings) == "policy.settings"
    assert world.call("policy.list", tenant="shop") == []
    world.call("policy.mode", tenant="shop", policy="unsubscribe", settings={"on_unavailable": "accept"})
    assert len(world.call("policy.list", tenant="shop")) == 1


def test_a_policy_that_left_the_order_can_be_cleared(world: World) -> None:
    world.call("policy.mode", tenant="shop", policy="consent", mode="observe", settings={"confirm_mails": 3})
    world.owner.close()
    order = {"pipeline": {"order": ["classification", "content", "throttle"]}}
    world.owner = Owner.open(world.settings, world.keyring, policies=order, now=lambda: world.now)
    assert world.refused("policy.mode", tenant="shop", policy="consent", mode="off") == "args.choice"
    world.call("policy.mode", tenant="shop", policy="consent", mode="default", settings={})
    assert world.call("policy.list", tenant="shop") == []


def test_a_suspended_tenant_is_seen_as_such(world: World) -> None:
    made = world.call("credential.add", tenant="shop", stream="personal")
    world.call("tenant.suspend", name="shop", reason="spam run")
    account = world.directory().authenticate(made["username"], made["password"])
    assert account is not None and account.tenant.suspended
    assert world.call("tenant.show", name="shop")["suspended_reason"] == "spam run"
    world.call("tenant.resume", name="shop")
    account = world.directory().authenticate(made["username"], made["password"])
    assert account is not None and not account.tenant.suspended


def test_one_login_is_suspended_and_released_with_who_and_why_in_the_audit(world: World) -> None:
    """THROTTLE-9: also said twice; a revoked login stays revoked; what only the tenant's own login may name."""
    made = world.call("credential.add", tenant="shop", stream="personal")
    world.call("credential.suspend", name=made["name"], reason="stolen")
    first = world.directory().suspended_since(1, made["name"])
    world.now += 60
    world.call("credential.suspend", name=made["name"], reason="stolen, and used")
    assert world.directory().suspended_since(1, made["name"]) == first == pytest.approx(world.now - 60)
    account = world.directory().authenticate(made["username"], made["password"])
    assert account is not None and account.suspended and not account.tenant.suspended
    (shown,) = (row for row in world.call("credential.list", tenant="shop") if row["name"] == made["name"])
    assert shown["suspended"] is True and shown["suspended_reason"] == "stolen, and used"
    again = {"name": made["name"], "reason": "new password"}
    world.owner.call("credential.resume", again, actor="operator:chef")
    assert world.directory().suspended_since(1, made["name"]) is None
    with world.owner._engine.connect() as connection:
        rows = connection.execute(sa.select(schema.audit).where(schema.audit.c.op.like("credential.%m%"))).all()
    said = {row.op: (row.actor, row.detail) for row in rows}
    assert said["credential.resume"][0] == "operator:chef" and "new password" in said["credential.resume"][1]
    assert world.refused("credential.suspend", name="nobody") == "credential.unknown"
    world.call("credential.revoke", name=made["name"])
    assert world.refused("credential.resume", name=made["name"]) == "credential.revoked"


def test_the_opt_in_key_leads_to_the_purpose(world: World) -> None:
    key = world.call("purpose.list", tenant="shop")[0]["optin_key"]
    found = world.directory().optin(key)
    assert found is not None and (found[0].name, found[1].name) == ("shop", "newsletter")
    assert world.directory().optin("x" + key) is None


def test_a_digest_key_that_was_rotated_still_opens_old_credentials(world: World) -> None:
    made = world.call("credential.add", tenant="shop", stream="personal")
    world.keyring.rotate(Kind.DIGEST, now=world.now)
    newer = world.call("credential.add", tenant="shop", stream="personal")
    reopened = Keyring.open(world.keyring.keys_dir, create=False)
    world.keyring = reopened
    for login in (made, newer):
        assert world.directory().authenticate(login["username"], login["password"]) is not None


def _domain(world: World, tenant: str) -> Domain:
    found = world.directory().tenant(tenant)
    assert found is not None
    return found.domains["shop.example"]


def _rows(world: World) -> dict[str, int]:
    engine = store.open_reader(world.settings.storage.database)
    with engine.connect() as connection:
        counted = {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in schema.metadata.sorted_tables
        }
    engine.dispose()
    return counted


def _audit(world: World) -> list[sa.Row[tuple[object, ...]]]:
    engine = store.open_reader(world.settings.storage.database)
    with engine.connect() as connection:
        rows = list(connection.execute(sa.select(schema.audit).order_by(schema.audit.c.id)))
    engine.dispose()
    return rows


def test_the_database_is_for_its_owner_only(world: World) -> None:
    """GDPR-19: and so are the log and the index that SQLite keeps beside it."""
    world.call("tenant.set", name="shop", language="en")
    files = [path for path in world.settings.server.data_dir.iterdir() if path.name.startswith("zegel.db")]
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize("at", [1e300, float("inf"), float("nan"), -1.0])
def test_a_time_that_cannot_be_written_is_refused(world: World, at: float) -> None:
    assert world.refused("consent.proof", tenant="shop", address="ann@example.net", at=at) == "args.time"


def test_an_alarm_holds_back_a_warm_up_once_a_day(world: World) -> None:
    """THROTTLE-3: doubling each day without alarm."""
    name = world.call("credential.add", tenant="shop", stream="personal")["name"]

    def behind() -> int:
        account = world.directory().account(name)
        assert account is not None
        return account.credential.warmup_behind

    for _ in range(3):
        world.call("credential.alarm", name=name)
    assert behind() == 1
    world.now += 86_000  # still the first day
    world.call("credential.alarm", name=name)
    assert behind() == 1
    world.now += 400
    world.call("credential.alarm", name=name)
    assert behind() == 2
    world.now += 86_399
    world.call("credential.alarm", name=name)
    assert behind() == 2
    world.now += 1
    world.call("credential.alarm", name=name)
    assert behind() == 3
    assert world.refused("credential.alarm", name="nobody") == "credential.unknown"


def test_a_key_that_was_destroyed_leaves_the_log_as_soon_as_nobody_reads_it(world: World) -> None:
    """GDPR-8: while somebody reads, its pages stay in the log; the erasure is not done before they are gone."""
    world.load(world.row(email="ann@example.net"))
    file = world.settings.server.data_dir / "zegel.db"
    with closing(sqlite3.connect(file)) as reader:
        (key,) = reader.execute("SELECT wrapped FROM subject").fetchone()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM consent_event").fetchone()
        world.call("consent.erase", tenant="shop", address="ann@example.net")
        (due,) = world.call("erasure.due")
        assert key in log_of(file)
        assert world.refused("erasure.done", id=due["id"]) == "erasure.log_in_use"
        reader.rollback()
    world.call("tenant.list")
    assert key not in log_of(file) + file.read_bytes()
    assert world.call("erasure.done", id=due["id"]) == {"done": True}


def test_who_is_erased_or_deleted_is_on_the_list_when_the_answer_comes(world: World) -> None:
    """GDPR-8, GDPR-18: a gateway may not run, or die before it follows the erasure through, and the list is all a restore has."""
    place = world.settings.server.data_dir / LIST
    world.load(world.row(email="ann@example.net"))
    refused, *_ = world.owner.call_many(
        [
            ("consent.erase", {"tenant": "shop", "address": "ann@example.net", "unknown": "argument"}, "operator"),
            ("consent.give", {"tenant": "shop", **world.row(email="bob@example.net")}, "operator"),
        ]
    )
    assert isinstance(refused, OwnerError) and not place.exists(), "what was taken back is on no list"
    world.call("consent.erase", tenant="shop", address="ann@example.net")
    world.call("tenant.delete", name="shop")
    ann, shop = read_list(place)
    assert isinstance(ann, Erased) and ann.matcher(world.keyring)("ann@example.net")
    assert shop == Deleted(1, "shop", world.now)


def test_an_erasure_tells_that_its_line_could_not_be_written(world: World) -> None:
    """It is done all the same; the gateway writes the line at its next start (relay.serve.erasures)."""
    world.load(world.row(email="ann@example.net"))
    (world.settings.server.data_dir / LIST).mkdir()
    answer = world.call("consent.erase", tenant="shop", address="ann@example.net")
    assert answer["erased"] and answer["listed"] is False
    assert len(world.call("erasure.due")) == 1


def log_of(file: Path) -> bytes:
    return file.with_name("zegel.db-wal").read_bytes()
