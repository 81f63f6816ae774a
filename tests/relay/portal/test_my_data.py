"""GDPR-5 to GDPR-10, CONSENT-16: the page of one's own data, against the real owner; who is proven by a mailed code."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import pytest

from relay.consent.parts import _SEALED as SEALED_FIELDS
from relay.consent.record import BASES, METHODS
from relay.consent.subject import person_hash
from relay.consent.suppression import REASONS
from relay.consent.token import TokenKind, make
from relay.keyring import Kind
from relay.mail.letters import own_data
from relay.owner import OwnerError
from relay.owner.hook_events import unseal
from relay.owner.mydata import OWN_MAILS
from relay.portal.gateway import Mailed, OpUnavailable
from relay.portal.mails import mailed_to
from relay.portal.mydata import ADDRESS_LIMIT, CLIENT_LIMIT
from tests.fakes.gateway import portal_settings
from tests.fakes.portal import OwnerGateway, browser
from tests.house.tree import ROOT
from tests.relay.portal.test_texts import TEXTS

HTML = {"Accept": "text/html"}
ANN = "ann@example.net"
SEALED = re.compile(r'name="(asked|proof)" value="([\w-]+)"')
YES = {
    "email": ANN,
    "purpose": "newsletter",
    "basis": "consent",
    "method": "web_form",
    "source": "https://shop.example/join",
    "given_at": "2026-01-02T10:00:00Z",
    "text": "Ja, stuur mij <b>de</b> nieuwsbrief",
    "text_language": "nl",
    "policy_url": "https://shop.example/privacy",
    "jurisdiction": "NL",
    "provenance": "own",
    "sensitive_audience": "no",
    "evidence_ip": "192.0.2.77",
}


class Person:
    """Somebody with a link, at a browser in English."""

    def __init__(self, web: httpx.AsyncClient, owned: OwnerGateway, token: str) -> None:
        self.web, self.owned, self.token = web, owned, token
        self.sealed: dict[str, str] = {}

    async def do(self, step: str, **fields: str) -> httpx.Response:
        kept = {name: value for name, value in self.sealed.items() if name not in fields}
        answer = await self.web.post(f"/my/{self.token}?lang=en", data={"step": step, **kept, **fields}, headers=HTML)
        self.sealed |= dict(SEALED.findall(answer.text))
        return answer

    @property
    def code(self) -> str:
        return next(notice.link for notice in reversed(self.owned.notices) if notice.kind == "my.code")

    async def enter(self, address: str = ANN) -> httpx.Response:
        asked = await self.do("ask", email=address)
        assert asked.status_code == 200, asked.text
        return await self.do("code", code=self.code)


def link(owned: OwnerGateway, address: str = ANN, *, tenant: str = "shop", kind: TokenKind = TokenKind.MY) -> str:
    row = owned.directory().tenant(tenant)
    assert row is not None
    return make(
        owned.keyring, kind, row.id, purpose="newsletter", subject_hash=person_hash(owned.keyring, row.id, address)
    )


def give(owned: OwnerGateway, tenant: str = "shop", **changes: str) -> Any:
    return owned.owner.call("consent.import_rows", {"tenant": tenant, "rows": [{**YES, **changes}]})


def status(owned: OwnerGateway, address: str = ANN, purpose: str = "newsletter", tenant: str = "shop") -> str:
    row = owned.directory().tenant(tenant)
    assert row is not None
    state = owned.lookup.consents(row.id, purpose, [address])[address]
    return state.status if state is not None else "none"


def stops(
    owned: OwnerGateway, address: str = ANN, tenant: str = "shop", purpose: str = "newsletter"
) -> set[tuple[str, str]]:
    row = owned.directory().tenant(tenant)
    assert row is not None
    found = owned.lookup.suppressions(row.id, [address], purpose=purpose)[address]
    return {(entry.scope, entry.reason) for entry in found}


@pytest.fixture
def ann(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> Person:
    assert give(owned)["imported"] == 1
    return Person(owned_web, owned, link(owned))


# -- who it is ----------------------------------------------------------------------------------------------------------


async def test_a_code_in_the_persons_own_mailbox_opens_what_is_held(ann: Person, owned: OwnerGateway) -> None:
    first = await ann.web.get(f"/my/{ann.token}?lang=en", headers=HTML)
    assert first.status_code == 200 and ANN not in first.text and "Shop BV" in first.text
    asked = await ann.do("ask", email=" Ann@Example.net ")
    assert asked.status_code == 200 and "set-cookie" not in asked.headers and "<script" not in asked.text
    (notice,) = owned.notices
    assert (notice.kind, notice.tenant, notice.recipient, notice.language) == (
        "my.code",
        "shop",
        "Ann@Example.net",
        "en",
    )
    assert re.fullmatch("[0-9]{8}", notice.link) and notice.link not in asked.text
    shown = await ann.do("code", code=f" {notice.link[:4]} {notice.link[4:]} ")
    assert shown.status_code == 200
    for told in (
        "Tuinbrief",
        "Ja, stuur mij &lt;b&gt;de&lt;/b&gt; nieuwsbrief",
        "2026-01-02",
        "https://shop.example/join",
        "192.0.2.77",
    ):
        assert told in shown.text
    assert "no-store" in shown.headers["cache-control"]


async def test_the_letter_with_the_code_is_service_mail_in_the_language_of_the_page(owned: OwnerGateway) -> None:
    tenant = owned.directory().tenant("shop")
    assert tenant is not None
    for language, word in (("nl", "Uw code"), ("en", "Your code")):
        what = {"code": "01234567", "link": "https://mail.zegel.example/my/t"}
        raw = own_data(tenant, "code", ANN, what, language=language).raw
        assert word in raw and "01234567" in raw and "Shop BV" in raw
        assert "Auto-Submitted: auto-generated" in raw and raw.count("http") == 1 and what["link"] in raw


async def test_another_address_gets_the_same_page_and_no_mail(ann: Person, owned: OwnerGateway) -> None:
    """GDPR-5: neither the page nor what is written down tells a stranger whether the address is known."""
    right = await ann.do("ask", email=ANN)
    stranger = Person(ann.web, owned, ann.token)
    wrong = await stranger.do("ask", email="bob@example.net")
    plain = [SEALED.sub("", page.text) for page in (right, wrong)]
    assert plain[0] == plain[1] and right.status_code == wrong.status_code
    assert dict(right.headers).keys() == dict(wrong.headers).keys()
    assert len(owned.notices) == 1
    assert [name for name, _ in owned.ops[-2:]] == ["mydata.ask", "mydata.ask"]
    # The code that was mailed to Ann opens nothing for the form with the other address.
    refused = await stranger.do("code", code=ann.code)
    assert refused.status_code == 422 and ANN not in refused.text
    assert (await ann.do("code", code=ann.code)).status_code == 200


@pytest.mark.parametrize("address", ["аnn@example.net", "ann@exаmple.net", "ann+other@example.org"])
async def test_a_look_alike_is_another_address(ann: Person, owned: OwnerGateway, address: str) -> None:
    assert (await ann.do("ask", email=address)).status_code == 200
    assert owned.notices == []


async def test_a_code_counts_once(ann: Person) -> None:
    assert (await ann.enter()).status_code == 200
    again = await ann.do("code", code=ann.code)
    assert again.status_code == 422 and "192.0.2.77" not in again.text


async def test_a_code_is_over_after_a_quarter_of_an_hour_and_a_page_after_half_an_hour(
    ann: Person, owned: OwnerGateway
) -> None:
    await ann.do("ask", email=ANN)
    owned.later = 15 * 60 + 1
    assert (await ann.do("code", code=ann.code)).status_code == 422
    assert (await ann.enter()).status_code == 200
    owned.later += 29 * 60
    assert (await ann.do("data")).status_code == 200
    owned.later += 61
    over = await ann.do("data")
    assert over.status_code == 400 and "192.0.2.77" not in over.text


async def test_only_the_newest_code_counts(ann: Person) -> None:
    await ann.do("ask", email=ANN)
    first = ann.code
    await ann.do("ask", email=ANN)
    if first != ann.code:
        assert (await ann.do("code", code=first)).status_code == 422
    assert (await ann.do("code", code=ann.code)).status_code == 200


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 100_000_000:08d}"


async def test_five_wrong_codes_end_the_page_that_they_were_typed_in_and_no_other(
    ann: Person, owned: OwnerGateway
) -> None:
    """Whoever was forwarded a mail has its link: five wrong codes of his locked the person out for an hour."""
    stranger = Person(ann.web, owned, ann.token)
    await ann.do("ask", email=ANN)
    mine = ann.code
    await stranger.do("ask", email=ANN)
    wrong = other_than(mine)
    answers = [(await stranger.do("code", code=wrong)).status_code for _ in range(6)]
    assert answers == [422, 422, 422, 422, 429, 429]
    assert (await stranger.do("code", code=stranger.code)).status_code == 429, "the right one too"
    assert (await stranger.do("code", code=mine)).status_code == 429
    assert (await ann.do("code", code=mine)).status_code == 200


async def test_a_code_counts_on_the_page_that_it_was_asked_from(ann: Person, owned: OwnerGateway) -> None:
    """Else each new page would give five more tries at every code that is out."""
    stranger = Person(ann.web, owned, ann.token)
    await ann.do("ask", email=ANN)
    mine = ann.code
    await stranger.do("ask", email=ANN)
    assert (await stranger.do("code", code=mine)).status_code == 422
    assert (await ann.do("code", code=mine)).status_code == 200


async def test_wrong_codes_count_for_strangers_alike(ann: Person, owned: OwnerGateway) -> None:
    """The end of tries would tell else whether an address is the one of the link."""
    answers = {}
    for name, address in (("right", ANN), ("wrong", "bob@example.net")):
        await ann.do("ask", email=address)
        seen = [(await ann.do("code", code=other_than(ann.code))).status_code for _ in range(6)]
        answers[name] = seen
    assert answers["right"] == answers["wrong"] == [422, 422, 422, 422, 429, 429]


def entrance(owned: OwnerGateway) -> str:
    """The link in the newest mail with a code."""
    return next(notice.way for notice in reversed(owned.notices) if notice.kind == "my.code")


async def test_the_link_in_the_mail_lets_its_reader_in_whoever_asked_and_used_up_the_codes(
    ann: Person, owned: OwnerGateway
) -> None:
    stranger = Person(ann.web, owned, ann.token)
    for _ in range(OWN_MAILS + 1):
        await stranger.do("ask", email=ANN)
    for _ in range(5):
        await stranger.do("code", code=other_than(stranger.code))
    assert len(owned.notices) == OWN_MAILS
    owned.later = 23 * 3_600
    reader = Person(ann.web, owned, urlsplit(entrance(owned)).path.removeprefix("/my/"))
    seen = await ann.web.get(entrance(owned), headers=HTML)
    assert seen.status_code == 200 and ANN not in seen.text, "a scanner that looks sees and changes nothing"
    opened = await reader.do("enter")
    assert opened.status_code == 200 and ANN in opened.text
    assert (await reader.do("change", action="stop_all")).status_code == 200
    assert ("all", "objection") in stops(owned)
    assert (await reader.do("enter")).status_code == 410, "once"


async def test_the_link_in_the_mail_is_over_after_its_code_was_used_and_after_a_day(
    ann: Person, owned: OwnerGateway
) -> None:
    await ann.enter()
    reader = Person(ann.web, owned, urlsplit(entrance(owned)).path.removeprefix("/my/"))
    assert (await reader.do("enter")).status_code == 410
    await ann.do("ask", email=ANN)
    owned.later = 24 * 3_600 + 1
    reader.token = urlsplit(entrance(owned)).path.removeprefix("/my/")
    assert (await reader.do("enter")).status_code == 410
    assert (await ann.do("enter")).status_code == 400, "an ordinary link lets nobody in"
    reader.sealed = {}
    assert (await reader.do("ask", email=ANN)).status_code == 400


async def test_no_form_of_another_link_or_kind_opens_anything(ann: Person, owned: OwnerGateway) -> None:
    bob = Person(ann.web, owned, link(owned, "bob@example.net"))
    await ann.enter()
    bob.sealed = dict(ann.sealed)
    for step, fields in (
        ("data", {}), ("code", {"code": ann.code}), ("erase", {"sure": "yes"}), ("export", {}), ("nothing", {}), ("", {}),
        ("change", {"action": "stop_all"}), ("move", {"email": "x@example.net"}),
    ):  # fmt: skip
        answer = await bob.do(step, **fields)
        assert answer.status_code == 400, step
    for proof in ("", "x", ann.token, ann.sealed["asked"], ann.sealed["proof"][:-1]):
        assert (await ann.do("data", proof=proof)).status_code == 400, proof
    for bad in (ann.token[:-1], ann.sealed["proof"], link(owned, kind=TokenKind.CONFIRM), "x"):
        assert (await ann.web.get(f"/my/{bad}")).status_code == 404
        assert (await ann.web.post(f"/my/{bad}", data={"step": "ask", "email": ANN})).status_code == 404
    assert stops(owned) == set()


async def test_a_link_from_before_a_rotation_of_keys_works(ann: Person, owned: OwnerGateway) -> None:
    """UNSUB-20: the mail may be years old."""
    for kind in (Kind.HASH, Kind.TOKEN, Kind.SUBJECT):
        owned.keyring.rotate(kind, now=0.0)
    assert YES["source"] in (await ann.enter()).text
    await ann.do("move", email="new@example.org")
    assert (await ann.web.post(moving(owned), headers=HTML)).status_code == 200
    assert (status(owned), status(owned, "new@example.org")) == ("withdrawn", "given")
    await ann.do("erase", sure="yes")
    assert ("all", "objection") in stops(owned)


@pytest.mark.parametrize(
    "address", ["ann@office.local", '"ann jansen"@example.net', "ann@bücher.example", "ann@[192.0.2.1]"]
)
async def test_whatever_mailbox_mail_goes_to_can_be_proven(
    owned: OwnerGateway, owned_web: httpx.AsyncClient, address: str
) -> None:
    person = Person(owned_web, owned, link(owned, address))
    assert (await person.enter(address)).status_code == 200
    assert owned.notices[-1].recipient == address


async def test_the_other_language_loses_nothing(ann: Person) -> None:
    """The page of the code, too, has no address of its own that could be asked for again."""
    await ann.do("ask", email=ANN)
    turned = await ann.web.post(f"/my/{ann.token}?lang=nl", data={"step": "code", **ann.sealed}, headers=HTML)
    assert turned.status_code == 200 and "Vul de code in" in turned.text and "code-wrong" not in turned.text
    ann.sealed |= dict(SEALED.findall(turned.text))
    assert (await ann.do("code", code=ann.code)).status_code == 200


async def test_no_form_token_opts_anybody_out(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    for token in (ann.sealed["asked"], ann.sealed["proof"]):
        assert (await ann.web.post(f"/u/{token}", data={"List-Unsubscribe": "One-Click"})).status_code == 404
    assert stops(owned) == set()


async def test_nobody_is_flooded_with_codes(ann: Person, owned: OwnerGateway) -> None:
    for _ in range(OWN_MAILS + 3):
        assert (await ann.do("ask", email=ANN)).status_code == 200
    assert len(owned.notices) == OWN_MAILS
    for day in range(1, 4):
        owned.later = day * 86_401.0
        for _ in range(OWN_MAILS):
            await ann.do("ask", email="ANN+x@example.net")
    assert len(owned.notices) == ADDRESS_LIMIT, "the counter in memory, whose day does not pass here"


async def test_one_client_may_not_try_for_ever(ann: Person, owned: OwnerGateway) -> None:
    for _ in range(CLIENT_LIMIT):
        assert (await ann.do("ask", email="bob@example.net")).status_code == 200
    busy = await ann.do("ask", email="bob@example.net")
    assert busy.status_code == 429 and "retry-after" in busy.headers


@pytest.mark.parametrize(
    "value",
    ["", "ann", "ann@", "a@b@c.d", "@x.example:ann@example.net", "ann@example.net\r\nBcc: x@y.example", "x" * 400],
)
async def test_what_is_no_address_or_code_is_told_at_the_field(ann: Person, owned: OwnerGateway, value: str) -> None:
    answer = await ann.do("ask", email=value)
    assert answer.status_code == 422 and 'aria-describedby="email-wrong' in answer.text
    await ann.do("ask", email=ANN)
    for code in ("1234567", "123456789", "abcdef", "", "１２３４５６７８"):
        told = await ann.do("code", code=code)
        assert told.status_code == 422 and 'aria-describedby="code-wrong' in told.text
    assert (await ann.do("code", code=ann.code)).status_code == 200, "these were no tries"


async def test_what_cannot_be_kept_is_not_told_as_done(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    owned.failure = OpUnavailable("store")
    for step, fields in (
        ("ask", {"email": ANN}),
        ("data", {}),
        ("change", {"action": "stop_all"}),
        ("erase", {"sure": "yes"}),
    ):
        answer = await ann.do(step, **fields)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "120"


# -- what is held -------------------------------------------------------------------------------------------------------


async def test_the_page_tells_all_that_article_15_wants(ann: Person, owned: OwnerGateway) -> None:
    owned.mails["shop", ANN] = [
        Mailed("0R3M7K2QX9T1A", 1_760_000_000.0, "news@shop.example", "commercial", "delivered")
    ]
    await ann.enter()
    page = await ann.do("data")
    for told in (
        "What for", "Legal basis: your consent",  # (a)
        "What was recorded",  # (b)
        "Who gets the data",  # (c)
        "28 days", "24 months",  # (d)
        "You may see, correct, erase, block, object", "Autoriteit Persoonsgegevens",  # (e), (f)
        "Where the data come from", "https://shop.example/join",  # (g)
        "Nothing is decided about you automatically",  # (h)
        "delivered", "news@shop.example", "mail.zegel.example",
    ):  # fmt: skip
        assert told in page.text, told
    dutch = await ann.web.post(f"/my/{ann.token}?lang=nl", data={"step": "data", **ann.sealed}, headers=HTML)
    assert "Waar u ja op zei" in dutch.text and "Grondslag: uw toestemming" in dutch.text


async def test_the_export_is_what_was_given_as_json_and_csv(ann: Person, owned: OwnerGateway) -> None:
    """GDPR-10."""
    owned.mails["shop", ANN] = [
        Mailed("0R3M7K2QX9T1A", 1_760_000_000.0, "=cmd@shop.example", "commercial", "delivered")
    ]
    owned.owner.call("suppression.add", {"tenant": "shop", "address": ANN, "scope": "offers"}, actor="operator:erin")
    await ann.enter()
    answer = await ann.do("export", format="json")
    assert answer.headers["content-disposition"] == 'attachment; filename="my-data.json"'
    told = json.loads(answer.text)
    schema = json.loads((ROOT / "docs/my-data.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(told)
    assert told.pop("made_at") and told["stops"][0].pop("at")
    moments = [event.pop("at") for event in told["history"]]
    assert moments[0] == "2026-01-02T10:00:00Z"
    assert "erin" not in answer.text
    assert told == {
        "format": 1,
        "address": ANN,
        "controller": {"name": "Shop BV", "contact": None, "postal_address": None},
        "processor": {"host": "mail.zegel.example", "region": "NL"},
        "kept": {"delivery_log_days": 28, "changes_log_days": 90, "internet_address_months": 24},
        "consents": [
            {
                "purpose": "newsletter", "title_nl": "Tuinbrief", "title_en": "Tuinbrief", "status": "given",
                "basis": "consent", "controller": "Shop BV", "ended_at": None, "method": "web_form",
                "given_at": "2026-01-02T10:00:00Z", "text": YES["text"], "text_language": "nl",
                "policy_url": YES["policy_url"], "provenance": "own", "jurisdiction": "NL", "source": YES["source"],
            }
        ],
        "history": [
            {
                "event": "imported", "purpose": "newsletter", "text": YES["text"], "erased": False,
                "personal": {"email": ANN}, "source": YES["source"], "evidence": {"evidence_ip": "192.0.2.77"},
            },
            {
                "event": "objected", "purpose": "offers", "text": None, "erased": False, "personal": {"email": ANN},
                "source": "operator", "evidence": {},
            },
        ],
        "stops": [{"scope": "offers", "reason": "objection", "until": None, "lifted": []}],
        "mails": [
            {
                "id": "0R3M7K2QX9T1A", "at": "2025-10-09T08:53:20Z", "from": "=cmd@shop.example", "class": "commercial",
                "outcome": "delivered",
            }
        ],
    }  # fmt: skip
    table = await ann.do("export", format="csv")
    rows = list(csv.DictReader(io.StringIO(table.text.removeprefix("\ufeff"))))
    assert [row["kind"] for row in rows] == ["address", "consent", "event", "event", "stop", "mail"]
    assert rows[1]["text"] == YES["text"] and rows[1]["source"] == YES["source"]
    assert rows[5]["source"] == "'=cmd@shop.example", "no formula"


async def test_markup_in_names_stays_text(owned: OwnerGateway, owned_web: httpx.AsyncClient) -> None:
    evil = "<script>alert(1)</script>"
    owned.owner.call("tenant.set", {"name": "shop", "legal_name": evil, "postal_address": evil})
    owned.owner.call("purpose.add", {"tenant": "shop", "name": "evil", "title_nl": evil, "title_en": evil})
    give(owned, purpose="evil", source=evil, text=evil, evidence_user_agent=evil)
    ann = Person(owned_web, owned, link(owned))
    pages = [
        await owned_web.get(f"/my/{ann.token}"),
        await ann.do("ask", email=ANN),
        await ann.do("code", code=ann.code),
    ]
    pages += [await ann.do("change", action="stop", purpose="evil"), await ann.do("erase")]
    for page in pages:
        assert page.status_code == 200 and "<script" not in page.text
    assert all("&lt;script&gt;" in pages[place].text for place in (0, 2, 3, 4))


async def test_two_tenants_know_nothing_of_each_other(ann: Person, owned: OwnerGateway) -> None:
    give(owned, "other", source="https://other.example/join", text="Iets anders", policy_url="https://other.example/p")
    other = Person(ann.web, owned, link(owned, tenant="other"))
    mine, theirs = await ann.enter(), await other.enter()
    assert mine.status_code == theirs.status_code == 200
    assert "shop.example" in mine.text and "other.example" not in mine.text
    assert "other.example" in theirs.text and "shop.example" not in theirs.text
    other.sealed["proof"] = ann.sealed["proof"]
    assert (await other.do("data")).status_code == 400
    await ann.do("erase", sure="yes")
    assert status(owned, tenant="other") == "given" and stops(owned, tenant="other") == set()


async def test_another_spelling_of_the_address_is_not_shown_nor_who_typed_a_record(
    owned: OwnerGateway, owned_web: httpx.AsyncClient
) -> None:
    """CONSENT-16: objections are wide, consent is narrow, and `ann+x@` may be another mailbox."""
    owned.owner.call("consent.request", {"tenant": "shop", "address": ANN, "purpose": "offers"}, actor="operator:erin")
    give(owned, email="Ann+secret@example.net", source="https://shop.example/secret")
    ann = Person(owned_web, owned, link(owned))
    page = await ann.enter()
    assert page.status_code == 200 and "secret" not in page.text and "erin" not in page.text
    tagged = Person(owned_web, owned, link(owned))
    assert "https://shop.example/secret" in (await tagged.enter("ann+secret@example.net")).text


ACCEPTED = {"tenant": "shop", "rcpt": ["Ann@Example.net"], "from": "news@shop.example", "class": "commercial"}


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([("accepted", ACCEPTED)], "waiting"),
        ([("held", ACCEPTED)], "held"),
        ([("refused", ACCEPTED)], "refused"),
        ([("accepted", ACCEPTED | {"rcpt": [], "dropped": [[ANN, "suppression.objected"]]})], "dropped"),
        ([("accepted", ACCEPTED), ("finished", {"outcomes": [[ANN, "delivered", "", "", "h"]]})], "delivered"),
        ([("accepted", ACCEPTED), ("attempted", {"outcomes": [[ANN, "deferred", "", "", "h"]]})], "waiting"),
        ([("accepted", ACCEPTED), ("finished", {"outcomes": [[ANN, "expired", "", "", "h"]]})], "failed"),
        ([("held", ACCEPTED), ("deleted", {"outcomes": [[ANN, "deleted", "", "", ""]]})], "refused"),
        (
            [("accepted", ACCEPTED), ("finished", {"outcomes": [["bob@example.net", "delivered", "", "", ""]]})],
            "waiting",
        ),
        ([("accepted", ACCEPTED | {"tenant": "other"})], None),
        ([("accepted", ACCEPTED | {"rcpt": ["bob@example.net"], "from": ANN})], None),
        ([("made", ACCEPTED)], None),
        ([], None),
    ],
)
def test_the_delivery_log_is_told_by_what_became_of_his_own_copy(events: Any, outcome: str | None) -> None:
    found = mailed_to("X", "shop", ANN, [(1.0, word, data) for word, data in events])
    assert (found.outcome if found is not None else None) == outcome


# -- what he can do -----------------------------------------------------------------------------------------------------


async def test_one_list_and_all_lists_stop(ann: Person, owned: OwnerGateway) -> None:
    give(owned, purpose="offers")
    await ann.enter()
    stopped = await ann.do("change", action="stop", purpose="newsletter")
    assert stopped.status_code == 200 and 'role="status"' in stopped.text
    assert (status(owned), status(owned, purpose="offers")) == ("withdrawn", "given")
    await ann.do("change", action="stop_all")
    assert status(owned, purpose="offers") == "objected" and ("all", "objection") in stops(owned)
    assert give(owned, given_at="2026-01-03T10:00:00Z")["errors"][0]["reason"] == "objected"
    for action, purpose in (("stop", "nothing"), ("drop", ""), ("", "")):
        assert (await ann.do("change", action=action, purpose=purpose)).status_code == 400


async def test_a_block_stops_all_and_is_lifted_without_loss(ann: Person, owned: OwnerGateway) -> None:
    """GDPR-9."""
    await ann.enter()
    assert "Lift the block" in (await ann.do("change", action="restrict")).text
    assert stops(owned) == {("all", "restriction")}
    assert "Block my data" in (await ann.do("change", action="unrestrict")).text
    assert (stops(owned), status(owned)) == (set(), "given")


async def test_every_change_is_in_the_audit_and_names_no_address(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    await ann.do("change", action="restrict")
    await ann.do("erase", sure="yes")
    with owned.owner._engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT op, detail FROM audit WHERE op LIKE 'mydata.%' ORDER BY id").all()
    assert [row[0] for row in rows] == ["mydata.ask", "mydata.prove", "mydata.change", "mydata.erase"]
    assert "example.net" not in str(rows) and ann.code not in str(rows)


async def test_erased_means_refused_for_ever(ann: Person, owned: OwnerGateway, tmp_path: Path) -> None:
    """GDPR-8: asked once more first; then nothing names him, mail is refused, and an old list does not bring him back."""
    await ann.enter()
    sure = await ann.do("erase")
    assert sure.status_code == 200 and status(owned) == "given" and 'name="sure" value="yes"' in sure.text
    done = await ann.do("erase", sure="yes")
    assert done.status_code == 200 and ANN not in done.text
    assert ("all", "objection") in stops(owned) and status(owned) == "erased"
    refused = give(owned, given_at="2026-01-03T10:00:00Z")
    assert refused["errors"][0]["reason"] == "objected"
    proof = owned.owner.call("consent.proof", {"tenant": "shop", "address": ANN})
    assert isinstance(proof, dict)
    assert all(event["personal"] is None for event in proof["events"])
    assert owned.owner.call("consent.verify", {"tenant": "shop"})["ok"] is True  # type: ignore[call-overload]  # a dict
    again = Person(ann.web, owned, ann.token)
    page = await again.enter()
    assert page.status_code == 200 and "192.0.2.77" not in page.text and YES["source"] not in page.text
    with owned.owner._engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM suppression WHERE sealed IS NOT NULL").scalar() == 0


async def test_a_page_that_was_open_before_an_erasure_writes_nobody_down_again(
    ann: Person, owned: OwnerGateway
) -> None:
    """A step back in the browser, and a button there: the address came back into the ledger that had just lost it."""
    await ann.enter()
    assert (await ann.do("erase", sure="yes")).status_code == 200
    for step, fields in (
        ("change", {"action": "restrict"}), ("change", {"action": "stop", "purpose": "offers"}), ("data", {}),
        ("move", {"email": "new@example.org"}), ("export", {}), ("erase", {}),
    ):  # fmt: skip
        answer = await ann.do(step, **fields)
        assert answer.status_code == 400 and ANN not in answer.text, step
    assert (await ann.do("erase", sure="yes")).status_code == 200, "sent twice it is as good as once"
    proof = owned.owner.call("consent.proof", {"tenant": "shop", "address": ANN})
    assert isinstance(proof, dict) and all(event["personal"] is None for event in proof["events"])
    assert [event["event"] for event in proof["events"]].count("erased") == 1
    with owned.owner._engine.connect() as connection:
        for table in ("suppression", "address_change"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE sealed IS NOT NULL").scalar() == 0
    assert (await Person(ann.web, owned, ann.token).enter()).status_code == 200, "who proves it anew may look"


def test_every_word_that_the_ledger_knows_has_a_text() -> None:
    events = ("requested", "given", "imported", "confirmed", "changed", "withdrawn", "objected", "restricted", "erased")
    wanted = {f"basis_{name}" for name in BASES} | {f"method_{name}" for name in METHODS}
    wanted |= {f"stop_{name}" for name in REASONS} | {f"event_{name}" for name in (*events, "unrestricted")}
    wanted |= {f"status_{name}" for name in ("requested", "given", "confirmed", "withdrawn", "objected", "erased")}
    wanted |= {f"field_{name}" for name in SEALED_FIELDS if name not in ("email", "source")}
    assert wanted - set(TEXTS["nl"]) == set()


@pytest.mark.parametrize("kind", [kind for kind in TokenKind if kind not in (TokenKind.MY, TokenKind.UNSUBSCRIBE)])
def test_no_other_token_opts_out(owned: OwnerGateway, kind: TokenKind) -> None:
    with pytest.raises(OwnerError, match="not one of ours"):
        owned.owner.call("optout", {"token": link(owned, kind=kind)})


# -- another address ----------------------------------------------------------------------------------------------------


def moving(owned: OwnerGateway) -> str:
    """Path of the link in the newest mail to a new address."""
    notice = next(notice for notice in reversed(owned.notices) if notice.kind == "my.move")
    where = urlsplit(notice.link)
    return f"{where.path}?{where.query}"


def told(owned: OwnerGateway) -> list[dict[str, Any]]:
    """What the sender's tool hears now, in order; it takes all of it."""
    heard: list[dict[str, Any]] = []
    while rows := owned.owner.call("webhook.heads", {"hook": 1}):
        assert isinstance(rows, list)
        for row in rows:
            body = unseal(owned.keyring, row["event_id"], bytes.fromhex(row["body"]))
            assert body is not None
            heard.append(json.loads(body))
        owned.owner.call("webhook.settle", {"hook": 1, "told": [{"id": row["id"]} for row in rows], "failed": []})
    return heard


