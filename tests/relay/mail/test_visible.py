"""Who sees whom: the visible set, its parties, and domains in display names (CC-5, CC-6, CC-7, ID-4)."""

from __future__ import annotations

import base64
import gc
import quopri

import pytest

from relay.mail.address import MAX_DIVIDERS, dividers
from relay.mail.displayname import named_domains
from relay.mail.message import Malformed, Message
from relay.mail.placeholders import WINDOW_BYTES, garbled, has_placeholder, template
from relay.mail.texts import read_texts
from relay.mail.visible import Unreadable, audience, own_addresses, visible_addresses
from tests.harness.timing import rounds


def mail(*fields: str, body: str = "") -> Message:
    made = Message.split(("\r\n".join(fields) + "\r\n\r\n" + body).encode())
    assert not isinstance(made, Malformed)
    return made


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        (["To: Ann <Ann@X.test>"], {"ann@x.test"}),
        (
            ["To: a@x.test", "Cc: b@y.test", "Resent-To: c@z.test", "Resent-Cc: d@z.test"],
            {"a@x.test", "b@y.test", "c@z.test", "d@z.test"},
        ),
        (["Bcc: a@x.test"], set()),
        (["Reply-To: a@x.test"], set()),
        (["Reply-To: a@x.test, b@y.test"], {"a@x.test", "b@y.test"}),
        (["Reply-To: <<<"], set()),
        (["From: a@x.test"], set()),
        (["To: undisclosed-recipients:;"], set()),
        (["To: a@x.test", "Mail-Followup-To: b@y.test, c@z.test"], {"a@x.test", "b@y.test", "c@z.test"}),
        (["Apparently-To: a@x.test", "X-Original-To: b@x.test"], {"a@x.test", "b@x.test"}),
        (["Delivered-To: a@x.test", "X-Envelope-To: b@x.test"], {"a@x.test", "b@x.test"}),
        (["Delivered-To: ann", "X-To: <<("], set()),
        (["Disposition-Notification-To: a@x.test"], set()),
        (["Disposition-Notification-To: a@x.test, b@y.test"], {"a@x.test", "b@y.test"}),
    ],
)
def test_what_readers_see(fields: list[str], seen: set[str]) -> None:
    assert visible_addresses(mail(*fields)) == seen


def test_a_field_without_anything_like_an_address_is_unreadable() -> None:
    assert visible_addresses(mail("Cc: <<(")) == Unreadable("Cc")


def test_the_author_s_own_addresses() -> None:
    assert own_addresses(mail("From: Jan <Jan@x.test>, piet@x.test", "Sender: kees@x.test")) == {
        "jan@x.test", "piet@x.test", "kees@x.test",
    }  # fmt: skip


def test_parties() -> None:
    found = audience(
        {"a@klant.test", "b@mail.klant.test", "c@gmail.com", "d@gmail.com", "e@eigen.test", "f@groep.test"},
        {"eigen.test"},
        {"groep.test": "klant"},
        {},
    )
    assert found.parties == {"klant.test", "c@gmail.com", "d@gmail.com", "klant"}
    assert "e@eigen.test" not in found.addresses and len(found.addresses) == 5


@pytest.mark.parametrize(
    ("display", "domains"),
    [
        ("info@ing.nl", ["ing.nl"]),
        ("ING.nl", ["ing.nl"]),
        ("https://www.ing.nl/inloggen", ["www.ing.nl"]),
        ("Klantenservice bank.co.uk", ["bank.co.uk"]),
        ("info@ing", []),
        ("J.P. Jansen", []),
        ("Jansen B.V.", []),
        ("Node.js", []),
        ("Dhr.de Jong", []),
        ("Fa.de Groot", []),
        ("ing.de", ["ing.de"]),
        ("ING.de service", ["ing.de"]),
        ("fa.de", ["fa.de"]),
        ("shop.de klantenservice", ["shop.de"]),
        ("ceo＠bank．example", ["bank.example"]),
        ("Dr. de Vries", []),
        ("Team 2.0", []),
        ("Shop", []),
        ("", []),
    ],
)
def test_domains_in_a_display_name(display: str, domains: list[str]) -> None:
    assert list(dict.fromkeys(named_domains(display))) == domains


