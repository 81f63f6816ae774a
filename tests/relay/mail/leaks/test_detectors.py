"""Detectors: what counts and what does not, against the rulebook's numbers and against python-stdnum."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban as iban_oracle
from stdnum import luhn as luhn_oracle
from stdnum.nl import bsn as bsn_oracle

from relay.mail.leaks import bsn, cards
from relay.mail.leaks.findings import Terms
from relay.mail.leaks.inspect import inspect
from relay.mail.leaks.tables import column_kinds

ONE = Terms(iban_numbers=1, text_addresses=1)


def found(text: str, terms: Terms = ONE, kind: str = "text/plain") -> dict[str, int]:
    return dict(inspect(text.encode(), kind, terms=terms).counts)


def good_bsns(count: int, seed: int = 1) -> list[str]:
    chance = random.Random(seed)
    made: list[str] = []
    while len(made) < count:
        number = f"{chance.randrange(10_000_000, 1_000_000_000):09}"
        if bsn_oracle.is_valid(number):
            made.append(number)
    return made


def good_cards(count: int, start: str = "4", length: int = 16, seed: int = 1) -> list[str]:
    chance = random.Random(seed)
    stems = [start + "".join(chance.choices("0123456789", k=length - len(start) - 1)) for _ in range(count)]
    return [stem + luhn_oracle.calc_check_digit(stem) for stem in stems]


def good_ibans(count: int) -> list[str]:
    return [f"NL{iban_oracle.calc_check_digits(f'NLxxINGB{n:010}')}INGB{n:010}" for n in range(count)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("BSN 123456782", 1),
        ("bsn: 111222333", 1),
        ("Burgerservicenummer\t123456782", 1),
        ("123456782 is mijn sofinummer", 1),
        ("geboortedatum 12-05-1984, 123456782", 1),
        ("BSN 1234.56.782", 1),
        ("BSN 123 456 782", 1),
        ("BSN 123-456-782", 1),
        ("BSN\u00a0123\u00a0456\u00a0782", 1),
        ("BSN: \uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff12", 1),
        ("BSN 12345\u200b6782", 1),
        ("(bsn=123456782)", 1),
        ("BSN123456782", 1),
        ("BSN 10000008", 1),  # 010000008 without its zero
        ("BSN 123456782 en nog eens 123456782", 1),
        ("BSN 123456789", 0),
        ("order 111222333", 0),
        ("BSN 000000000", 0),
        ("BSN 1234567820", 0),
        ("BSN NL123456782B01", 0),  # a VAT number
        ("BSN +123456782", 0),
        ("BSN 123456782,50 euro", 0),
        ("BSN 123 456-782", 0),
        ("BSN 123 456 782 901", 0),
        ("geboortedatum 19840513", 0),
        ("kabsnoer 123456782", 0),
        ("https://x.example/bsn/123456782", 0),
    ],
)
def test_a_citizen_number_needs_its_form_and_its_word(text: str, count: int) -> None:
    assert found(text).get("bsn", 0) == count


@pytest.mark.parametrize("distance", [1, 59, 60, 61, 200])
def test_the_word_stands_within_sixty_characters(distance: int) -> None:
    before, after = f"bsn{' ' * distance}123456782", f"123456782{' ' * distance}bsn"
    for text in (before, after):
        assert found(text).get("bsn", 0) == (1 if distance <= 60 else 0)


def test_a_crowd_speaks_for_itself_and_chance_does_not() -> None:
    good = good_bsns(40)
    assert found("\n".join(good[:3])) == {"bsn": 3}
    assert found("\n".join(good[:2])) == {}
    orders = [str(number) for number in range(300_000_000, 300_000_400)]
    assert sum(map(bsn_oracle.is_valid, orders)) > 30, "one in eleven passes"
    assert found("\n".join(orders)) == {}
    assert found("\n".join(good[:8] + orders[:2])) == {"bsn": 8}
    assert found("\n".join(good[:3] + orders[:4])) == {}


@given(st.integers(0, 999_999_999))
def test_the_eleven_test_is_the_one_of_stdnum(number: int) -> None:
    digits = f"{number:09}"
    assert bsn.passes(digits.encode()) == (bsn_oracle.is_valid(digits) and number > 0)


@given(st.text("0123456789", min_size=8, max_size=20))
def test_luhn_is_the_one_of_stdnum(digits: str) -> None:
    assert cards.passes(digits.encode()) == luhn_oracle.is_valid(digits)


@pytest.mark.parametrize(
    "text",
    [
        "NL91ABNA0417164300",
        "NL91 ABNA 0417 1643 00",
        "nl91abna0417164300",
        "NL91.ABNA.0417.1643.00",
        "NL91 ABNA\r\n0417 1643 00",
        "NL91\u00a0ABNA\u00a00417\u00a01643\u00a000",
        "IBAN:NL91ABNA0417164300.",
        "DE89 3704 0044 0532 0130 00",
        "GB29 NWBK 6016 1331 9268 19",
        "BE68 5390 0754 7034",
        "FR14 2004 1010 0505 0001 3M02 606",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "NO93 8601 1117 947",
    ],
)
def test_an_account_is_found_however_it_is_written(text: str) -> None:
    assert found(f"Rekening {text} graag") == {"iban": 1}


@pytest.mark.parametrize(
    "text",
    [
        "NL91ABNA0417164301",
        "NL91ABNA041716430",
        "NL91ABNA04171643001",
        "XNL91ABNA0417164300",
        "ZZ91ABNA0417164300",
        "NL91 0417 1643 00 12",
    ],
)
def test_what_is_no_account_is_not_found(text: str) -> None:
    assert found(text) == {}


@given(st.integers(0, 9_999_999_999), st.sampled_from(["", " ", "."]), st.integers(0, 17), st.integers(1, 9))
def test_one_changed_digit_is_no_account(account: int, gap: str, place: int, change: int) -> None:
    """ISO 7064 mod 97-10 finds every change of one digit."""
    number = f"INGB{account:010}"
    whole = f"NL{iban_oracle.calc_check_digits(f'NLxx{number}')}{number}"
    written = gap.join(whole[at : at + 4] for at in range(0, 18, 4))
    assert found(f"naar {written} a.u.b.") == {"iban": 1}
    if whole[place].isdigit():
        wrong = whole[:place] + str((int(whole[place]) + change) % 10) + whole[place + 1 :]
        assert found(f"naar {wrong} a.u.b.") == {}


def test_own_accounts_do_not_count() -> None:
    accounts = good_ibans(6)
    assert found(" ".join(accounts), Terms()) == {"iban": 6}
    assert found(" ".join(accounts), Terms(own_ibans=frozenset(accounts[:2]))) == {}


@pytest.mark.parametrize(
    ("start", "length"),
    [
        ("4", 16),
        ("4", 13),
        ("4", 19),
        ("51", 16),
        ("2221", 16),
        ("34", 15),
        ("6011", 16),
        ("36", 14),
        ("3530", 16),
        ("62", 16),
        ("6759", 16),
    ],
)
def test_cards_of_each_issuer_are_known(start: str, length: int) -> None:
    numbers = good_cards(3, start, length)
    assert found("\n".join(numbers)) == {"card": 3}
    assert found(f"creditcard {numbers[0]}") == {"card": 1}
    assert found(numbers[0]) == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4111 1111 1111 1111 cvc 123", 1),
        ("4111-1111-1111-1111, geldig tot 12/29", 1),
        ("3782 822463 10005 amex", 1),
        ("4111 1111 1111 1112 cvc 123", 0),
        ("9111 1111 1111 1118 cvc 123", 0),
        ("cvc A4111111111111111", 0),
        ("volgnummer 4111111111111111", 0),
    ],
)
def test_a_card_needs_its_check_digit_and_a_word(text: str, count: int) -> None:
    assert found(text).get("card", 0) == count


def test_article_numbers_that_pass_by_chance_are_no_cards() -> None:
    chance = random.Random(4)
    articles = [f"4{chance.randrange(10**11, 10**12)}" for _ in range(400)]
    assert sum(map(luhn_oracle.is_valid, articles)) > 20
    assert found("\n".join(articles)) == {}


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_a_list_of_addresses_is_counted_once_each(kind: str) -> None:
    people = [f"person{number}@people{number}.example" for number in range(20)]
    text = "<p>" + "<br>".join(people * 3) + "</p>" if kind == "text/html" else ", ".join(people * 3)
    assert found(text, Terms(), kind) == {"address_list": 20}
    assert found(text.replace("person7@people7.example", "x"), Terms(), kind) == {}


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        (["Naam", "Adres", "Postcode"], 3),
        (["E-mail", "Telefoon nr.", "Geboorte-datum"], 3),
        (["voornaam", "achternaam", "woonplaats", "e-mailadres"], 4),
        (["Voornaam", "Naam"], 1),
        (["First name", "Last name", "ZIP code", "Phone"], 4),
        (["artikel", "naam", "prijs"], 1),
        (["x" * 100], 0),
        (["First Name", "Last Name", "Phone 1 - Value", "Address 1 - City"], 5),  # as Google's address book names them
        (["Last Name", "Home Street", "Home City", "Mobile Phone"], 4),  # Outlook's
        (["Voornaam", "Straat (thuis)", "Postcode (thuis)", "Mobiele telefoon"], 4),
        (["Naam klant", "Straat + huisnr.", "Postcode / plaats", "Tel. privé"], 5),
        (["Artikel (naam)", "Plaats in het magazijn", "Adresseerbaar", "Mail ons"], 0),
    ],
)
def test_columns_of_people_are_known_by_their_names(cells: list[str], kinds: int) -> None:
    assert column_kinds(cells) == kinds


def test_html_hides_nothing_and_joins_nothing() -> None:
    assert found("<td>bsn</td><td>123456782</td>", kind="text/html") == {"bsn": 1}
    assert found("BSN&nbsp;123<wbr>456<SPAN lang=nl>782</SPAN>", kind="text/html") == {"bsn": 1}
    assert found("bsn <td>12345</td><td>6782</td>", kind="text/html") == {}
    assert found("<p title='bsn 123456782'>niets</p>", kind="text/html") == {}, "an attribute is not shown"
    many = "".join(f"<a href='mailto:a{n}@b{n}.example'>a{n}&#64;b{n}.example</a>" for n in range(20))
    assert found(many, Terms(), "text/html") == {"address_list": 20}


def test_words_of_care_count_beside_a_person_only() -> None:
    assert found("patiënt Jansen, diagnose diabetes, 123456782")["special"] == 3
    assert found("patiëntnummer 4471, diagnose onbekend")["special"] == 2
    assert found("diagnose en medicatie: lees meer op onze site") == {}
    assert found("uw order 123456782 is verzonden, ook voor diabetes") == {}


@given(st.binary(max_size=2_000), st.sampled_from(["", "a.csv", "a.txt", "a.html", "a.vcf", "a.zip", "a.xlsx", "a"]))
def test_no_octets_make_it_fail(content: bytes, name: str) -> None:
    assert not inspect(content, "", name).crashes


@given(st.integers(0, 40), st.integers(0, 70_000))
def test_a_number_is_found_wherever_the_text_is_cut(lead: int, filler: int) -> None:
    text = " " * lead + "woord " * (filler // 6) + "bsn 123456782 " + "woord " * 3_000
    assert found(text) == {"bsn": 1}


def test_a_company_s_number_beside_the_word_bsn_is_none() -> None:
    eight = next(number[1:] for number in good_bsns(200) if number[0] == "0")
    assert found(f"Stuur ons geen BSN. KvK {eight}") == {}
    assert found(f"Stuur ons geen BSN. KvK-nummer: {eight}") == {}
    assert found(f"BSN {eight}") == {"bsn": 1}


def test_an_american_express_card_in_fours_is_a_card() -> None:
    number = good_cards(1, "37", 15)[0]
    fours = " ".join((number[:4], number[4:8], number[8:12], number[12:]))
    assert found(f"Kaart {fours}, geldig tot 06/29") == {"card": 1}


@pytest.mark.parametrize("name", ["RSIN", "RSIN / fiscaal nummer", "Loonheffingennummer"])
def test_a_column_of_companies_holds_no_citizens(name: str) -> None:
    """What an accountant's list of clients has: these numbers pass the eleven test, every one of them."""
    rows = [f"Bakkerij {at} BV;{number}" for at, number in enumerate(good_bsns(12))]

    def counts(name: str) -> dict[str, int]:
        return dict(inspect("\n".join([f"Klant;{name}", *rows]).encode(), "text/csv", "klanten.csv").counts)

    assert counts(name) == {}
    assert counts("BSN / RSIN") == counts("Nummer") == {"bsn": 12}
