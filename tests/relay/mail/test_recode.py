"""The 7-bit form: only what offends changes, and it decodes to the same content (OUT-9, MSG-5, MSG-6)."""

from __future__ import annotations

import email
import email.policy
from base64 import b64encode
from email.message import Message as Stdlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.message import Field, Malformed, Message, join_head
from relay.mail.recode import needs_recode, obstacle, to_7bit
from tests.harness.many import examples


def split(text: str | bytes) -> Message:
    raw = text.encode() if isinstance(text, str) else text
    found = Message.split(raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert isinstance(found, Message)
    return found


def recoded(mail: Message) -> tuple[list[Field], bytes]:
    found = to_7bit(mail.fields, mail.body)
    assert not isinstance(found, Malformed), found
    assert not needs_recode(found[1])
    return found


def whole(mail: Message) -> bytes:
    fields, body = recoded(mail)
    return join_head(fields) + body


def leaves(raw: bytes) -> list[tuple[str, bytes]]:
    result = []
    for part in email.message_from_bytes(raw).walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(part, Stdlib) and isinstance(payload, bytes)
            result.append((part.get_content_type(), payload))
    return result


def test_what_is_7_bit_already_comes_back_as_it_is() -> None:
    mail = split("Subject: x\nContent-Transfer-Encoding: 8bit\n\nhello\n")
    assert to_7bit(mail.fields, mail.body) == (mail.fields, b"hello\r\n")


def test_plain_text_becomes_quoted_printable_and_its_field_says_so() -> None:
    mail = split(
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nX: y\n\nhé\n"
    )
    assert whole(mail) == (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\nX: y\r\n\r\nh=C3=A9\r\n"
    )


def test_text_without_mime_fields_gets_what_a_reader_needs() -> None:
    head = whole(split("Subject: x\n\nhé\n")).split(b"\r\n\r\n")[0]
    assert head == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable"
    )
    assert b"charset=unknown-8bit" in whole(split(b"Subject: x\n\nh\xe9\n"))


def test_two_encoding_fields_become_one() -> None:
    mail = split("MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 8bit\n\nhé\n")
    assert whole(mail).lower().count(b"content-transfer-encoding") == 1


MIXED = """\
Content-Type: multipart/mixed; boundary=b
Content-Transfer-Encoding: 8bit
MIME-Version: 1.0

--b
Content-Type: text/plain; charset=utf-8
X-Odd:   blanks\tstay

only ascii
--b
Content-Transfer-Encoding: 8bit
Content-Type: text/html; charset=utf-8

<p>hé</p>
--b
Content-Type: application/octet-stream

é\x00
--b--
"""


def test_only_the_parts_that_offend_change() -> None:
    mail = split(MIXED)
    expected = (
        MIXED.replace("Content-Transfer-Encoding: 8bit\nMIME", "Content-Transfer-Encoding: 7bit\nMIME")
        .replace(
            "8bit\nContent-Type: text/html",
            "quoted-printable\nContent-Type: text/html",
        )
        .replace("<p>hé</p>", "<p>h=C3=A9</p>")
        .replace("octet-stream\n\né\x00", "octet-stream\nContent-Transfer-Encoding: base64\n\nw6kA")
    )
    assert whole(mail) == expected.encode().replace(b"\n", b"\r\n")


def test_a_forwarded_message_is_recoded_inside_never_as_a_whole() -> None:
    mail = split(
        "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\nContent-Type: message/rfc822\n"
        "Content-Transfer-Encoding: 8bit\n\nSubject: in\n\nhé\n--b--\n"
    )
    raw = whole(mail)
    assert b"message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: in\r\nMIME-Version: 1.0\r\n" in raw
    assert raw.count(b"quoted-printable") == 1 and b"h=C3=A9\r\n--b--" in raw


def test_a_long_line_is_enough() -> None:
    mail = split("Content-Type: text/plain\nMIME-Version: 1.0\n\n" + "x" * 999 + "\n")
    assert leaves(whole(mail)) == leaves(mail.raw)
    fits = split("Content-Type: text/plain\n\n" + "x" * 998 + "\n")
    assert to_7bit(fits.fields, fits.body) == (fits.fields, bytes(fits.body))


def test_base64_on_one_long_line_is_wrapped() -> None:
    mail = split(
        "MIME-Version: 1.0\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + "QUJD" * 500 + "\n"
    )
    raw = whole(mail)
    assert leaves(raw) == leaves(mail.raw)
    assert max(map(len, raw.split(b"\r\n"))) == 76


