"""MIME structure: offsets, what is signed, protected or an invitation, and the limits of MSG-2."""

from __future__ import annotations

import time

import pytest

from relay.mail.message import Malformed, Message
from relay.mail.mime import Part, Structure, body_of, decode_text, parse_content_type, structure, walk
from tests.harness.timing import rounds


def message(text: str | bytes) -> Message:
    raw = text.encode() if isinstance(text, str) else text
    found = Message.split(raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert isinstance(found, Message)
    return found


def shape(mail: Message) -> Structure:
    found = structure(mail)
    assert isinstance(found, Structure)
    return found


def texts(mail: Message) -> list[tuple[int, str, bytes]]:
    return [(part.depth, part.content_type, mail.raw[part.start : part.end]) for part in walk(mail)]


def multipart(kind: str, *parts: str, boundary: str = "b", more: str = "") -> str:
    joined = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f"Content-Type: {kind}; boundary={boundary}{more}\n\n{joined}--{boundary}--\n"


def test_a_single_part() -> None:
    mail = message("Subject: x\nContent-Type: TEXT/HTML; Charset=UTF-8\nContent-Transfer-Encoding: 8BIT\n\n<p>\n")
    [part] = shape(mail).parts
    assert (part.content_type, part.params, part.encoding) == ("text/html", {"charset": "UTF-8"}, "8bit")
    assert mail.raw[part.start : part.end] == b"<p>\r\n"
    assert part == next(walk(mail))


def test_a_message_without_mime_fields_is_text() -> None:
    [part] = shape(message("Subject: x\n\nhello\n")).parts
    assert (part.content_type, part.encoding, part.signed, part.is_container) == ("text/plain", "", False, False)


def test_parts_are_cut_without_the_crlf_before_their_delimiter() -> None:
    mail = message(
        "Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\none\n--b  \nContent-Type: text/html\n\n"
        "two\n\n--b--\nepi\n"
    )
    assert texts(mail)[1:] == [(1, "text/plain", b"one"), (1, "text/html", b"two\r\n")]


def test_a_delimiter_may_be_the_first_line_and_the_last_may_be_missing() -> None:
    mail = message("Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n")
    assert texts(mail)[1:] == [(1, "text/plain", b"one"), (1, "text/plain", b"two\r\n")]


def test_empty_parts_are_parts() -> None:
    mail = message("Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b--\n")
    assert texts(mail)[1:] == [(1, "text/plain", b""), (1, "text/plain", b"")]


def test_a_longer_boundary_is_another_one() -> None:
    inner = multipart("multipart/alternative", "Content-Type: text/plain\n\nin", boundary="bb")
    mail = message(multipart("multipart/mixed", inner, "\nout"))
    assert texts(mail)[1:] == [
        (1, "multipart/alternative", mail.raw[mail.raw.index(b"--bb") : mail.raw.rindex(b"--bb--") + 8]),
        (2, "text/plain", b"in"),
        (1, "text/plain", b"out"),
    ]


def test_an_outer_delimiter_ends_inner_parts() -> None:
    mail = message(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nnever closed\n"
        "--o\n\nnext\n--o--\n"
    )
    assert [(depth, text) for depth, kind, text in texts(mail) if kind == "text/plain"] == [
        (2, b"never closed"),
        (1, b"next"),
    ]


def test_a_multipart_without_its_delimiters_is_text_to_readers() -> None:
    for head in ("Content-Type: multipart/mixed; boundary=b", "Content-Type: multipart/mixed"):
        mail = message(f"{head}\n\nhidden a@x.test\n")
        assert [part.content_type for part in shape(mail).leaves] == ["text/plain"]
        assert decode_text(shape(mail).leaves[0], mail.raw, 100) == "hidden a@x.test\r\n"


def test_a_forwarded_message_is_walked_into() -> None:
    inner = "Content-Type: message/rfc822\n\nTo: a@x.test\nContent-Type: text/html\n\n<p>in</p>"
    mail = message(multipart("multipart/mixed", "\nsee below", inner))
    assert [(part.depth, part.content_type) for part in walk(mail)] == [
        (0, "multipart/mixed"),
        (1, "text/plain"),
        (1, "message/rfc822"),
        (2, "text/html"),
    ]
    assert list(walk(mail))[-1].head[0] == (b"to", b"To: a@x.test\r\n")


def test_parts_of_a_digest_are_messages() -> None:
    mail = message(multipart("multipart/digest", "\nSubject: one\n\nbody"))
    assert [part.content_type for part in walk(mail)] == ["multipart/digest", "message/rfc822", "text/plain"]


def test_lines_that_are_no_field_do_not_hide_the_content_type_behind_them() -> None:
    mail = message(multipart("multipart/mixed", "not a field\nContent-Type: text/html\n\n<p>"))
    assert texts(mail)[1] == (1, "text/html", b"<p>")


@pytest.mark.parametrize(
    ("value", "kind", "params"),
    [
        (b"text/plain", "text/plain", {}),
        (
            b'text/plain; charset="utf-8" (comment); format=flowed',
            "text/plain",
            {"charset": "utf-8", "format": "flowed"},
        ),
        (b'multipart/mixed; boundary="a;b=c"', "multipart/mixed", {"boundary": "a;b=c"}),
        (b'multipart/mixed; boundary="\'()+_,-./:=?1" (x)', "multipart/mixed", {"boundary": "'()+_,-./:=?1"}),
        (b'text/plain (a); x="(b) \\"(c)"; (d) y=z', "text/plain", {"x": '(b) "(c)', "y": "z"}),
        (b'text/plain; x="open (a) ; y=z', "text/plain", {"x": "", "y": "z"}),
        (b'multipart/mixed; boundary="a\\"b"', "multipart/mixed", {"boundary": 'a"b'}),
        (b"multipart/mixed; boundary*0=ab; boundary*1=cd", "multipart/mixed", {"boundary": "abcd"}),
        (b"application/pdf; name*=utf-8'nl'%C3%A4.pdf", "application/pdf", {"name": "\u00e4.pdf"}),
        (b"application/pdf; name*0*=utf-8''%C3; name*1*=%A4; name*2=.pdf", "application/pdf", {"name": "\u00e4.pdf"}),
        (b"text/plain; charset=a; charset=b", "text/plain", {"charset": "a"}),
        (b"text / plain ;charset = x", "text/plain", {"charset": "x"}),
        (b"text", "", {}),
        (b"", "", {}),
    ],
)
def test_content_types(value: bytes, kind: str, params: dict[str, str]) -> None:
    assert parse_content_type(value) == (kind, params)


def test_the_filename_is_decoded_wherever_it_stands() -> None:
    heads = [
        'Content-Type: application/pdf\nContent-Disposition: attachment; filename="a.pdf"',
        "Content-Type: application/pdf\nContent-Disposition: attachment; filename*=utf-8''%C3%A4.pdf",
        'Content-Type: application/pdf; name="=?utf-8?q?=C3=A4=2Epdf?="',
        "Content-Type: text/plain",
    ]
    mail = message(multipart("multipart/mixed", *(f"{head}\n\nx" for head in heads)))
    found = shape(mail)
    assert [part.filename for part in found.leaves] == ["a.pdf", "ä.pdf", "ä.pdf", ""]
    assert len(found.attachments) == 3


def test_text_is_decoded_by_its_encoding_and_charset_and_cut_at_the_limit() -> None:
    cases = {
        "text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nJ=E4=\nn": "Jän",
        "text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nSsOk\nbg==": "Jän",
        "text/plain; charset=utf-8\n\nJän": "Jän",
    }
    mail = message(multipart("multipart/mixed", *(f"Content-Type: {case}" for case in cases)))
    assert [decode_text(part, mail.raw, 1_000) for part in shape(mail).leaves] == list(cases.values())
    assert [len(body_of(part, mail.raw, 2)) for part in shape(mail).leaves] == [2, 2, 2]


SIGNATURE = "Content-Type: application/pgp-signature\n\nsig"


def test_everything_under_a_signature_is_marked() -> None:
    signed = multipart("multipart/signed", "Content-Type: text/plain\n\nhello", SIGNATURE, boundary="s")
    mail = message(multipart("multipart/mixed", signed, "\nfooter"))
    found = shape(mail)
    assert (found.is_signed, found.is_encrypted, found.header_protected) == (True, False, False)
    assert [part.signed for part in found.parts] == [False, True, True, True, False]


def test_encrypted_mail_is_known() -> None:
    pgp = multipart("multipart/encrypted", "Content-Type: application/pgp-encrypted\n\nVersion: 1")
    smime = (
        "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nAAAA\n"
    )
    bare = "Content-Type: application/x-pkcs7-mime; name=smime.p7m\n\nAAAA\n"
    for text in (pgp, smime, bare):
        found = shape(message(text))
        assert (found.is_encrypted, found.is_signed) == (True, False)
        assert all(part.signed for part in found.parts)


WRAPPED = "Q29udGVudC1UeXBlOiBtZXNzYWdlL3JmYzgyMg0KDQpUbzogYUB4LnRlc3QNCg=="  # Content-Type: message/rfc822 and a head


@pytest.mark.parametrize(
    "text",
    [
        multipart("multipart/signed", 'Content-Type: text/plain; hp="clear"\n\nhello', SIGNATURE),
        multipart(
            "multipart/signed",
            'Content-Type: multipart/mixed; boundary=i; protected-headers="v1"\n\n--i\n\nx\n--i--',
            SIGNATURE,
        ),
        multipart("multipart/signed", "Content-Type: message/rfc822\n\nTo: a@x.test\n\nhello", SIGNATURE),
        f"Content-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n{WRAPPED}\n",
    ],
    ids=["hp", "protected-headers", "wrapped message", "wrapped in a signed-data object"],
)
def test_header_protection_is_seen(text: str) -> None:
    assert shape(message(text)).header_protected


@pytest.mark.parametrize(
    "text",
    [
        multipart("multipart/signed", "Content-Type: text/plain\n\nhp=clear", SIGNATURE),
        'Content-Type: text/plain; hp="clear"\n\nnot signed at all\n',
        multipart(
            "multipart/mixed",
            "Content-Type: message/rfc822\n\n"
            + multipart("multipart/signed", 'Content-Type: text/plain; hp="clear"\n\nx', SIGNATURE, boundary="s"),
        ),
        multipart(
            "multipart/signed",
            multipart("multipart/mixed", "\nfyi", "Content-Type: message/rfc822\n\nTo: a@x.test\n\nx", boundary="i"),
            SIGNATURE,
        ),
        f"Content-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n{'QUJD' * 20}\n",
    ],
    ids=[
        "in the text",
        "not signed",
        "in an attached message",
        "a forward that is signed as a whole",
        "opaque without",
    ],
)
def test_no_header_protection_where_there_is_none(text: str) -> None:
    assert not shape(message(text)).header_protected


@pytest.mark.parametrize(
    ("head", "body", "method"),
    [
        ("text/calendar; method=request", "BEGIN:VCALENDAR", "REQUEST"),
        ("text/calendar", "BEGIN:VCALENDAR\nMETHOD:CANCEL\n", "CANCEL"),
        ("text/calendar", "BEGIN:VCALENDAR", ""),
        ("text/plain; method=request", "METHOD:REQUEST", ""),
    ],
)
def test_calendar_methods(head: str, body: str, method: str) -> None:
    assert shape(message(f"Content-Type: {head}\n\n{body}")).calendar_method == method
    assert (
        shape(message(multipart("multipart/alternative", f"Content-Type: {head}\n\n{body}"))).calendar_method == method
    )


def nested(levels: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(levels))


TOO_MUCH = {
    "nested multiparts": (nested(10_000), "message.too_deep"),
    "nested messages": (b"Content-Type: message/rfc822\r\n\r\n" * 10_000, "message.too_deep"),
    "parts": (b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n" * 500_000, "message.too_many_parts"),
    "lines like a boundary": (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--ab\r\n" * 4_000_000,
        "message.too_many_parts",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_limits_are_told_and_cost_little(name: str) -> None:
    raw, reason = TOO_MUCH[name]
    for timed in rounds(1.0):
        mail = Message.split(raw)
        assert isinstance(mail, Message)
        with timed:
            found = structure(mail)
    assert isinstance(found, Malformed) and found.reason == reason


def test_thirty_levels_are_allowed_and_one_more_is_not() -> None:
    def levels(count: int) -> Structure | Malformed:
        mail = Message.split(nested(count) + b"\r\nx\r\n")
        assert isinstance(mail, Message)
        return structure(mail)

    deepest = levels(30)
    assert isinstance(deepest, Structure) and deepest.parts[-1].depth == 30
    assert isinstance(levels(31), Malformed)


def test_a_walk_stops_at_a_limit_without_a_word() -> None:
    mail = Message.split(nested(100))
    assert isinstance(mail, Message)
    assert max(part.depth for part in walk(mail, max_depth=5)) == 5
    many = message(multipart("multipart/mixed", *["\nx"] * 50))
    assert len(list(walk(many, max_parts=10))) <= 10


def test_deep_and_wide_is_still_linear() -> None:
    body = nested(29) + b"a\r\n--" * 1_000_000
    for timed in rounds(2.0):
        mail = Message.split(body)
        assert isinstance(mail, Message)
        with timed:
            assert isinstance(structure(mail), Structure)


def test_a_part_costs_what_its_head_is_long_however_it_is_folded() -> None:
    """A quarter of a megabyte a part: as many fields, as one folded field, and behind a line that is no field at all."""
    line = b"x" * 124 + b"\r\n"
    folded = b"X-Long: y\r\n" + (b" " + line) * 1_990

    def seconds(head: bytes) -> float:
        part = b"--a\r\n" + head + b"Content-Type: text/html\r\n\r\n<p>\r\n"
        mail = Message.split(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + part * 20 + b"--a--\r\n")
        assert isinstance(mail, Message)
        started = time.process_time()
        found = structure(mail)
        spent = time.process_time() - started
        assert isinstance(found, Structure) and [part.content_type for part in found.parts[1:]] == ["text/html"] * 20
        return spent

    fields, strict, loose = (
        min(seconds(head) for _ in range(3)) for head in ((b"X: " + line) * 1_990, folded, b"no field\r\n" + folded)
    )
    assert strict < 2 * fields and loose < 2 * fields, (fields, strict, loose)


def test_parts_are_values() -> None:
    mail = message("Subject: x\n\nhello\n")
    assert shape(mail).parts == shape(mail).parts and isinstance(shape(mail).parts[0], Part)