@pytest.fixture
def known(owned_web: httpx.AsyncClient, owned: OwnerGateway) -> Person:
    """Ann, by a link of a mail into which the sender's tool wrote its own id for her."""
    hook = {"tenant": "shop", "name": "crm", "url": "https://crm.example.org/zegel", "with_address": True}
    owned.owner.call("webhook.add", hook)
    give(owned)
    give(owned, purpose="offers")
    subject = person_hash(owned.keyring, 1, ANN)
    token = make(owned.keyring, TokenKind.MY, 1, purpose="newsletter", subject_hash=subject, subscriber="u-4711")
    return Person(owned_web, owned, token)


async def test_the_senders_tool_hears_by_its_own_id_what_somebody_chose(known: Person, owned: OwnerGateway) -> None:
    """GDPR-25: an erasure without an id and an address told the tool of nobody, and it mailed on."""
    await known.enter()
    for fields in ({"action": "stop", "purpose": "offers"}, {"action": "restrict"}, {"action": "unrestrict"}):
        assert (await known.do("change", **fields)).status_code == 200
    assert (await known.do("erase", sure="yes")).status_code == 200
    heard = told(owned)
    assert [said["event"] for said in heard] == ["erased"], "what waited is gone with the person"
    assert heard[0]["subscriber"] == "u-4711" and heard[0]["address"] == ANN
    await known.enter()
    assert (await known.do("change", action="restrict")).status_code == 200
    assert (await known.do("change", action="unrestrict")).status_code == 200
    assert [(said["event"], said["subscriber"]) for said in told(owned)] == [
        ("suppressed", "u-4711"), ("unrestricted", "u-4711"),
    ]  # fmt: skip


