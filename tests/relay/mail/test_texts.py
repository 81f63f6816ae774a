"""What a reader shows as text, whatever the part is called (CLASS-8), in bounded time (MSG-11)."""

from __future__ import annotations

from base64 import encodebytes

import pytest

from relay.mail.fingerprint import text_of
from relay.mail.message import Malformed, Message
from relay.mail.signals import confirm_blemishes
from relay.mail.texts import MAX_TEXT_BYTES, MAX_UNSEEN, read_texts
from tests.harness.timing import rounds

AD = '<p>20% korting <a href="https://x.example/u">afmelden</a></p>'


def mail(*head: str, body: str = AD) -> Message:
    made = Message.split(("\r\n".join(("MIME-Version: 1.0", *head)) + "\r\n\r\n" + body).encode())
    assert not isinstance(made, Malformed)
    return made


def mixed(*parts: str, kind: str = "mixed") -> Message:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts)
    return mail(f"Content-Type: multipart/{kind}; boundary=b", body=f"{body}--b--\r\n")


def html(*head: str, kind: str = "text/html") -> str:
    return "\r\n".join((f"Content-Type: {kind}", *head)) + f"\r\n\r\n{AD}"


PLAIN = "Content-Type: text/plain\r\n\r\nhallo"
SAVED = "Content-Disposition: attachment; filename=mail.html"
SHOWN = {
    "the whole mail has a name": mail('Content-Type: text/html; name="mail.html"'),
    "the whole mail is called an attachment": mail("Content-Type: text/html", SAVED),
    "the only part has a name": mixed(html(kind='text/html; name="mail.html"')),
    "the only part is called an attachment": mixed(html(SAVED)),
    "inline with a file name": mixed(html("Content-Disposition: inline; filename=mail.html")),
    "behind a text, inline with a file name": mixed(PLAIN, html("Content-Disposition: INLINE; filename=mail.html")),
    "behind a text, with a name": mixed(PLAIN, html(kind="text/html; name=mail.html")),
    "the better half of two, with a name": mixed(PLAIN, html(kind="text/html; name=mail.html"), kind="alternative"),
    "the better half of two, called an attachment": mixed(PLAIN, html(SAVED), kind="alternative"),
    "behind an image": mixed("Content-Type: image/png\r\n\r\nx", html(kind="text/html; name=mail.html")),
    "XHTML": mail("Content-Type: application/xhtml+xml"),
    "the form for watches": mixed(PLAIN, html(kind="text/watch-html"), kind="alternative"),
    "an attached mail": mixed(PLAIN, f"Content-Type: message/rfc822\r\n\r\n{html(kind='text/html; name=a.html')}"),
}


@pytest.mark.parametrize("why", SHOWN)
def test_a_reader_shows_it(why: str) -> None:
    assert AD in read_texts(SHOWN[why]).html


@pytest.mark.parametrize("kind", ["text/plain; name=a.txt", "text/enriched", "text/x-anything"])
def test_every_other_text_is_read_as_plain(kind: str) -> None:
    assert read_texts(mail(f"Content-Type: {kind}", body="hallo")) == ("", "hallo")


def test_what_is_called_an_attachment_behind_a_text_is_none() -> None:
    assert read_texts(mixed(PLAIN, html(SAVED))) == ("", "hallo")
    assert read_texts(mixed(PLAIN, "Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR")) == ("", "hallo")


def test_a_name_does_not_hide_a_campaign() -> None:
    body = "wij nodigen u graag uit voor onze open dag van volgende week\r\n"
    named = mail('Content-Type: text/plain; name="a.txt"', body=body)
    assert text_of(named) == text_of(mail("Content-Type: text/plain", body=body)) != b""


LONG = 70 * 1000
UNSEEN = {
    "a comment": f"<!-- {'x' * LONG} -->",
    "many comments": "<!-- xxxxxxxxxx -->" * (LONG // 19),
    "a style": f"<STYLE type=a>{'x' * LONG}</style>",
    "a script": f"<script>{'<' * LONG}</script>",
}


@pytest.mark.parametrize("why", UNSEEN)
@pytest.mark.parametrize("encoding", ["8bit", "base64"])
def test_what_no_reader_shows_hides_nothing_behind_it(why: str, encoding: str) -> None:
    body = UNSEEN[why] + AD
    if encoding == "base64":
        body = encodebytes(body.encode()).decode().replace("\n", "\r\n")
    texts = read_texts(mail("Content-Type: text/html", f"Content-Transfer-Encoding: {encoding}", body=body))
    assert AD in texts.html and len(texts.html) <= MAX_TEXT_BYTES


@pytest.mark.parametrize(
    "shown", [f"<!-->{AD}<!-- -->", f"<!--->{AD}-->", f"<!--[if mso]>{AD}<![endif]-->", f"<!-- {AD}"]
)
def test_what_only_looks_like_a_comment_is_kept(shown: str) -> None:
    texts = read_texts(mail("Content-Type: text/html", body=f"<!-- {'x' * LONG} -->{shown}"))
    assert AD in texts.html and len(texts.html) < len(shown) + 2 * MAX_UNSEEN


def test_a_long_text_is_cut() -> None:
    assert read_texts(mail("Content-Type: text/html", body="x" * LONG)).html == "x" * MAX_TEXT_BYTES
    assert read_texts(mail("Content-Type: text/plain", body="x" * LONG)).plain == "x" * MAX_TEXT_BYTES


@pytest.mark.parametrize("piece", ["<!--", "<!-->", "<style>", "<style>a</style>", "<script ", "<!-- x --", "</style"])
def test_hostile_markup_costs_no_more_than_its_length(piece: str) -> None:
    body = piece * (2_000_000 // len(piece))
    for timed in rounds(0.5):
        message = mail("Content-Type: text/html", body=body)
        with timed:
            read_texts(message)


IMAGE = "Content-Type: {}\r\nContent-Disposition: {}\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA"


@pytest.mark.parametrize(
    ("kind", "disposition"),
    [
        ("image/png; name=a.png", "inline; filename=a.png"),
        ("image/gif", "inline"),
        ("image/png", "attachment"),
        ("application/octet-stream", "inline; filename=A.JPG"),
    ],
)
def test_an_image_beside_the_text_is_one_of_the_confirmation(kind: str, disposition: str) -> None:
    assert confirm_blemishes(mixed(PLAIN, IMAGE.format(kind, disposition))) == {"image"}


def test_a_confirmation_may_have_two_forms() -> None:
    assert (
        confirm_blemishes(mixed(PLAIN, "Content-Type: text/html\r\n\r\n<p>Ja</p>", kind="alternative")) == frozenset()
    )
