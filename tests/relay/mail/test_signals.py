"""Marks of advertising (CLASS-8): what counts and, more often, what does not."""

from __future__ import annotations

import pytest

from relay.mail.message import Message
from relay.mail.signals import BODY_SIGNALS, HEAD_SIGNALS, body_signals, head_signals, text_blemishes
from relay.mail.texts import Texts
from tests.harness.timing import rounds

PRICE = [
    ("Vandaag 20% korting op alles", True),
    ("Krijg 15 % extra korting", True),
    ("Get 30% off today", True),
    ("korting tot wel 50%", True),
    ("Nu voor € 9,95", True),
    ("nu slechts €9,95", True),
    ("only $5", True),
    ("gebruik kortingscode HERFST", True),
    ("Totaal € 121,00 inclusief 21% btw", False),
    ("Te betalen: EUR 12,50", False),
    ("Bedrag: $ 40.00", False),
    ("Het project is 80% klaar", False),
    ("80% of users", False),
    ("de menu € 12", False),
    ("Korting 10%   -4,00", False),
    ("Subtotaal € 40,00 Korting (10%): € -4,00", False),
    ("10% korting | - € 4,00 |", False),
    ("Discount 5%  -2.00", False),
    ("Rabatt 5 %: \u2212 2,00 \u20ac", True),
    ("Kortingscode ZOMER: -5,00", False),
    ("Couponcode WELKOM-10  -€ 5,00", False),
    ("Korting 10%   -4,00\nVolgende keer 20% korting op alles!", True),
    ("Korting 10% € 9,95", True),
    ("Gebruik kortingscode HERFST: -5,00 op alles", True),
    ("20% korting - 5 dagen lang", True),
    ("Korting 10%" + " " * 2_000 + "-4,00", True),
]


@pytest.mark.parametrize(("text", "advertises"), PRICE)
def test_a_price_is_advertising_only_when_it_is_praised(text: str, advertises: bool) -> None:
    assert ("price" in body_signals(Texts("", text))) is advertises
    assert ("price" in body_signals(Texts(f"<p>{text}</p>", ""))) is advertises


AS_WRITTEN = [
    ("<p>Nu voor maar &euro; 9,99</p>", "price"),
    ("<p>Vanaf &euro;&nbsp;9,99</p>", "price"),
    ("<p>Vanaf <b>€ 9,99</b></p>", "price"),
    ("<p>Vanaf<br><b style='a>b'>&#x20AC; 9,99</b></p>", "price"),
    ("<p>only <span class=x>&dollar;5</span></p>", "price"),
    ("<p>20% <b>korting</b></p>", "price"),
    ("<p><B>20%</B>\r\n  <i>extra</i> korting</p>", "price"),
    ("20&#37; korting", "price"),
    ("20&#0000000000000000000037; korting", "price"),
    ("20&nbsp;% korting", "price"),
    ("20% kor&shy;ting", "price"),
    ("20% <!-- > --> korting", "price"),
    ("gebruik de <b>korting</b>scode", "price"),
    ("<p>beoordeel&nbsp;ons</p>", "survey"),
    ("<p>Beoordeel\r\n   ons</p>", "survey"),
    ("<p>beoordeel<br>ons</p>", "survey"),
    ("<p>b&#69;oordeel <a href='https://x.example'>ons</a></p>", "survey"),
    ("<table><tr><td>Nu</td><td>&euro; 12,50</td></tr></table>", None),
    ("<tr><td>Korting</td><td>&euro; 0,00</td></tr><tr><td>BTW</td><td>21%</td></tr>", None),
    ("Korting &euro; 0,00<br>BTW 21%", None),
    ("<tr><td>Korting (10%)</td>\r\n<td style='color:red'>&euro;&nbsp;-4,00</td></tr><tr><td>Totaal</td></tr>", None),
    ("Korting 10%: &euro; -4,00<br>Totaal: &euro; 36,00", None),
    ("<td>Kortingscode <b>ZOMER</b></td><td>&minus;&nbsp;&euro;&nbsp;5,00</td>", None),
    ("Kortingscode ZOMER: -5,00<br>Totaal: 35,00", None),
    ("<td>20% korting</td><td>&euro; 9,95</td>", "price"),
    ("<p>Totaal &euro;&nbsp;121,00</p>", None),
    (f"&#{'9' * 4_400};", None),
]


@pytest.mark.parametrize(("html", "signal"), AS_WRITTEN)
def test_html_is_read_as_it_is_shown(html: str, signal: str | None) -> None:
    assert body_signals(Texts(html, "")) - {"offer"} == ({signal} if signal else set())