async def test_no_id_of_another_link_gets_into_an_event(known: Person, owned: OwnerGateway) -> None:
    await known.enter()
    bob = person_hash(owned.keyring, 1, "bob@example.net")
    others = make(owned.keyring, TokenKind.MY, 1, purpose="", subject_hash=bob, subscriber="u-9")
    proof = {"proof": known.sealed["proof"], "action": "stop_all"}
    owned.owner.call("mydata.change", {**proof, "link": others}, actor="web")
    (said,) = told(owned)
    assert (said["event"], said["subscriber"]) == ("unsubscribed", None)


async def test_the_senders_tool_hears_of_a_new_address(known: Person, owned: OwnerGateway) -> None:
    """GDPR-25: a correction is passed on; the tool went on with the old address, and mail to it was refused."""
    await known.enter()
    await known.do("move", email="new@example.org")
    assert told(owned) == [], "nothing has changed yet"
    assert (await known.web.post(moving(owned), headers=HTML)).status_code == 200
    heard = sorted(told(owned), key=lambda said: (said["event"] != "moved", said["scope"]))
    shown = [(said["event"], said["scope"], said["reason"], said["address"]) for said in heard]
    assert shown == [
        ("moved", "all", "correction", ANN),
        ("confirmed", "newsletter", "correction", "new@example.org"),
        ("confirmed", "offers", "correction", "new@example.org"),
    ]
    assert {said["subscriber"] for said in heard} == {"u-4711"}
    assert heard[0]["moved_to"] == heard[1]["subject"] != heard[0]["subject"]
    assert all("moved_to" not in said for said in heard[1:])


