"""OPS-5: every text in two languages, every rule that a reply names explained, every template key there."""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path

import httpx
import pytest

import relay.mail
from relay.portal.explained import rules
from relay.portal.pages import HERE, pick_language

TEXTS = tomllib.loads((HERE / "texts.toml").read_text("utf-8"))
REASONS = tomllib.loads((Path(relay.mail.__file__).parent / "reasons.toml").read_text("utf-8"))
CALL = re.compile(r"""\bt\(\s*"([a-z_]+)"\s*[,)]""")
NOTE = re.compile(r"""site\.note\(\s*request,\s*"([a-z_]+)\"""")


def slots(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys_and_slots() -> None:
    assert list(TEXTS["nl"]) == list(TEXTS["en"])
    for key, text in TEXTS["nl"].items():
        assert slots(text) == slots(TEXTS["en"][key]), key


def test_templates_and_notes_name_texts_that_exist() -> None:
    for template in (HERE / "templates").glob("*.html"):
        for key in CALL.findall(template.read_text("utf-8")):
            assert key in TEXTS["nl"], f"{template.name}: {key}"
    notes = {key for module in HERE.glob("*.py") for key in NOTE.findall(module.read_text("utf-8"))}
    assert len(notes) > 10
    for key in notes | {"not_found", "not_allowed", "too_large", "error", "crashed"}:
        assert {f"{key}_title", f"{key}_text"} <= set(TEXTS["nl"]), key


def test_every_rule_of_a_reply_has_a_page() -> None:
    named = {str(reason["rule"]) for reason in REASONS.values()}
    assert len(named) > 40
    assert named <= set(rules())


@pytest.mark.parametrize("language", ["nl", "en"])
def test_every_rule_says_what_why_and_what_to_do_in_short_sentences(language: str) -> None:
    for rule in rules().values():
        words = rule.words(language)
        assert len(words.title) <= 70, rule.id
        for part in (words.what, words.why, words.do):
            assert part[0].isupper(), rule.id
            assert part[-1] == ".", rule.id
            for sentence in re.split(r"(?<=[.!?]) ", part):
                assert len(sentence.split()) <= 28, f"{rule.id}: {sentence}"


def test_examples_use_reserved_names_only() -> None:
    allowed = re.compile(r"(?:example|test)$|^example\.(?:com|net|org|nl)$|^gm(?:ail|ial)\.com$|^exmaple\.net$")
    for rule in rules().values():
        for words in (rule.nl, rule.en):
            for domain in re.findall(r"@([\w.-]+\w)", " ".join(words)):
                assert allowed.search(domain), f"{rule.id}: {domain}"


@pytest.mark.parametrize(("language", "word"), [("nl", "Wat kunt u nu doen?"), ("en", "What can you do now?")])
async def test_every_rule_page_opens(web: httpx.AsyncClient, language: str, word: str) -> None:
    index = (await web.get(f"/why?lang={language}")).text
    for rule in rules():
        assert f'href="/why/{rule}?lang={language}"' in index
        page = await web.get(f"/why/{rule}?lang={language}", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert word in page.text


async def test_case_of_a_rule_id_does_not_matter_and_an_unknown_one_is_explained(web: httpx.AsyncClient) -> None:
    assert (await web.get("/why/consent-1")).status_code == 200
    missing = await web.get("/why/CONSENT-999?lang=nl", headers={"Accept": "text/html"})
    assert missing.status_code == 404
    assert "Deze code kennen wij niet" in missing.text


@pytest.mark.parametrize(
    ("asked", "accept", "default", "expected"),
    [
        ("", "", "nl", "nl"),
        ("", "", "en", "en"),
        ("", "nl-NL,nl;q=0.9,en;q=0.8", "en", "nl"),
        ("", "en;q=0.8,nl;q=0.9", "en", "nl"),
        ("", "de,fr;q=0.5", "nl", "nl"),
        ("", "de, en;q=0.1", "nl", "en"),
        ("", "nl;q=0,en;q=0", "en", "en"),
        ("", "nl;q=abc", "en", "en"),
        ("", "nlx,*", "en", "en"),
        ("en", "nl", "nl", "en"),
        ("fr", "nl", "en", "nl"),
        ("", "," * 5000, "nl", "nl"),
    ],
)
def test_the_language_is_the_one_asked_for_then_the_browsers_then_the_servers(
    asked: str, accept: str, default: str, expected: str
) -> None:
    assert pick_language(asked, accept, default) == expected
