"""Documents of an office with known contents, for the detectors of DLP-1 to -5 and -7.

Written from the rulebook alone, by somebody who did not write the detectors. Half of the documents hold something that counts;
the other half holds what looks like it: order numbers, broken check digits, one number too few, a word too far away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from tests.leaks import carriers, values
from tests.leaks.carriers import Made

SCORED = ("bsn", "iban", "card", "address_list", "address_file", "special")


class Document(NamedTuple):
    """`truth`: what it holds enough of, by detector; `scene` names how it was made."""

    content: bytes
    content_type: str
    filename: str
    truth: frozenset[str]
    scene: str


def small_talk(chance: Random, least: int = 2) -> list[str]:
    """Lines of ordinary business mail, full of numbers that mean nothing here."""
    lines = (
        "Goedemorgen, hierbij de stukken voor de vergadering van donderdag.",
        f"Factuur {chance.randrange(10_000, 99_999)} van {values.day(chance)} bedraagt {values.money(chance)}.",
        f"U bereikt ons op {values.phone(chance)} of op {values.phone(chance)}.",
        f"Ons adres is {values.street(chance)}, {values.postcode(chance)} {chance.choice(values.TOWNS)}.",
        f"KvK {values.digits(chance, 8)}, btw-nummer {values.company_vat(chance)}.",
        "Please find attached the report we spoke about; let us know if anything is missing.",
        f"De zending met kenmerk 3S{''.join(chance.choices('ABCDEFGHJK', k=4))}{values.digits(chance, 9)} is onderweg.",
        f"Met vriendelijke groet, {values.person(chance)}",
        f"Het overleg is verzet naar {values.day(chance)} om {chance.randrange(8, 18)}:{chance.choice(('00', '15', '30'))} uur.",
        f"Kenmerk: {chance.choice('ABCDEF')}-{values.digits(chance, 6)}/{chance.randrange(2015, 2027)}",
    )
    return chance.sample(lines, chance.randrange(least, 6))


def in_text(chance: Random, lines: list[str]) -> Made:
    """`lines` somewhere in small talk, in some kind of text."""
    made = chance.choice(carriers.TEXTS)(chance, [*small_talk(chance), *lines, *small_talk(chance)])
    return carriers.zipped(chance, made) if made[2] and chance.random() < 0.2 else made


def in_table(chance: Random, rows: list[list[str]]) -> Made:
    made = chance.choice(carriers.TABLES)(chance, rows)
    return carriers.zipped(chance, made) if chance.random() < 0.2 else made


def table(chance: Random, columns: dict[str, Callable[[Random], str]], count: int) -> list[list[str]]:
    """A head and `count` rows, columns in random order."""
    heads = chance.sample(sorted(columns), len(columns))
    return [heads, *([columns[head](chance) for head in heads] for _ in range(count))]


# -- what counts --------------------------------------------------------------------------------------------------------


def bsn_beside_word(chance: Random) -> tuple[Made, set[str]]:
    number = values.citizen_number(chance)
    if number[0] == "0":
        number = chance.choice((number, number[1:]))
    word = chance.choice(
        ("BSN", "bsn", "BSN-nummer", "Burgerservicenummer", "burgerservicenummer (BSN)", "Sofinummer", "uw BSN is")
    )
    line = chance.choice(
        (f"{word}: {number}", f"{word} {number}", f"{values.person(chance)}, {word} {number}", f"{number} ({word})")
    )
    return in_text(chance, [line]), {"bsn"}


def bsn_beside_birthday(chance: Random) -> tuple[Made, set[str]]:
    line = f"Geboortedatum {values.day(chance)}, nummer {values.citizen_number(chance)}"
    return in_text(chance, [line]), {"bsn"}


def bsn_in_column(chance: Random) -> tuple[Made, set[str]]:
    head = chance.choice(("BSN", "Nummer", "Registratie", "Persoon"))
    columns = {
        head: values.citizen_number,
        "Afdeling": lambda c: c.choice(values.TOWNS),
        "Uren": lambda c: str(c.randrange(4, 41)),
    }
    return in_table(chance, table(chance, columns, chance.randrange(5, 120))), {"bsn"}


def payroll(chance: Random) -> tuple[Made, set[str]]:
    columns = {
        "Werknemer": values.person,
        "BSN": values.citizen_number,
        "IBAN": lambda c: values.grouped(c, values.account(c), 4, " "),
        "Salaris": values.money,
    }
    return in_table(chance, table(chance, columns, chance.randrange(6, 48))), {"bsn", "iban"}


def accounts(chance: Random) -> tuple[Made, set[str]]:
    lines = [
        f"{values.person(chance)}: {values.grouped(chance, values.account(chance), 4, ' ')}"
        for _ in range(chance.randrange(5, 14))
    ]
    return in_text(chance, lines), {"iban"}


def account_column(chance: Random) -> tuple[Made, set[str]]:
    columns = {
        "Rekening": values.account,
        "Bedrag": values.money,
        "Omschrijving": lambda c: f"nota {c.randrange(1000)}",
    }
    return in_table(chance, table(chance, columns, chance.randrange(6, 100))), {"iban"}


def card_beside_word(chance: Random) -> tuple[Made, set[str]]:
    number = values.grouped(chance, values.card(chance), 4)
    line = chance.choice((
        f"Creditcard {number}",
        f"Mijn creditcardnummer is {number}",
        f"{number} cvc {values.digits(chance, 3)}",
        f"Kaart {number}, geldig tot {chance.randrange(1, 13):02}/{chance.randrange(26, 33)}",
    ))  # fmt: skip
    return in_text(chance, [line]), {"card"}


def cards(chance: Random) -> tuple[Made, set[str]]:
    lines = [
        f"{values.person(chance)} {values.grouped(chance, values.card(chance), 4)}"
        for _ in range(chance.randrange(3, 9))
    ]
    return in_text(chance, lines), {"card"}


def many_named(chance: Random) -> tuple[Made, set[str]]:
    """A forward that shows who the others were."""
    people = values.mailboxes(chance, chance.randrange(20, 60))
    shown = [f"{values.person(chance)} <{one}>" if chance.random() < 0.5 else one for one in people]
    lines = [f"Aan: {'; '.join(shown)}"] if chance.random() < 0.5 else shown
    carrier = chance.choice((carriers.plain_mail, carriers.html_mail))
    return carrier(chance, [*small_talk(chance), *lines, *small_talk(chance)]), {"address_list"}


def address_file(chance: Random) -> tuple[Made, set[str]]:
    people = values.mailboxes(chance, chance.randrange(50, 300))
    kind = chance.randrange(3)
    if kind == 0:
        made = carriers.vcards(chance, [(values.person(chance), one) for one in people])
    elif kind == 1:
        made = chance.choice((carriers.text_file, carriers.docx, carriers.pdf))(chance, people)
    else:
        made = in_table(chance, [["E-mail", "Soort"], *([one, chance.choice(("lid", "donateur"))] for one in people)])
    return (carriers.zipped(chance, made) if kind < 2 and chance.random() < 0.2 else made), {"address_file"}


PEOPLE: dict[str, Callable[[Random], str]] = {
    "Naam": values.person,
    "Achternaam": lambda c: c.choice(values.LAST),
    "Adres": values.street,
    "Postcode": values.postcode,
    "Woonplaats": lambda c: c.choice(values.TOWNS),
    "Telefoon": values.phone,
    "Geboortedatum": values.day,
}


def customer_file(chance: Random) -> tuple[Made, set[str]]:
    heads = chance.sample(sorted(PEOPLE), chance.randrange(3, 7))
    columns = {(head if chance.random() < 0.6 else head.lower()): PEOPLE[head] for head in heads}
    columns["Klantnr"] = lambda c: str(c.randrange(10_000, 99_999))
    return in_table(chance, table(chance, columns, chance.randrange(50, 200))), {"address_file"}


def patient_letter(chance: Random) -> tuple[Made, set[str]]:
    number = values.citizen_number(chance)
    finding = chance.choice((
        *("de diagnose diabetes mellitus type 2", "een depressie waarvoor medicatie"),
        *("borstkanker, behandeling met chemotherapie", "HIV-positief, start antiretrovirale medicatie"),
        *("epilepsie, recept voor valproaat", "een psychose, opname op de afdeling"),
    ))  # fmt: skip
    who = chance.choice(
        (f"BSN {number}", f"geboortedatum {values.day(chance)}", f"patiëntnummer {values.digits(chance, 7)}")
    )
    line = f"Betreft patiënt {values.person(chance)}, {who}: {finding}."
    return in_text(chance, [line]), {"special", *({"bsn"} if who.startswith("BSN") else ())}


# -- what looks like it -------------------------------------------------------------------------------------------------


def letter(chance: Random) -> tuple[Made, set[str]]:
    return in_text(chance, []), set()


def invoice(chance: Random) -> tuple[Made, set[str]]:
    lines = [
        f"Factuurnummer {values.digits(chance, 9)}, ordernummer {values.digits(chance, 9)}",
        f"Te betalen {values.money(chance)} op {values.grouped(chance, values.account(chance), 4, ' ')}",
        f"btw {values.company_vat(chance)}, uw btw {values.company_vat(chance)}, KvK {values.digits(chance, 8)}",
    ]
    return in_text(chance, lines), set()


def few_accounts(chance: Random) -> tuple[Made, set[str]]:
    few = [values.account(chance) for _ in range(chance.randrange(1, 5))]
    lines = [f"Rekening {values.grouped(chance, chance.choice(few), 4, ' ')}" for _ in range(12)]
    return in_text(chance, lines), set()


def broken_accounts(chance: Random) -> tuple[Made, set[str]]:
    return in_text(chance, [f"{values.person(chance)} {values.no_account(chance)}" for _ in range(9)]), set()


def order_list(chance: Random) -> tuple[Made, set[str]]:
    """One number in eleven passes for a BSN."""
    columns = {
        "Order": lambda c: f"{c.randrange(100_000_000, 1_000_000_000)}",
        "Artikel": lambda c: f"A{c.randrange(900)}",
        "Prijs": values.money,
    }
    return in_table(chance, table(chance, columns, chance.randrange(12, 200))), set()


def lone_number(chance: Random) -> tuple[Made, set[str]]:
    word = chance.choice(("Ordernummer", "Order", "Klantnummer", "Dossier", "Polis", "Serienummer"))
    return in_text(chance, [f"{word} {values.citizen_number(chance)}"]), set()


def wrong_bsn(chance: Random) -> tuple[Made, set[str]]:
    return in_text(chance, [f"BSN {values.no_citizen_number(chance)} klopt niet volgens het systeem."]), set()


def word_far_away(chance: Random) -> tuple[Made, set[str]]:
    between = "Wij vragen u dat gegeven nooit te mailen, maar het in te vullen op de beveiligde pagina van ons kantoor."
    return in_text(chance, [f"Uw BSN hebben wij nodig. {between} Dossier {values.citizen_number(chance)}"]), set()


def vat_list(chance: Random) -> tuple[Made, set[str]]:
    columns = {
        "Relatie": lambda c: f"{c.choice(values.LAST)} BV",
        "Btw-nummer": values.company_vat,
        "Omzet": values.money,
    }
    return in_table(chance, table(chance, columns, chance.randrange(5, 80))), set()


def device_list(chance: Random) -> tuple[Made, set[str]]:
    columns = {"IMEI": values.device, "Toestel": lambda c: f"Model {c.randrange(9)}", "Uitgegeven": values.day}
    return in_table(chance, table(chance, columns, chance.randrange(4, 60))), set()


def few_cards(chance: Random) -> tuple[Made, set[str]]:
    return in_text(chance, [f"Referentie {values.card(chance)}" for _ in range(chance.randrange(1, 3))]), set()


def broken_cards(chance: Random) -> tuple[Made, set[str]]:
    return in_text(chance, [f"Creditcard {values.grouped(chance, values.no_card(chance), 4)}" for _ in range(4)]), set()


def long_numbers(chance: Random) -> tuple[Made, set[str]]:
    lines = [
        f"Meternummer {chance.choice('0178')}{values.digits(chance, 15)}, zending {values.digits(chance, 22)}"
        for _ in range(6)
    ]
    return in_text(chance, lines), set()


def few_named(chance: Random) -> tuple[Made, set[str]]:
    people = values.mailboxes(chance, chance.randrange(3, 18))
    carrier = chance.choice((carriers.plain_mail, carriers.html_mail))
    return carrier(chance, [*small_talk(chance), *people, *people, *people]), set()


def one_named_often(chance: Random) -> tuple[Made, set[str]]:
    return in_text(chance, [f"Vragen? {one}" for one in values.mailboxes(chance, 1) * 70]), set()


def club(chance: Random) -> tuple[Made, set[str]]:
    """A list that is not long."""
    heads = chance.sample(sorted(PEOPLE), 4)
    rows = table(chance, {head: PEOPLE[head] for head in heads}, chance.randrange(8, 46))
    people = values.mailboxes(chance, len(rows) - 1)
    return in_table(
        chance, [[*rows[0], "E-mail"], *([*row, one] for row, one in zip(rows[1:], people, strict=True))]
    ), set()


def price_list(chance: Random) -> tuple[Made, set[str]]:
    columns = {
        "Artikel": lambda c: f"A{c.randrange(10**6)}",
        "Omschrijving": lambda c: c.choice(values.STREETS),
        "Prijs": values.money,
        "EAN": lambda c: "87" + values.digits(c, 11),
    }
    return in_table(chance, table(chance, columns, chance.randrange(60, 300))), set()


def planning(chance: Random) -> tuple[Made, set[str]]:
    """Long, and of people, but with two of the columns only."""
    columns = {
        "Naam": values.person,
        "Telefoon": values.phone,
        "Dienst": lambda c: c.choice(("vroeg", "laat", "nacht")),
        "Zaal": lambda c: str(c.randrange(40)),
    }
    return in_table(chance, table(chance, columns, chance.randrange(60, 150))), set()


def health_advice(chance: Random) -> tuple[Made, set[str]]:
    lines = [
        "Onze informatieavond over diabetes en gezonde voeding is op donderdag.",
        "Een huisarts vertelt over medicatie en bijwerkingen.",
    ]
    return in_text(chance, lines), set()


HOLDING = (
    bsn_beside_word, bsn_beside_birthday, bsn_in_column, payroll, accounts, account_column, card_beside_word, cards,
    many_named, many_named, address_file, customer_file, patient_letter,
)  # fmt: skip
HARMLESS = (
    letter, invoice, few_accounts, broken_accounts, order_list, lone_number, wrong_bsn, word_far_away, vat_list, device_list,
    few_cards, broken_cards, long_numbers, few_named, one_named_often, club, price_list, planning, health_advice,
)  # fmt: skip


def documents(count: int, seed: int) -> Iterator[Document]:
    """`count` documents, every second one holding something; the same ones for the same seed."""
    chance = Random(seed)
    for number in range(count):
        scene = chance.choice(HOLDING if number % 2 else HARMLESS)
        (content, kind, filename), truth = scene(chance)
        yield Document(content, kind, filename, frozenset(truth), scene.__name__)
