"""The register of processing: every item of article 30, in both languages, from what is configured (GDPR-17)."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from relay.portal import register as module
from relay.portal.register import LANGUAGES, register, words_of
from relay.portal.register_page import render
from relay.settings.model import Settings

TEXTS = tomllib.loads((Path(module.__file__).parent / "register.toml").read_text())
MAP = tomllib.loads(resources.files("relay.store").joinpath("datamap.toml").read_text())
START = 1_767_348_000.0  # 2026-01-02T10:00:00Z
CLAUSES = "clauses: Decision (EU) 2021/914"


def settings(**changes: Any) -> Settings:
    table = {
        "server": {"hostname": "relay.example.org", "region": "NL"},
        "storage": {"counters": "redis://redis:6379/0"},
        "delivery": {"mode": "smarthost", "smarthosts": ["smtp://mail.example.org", "smtp://us.example.com"]},
        "privacy": {"delivery_log_days": 21, "security_log_days": 77},
        "processing": {
            "operator": "Mail BV",
            "contact": "privacy@mail.example",
            "officer": "J. Jansen",
            "endpoints": [
                "mail.example.org DE",
                "us.example.com US adequacy: Decision (EU) 2023/1795",
                "stamp.example FR",
            ],
            "measures": ["The machine room is locked."],
        },
    }
    return Settings.model_validate({**table, **changes})


def controller(**changes: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "legal_name": "Shop BV",
        "has_legal_name": True,
        "contact": "privacy@shop.example",
        "postal_address": "Postbus 12, Utrecht",
        "kind": "company",
        "category": "tuin",
        "sensitive_audience": False,
        "since": START,
        "streams": ["marketing", "personal"],
        "purposes": [
            {
                "name": "newsletter",
                "controller": "",
                "category": "",
                "title_nl": "Tuinbrief",
                "title_en": "Garden letter",
            }
        ],
        "domains": ["shop.example"],
        "webhooks": [{"name": "crm", "host": "crm.example.org", "events": ["erased"], "with_address": False}],
        "instruction": {"version": 3, "at": START, "by": "operator:jan", "op": "tenant.set", "sha256": "5d0f" * 16},
        **changes,
    }


def other(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Backup Inc", "service": "stores backups", "country": "US", "in_eea": False, "ground": CLAUSES, "contact": None,
        "state": "at work", "announced_at": START, "from_at": START + 1, "without_notice": None, "until_at": None, **changes,
    }  # fmt: skip


def found(*controllers: dict[str, Any], others: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"made_at": START, "controllers": [*controllers], "sub_processors": [*others]}


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_has_every_item_of_article_30_2(language: str) -> None:
    made = register(settings(), found(controller(), others=(other(),)), language)
    # (a) processor, officer, and each controller
    assert (made["processor"]["name"], made["processor"]["contact"], made["processor"]["officer"]) == (
        "Mail BV", "privacy@mail.example", "J. Jansen",
    )  # fmt: skip
    (one,) = made["controllers"]
    assert (one["legal_name"], one["contact"]) == ("Shop BV", "privacy@shop.example")
    # (b) categories of processing for each controller
    assert len(one["processing"]) == 3 and words_of(language)["stream_marketing"] in one["processing"][0]
    # (c) transfers, with country and ground
    law = "AVG" if language == "nl" else "GDPR"
    assert [(row["to"], row["country"], row["law"], row["which"]) for row in made["transfers"]] == [
        ("us.example.com", "US", f"{law} 45", "Decision (EU) 2023/1795"),
        ("Backup Inc", "US", f"{law} 46(2)(c), (d)", "Decision (EU) 2021/914"),
    ]
    # (d) security
    assert len(made["measures"]) == len(TEXTS["measure"]) + 1 and made["measures"][-1] == "The machine room is locked."
    # 30(1): purposes, people, data with periods, recipients; 28(3): the instruction
    assert (
        one["purposes"][0]["name"] == "newsletter"
        and one["people"]
        and one["instruction"]["at"] == "2026-01-02T10:00:00Z"
    )
    assert all(row["what"] and row["basis"] and row["period"] for row in made["data"])
    assert any("21" in period for row in made["data"] for period in row["period"]), "periods are those of the settings"
    assert any("77" in period for row in made["data"] for period in row["period"])
    assert [row["who"] for row in made["recipients"]][:4] == [
        "redis",
        "mail.example.org",
        "us.example.com",
        "stamp.example",
    ]
    assert [row["country"] for row in made["recipients"]][1:4] == ["DE", "US", "FR"]
    assert any("crm.example.org" in row["who"] for row in made["recipients"]) and made["missing"] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_of_data_that_the_rulebook_names_are_there(language: str) -> None:
    text = " ".join(row["what"] for row in register(settings(), found(), language)["data"])
    wanted = {"nl": ("naam en adres", "contact", "geslacht", "financiële", "KvK", "btw", "IBAN"),
              "en": ("name and address", "contact", "gender", "financial", "company number", "VAT", "IBAN")}  # fmt: skip
    assert [word for word in wanted[language] if word not in text] == []


def test_what_was_not_written_down_is_named() -> None:
    made = register(Settings(), found(controller(has_legal_name=False, contact=None)), "en")
    assert [gap.split(": ")[1].split(" in ")[0] for gap in made["missing"]] == [
        "processing.operator", "processing.contact", "zegel tenant set shop --legal-name", "zegel tenant set shop --contact",
    ]  # fmt: skip
    assert made["transfers"] == [], "empty unless somebody declared one"


def test_a_sub_processor_that_ended_is_shown_and_is_no_transfer_any_more() -> None:
    made = register(settings(), found(others=(other(state="ended", until_at=START + 9),)), "nl")
    assert made["sub_processors"][0]["until_at"] == "2026-01-02T10:00:09Z"
    assert [row["to"] for row in made["transfers"]] == ["us.example.com"]


def test_a_kind_tells_every_period_of_its_tables() -> None:
    (row,) = [row for row in register(settings(), found(), "en")["data"] if row["tables"] == ["suppression"]]
    assert len(row["period"]) == 3 and "90 days" in row["period"][1] and "5 years" in row["period"][2]


def test_a_sensitive_list_is_special_data() -> None:
    both = [
        register(settings(), found(controller(sensitive_audience=yes)), "nl")["controllers"][0] for yes in (True, False)
    ]
    assert "AVG 9" in both[0]["special"] and "AVG 9" not in both[1]["special"]


def test_every_table_with_something_of_a_person_is_in_one_kind() -> None:
    """A new one needs a line in relay/portal/register.toml."""
    personal = {
        name
        for name, table in MAP["tables"].items()
        if any(isinstance(said, dict) and said.get("personal") for said in table["columns"].values())
    }
    told = [name for kind in TEXTS["kind"] for name in kind["tables"]]
    assert sorted(told) == sorted(personal)


def test_both_languages_say_the_same_things() -> None:
    assert TEXTS["nl"].keys() == TEXTS["en"].keys()
    assert TEXTS["retention"].keys() == MAP["retention"].keys() and TEXTS["basis"].keys() == MAP["basis"].keys()
    for part in ("retention", "basis"):
        assert all(said.keys() == {"nl", "en"} for said in TEXTS[part].values())
    for part in ("kind", "outside", "measure"):
        assert all(said["nl"] and said["en"] for said in TEXTS[part])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_all_of_it_and_nothing_from_elsewhere(language: str) -> None:
    evil = '<script>alert(1)</script><img src="https://evil.example/x">'
    document = register(
        settings(), found(controller(legal_name=evil), controller(), others=(other(contact="x@y.example"),)), language
    )
    page = LexborHTMLParser(render(document))
    assert page.css_first("html").attributes["lang"] == language
    assert page.css("script, img, link, iframe, a") == []
    text = page.body.text(separator=" ")
    assert evil in text and "Shop BV" in text and "Mail BV" in text and "5d0f" * 16 in text
    for row in (*document["data"], *document["recipients"], *document["transfers"]):
        assert (row.get("what") or row["to"]) in text
    assert all(measure in text for measure in document["measures"])
    assert all(header.attributes["scope"] == "col" for header in page.css("th"))


def test_an_empty_gateway_has_a_page_too() -> None:
    text = LexborHTMLParser(render(register(Settings(), found(), "en"))).body.text()
    assert "What is still missing" in text and "none" in text