@pytest.mark.parametrize(
    "text",
    [
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\nhé\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n",
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\n" + "x" * 5_000 + "\n--b\n\nx\n--b--\n",
        "Content-Type: multipart/encrypted; boundary=b\n\n--b\n\né\n--b--\n",
        "Content-Type: application/pkcs7-mime\n\né\n",
        "Content-Type: multipart/mixed; boundary=o\n\n--o\n"
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\né\n--b--\n--o--\n",
        "Content-Type: multipart/signed; boundary=b\n\npreämble\n--b\n\nx\n--b--\n",
    ],
)
def test_signed_and_encrypted_parts_are_refused(text: str) -> None:
    mail = split(text)
    found = to_7bit(mail.fields, mail.body)
    assert isinstance(found, Malformed) and found.reason == "message.signed_needs_recode"
    assert obstacle(mail) == found


def test_a_signed_part_that_is_7_bit_survives_beside_one_that_is_not() -> None:
    signature = "Content-Type: application/pgp-signature\n\ny"
    signed = f"Content-Type: multipart/signed; boundary=b\n\n--b\n\nx  \n--b\n{signature}\n--b--\n"
    mail = split(
        f"Content-Type: multipart/mixed; boundary=o\nMIME-Version: 1.0\n\n--o\n{signed}\n--o\n\nfooter é\n--o--\n"
    )
    assert signed.encode().replace(b"\n", b"\r\n") in whole(mail)


@pytest.mark.parametrize(
    "text",
    [
        "Content-Type: multipart/mixed; boundary=b\n\nno delimiter é\n",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: x-uuencode\n\né\n--b--\n",
        "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nSsOkbg==\nfooter é\n",
    ],
)
def test_what_cannot_be_understood_is_refused(text: str) -> None:
    mail = split(text)
    found = to_7bit(mail.fields, mail.body)
    assert isinstance(found, Malformed) and found.reason == "message.mime_needs_recode"
    assert obstacle(mail) == found


def test_names_in_part_heads_become_ascii_and_stay_readable() -> None:
    mail = split(
        "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\nContent-Type: application/pdf\n"
        'Content-Disposition: attachment; filename="prijs ä.pdf"\nContent-Description: Prijs voor Jän Bör\n\nx\n--b--\n'
    )
    part = email.message_from_bytes(whole(mail), policy=email.policy.default).get_payload(0)
    assert isinstance(part, Stdlib)
    assert part.get_filename() == "prijs ä.pdf"
    assert part["content-description"] == "Prijs voor Jän Bör"


def test_a_preamble_nobody_reads_loses_what_it_cannot_keep() -> None:
    mail = split("Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\npré\n--b\n\nx\n--b--\népi\n")
    assert b"\r\n\r\npr??\r\n--b\r\n\r\nx\r\n--b--\r\n??pi\r\n" in whole(mail)


def test_a_soft_line_break_never_makes_a_delimiter() -> None:
    line = "y" * 75 + "--b"
    mail = split(
        "Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n"
        f"--b\nContent-Type: text/plain\n\né\n{line}\nz\n--b--\n"
    )
    assert leaves(whole(mail)) == leaves(mail.raw)


lines = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=120),
        st.sampled_from(
            ["", " ", "\t", ".", "..", "--", "-- ", "--b", "From x", "a=", "=3D", "é" * 700, "x" * 1_200, "--b-"]
        ),
    ),
    max_size=12,
)
kinds = st.sampled_from(
    ["text/plain; charset=utf-8", "text/html", "application/pdf", "image/png", "application/json; charset=utf-8"]
)
encodings = st.sampled_from(["", "7bit", "8bit", "binary", "quoted-printable", "base64"])


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(st.tuples(kinds, encodings, lines), min_size=1, max_size=4), st.booleans())
def test_the_7_bit_form_reads_the_same(parts: list[tuple[str, str, list[str]]], is_nested: bool) -> None:
    pieces = []
    for kind, encoding, text in parts:
        head = f"Content-Type: {kind}\n" + (f"Content-Transfer-Encoding: {encoding}\n" if encoding else "")
        body = "\n".join(line for line in text if line.rstrip(" \t") not in ("--bnd", "--bnd--"))
        if encoding == "base64":
            body = b64encode(body.encode() * 20).decode()  # on one line, long as often as not
        pieces.append(f"--bnd\n{head}\n{body}\n")
    text_of_all = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=bnd\n\n" + "".join(pieces) + "--bnd--\n"
    if is_nested:
        inner = f"--o\nContent-Type: message/rfc822\n\n{text_of_all}\n--o--\n"
        text_of_all = f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n{inner}"
    mail = split(text_of_all)
    assert obstacle(mail) is None
    assert leaves(whole(mail)) == leaves(mail.raw)


@settings(deadline=None)
@given(kinds, lines)
def test_the_7_bit_form_of_a_single_part_reads_the_same(kind: str, text: list[str]) -> None:
    mail = split(f"MIME-Version: 1.0\nContent-Type: {kind}\n\n" + "\n".join(text) + "\n")
    assert leaves(whole(mail)) == leaves(mail.raw)
