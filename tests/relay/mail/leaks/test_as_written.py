"""Numbers as people and programs write them, and the numbers beside them that are something else."""

from __future__ import annotations

import random

import pytest

from relay.mail.leaks.findings import Terms
from relay.mail.leaks.inspect import inspect
from tests.relay.mail.leaks.test_detectors import ONE, found, good_bsns, good_cards, good_ibans


@pytest.mark.parametrize(
    "text",
    [
        "BSN: 123 456 782 12-03-1980",
        "BSN 12-03-1980 123 456 782",
        "Naam,Geboortedatum,BSN\nJan,12-03-1980,123456782",
        "bsn [1,123456782,1]",
        "bsn [12,123456782,34]",
        "VALUES (12,123456782,'bsn')",
        "BSN 123456782,2 kinderen",
        "BSN: 123\u2011456\u2011782",
        "BSN: 123\u2013456\u2013782",
        "BSN: 1234\u221256\u2212782",
        "B.S.N. 123456782",
        "burger-service-nummer 123456782",
        "sofi nr 123456782",
    ],
)
def test_a_citizen_number_is_known_as_it_is_written(text: str) -> None:
    assert found(text) == {"bsn": 1}


@pytest.mark.parametrize("blank", ["\u2007", "\u3000", "\u2002", "\u200a"])
def test_blanks_of_every_width_stand_between_groups(blank: str) -> None:
    assert found(f"BSN {blank.join(('1234', '56', '782'))}") == {"bsn": 1}
    assert found(f"creditcard {blank.join(['4111'] + ['1111'] * 3)} cvc 123") == {"card": 1}


@pytest.mark.parametrize("sign", ["\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202d", "\u2060", "\ufeff"])
def test_what_cannot_be_seen_hides_no_number(sign: str) -> None:
    assert found(f"BSN {sign}1234{sign}5678{sign}2{sign}") == {"bsn": 1}
    assert found(f"B{sign}SN 1234{sign} 56 {sign}782") == {"bsn": 1}


@pytest.mark.parametrize("sign", ["\u00a0", "\u2007", "\u200d", "\u2011"])
def test_a_number_in_a_cell_is_known_as_it_is_seen(sign: str) -> None:
    content = f"BSN;naam;plaats\n{sign.join(('1234', '56', '782'))};Jan;Ede\n{sign * 8};Piet;Ede\n".encode()
    told = inspect(content, "text/csv", "a.csv")
    assert told.counts == {"bsn": 1} and not told.crashes


@pytest.mark.parametrize("cell", ['"=""123456782"""', '="123456782"', "'123456782"])
def test_a_cell_that_keeps_its_zero_holds_a_number(cell: str) -> None:
    content = f"BSN;naam;plaats\n{cell};Jan;Ede\n0;Piet;Ede\n".encode()
    assert inspect(content, "text/csv", "a.csv").counts == {"bsn": 1}


@pytest.mark.parametrize(
    "text",
    [
        "BSN 123456782,50 euro",
        "BSN 123 456 782 901",
        "BSN 0.123456782",
        "BSN 012 123 456 782",
        "geboortedatum 12-03-1980, +31 123456782",
        "geboortedatum 12-03-1980, 0031-123456782",
        "geboortedatum 12-03-1980, +31 (0) 123456782",
        "Polisnummer: 123456782, geboortedatum 12-03-1980",
        "Vermeld altijd uw BSN. Stichting De Brug, RSIN 123456782",
        "Vermeld altijd uw BSN. Stichting De Brug, fiscaal nummer (RSIN): 123456782",
    ],
)
def test_what_says_to_be_another_number_is_no_citizen_number(text: str) -> None:
    assert found(text) == {}


def test_a_telephone_number_is_none_however_many_there_are() -> None:
    numbers = [number for number in good_bsns(300, 3) if number[0] == "6"]
    lines = (f"Geboortedatum: 08-03-1955\nTelefoon: +31 {number}" for number in numbers)
    assert len(numbers) > 20 and found("\n".join(lines)) == {}


@pytest.mark.parametrize(
    "text",
    [
        "creditcard 4111 1111 1111 1111 12/27 cvc 123",
        "creditcard 4111111111111111 12/27 cvc 123",
        "Visa 4111-1111-1111-1111 exp 12-27",
        "Visa 4111 1111 1111 1111 12 27 123",
        "Visa-kaart nr. 4111111111111111",
        "4111 1111 1111 1111 (Visa)",
        "Kaart 5555 5555 5555 4444 geldig t/m 12/27",
        "mastercard: 5555555555554444",
        "AmEx 3782 822463 10005 1234",
        "Mijn kaartnummer is 4111 1111 1111 1111",
        "4111 1111 1111 1111, vervaldatum 12/27",
        "CVV2 123 4111 1111 1111 1111",
        "4111\u20111111\u20111111\u20111111 cvc 123",
        "creditcard 3528 0000 0000 0007",
    ],
)
def test_a_card_is_known_as_it_is_written(text: str) -> None:
    assert found(text) == {"card": 1}


@pytest.mark.parametrize(
    ("text", "start", "length"),
    [
        ("Mijn OV-chipkaartnummer is {}, graag de reiskosten vergoeden.", "3528", 16),
        ("Uw klantenpas met kaartnummer {} is verlengd.", "4", 16),
        ("Your visa application {} is ready", "4", 16),
        ("Your visa {} is ready", "63", 16),
        ("EAN {} betaald met Maestro", "50", 13),
        ("Betaald met Visa. Ordernummer {}", "4", 16),
        ("Betalingskenmerk: {}\nVervaldatum: 07-12-2026\nBedrag: 120,50", "4", 16),
        ("Klantnummer {}\nVervaldatum 28-11-2026", "67", 14),
        ("Kaartnummer: {}", "36", 14),
    ],
)
def test_what_is_said_of_other_things_makes_no_card(text: str, start: str, length: int) -> None:
    assert found(text.format(good_cards(1, start, length)[0])) == {}


def test_travel_cards_of_a_team_are_no_payment_cards() -> None:
    assert found("OV-chipkaarten:\n" + "\n".join(good_cards(12, "3528"))) == {}


@pytest.mark.parametrize("form", ["IBAN{}", "iban{}", ":25:{}EUR", "{}EUR", "{}"])
def test_an_account_is_known_as_it_is_written(form: str) -> None:
    account = good_ibans(1)[0]
    for number in (account, f"{account[:2]} {account[2:]}", "\u2011".join((account[:4], account[4:8], account[8:]))):
        assert found(f"naar {form.format(number)} graag") == {"iban": 1}
    assert found(f"X{account}") == {} and found(f"{account}EURO") == {} and found(f"LIBAN {account}1") == {}


def test_two_letters_and_two_digits_are_mostly_no_account() -> None:
    chance = random.Random(8)
    words = ("de", "om", "in", "nr", "NL", "BE", "op")
    text = " ".join(f"{chance.choice(words)} {chance.randrange(10, 9999)}" for _ in range(5_000))
    assert found(text, Terms(iban_numbers=1)) == {} and ONE.iban_numbers == 1