async def test_consent_moves_only_when_the_new_address_says_so(ann: Person, owned: OwnerGateway) -> None:
    """GDPR-7."""
    give(owned, purpose="offers")
    owned.owner.call("suppression.add", {"tenant": "shop", "address": ANN, "scope": "offers"})
    await ann.enter()
    asked = await ann.do("move", email="Ann.New@example.org")
    assert asked.status_code == 200 and "ann.new" not in asked.text.lower()
    assert owned.notices[-1].recipient == "Ann.New@example.org" and ANN not in owned.notices[-1].link
    path = moving(owned)
    for _ in range(3):
        page = await ann.web.get(path, headers=HTML)
        assert page.status_code == 200 and "example.org" not in page.text and ANN not in page.text
    assert (status(owned), status(owned, "ann.new@example.org")) == ("given", "none")
    assert (await ann.web.post(path, headers=HTML)).status_code == 200
    assert (status(owned), status(owned, "ann.new@example.org")) == ("withdrawn", "given")
    assert stops(owned, "ann.new@example.org", purpose="offers") == {("offers", "objection")}, "a no moves along"
    assert status(owned, "ann.new@example.org", "offers") == "none"
    assert (await ann.web.post(path, headers=HTML)).status_code == 410, "used"
    proof = owned.owner.call("consent.proof", {"tenant": "shop", "address": "ann.new@example.org"})
    assert isinstance(proof, dict)
    (event,) = [one for one in proof["events"] if one["event"] == "changed"]
    assert (event["text"], event["personal"]["email"], event["evidence"]) == (YES["text"], "Ann.New@example.org", None)
    give(owned, source="https://shop.example/old-list")
    assert status(owned) == "withdrawn", "an old list does not bring the old address back"
    new = Person(ann.web, owned, link(owned, "ann.new@example.org"))
    assert YES["source"] in (await new.enter("ann.new@example.org")).text