@pytest.mark.parametrize(
    ("field", "signal"),
    [
        ("List-Unsubscribe: <mailto:x@y>", "list_unsubscribe"),
        ("List-ID: <a.b>", "list_id"),
        ("Feedback-ID: a:b:c:d", "feedback_id"),
        ("Precedence: Bulk", "precedence"),
        ("Precedence:list", "precedence"),
        ("X-Mailer: PHPList 3", "marketing_mailer"),
        ("User-Agent: Mautic", "marketing_mailer"),
        ("X-Campaign-ID: 7", "campaign_header"),
        ("X-Mailchimp-Foo: 7", "campaign_header"),
        ("Precedence: first-class", None),
        ("X-Mailer: Microsoft Outlook 16.0", None),
        ("User-Agent: Mozilla Thunderbird", None),
        ("X-Spam-Score: 3", None),
        ("X-Mailer-Daemon: mautic", None),
    ],
)
def test_fields_that_tools_write(field: str, signal: str | None) -> None:
    message = Message.split(f"From: a@b\r\n{field}\r\n\r\n".encode())
    assert isinstance(message, Message)
    assert head_signals(message) == ({signal} if signal else set())


def test_four_different_products_are_a_shop_window_and_three_are_not() -> None:
    link = '<a href="https://x.example/product/{}">p</a>'
    assert "shop_links" not in body_signals(Texts("".join(link.format(i % 3) for i in range(9)), ""))
    assert "shop_links" in body_signals(Texts("".join(link.format(i) for i in range(4)), ""))


def test_a_shop_in_the_host_name_is_no_shop_link_of_a_confirmation() -> None:
    good = Texts('<a href="https://shop.example/optin/confirm/abc">Ja</a>', "")
    assert text_blemishes(good) == set()
    assert text_blemishes(Texts("", "https://shop.example/product/4")) == {"shop_link"}
    assert text_blemishes(Texts('<p style="background-image:url(x)">Ja</p>', "")) == {"image"}


def test_a_pixel_needs_two_redirect_links() -> None:
    pixel = '<img src="https://t.example/o" width=1 height=1>'
    link = '<a href="https://t.example/click/abcdefgh{}">x</a>'
    assert "tracking" not in body_signals(Texts(pixel + link.format(1), ""))
    assert "tracking" in body_signals(Texts(pixel + link.format(1) + link.format(2), ""))
    assert "tracking" not in body_signals(Texts(pixel.replace("1 h", "100 h") + link.format(1) + link.format(2), ""))


CODES = (
    *("kortingscode", "kortingsactie", "actieprijs", "actiecode", "discount code", "promo code", "promocode", "coupon"),
    *("voucher code", "rabattcode", "gutscheincode", "code promo", "aanbieding van de week", "limited time offer"),
)
PERCENT = ("1%off", "1procent off", "1percent off", "1prozent off", "2% korting", "3% rabatt")


@pytest.mark.parametrize("words", [CODES, PERCENT])
def test_thousands_of_discounts_that_were_given_cost_little(words: tuple[str, ...]) -> None:
    text = "".join(f"{word} -5\n&#39;" for word in words) * 400
    for timed in rounds(0.25):
        with timed:
            for _ in range(4):
                body_signals(Texts("", text))


ROWS = {
    "discounts given": "Korting 5% | - 5,00\n",
    "prices only": "Nu voor € 5,00 te betalen\n",
    "plain amounts": "Plant | € 5,00\n",
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("closing", "is_offer"),
    [
        ("Bestel nu met 20% korting op alle planten!", True),
        ("Profiteer: vandaag € 10 korting.", True),
        ("Dank voor de bestelling.", False),
        ("Wilt u bezwaar maken? Bestel nu een kopie van de factuur van € 5,00.", False),
    ],
)
def test_an_offer_behind_hundreds_of_amounts_is_one(row: str, closing: str, is_offer: bool) -> None:
    found = body_signals(
        Texts("", ROWS[row] * 300 + "\n" * 20 + "Zo staat het in onze boeken van dit jaar. " * 5 + closing)
    )
    assert ("offer" in found) is is_offer


def test_the_policy_has_points_for_every_mark() -> None:
    from policies.classification import Settings

    assert all(
        hasattr(Settings(), signal) for signal in (*HEAD_SIGNALS, *BODY_SIGNALS) if signal not in ("survey", "offer")
    )
