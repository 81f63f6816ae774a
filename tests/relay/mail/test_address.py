"""Addresses: what parse_path and parse_list read, how addresses compare, and that hostile input stays cheap."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from relay.mail.address import (
    FREEMAIL,
    Address,
    Mailbox,
    inbox,
    is_freemail,
    narrow,
    org_domain,
    parse_list,
    parse_path,
    party,
    scan,
    visible,
    wide,
)
from tests.harness.timing import rounds

HERE = Path(__file__).parent
PATHS = tomllib.loads((HERE / "paths.toml").read_text("utf-8"))
LISTS = tomllib.loads((HERE / "lists.toml").read_text("utf-8"))["case"]


@pytest.mark.parametrize("case", PATHS["good"], ids=lambda case: case["text"])
def test_a_good_path_gives_its_parts(case: dict[str, str]) -> None:
    text = case["text"]
    assert parse_path(text) == Address(case["local"], case["domain"], case.get("delivered", text))


@pytest.mark.parametrize("case", PATHS["good"], ids=lambda case: case["text"])
def test_the_key_is_the_narrow_form(case: dict[str, str]) -> None:
    found = parse_path(case["text"])
    assert isinstance(found, Address)
    assert found.key == narrow(found.text)


@pytest.mark.parametrize("case", PATHS["bad"], ids=lambda case: ascii(case["text"]))
def test_a_bad_path_gives_a_sentence_that_does_not_repeat_it(case: dict[str, str]) -> None:
    found = parse_path(case["text"])
    assert isinstance(found, str)
    assert case["sentence"] in found
    assert found.isascii() and (not case["text"] or case["text"] not in found)


def test_a_path_of_254_octets_is_the_longest() -> None:
    domain = ".".join(["a" * 61] * 3) + "."
    tail = "a" * (254 - 65 - len(domain))
    longest = f"{'l' * 64}@{domain}{tail}"
    assert len(longest) == 254 and isinstance(parse_path(longest), Address)
    assert parse_path(longest + "a") == "the address is longer than 254 octets"


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case["value"])
def test_lists_are_read_as_mail_programs_read_them(case: dict[str, object]) -> None:
    boxes = case.get("boxes")
    expected = None if boxes is None else [Mailbox(*pair) for pair in boxes]  # type: ignore[attr-defined]  # TOML
    assert parse_list(str(case["value"]).encode()) == expected


def test_a_list_in_latin_1_is_read_too() -> None:
    assert parse_list("Jän <jan@x.test>".encode("latin-1")) == [Mailbox("Jän", "jan@x.test")]


def test_twenty_addresses_in_one_encoded_word_count_as_twenty() -> None:
    hidden = ",".join(f"a{n}=40x{n}.test" for n in range(20))
    found = parse_list(f"=?utf-8?q?{hidden}?=".encode())
    assert found is not None and len(found) == 20


def test_visible_counts_addresses_inside_display_names() -> None:
    assert visible(b'"a@x.test, b@y.test" <c@z.test>') == ["c@z.test", "a@x.test", "b@y.test"]


HIDDEN = "=?utf-8?q?a=40x.test?= =?utf-8?q?b=40y.test?= =?utf-8?q?c=40z.test?="


@pytest.mark.parametrize(
    "value",
    [
        HIDDEN,
        HIDDEN.replace(" ", ""),
        f"{HIDDEN} <a@x.test>",
        f'"{HIDDEN}" <a@x.test>',
        f"<a@x.test> ({HIDDEN})",
        f"a@x.test (Ann) ({HIDDEN})",
        f'"unclosed {HIDDEN}',
        "(a@x.test, b@y.test, c@z.test)",
    ],
)
def test_visible_finds_each_address_wherever_it_hides(value: str) -> None:
    assert set(visible(value.encode()) or ()) == {"a@x.test", "b@y.test", "c@z.test"}


@pytest.mark.parametrize(
    "value", ["ann . lee@x.test (Ann)", "ann.lee@x . test (Ann) (sales)", "(Ann) <ann . lee@x.test>"]
)
def test_one_address_with_a_comment_is_one_address(value: str) -> None:
    assert visible(value.encode()) == ["ann.lee@x.test"]


def test_visible_falls_back_to_the_pattern_and_then_to_no_answer() -> None:
    assert visible(b'"Ann <ann@x.test>, bob@y.test') == ["ann@x.test", "bob@y.test"]
    assert visible(b'"Ann') is None


@pytest.mark.parametrize(
    ("address", "narrowed", "widened"),
    [
        ("Jan@X.test", "jan@x.test", "jan@x.test"),
        ("Jan+Nieuws@X.test", "jan+nieuws@x.test", "jan@x.test"),
        ("j.an@x.test", "j.an@x.test", "j.an@x.test"),
        ("+nieuws@x.test", "+nieuws@x.test", "+nieuws@x.test"),
        ('"Jan"@x.test', "jan@x.test", "jan@x.test"),
        ("JAN@Bücher.test", "jan@xn--bcher-kva.test", "jan@xn--bcher-kva.test"),
        ("jan@x.test.", "jan@x.test", "jan@x.test"),
        ("Ja\u0308n@x.test", "jän@x.test", "jän@x.test"),
        ("jan@[IPv6:2001:DB8::0:1]", "jan@[ipv6:2001:db8::1]", "jan@[ipv6:2001:db8::1]"),
        ("no address", "no address", "no address"),
    ],
)
def test_comparison_forms(address: str, narrowed: str, widened: str) -> None:
    assert narrow(address) == narrowed
    assert wide(address) == widened


@pytest.mark.parametrize(
    ("domain", "organisation"),
    [
        ("mail.klant.test", "klant.test"),
        ("klant.test", "klant.test"),
        ("a.b.shop.co.uk", "shop.co.uk"),
        ("co.uk", "co.uk"),
        ("test", "test"),
        ("piet.github.io", "piet.github.io"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("www.xn--bcher-kva.nl", "xn--bcher-kva.nl"),
    ],
)
def test_organisational_domains(domain: str, organisation: str) -> None:
    assert org_domain(domain) == organisation


def test_colleagues_are_one_party_and_customers_of_a_provider_are_many() -> None:
    assert {party(f"a{n}@{d}") for n in range(6) for d in ("klant.test", "mail.klant.test")} == {"klant.test"}
    assert len({party(f"a{n}@ziggo.nl") for n in range(12)}) == 12
    assert party("A@gmail.com") == party("a@GMAIL.com") == "a@gmail.com"


@pytest.mark.parametrize(
    "domain", ["gmail.com", "hotmail.co.uk", "live.nl", "yahoo.co.jp", "gmx.net", "piet.xs4all.nl"]
)
def test_mailbox_providers(domain: str) -> None:
    assert is_freemail(domain)


@pytest.mark.parametrize("domain", ["shop.example", "live.shop", "nothotmail.com", "hotmail.test", "gmail.com.test"])
def test_no_mailbox_providers(domain: str) -> None:
    assert not is_freemail(domain)


def test_the_freemail_file_holds_each_domain_once_in_lower_case() -> None:
    lines = [line.partition("#")[0].strip() for line in _freemail_text().splitlines()]
    names = [line for line in lines if line]
    assert len(names) == len(set(names)) == len(FREEMAIL)
    assert all(name == name.lower() and not name.startswith(".") for name in names)


def _freemail_text() -> str:
    import relay.mail

    return (Path(relay.mail.__file__).parent / "freemail.txt").read_text("utf-8")


def test_scan_finds_addresses_in_any_text_once_each() -> None:
    text = b'Beste a@x.test (of <b@y.test>), mail c+d@z.co.uk. "e f"@g.test; a@x.test of =?utf-8?q?h=40i.test?='
    assert scan(text) == ["a@x.test", "b@y.test", "c+d@z.co.uk", '"e f"@g.test', "h@i.test"]


def test_scan_wants_a_domain_with_a_dot() -> None:
    assert scan(b"jan@localhost a@b @x.test ann@") == []


HOSTILE = {
    "at signs": b"a@" * 2_500_000,
    "addresses": b"a@a.aa " * 700_000,
    "quotes": b'"' * 5_000_000,
    "one word": b"a" * 5_000_000,
    "dots and an address": b"." * 5_000_000 + b"@a.aa",
    "open words": b"=?a?q?" * 800_000,
    "domain without end": b"a@" + b"a" * 5_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_five_megabytes_of_hostile_text_are_scanned_within_a_second(name: str) -> None:
    for timed in rounds(1.0):  # MSG-11
        with timed:
            scan(HOSTILE[name])


LISTS_OF_DEATH = {
    "escaped quotes": b'"\\"' * 87_000,
    "brackets": b"<" * 262_144,
    "commas": b"," * 262_144,
    "comments": b"(" * 131_072 + b")" * 131_072,
    "words": b"a " * 131_072,
    "dotted": b"a. " * 87_000 + b"@x",
    "angles in angles": b"<a@x," * 52_000,
    "groups": b"a:<" * 87_000,
    "domain by domain": b"x@y " * 65_000,
    "open literals": b"[a" * 131_000,
    "words in words": b"=?utf-8?q?" + b"a=40b," * 43_000 + b"?=",
    "escapes": b"\\" * 262_144,
}


@pytest.mark.parametrize("name", LISTS_OF_DEATH)
def test_a_hostile_list_of_the_longest_head_is_read_in_bounded_time(name: str) -> None:
    value = LISTS_OF_DEATH[name]
    for timed in rounds(3.0):
        with timed:
            parse_list(value)


def test_a_list_longer_than_any_head_is_left_to_the_pattern() -> None:
    value = b"a@x.test," * 40_000
    assert parse_list(value) is None
    assert visible(value) == ["a@x.test"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("J.a.n+x@GoogleMail.com", "jan@gmail.com"), ("jan@gmail.com", "jan@gmail.com"), ("J.an+x@x.test", "j.an@x.test"),
        ('"j.an"@gmail.com', "jan@gmail.com"), ('"j an."@gmail.com', '"j an."@gmail.com'),
        ("j.an@not-gmail.com", "j.an@not-gmail.com"),
    ],
)  # fmt: skip
def test_what_is_mailed_is_counted_by_the_mailbox_that_it_comes_into(given: str, found: str) -> None:
    """Only for counting: whose a consent is tells no dot (CONSENT-16)."""
    assert inbox(given) == found
    assert narrow("J.an@gmail.com") == "j.an@gmail.com" == wide("J.an+x@gmail.com")
