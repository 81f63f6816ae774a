"""Equal mails have equal texts once names, numbers and links are gone (CLASS-9)."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from relay.mail.fingerprint import MARKS, MAX_NORMAL_BYTES, marks_of, normalise, text_of
from relay.mail.message import Message
from relay.mail.stamps import message_id
from tests.harness.timing import rounds


def mail(body: str, kind: str = "plain") -> Message:
    made = Message.split(f"Content-Type: text/{kind}; charset=utf-8\r\n\r\n{body}".encode())
    assert isinstance(made, Message)
    return made


def test_names_numbers_links_and_tokens_do_not_count() -> None:
    one = "Beste Jan, uw code is 123456. Ga naar https://x.example/t/abc17 voor de bevestiging van uw afspraak."
    other = "Beste Ann-Marie, uw code is 98. Ga naar https://x.example/t/zz99 voor de bevestiging van uw afspraak."
    assert normalise(one) == normalise(other) == b"uw code is naar voor de bevestiging van uw afspraak"


def test_other_words_make_another_text() -> None:
    assert normalise("uw afspraak is verzet") != normalise("uw afspraak is vervallen")


def test_html_and_its_tags_do_not_count() -> None:
    one = '<html><body class="a17"><p>Wij sluiten morgen wat eerder wegens het feest</p></body></html>'
    assert text_of(mail(one, "html")) == b"sluiten morgen wat eerder wegens het feest"


def test_a_few_words_say_nothing() -> None:
    assert text_of(mail("Bedankt, tot morgen!")) == b""
    assert text_of(mail("")) == b""


def test_the_text_is_bounded() -> None:
    assert len(normalise("woord " * 100_000)) <= MAX_NORMAL_BYTES
    assert len(normalise("é" * 39 + " " + ("ë" * 39 + " ") * 100)) <= MAX_NORMAL_BYTES


def test_a_message_id_is_the_same_for_the_same_mail_at_the_same_time() -> None:
    one, other = mail("een"), mail("twee")
    assert message_id(one, 1.5, "shop.example") == message_id(one, 1.5, "shop.example")
    assert (
        len({message_id(one, 1.5, "x.example"), message_id(one, 2.5, "x.example"), message_id(other, 1.5, "x.example")})
        == 3
    )
    assert message_id(one, 1.5, "shop.example").endswith("@shop.example>")


LETTER = (
    "Beste klant, deze maand hebben wij weer heel veel moois in de winkel voor uw tuin. Kom langs en kijk rond tussen de "
    "planten, potten en meubels, of bestel alles makkelijk thuis via onze site. Wie snel is krijgt er een mooie gieter bij, zo "
    "lang de voorraad strekt. Onze medewerkers geven graag uitleg over grond, licht en water, zodat alles goed blijft groeien."
)
OTHER = (
    "Hallo allemaal, de vergadering van volgende week gaat niet door omdat de zaal dubbel is geboekt. We zoeken nog een datum "
    "waarop iedereen kan en horen graag van jullie welke avonden wel schikken. De notulen van de vorige keer staan op de schijf, "
    "lees ze even door en geef het door als er iets niet klopt, dan kunnen we ze meteen vaststellen zodra we weer bijeen zijn."
)


def shared(one: str, other: str) -> int:
    """How many marks two texts share."""
    pair = zip(marks_of(text_of(mail(one))), marks_of(text_of(mail(other))), strict=True)
    return sum(first == second for first, second in pair)


def variants(text: str, words: int, number: int) -> list[str]:
    """`number` mails of a campaign, in each of which so many words are others."""
    chance = random.Random(7)
    made = []
    for _ in range(number):
        parts = text.split()
        for _ in range(words):
            parts[chance.randrange(len(parts))] = "".join(chance.choices("abcdefghij", k=7))
        made.append(" ".join(parts))
    return made


def most_alike(texts: list[str]) -> int:
    """What the last mail of them is told: how many were like it, as relay.gather counts."""
    counts: Counter[tuple[int, int]] = Counter()
    found = 0
    for text in texts:
        marks = list(enumerate(marks_of(text_of(mail(text)))))
        counts.update(marks)
        found = max(found, sorted(counts[mark] for mark in marks)[len(marks) // 2])
    return found


def test_near_duplicates_count_together_and_strangers_do_not() -> None:
    assert shared(LETTER, LETTER.replace("klant", "mevrouw")) == MARKS, "names and salutations are gone"
    assert most_alike(variants(LETTER, 1, 25)) >= 20
    assert most_alike(variants(LETTER, 3, 60)) >= 20
    assert shared(LETTER, OTHER) == 0
    assert most_alike([LETTER, OTHER] * 3) == 3


def test_what_is_quoted_or_stands_below_the_greeting_is_not_the_senders_own_text() -> None:
    """A thread, a reply above a newsletter, everybody's disclaimer: no campaign."""
    below = "\r\n\r\nMet vriendelijke groet,\r\nJan\r\n\r\n" + OTHER
    quoted = "\r\n".join("> " + line for line in LETTER.split(". "))
    answer = f"Prima, dat doen we.{below}\r\n\r\nOp maandag 5 januari 2026 schreef Ann de Vries:\r\n{quoted}"
    assert text_of(mail(answer)) == b""
    assert text_of(mail(f"{LETTER}{below}")) == text_of(mail(LETTER))
    assert text_of(mail(f"Dank je!\r\n\r\n-- \r\n{OTHER}")) == b""
    html = f'<p>Leuk voor jou!</p><div class="gmail_quote">{LETTER}</div>'
    made = Message.split(f"Content-Type: text/html\r\nIn-Reply-To: <1@x>\r\n\r\n{html}".encode())
    assert isinstance(made, Message) and text_of(made) == b""


def test_a_campaign_does_not_hide_behind_a_greeting_or_a_quote() -> None:
    """Who puts the text below a greeting, or in a quote of no mail, is counted all the same."""
    assert most_alike([f"Hoi!\r\nGroeten,\r\n{LETTER} {OTHER}"] * 20) == 20
    html = f"<p>Hoi</p><blockquote>{LETTER}</blockquote>"
    assert len(marks_of(text_of(mail(html, "html")))) == MARKS


def test_a_short_text_has_one_mark_and_hardly_any_text_none() -> None:
    assert len(marks_of(text_of(mail("dank voor uw bericht wij komen er snel op terug")))) == 1
    assert marks_of(text_of(mail("ok, dank je"))) == ()


@pytest.mark.parametrize(
    "hostile",
    [
        "On " * 30_000,
        "-" * 90_000,
        "<" * 90_000,
        "groeten\r\n" * 10_000,
        "> \r\n" * 30_000,
        "op " + "x" * 90_000,
        "a " * 45_000,
    ],
)
def test_hostile_text_costs_no_more_than_any(hostile: str) -> None:
    """Linear and bounded: 90 KB of it in the time of 8 KB, with room for a slow machine."""
    for timed in rounds(0.1):
        made = [mail(hostile, kind) for kind in ("plain", "html")]
        with timed:
            for one in made:
                marks_of(text_of(one))
