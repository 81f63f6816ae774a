"""Equal mails have equal texts once names, numbers and links are gone (CLASS-9)."""

from __future__ import annotations

from relay.mail.fingerprint import MAX_NORMAL_BYTES, normalise, text_of
from relay.mail.message import Message
from relay.mail.stamps import message_id


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