async def test_a_no_of_the_new_address_stands(ann: Person, owned: OwnerGateway) -> None:
    """CONSENT-11: a move is no confirmation of an opt-in."""
    owned.owner.call("suppression.add", {"tenant": "shop", "address": "new@example.org"})
    await ann.enter()
    await ann.do("move", email="new@example.org")
    assert (await ann.web.post(moving(owned), headers=HTML)).status_code == 200
    assert status(owned, "new@example.org") == "none" and stops(owned, "new@example.org") == {("all", "objection")}


async def test_a_move_is_over_after_a_day_after_a_newer_one_and_after_erasure(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    await ann.do("move", email="one@example.org")
    first = moving(owned)
    await ann.do("move", email="two@example.org")
    assert (await ann.web.post(first, headers=HTML)).status_code == 410
    second = moving(owned)
    owned.later = 86_401
    assert (await ann.web.post(second, headers=HTML)).status_code == 410
    assert (await ann.enter()).status_code == 200
    await ann.do("move", email="three@example.org")
    await ann.do("erase", sure="yes")
    assert (await ann.web.post(moving(owned), headers=HTML)).status_code == 410
    assert status(owned, "three@example.org") == "none"
    for bad in ("x", ann.token, ann.sealed["proof"]):
        assert (await ann.web.get(f"/my/address/{bad}")).status_code == 404
        assert (await ann.web.post(f"/my/address/{bad}")).status_code == 404


async def test_nobody_is_flooded_with_links_to_move(ann: Person, owned: OwnerGateway) -> None:
    owned.owner.call("suppression.add", {"tenant": "shop", "address": "blocked@example.org", "reason": "restriction"})
    await ann.enter()
    seen = set()
    for address in ("blocked@example.org", *(f"n{number}@example.org" for number in range(5))):
        page = await ann.do("move", email=address)
        seen.add((page.status_code, SEALED.sub("", page.text)))
    assert len(seen) == 1 and len([one for one in owned.notices if one.kind == "my.move"]) == 3
    for address, word in (("ANN@example.net", "already"), ("x@gmial.com", "typing error"), ("nothing", "not a valid")):
        told = await ann.do("move", email=address)
        assert told.status_code == 422 and word in told.text and 'aria-describedby="email-wrong"' in told.text


async def test_codes_and_moves_are_forgotten_after_a_day(ann: Person, owned: OwnerGateway) -> None:
    await ann.enter()
    await ann.do("move", email="new@example.org")
    assert owned.owner.call("retention.run", {})["codes"] == 0  # type: ignore[call-overload]  # a dict
    owned.later = 86_402
    told = owned.owner.call("retention.run", {})
    assert isinstance(told, dict) and (told["codes"], told["moves"]) == (2, 1)


async def test_an_address_that_asks_from_the_web_is_the_clients(owned: OwnerGateway) -> None:
    async with browser(owned, portal_settings(), address="198.51.100.7") as web:
        person = Person(web, owned, link(owned))
        await person.do("ask", email=ANN)
    assert any(key.startswith("my:") and "198.51.100.7" in key for key in owned.hits)
    assert not any("@" in key for key in owned.hits), "no address in a counter's name"
