"""Reports as an independent reader sees them: the standard library parses, and only asks what RFC 3464 promises."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.dsn import Action, Fate, Original, Report, Stamp, build, wanted
from relay.mail.edits import BadValue
from relay.mail.envelope import Recipient
from relay.mail.message import Message

RAW = (
    b"From: Shop <news@shop.example>\r\nTo: ann@dest.example\r\nBcc: secret@dest.example\r\n hidden@dest.example\r\n"
    b"Subject: Hello\r\nMessage-ID: <1@shop.example>\r\n\r\nDear Ann,\r\n"
)
STAMP = Stamp("relay.example", 1_790_000_000.0, "q7Fx2")
FAILED = Fate(
    Recipient("ann@dest.example", (), "rfc822;Ann+2Bx@dest.example"),
    Action.FAILED,
    "5.1.1",
    "550 5.1.1 No such user here",
    550,
    "mx.dest.example",
    1_789_999_000.0,
)


def message(raw: bytes = RAW) -> Message:
    made = Message.split(raw)
    assert isinstance(made, Message)
    return made


def original(**changes: object) -> Original:
    return Original("news@shop.example", message(), 1_789_900_000.0)._replace(**changes)  # type: ignore[arg-type]


def report(*fates: Fate, language: str = "en", about: Original | None = None) -> Report:
    made = build(about or original(), fates, STAMP, language=language)
    assert made is not None
    return made


def parsed(made: Report) -> EmailMessage:
    read = email.message_from_bytes(made.raw, policy=email.policy.SMTPUTF8)
    assert isinstance(read, EmailMessage)
    assert not read.defects
    return read


def groups(made: Report) -> list[EmailMessage]:
    """The fields per message, then those per recipient."""
    status = list(parsed(made).iter_parts())[1]
    payload = status.get_payload()
    assert isinstance(payload, list)
    return [group for group in payload if group.keys()]


def text(made: Report) -> str:
    part = next(parsed(made).iter_parts())
    content = part.get_content()
    assert isinstance(content, str)
    return content


def test_form() -> None:
    made = report(FAILED)
    read = parsed(made)
    assert made.recipient == "news@shop.example"
    assert read.get_content_type() == "multipart/report"
    assert read.get_param("report-type") == "delivery-status"
    assert read["To"] == "news@shop.example"
    assert read["Auto-Submitted"] == "auto-replied"
    assert read["In-Reply-To"] == "<1@shop.example>"
    assert read["Message-ID"] == "<q7Fx2@relay.example>"
    assert read["Date"] == "Mon, 21 Sep 2026 14:13:20 +0000"
    kinds = [part.get_content_type() for part in read.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    assert made.raw.isascii() and not made.smtputf8
    assert b"\n" not in made.raw.replace(b"\r\n", b"") and made.raw.endswith(b"\r\n")


def test_fields_for_programs() -> None:
    per_message, per_recipient = groups(report(FAILED, about=original(envid="QQ+2B31")))
    assert per_message.items() == [
        ("Original-Envelope-Id", "QQ+31"),
        ("Reporting-MTA", "dns; relay.example"),
        ("Arrival-Date", "Sun, 20 Sep 2026 10:26:40 +0000"),
    ]
    assert per_recipient.items() == [
        ("Original-Recipient", "rfc822; Ann+x@dest.example"),
        ("Final-Recipient", "rfc822; ann@dest.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.dest.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
        ("Last-Attempt-Date", "Mon, 21 Sep 2026 13:56:40 +0000"),
    ]


@pytest.mark.parametrize(
    ("fate", "fields"),
    [
        (
            Fate(Recipient("a@d.example"), Action.EXPIRED, "4.4.1", "cannot connect", 0, "mx"),
            {"Action": "failed", "Status": "4.4.7", "Diagnostic-Code": "x-zegel; cannot connect", "Remote-MTA": None},
        ),
        (
            Fate(Recipient("a@d.example"), Action.DELAYED, "4.7.1", "450 4.7.1 later", 450, "mx", 0.0, 1_790_086_400.0),
            {
                "Action": "delayed",
                "Status": "4.7.1",
                "Will-Retry-Until": "Tue, 22 Sep 2026 14:13:20 +0000",
                "Remote-MTA": "dns; mx",
            },
        ),
        (
            Fate(Recipient("a@d.example", ("SUCCESS",)), Action.DELIVERED, "2.0.0", "250 ok", 250, "mx"),
            {"Action": "delivered", "Status": "2.0.0", "Will-Retry-Until": None},
        ),
        (
            Fate(Recipient("a@d.example", ("SUCCESS",)), Action.RELAYED, "2.0.0", "250 ok", 250, "mx"),
            {"Action": "relayed", "Status": "2.0.0"},
        ),
    ],
)
def test_actions(fate: Fate, fields: dict[str, str | None]) -> None:
    _, per_recipient = groups(report(fate))
    assert {name: per_recipient[name] for name in fields} == fields


NEVER, SUCCESS, FAILURE, DELAY = ("NEVER",), ("SUCCESS",), ("FAILURE",), ("DELAY",)


@pytest.mark.parametrize(
    ("notify", "actions"),
    [
        ((), {"failed", "expired", "delayed"}),
        (NEVER, set()),
        (SUCCESS, {"delivered", "relayed"}),
        (FAILURE, {"failed", "expired"}),
        (DELAY, {"delayed"}),
        (SUCCESS + FAILURE + DELAY, {"failed", "expired", "delayed", "delivered", "relayed"}),
        (NEVER + SUCCESS, set()),
    ],
)
def test_notify(notify: tuple[str, ...], actions: set[str]) -> None:
    asked = {
        action
        for action in Action
        if wanted(FAILED._replace(recipient=Recipient("a@d.example", notify), action=action))
    }
    assert {str(action) for action in asked} == actions


def test_no_report_about_a_message_with_null_return_path() -> None:
    assert build(original(mail_from=""), [FAILED], STAMP) is None


def test_no_report_when_nobody_wants_one() -> None:
    silent = FAILED._replace(recipient=Recipient("ann@dest.example", NEVER))
    assert build(original(), [silent], STAMP) is None
    assert build(original(), [], STAMP) is None


def test_a_silenced_recipient_is_not_named_in_the_report_on_another() -> None:
    silent = FAILED._replace(recipient=Recipient("silent@dest.example", NEVER, "rfc822;silent@dest.example"))
    made = report(silent, FAILED, about=original(ret="FULL"))
    assert b"silent@" not in made.raw
    assert len(groups(made)) == 2


def test_bcc_never_comes_back() -> None:
    for ret in ("", "HDRS", "FULL"):
        made = report(FAILED, about=original(ret=ret))
        assert b"secret@" not in made.raw and b"hidden@" not in made.raw


def test_headers_by_default_and_the_whole_message_only_if_asked_and_failed() -> None:
    success = FAILED._replace(recipient=Recipient("a@d.example", SUCCESS), action=Action.DELIVERED, status="2.0.0")
    for ret, fate, whole in [
        ("", FAILED, False),
        ("HDRS", FAILED, False),
        ("FULL", FAILED, True),
        ("FULL", success, False),
    ]:
        made = report(fate, about=original(ret=ret))
        returned = list(parsed(made).iter_parts())[2]
        assert returned.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
        assert (b"Dear Ann" in made.raw) is whole
        assert b"Message-ID: <1@shop.example>\r\n" in made.raw


SIGNED = (
    b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    b"--s\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n"
)


@pytest.mark.parametrize(
    ("raw", "fate"),
    [
        pytest.param(RAW, FAILED._replace(status="5.3.4"), id="too-large-for-the-host"),
        pytest.param(RAW, FAILED._replace(status="5.6.3"), id="could-not-be-converted"),
        pytest.param(RAW + b"x" * 70 + b"\r\n" * 50_000, FAILED, id="large"),
        pytest.param(RAW.partition(b"\r\n\r\n")[0] + b"\r\n" + SIGNED, FAILED, id="eight-bit-and-signed"),
    ],
)
def test_a_report_does_not_hold_what_would_keep_it_from_arriving(raw: bytes, fate: Fate) -> None:
    """OUT-12: nobody is told of a report that fails, so it is small and plain where the message was neither."""
    made = report(fate, about=original(ret="FULL", message=message(raw)))
    assert len(made.raw) < 10_000 and made.raw.isascii()
    assert list(parsed(made).iter_parts())[2].get_content_type() == "text/rfc822-headers"


def test_languages() -> None:
    english, dutch = report(FAILED), report(FAILED, language="nl")
    assert "could not be delivered" in text(english) and "does not exist" in text(english)
    assert "kon niet worden bezorgd" in text(dutch) and "bestaat niet" in text(dutch)
    assert parsed(english)["Subject"].startswith("Not delivered")
    assert parsed(dutch)["Subject"].startswith("Niet bezorgd")
    assert "ann@dest.example" in text(dutch) and "550 5.1.1 No such user here" in text(dutch)
    assert groups(dutch)[1].items() == groups(english)[1].items()
    assert text(report(FAILED, language="fr")) == text(english)


@pytest.mark.parametrize(("number", "nl", "en"), [(1, "ontvanger", "recipient"), (15, "ontvangers", "recipients")])
def test_above_several_recipients_stands_a_plural(number: int, nl: str, en: str) -> None:
    fates = [FAILED._replace(recipient=Recipient(f"p{n}@dest.example")) for n in range(number)]
    for action in Action:
        told = [
            fate._replace(action=action, recipient=fate.recipient._replace(notify=("SUCCESS", "FAILURE", "DELAY")))
            for fate in fates
        ]
        assert f"de {nl} hieronder" in " ".join(text(report(*told, language="nl")).split())
        assert f"the {en} below" in " ".join(text(report(*told)).split())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("5.1.1", "does not exist"),
        ("4.2.2", "full"),
        ("5.3.4", "too large"),
        ("5.1.10", "after the @"),
        ("5.7.1", "refuses"),
        ("5.7.30", "protected"),
        ("5.6.7", "An address holds letters other than"),
        ("5.6.9", "The subject, a name or an address in your message holds letters other than"),
        ("5.6.3", "signed or encrypted, so that we may not change it, or made in such a way that we cannot"),
        ("4.4.1", "cannot be reached"),
        ("5.0.0", "does not take"),
        ("5.1.11", "does not take"),
    ],
)
def test_reasons_in_words(status: str, words: str) -> None:
    assert words in " ".join(text(report(FAILED._replace(status=status))).split())


def test_reasons_in_dutch() -> None:
    words = {"5.6.7": "Een adres bevat letters buiten a-z", "5.6.9": "onderwerp, een naam of een adres in uw bericht"}
    for status, said in words.items():
        assert said in " ".join(text(report(FAILED._replace(status=status), language="nl")).split())


def test_text_names_the_subject_and_when_we_give_up() -> None:
    late = FAILED._replace(action=Action.DELAYED, status="4.4.1", until=1_790_086_400.0)
    told = text(report(late, language="nl", about=original(subject="Grüße aus Köln\r\nX: y")))
    assert "Onderwerp van uw bericht: Grüße aus Köln  X: y" in told
    assert "2026-09-22 14:13" in told
    assert "U hoeft niets te doen" in " ".join(told.split())


def test_one_report_for_several_fates() -> None:
    late = Fate(Recipient("bob@dest.example"), Action.DELAYED, "4.2.2", "452 4.2.2 full", 452, "mx")
    made = report(late, FAILED)
    assert [group["Final-Recipient"] for group in groups(made)[1:]] == [
        "rfc822; bob@dest.example",
        "rfc822; ann@dest.example",
    ]
    assert parsed(made)["Subject"].startswith("Not delivered")


def test_international_addresses() -> None:
    fate = FAILED._replace(recipient=Recipient("jörg@bücher.example"))
    made = report(
        fate, about=original(mail_from="käthe@shop.example", message=message(RAW.replace(b"Hello", "Grüße".encode())))
    )
    assert made.smtputf8 and made.recipient == "käthe@shop.example"
    kinds = [part.get_content_type() for part in parsed(made).iter_parts()]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    assert "Final-Recipient: utf-8; jörg@bücher.example\r\n".encode() in made.raw
    assert "jörg@bücher.example" in text(made)


@pytest.mark.parametrize(
    ("orcpt", "narrow", "wide"),
    [
        ("utf-8;jörg+x@bücher.example", r"utf-8; j\x{F6}rg\x{2B}x@b\x{FC}cher.example", "utf-8; jörg+x@bücher.example"),
        (r"UTF-8;j\x{F6}rg\x{2B}x@b.example", r"utf-8; j\x{F6}rg\x{2B}x@b.example", "utf-8; jörg+x@b.example"),
        ("utf-8;用户@例子.example", r"utf-8; \x{7528}\x{6237}@\x{4F8B}\x{5B50}.example", "utf-8; 用户@例子.example"),
        ("rfc822;ann+2Bx@b.example", "rfc822; ann+x@b.example", "rfc822; ann+x@b.example"),
        ("rfc822;j+C3+B6rg@b.example", "rfc822; j+C3+B6rg@b.example", "rfc822; j+C3+B6rg@b.example"),
        (r"utf-8;a\x{0D}\x{0A}X-Evil:\x{202E}b", r"utf-8; a\x{0D}\x{0A}X-Evil:\x{202E}b", "utf-8; a  X-Evil: b"),
        ("", None, None),
        ("utf-8;" + "é" * 247, None, "utf-8; " + "é" * 247),
    ],
)
def test_original_recipient_in_the_form_of_the_report(orcpt: str, narrow: str | None, wide: str | None) -> None:
    """RFC 6533: as it is in an international report, in ASCII in any other."""
    for address, expected in (("joerg@dest.example", narrow), ("jörg@dest.example", wide)):
        made = report(FAILED._replace(recipient=Recipient(address, (), orcpt)))
        line = next((line for line in made.raw.decode().split("\r\n") if line.startswith("Original-Recipient: ")), None)
        assert line == (expected and f"Original-Recipient: {expected}")
        assert made.smtputf8 is not address.isascii()
        assert made.raw.isascii() is address.isascii()
        assert max(map(len, made.raw.split(b"\r\n"))) <= 998


def test_eight_bit_header_of_an_ordinary_message_is_marked() -> None:
    made = report(FAILED, about=original(message=message(RAW.replace(b"Hello", b"Gr\xfc\xdfe"))))
    assert not made.smtputf8
    assert b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n" in made.raw


def test_boundary_does_not_occur_in_the_message() -> None:
    raw = RAW + b"--zegel-q7Fx2--\r\n--zegel-q7Fx2-x\r\n"
    made = report(FAILED, about=original(ret="FULL", message=message(raw)))
    assert len(list(parsed(made).iter_parts())) == 3
    assert made.raw.count(b"--zegel-q7Fx2--\r\n") == 1


def test_return_path_that_would_break_the_header_is_a_bug_told() -> None:
    with pytest.raises(BadValue):
        build(original(mail_from="a@b.example\r\nBcc: c@d.example"), [FAILED], STAMP)


@given(st.text(max_size=600), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_nothing_a_peer_says_changes_the_form(reply: str, host: str, orcpt: str, envid: str) -> None:
    fate = FAILED._replace(reply=reply, host=host, recipient=Recipient("ann@dest.example", (), f"rfc822;{orcpt}"))
    made = report(fate, about=original(envid=envid, subject=reply))
    assert len(list(parsed(made).iter_parts())) == 3
    names = {
        "Original-Recipient",
        "Final-Recipient",
        "Action",
        "Status",
        "Remote-MTA",
        "Diagnostic-Code",
        "Last-Attempt-Date",
    }
    (_, group) = groups(made)
    assert set(group.keys()) <= names
    assert max(map(len, made.raw.split(b"\r\n"))) <= 998
