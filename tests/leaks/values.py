"""Made-up people and numbers: valid ones by python-stdnum's rules, and look-alikes that are none."""

from __future__ import annotations

from random import Random

from stdnum import iban, imei, luhn
from stdnum.nl import bsn

FIRST = [
    "Anna",
    "Bram",
    "Chantal",
    "Daan",
    "Eva",
    "Femke",
    "Gijs",
    "Hanna",
    "Ilse",
    "Joost",
    "Karin",
    "Lars",
    "Mees",
    "Noor",
    "Olaf",
    "Pim",
    "Roos",
    "Sem",
    "Tess",
    "Youssef",
    "Zoë",
]
LAST = [
    "de Vries",
    "van Dijk",
    "Bakker",
    "Jansen",
    "Visser",
    "Smit",
    "Meijer",
    "de Boer",
    "Mulder",
    "Bos",
    "Vos",
    "Peters",
    "Hendriks",
    "van Leeuwen",
    "El Amrani",
]
STREETS = [
    "Dorpsstraat",
    "Kerkweg",
    "Molenlaan",
    "Stationsplein",
    "Havenkade",
    "Lindelaan",
    "Oranjesingel",
    "Beukenhof",
]
TOWNS = ["Utrecht", "Zwolle", "Breda", "Delft", "Assen", "Venlo", "Gouda", "Hoorn", "Tilburg", "Ede"]
BANKS = ["ABNA", "RABO", "INGB", "TRIO", "SNSB", "KNAB", "BUNQ"]
# Length of the part behind the check digits: digits alone, as these countries have them.
FOREIGN = {"DE": 18, "BE": 12, "AT": 16, "ES": 20, "DK": 14, "PL": 24, "FI": 14}
CARDS = (("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("2719", 16), ("34", 15), ("37", 15), ("6011", 16))


def digits(chance: Random, count: int) -> str:
    return "".join(chance.choices("0123456789", k=count))


def citizen_number(chance: Random) -> str:
    """A valid BSN of nine digits."""
    while True:
        number = f"{chance.randrange(10_000_000, 1_000_000_000):09}"
        if bsn.is_valid(number):
            return number


def no_citizen_number(chance: Random) -> str:
    """Nine digits that fail the test of eleven."""
    while True:
        number = f"{chance.randrange(100_000_000, 1_000_000_000)}"
        if not bsn.is_valid(number):
            return number


def account(chance: Random) -> str:
    """A valid IBAN, two in three of them Dutch, without blanks."""
    if chance.random() < 0.67:
        country, rest = "NL", chance.choice(BANKS) + digits(chance, 10)
    else:
        country = chance.choice(sorted(FOREIGN))
        rest = digits(chance, FOREIGN[country])
    made = country + iban.calc_check_digits(country + "00" + rest) + rest
    return made if iban.is_valid(made) else account(chance)  # some countries check more than the 97


def no_account(chance: Random) -> str:
    """An IBAN with one digit changed."""
    good = account(chance)
    at = chance.randrange(12, len(good))
    other = chance.choice([digit for digit in "0123456789" if digit != good[at]])
    return good[:at] + other + good[at + 1 :]


def card(chance: Random) -> str:
    start, length = chance.choice(CARDS)
    stem = start + digits(chance, length - len(start) - 1)
    return stem + str(luhn.calc_check_digit(stem))


def no_card(chance: Random) -> str:
    good = card(chance)
    return good[:-1] + str((int(good[-1]) + chance.randrange(1, 10)) % 10)


def device(chance: Random) -> str:
    """An IMEI: fifteen digits that pass Luhn, and no card."""
    stem = "35" + digits(chance, 12)
    made = stem + str(luhn.calc_check_digit(stem))
    assert imei.is_valid(made)
    return made


def company_vat(chance: Random) -> str:
    """A Dutch VAT number: nine digits that pass the BSN's test, between letters."""
    return f"NL{citizen_number(chance)}B{chance.randrange(1, 99):02}"


def grouped(chance: Random, number: str, size: int, marks: str = "  -") -> str:
    """As people write long numbers: in groups, or not."""
    if chance.random() < 0.4:
        return number
    mark = chance.choice(marks)
    return mark.join(number[at : at + size] for at in range(0, len(number), size))


def person(chance: Random) -> str:
    return f"{chance.choice(FIRST)} {chance.choice(LAST)}"


def mailbox(chance: Random, number: int) -> str:
    """An address that differs from those with another `number`."""
    name = person(chance).lower().replace(" ", chance.choice(("", ".", "-"))).replace("ë", "e")
    host = chance.choice(("kpnmail", "ziggo-post", "bedrijf", "school", "vereniging", "praktijk"))
    return f"{name}{number}@{host}{chance.randrange(1, 40)}.{chance.choice(('nl', 'com', 'org', 'eu'))}"


def mailboxes(chance: Random, count: int) -> list[str]:
    first = chance.randrange(1_000_000)
    return [mailbox(chance, first + number) for number in range(count)]


def street(chance: Random) -> str:
    return f"{chance.choice(STREETS)} {chance.randrange(1, 300)}"


def postcode(chance: Random) -> str:
    return f"{chance.randrange(1000, 9999)} {''.join(chance.choices('ABCDEGHJKLNPRSTVWXZ', k=2))}"


def phone(chance: Random) -> str:
    return chance.choice(
        (f"06-{digits(chance, 8)}", f"0{chance.randrange(10, 79)}-{digits(chance, 7)}", f"+31 6 {digits(chance, 8)}")
    )


def day(chance: Random) -> str:
    return f"{chance.randrange(1, 29):02}-{chance.randrange(1, 13):02}-{chance.randrange(1940, 2026)}"


def money(chance: Random) -> str:
    return f"€ {chance.randrange(1, 9000)},{chance.randrange(100):02}"
