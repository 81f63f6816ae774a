"""Any octets at all: the readers of relay.mail answer with a value, never with an exception, and keep their promises."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.mail.address import Address, narrow, parse_list, parse_path, party, scan, visible, wide
from relay.mail.message import Malformed, Message, join_head
from relay.mail.mime import Structure, decode_text, parse_content_type, structure, walk
from relay.mail.recode import needs_recode, to_7bit
from relay.mail.words import decode_words

ADDRESS_BITS = st.sampled_from(
    [
        "ann",
        "b.c",
        ".",
        "..",
        "@",
        "@@",
        "x.test",
        "bücher.test",
        "[192.0.2.1]",
        "[",
        "]",
        '"',
        '"a b"',
        "\\",
        "<",
        ">",
        ",",
        ";",
        ":",
        "(",
        ")",
        "(c)",
        " ",
        "\t",
        "\u00a0",
        "=?utf-8?q?a=40b.test?=",
        "=?utf-8?b?",
        "?=",
        "+tag",
        "İ",
        "ß",
        "\ud7ff",
        "\0",
        "-",
    ]
)
ADDRESS_TEXTS = st.one_of(st.lists(ADDRESS_BITS, max_size=20).map("".join), st.text(max_size=60))
MIME_BITS = st.sampled_from(
    [
        b"--b\r\n",
        b"--b--\r\n",
        b"--o\r\n",
        b"--o--\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: multipart/signed; boundary=o\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"text",
        b"\xc3\xa9",
        b"x" * 1_100,
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Content-Type: text/html;",
        b" charset=utf-16\r\n",
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n",
        b"no field\r\n",
        b" folded\r\n",
        b"Content-Type: text/calendar\r\n",
        b"Content-Disposition: attachment; filename*0*=x''%",
        b"=\r\n",
        b"QUJD",
        b"Subject: x\r\n",
    ]
)
MAILS = st.one_of(st.lists(MIME_BITS, max_size=25).map(b"".join), st.binary(max_size=300))


@given(ADDRESS_TEXTS)
@example("@a.test:@b.test")
def test_a_path_is_an_address_or_a_sentence(text: str) -> None:
    found = parse_path(text)
    if isinstance(found, Address):
        again = parse_path(f"{found.local}@{found.domain}")
        assert isinstance(again, Address) and again.key == found.key == narrow(found.text)
        assert found.domain.isascii() and len(found.local.encode()) <= 64
        assert not set(found.text) & set("\r\n\0 ") or '"' in found.text
    else:
        assert found.isascii() and found


@given(ADDRESS_TEXTS)
def test_comparison_forms_are_stable(text: str) -> None:
    assert narrow(narrow(text)) == narrow(text)
    assert wide(wide(text)) == wide(text) == wide(narrow(text))
    assert party(text) == party(narrow(text))


@given(st.one_of(ADDRESS_TEXTS.map(lambda text: text.encode(errors="replace")), st.binary(max_size=80)))
def test_a_list_is_mailboxes_or_none(value: bytes) -> None:
    found = parse_list(value)
    assert found is None or all("@" in box.address[1:-1] for box in found)
    seen = visible(value)
    assert seen is None or found is None or len(seen) >= len(found)
    assert all("@" in address for address in scan(value))
    decode_words(value)


@given(st.lists(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?@[a-z]{1,8}\.test", fullmatch=True), max_size=6), st.data())
def test_however_a_list_is_written_its_addresses_come_out(addresses: list[str], data: st.DataObject) -> None:
    shapes = [
        "{}",
        "<{}>",
        "Ann <{}>",
        '"Boer, A" <{}>',
        "{} (Ann)",
        "=?utf-8?q?J=C3=A4n?= <{}>",
        " {} ",
        "Ann {}",
        "Lijst: {};",
    ]
    written = ", ".join(data.draw(st.sampled_from(shapes)).format(address) for address in addresses)
    found = parse_list(written.encode())
    assert found is not None and [box.address for box in found] == addresses
    assert set(scan(written.encode())) == set(addresses)


@settings(deadline=None)
@given(MAILS)
def test_any_octets_are_a_message_or_malformed(raw: bytes) -> None:
    message = Message.split(raw)
    if isinstance(message, Malformed):
        return
    joined = join_head(message.fields) + message.body
    assert joined == raw or message.body_start == len(raw)
    found = structure(message)
    parts = list(walk(message))
    if isinstance(found, Structure):
        assert list(found.parts) == parts
        for part in parts:
            assert message.body_start <= part.start <= part.end <= len(raw)
            assert message.body_start <= part.head_start <= part.start or part.depth == 0
            assert len(decode_text(part, raw, 50)) <= 50
            assert isinstance(part.filename, str) and part.is_attachment in (True, False)


@settings(deadline=None)
@given(MAILS)
def test_the_7_bit_form_is_7_bit_and_stays_so(raw: bytes) -> None:
    message = Message.split(b"MIME-Version: 1.0\r\n" + raw)
    if isinstance(message, Malformed):
        return
    found = to_7bit(message.fields, message.body)
    if isinstance(found, Malformed):
        assert needs_recode(bytes(message.body))
        return
    fields, body = found
    assert not needs_recode(body)
    assert to_7bit(fields, body) == (fields, body)


@given(st.one_of(st.binary(max_size=80), st.lists(MIME_BITS, max_size=6).map(b"".join)))
def test_any_value_is_a_content_type_or_nothing(value: bytes) -> None:
    kind, params = parse_content_type(value)
    assert kind == kind.lower() and (not kind or kind.count("/") >= 1)
    assert all(name == name.lower() for name in params)