def test_a_display_name_costs_no_more_than_its_length() -> None:
    for timed in rounds(0.5):
        with timed:
            for hostile in ("a." * 200_000, "a@" * 200_000, "-." * 200_000, "a" * 400_000 + ".nl"):
                named_domains(hostile)


HOSTILE = ["a@", "g:;", "<a@b.nl ", '"<"a@b.nl', "<<a@b.nl,", "a ", "a.@", "(a@b.nl)", "=?utf-8?q?a=40b.nl?= ", '\\"']
FIELDS = ("To", "Reply-To", "Disposition-Notification-To")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("piece", HOSTILE)
def test_lists_that_would_take_long_are_too_large(piece: str, field: str) -> None:
    """MSG-2: a head may be 256 KiB, and one login may send ten a second."""
    for number in (MAX_DIVIDERS // dividers(piece.encode()) - 2, 250_000 // len(piece)):
        for timed in rounds(0.2):
            message = mail(f"{field}: " + piece * number)
            gc.disable()  # the heap of all tests is no part of what this costs
            with timed:
                found = visible_addresses(message)
            gc.enable()
        assert visible_addresses(message) is found, "read once, however many policies ask"
    assert found == Unreadable(field, "message.head_too_large")


def test_many_fields_are_too_large_together() -> None:
    found = visible_addresses(mail(*["Cc: a@x.test, b@x.test, c@x.test, d@x.test"] * 1_000))
    assert found == Unreadable("Cc", "message.head_too_large")


def test_a_thousand_people_with_names_can_be_read() -> None:
    found = visible_addresses(mail("To: " + ", ".join(f'"Ann {n}" <ann{n}@x.test>' for n in range(1_000))))
    assert isinstance(found, frozenset) and len(found) == 1_000


@pytest.mark.parametrize("field", ["From", "Sender"])
def test_an_author_field_is_read_by_many_and_has_a_limit_of_its_own(field: str) -> None:
    made = Message.split(f"{field}: {'g:;' * 3_000}\r\n\r\n".encode())
    assert isinstance(made, Malformed) and made.reason == "message.head_too_large"


MULTI = "MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="b"'


def test_texts_leave_attachments_out_and_stop_at_their_limit() -> None:
    body = (
        "--b\r\nContent-Type: text/plain\r\n\r\nhallo\r\n"
        "--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nbijlage\r\n"
        "--b\r\nContent-Type: text/html\r\n\r\n<p>dag</p>\r\n--b--\r\n"
    )
    texts = read_texts(mail(*MULTI, body=body))
    assert texts == ("<p>dag</p>", "hallo")
    assert read_texts(mail(*MULTI, body=body), 3) == ("", "hal")


@pytest.mark.parametrize(
    ("head", "body", "asked"),
    [
        (["Content-Type: text/plain"], "dag {{zegel_unsubscribe}}", True),
        (["Content-Type: text/plain"], "dag", False),
        (["Content-Type: text/html", "Content-Transfer-Encoding: base64"], "PGE+e3t6ZWdlbF9teX19PC9hPg==", True),
        (["Content-Type: application/pdf"], "{{zegel_my}}", False),
        (
            ["Content-Type: multipart/mixed; boundary=b"],
            "--b\r\n\r\ndag\r\n--b\r\nContent-Disposition: attachment\r\n\r\n{{zegel_my}}\r\n--b--",
            False,
        ),
        (
            ["Content-Type: multipart/signed; boundary=b"],
            "--b\r\n\r\n{{zegel_my}}\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--",
            False,
        ),
    ],
)
def test_placeholders_are_seen_where_they_may_be_filled(head: list[str], body: str, asked: bool) -> None:
    assert has_placeholder(mail(*head, body=body)) is asked


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("at", range(WINDOW_BYTES - 25, WINDOW_BYTES + 3))
def test_a_mark_is_found_wherever_it_stands_in_a_long_body(encoding: str, at: int) -> None:
    """Also across two of the windows in which it is looked for."""
    mark = "{{zegel=\r\n_=75nsubscribe}}" if encoding == "quoted-printable" else "{{zegel_unsubscribe}}"
    head = ("Content-Type: text/plain", f"Content-Transfer-Encoding: {encoding}")
    if encoding == "base64":
        body = base64.encodebytes(b"x" * (at * 3 // 4 + at % 3) + mark.encode() + b"x" * 999).decode()
    else:
        body = "x" * at + mark + "y" * WINDOW_BYTES + mark
    message = mail(*head, body=body.replace("\r\n", "\n").replace("\n", "\r\n"))
    assert has_placeholder(message)
    made = template(message.fields, message.raw[message.body_start :])
    assert made is not None
    filled = made.fill(("https://g/u", "https://g/my"))
    filled = base64.b64decode(filled) if encoding == "base64" else filled
    assert filled.count(b"https:") == (1 if encoding == "base64" else 2)
    assert b"zegel" not in filled


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("scheme", ["", "http://", "https://"])
@pytest.mark.parametrize(
    ("opens", "closes"), [("{{", "}}"), ("{{ ", " }}"), ("%7B%7B", "%7D%7D"), ("%7b%7b%20", "%20%7d%7d")]
)
def test_what_editors_and_template_engines_make_of_a_mark_is_one_too(
    encoding: str, scheme: str, opens: str, closes: str
) -> None:
    body = f'<a href="{scheme}{opens}zegel_unsubscribe{closes}">x</a>\r\n'
    assert garbled(body) == ""
    if encoding == "quoted-printable":
        body = "".join(f"={ord(c):02X}" if c.isalpha() or c == "=" else f"{c}=\r\n" for c in body.strip()) + "\r\n"
    if encoding == "base64":
        body = base64.encodebytes(body.encode()).decode().replace("\n", "\r\n")
    message = mail("Content-Type: text/html", f"Content-Transfer-Encoding: {encoding}", body=body)
    assert has_placeholder(message)
    made = template(message.fields, message.raw[message.body_start :])
    assert made is not None
    filled = made.fill(("https://g/u", "https://g/my"))
    if encoding != "7bit":
        filled = base64.b64decode(filled) if encoding == "base64" else quopri.decodestring(filled)
    assert filled.strip() == b'<a href="https://g/u">x</a>'


@pytest.mark.parametrize(
    ("text", "is_dead"),
    [
        ('<a href="../../{{zegel_unsubscribe}}">', True),
        ('<a href="//{{ zegel_my }}">', True),
        ("https://shop.example/{{zegel_unsubscribe}}", True),
        ("%257B%257Bzegel_unsubscribe%257D%257D", True),
        ("{{zegel_my_data}}", True),
        ('<a href="https://{{zegel_unsubscribe}}">', False),
        ('<a href="https://click.example/to?u={{zegel_unsubscribe}}">', False),
        ("Afmelden/uitschrijven: {{zegel_unsubscribe}} / {{zegel_my}}", False),
        ("Afmelden/{{zegel_unsubscribe}}", False),
        ("{zegel mysterie}", False),
    ],
)
def test_a_placeholder_behind_another_address_is_a_dead_link(text: str, is_dead: bool) -> None:
    assert bool(garbled(text)) is is_dead


@pytest.mark.parametrize(
    "piece", ["zegel https://a", "zegel {{", "zegel https://a/{{zegel_my", "zegel ../{{zegel_my }"]
)
def test_half_dead_links_cost_what_their_length_says(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    for timed in rounds(1.0):
        with timed:
            garbled(text)


@pytest.mark.parametrize("piece", ["{=\r\n", "{{zegel_unsubscrib=\r\n", "{{zegel_my}=\r\n=7D" + "x\r\n"])
def test_half_marks_cost_what_their_length_says(piece: str) -> None:
    body = piece * (2_000_000 // len(piece))
    for timed in rounds(1.0):
        message = mail("Content-Type: text/html", "Content-Transfer-Encoding: quoted-printable", body=body)
        with timed:
            assert has_placeholder(message) is piece.endswith("x\r\n")
