"""MAIL and RCPT lines: what is offered and needed is said, and nothing else reaches the wire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.commands import Lines, is_address, lines_for
from relay.delivery.content import prepare
from relay.delivery.job import Features, Rendered
from relay.delivery.outcome import Failed
from relay.mail.envelope import Recipient
from tests.relay.delivery.jobs import HEAD, Letter

EVERYTHING = Features(pipelining=True, eightbitmime=True, smtputf8=True, dsn=True, size=10_000)


def lines(letter: Letter, features: Features) -> Lines | Failed:
    made = prepare(Rendered(HEAD, letter.body, letter.is_ascii))
    assert made is not None
    return lines_for(letter, made, features, host="mx.example")


def good(letter: Letter, features: Features) -> Lines:
    made = lines(letter, features)
    assert isinstance(made, Lines)
    return made


def refused(letter: Letter, features: Features) -> Failed:
    made = lines(letter, features)
    assert isinstance(made, Failed)
    return made


def test_a_bare_peer_gets_bare_lines() -> None:
    letter = Letter([Recipient("ann@dest.example", ("SUCCESS",), "rfc822;ann@dest.example")])
    letter.ret, letter.envid = "FULL", "id+2B1"
    made = good(letter, Features())
    assert made.mail == b"MAIL FROM:<news@shop.example>\r\n"
    assert made.rcpt == [b"RCPT TO:<ann@dest.example>\r\n"]


def test_dsn_size_and_body_are_said_where_offered_and_needed() -> None:
    letter = Letter(
        [
            Recipient("ann@dest.example", ("SUCCESS", "DELAY"), "rfc822;Ann+2Bx@dest.example"),
            Recipient("bob@dest.example", ("NEVER",)),
            Recipient("cas@dest.example"),
        ],
        body="grüße\r\n".encode(),
        is_ascii=False,
    )
    letter.ret, letter.envid = "HDRS", "QQ+2B314159"
    made = good(letter, EVERYTHING)
    size = len(letter.raw)
    assert made.mail == b"MAIL FROM:<news@shop.example> SIZE=%d BODY=8BITMIME RET=HDRS ENVID=QQ+2B314159\r\n" % size
    assert made.rcpt == [
        b"RCPT TO:<ann@dest.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Ann+2Bx@dest.example\r\n",
        b"RCPT TO:<bob@dest.example> NOTIFY=NEVER\r\n",
        b"RCPT TO:<cas@dest.example>\r\n",
    ]


def test_null_return_path() -> None:
    assert good(Letter(mail_from=""), Features()).mail == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(("size", "fits"), [(-1, True), (0, True), (1_000_000, True), (50, False)])
def test_message_over_the_size_of_the_peer_is_refused_here(size: int, fits: bool) -> None:
    made = lines(Letter(), Features(size=size))
    assert isinstance(made, Lines) if fits else (isinstance(made, Failed) and made.status == "5.3.4")


def test_eight_bit_content_never_goes_to_a_seven_bit_peer() -> None:
    assert refused(Letter(is_ascii=False), Features()).status == "5.6.3"


def test_smtputf8_only_where_needed() -> None:
    assert b"SMTPUTF8" not in good(Letter(), EVERYTHING).mail
    assert good(Letter(["jörg@dest.example"]), EVERYTHING).mail.endswith(b" SMTPUTF8\r\n")
    wanted = Letter()
    wanted.smtputf8 = True
    assert good(wanted, EVERYTHING).mail.endswith(b" SMTPUTF8\r\n")
    assert b"SMTPUTF8" not in good(wanted, Features()).mail


def test_without_smtputf8_a_wide_domain_is_encoded_and_a_wide_local_part_is_refused() -> None:
    made = good(Letter(["ann@bücher.example", "jörg@dest.example", "bob@dest.example"]), Features())
    assert made.rcpt == [b"RCPT TO:<ann@xn--bcher-kva.example>\r\n", b"RCPT TO:<bob@dest.example>\r\n"]
    assert made.asked == [0, 2]
    assert [(index, failed.status) for index, failed in made.refused] == [(1, "5.6.7")]
    assert refused(Letter(mail_from="jörg@shop.example"), Features()).status == "5.6.7"


@pytest.mark.parametrize(
    "address",
    [
        "ann@dest.example\r\nRCPT TO:<evil@x.example>",
        "ann\r@dest.example",
        "ann\n@dest.example",
        "ann\0@dest.example",
        "ann@dest.example\r\n",
        "ann@dest.example> SIZE=1",
        "<ann@dest.example",
        "a b@dest.example",
        "ann@dest.example ",
        "ann",
        "",
        "@dest.example",
        "ann@",
        '"a\r\nb"@dest.example',
        '"a\\\nb"@dest.example',
        '"open@dest.example',
        "ann@dest\u2028.example",
        "ann@dest\x85.example",
        "ann\ud800@dest.example",
        "x" * 400 + "@dest.example",
        "ann@dest.example,bob@dest.example",
        "<>",
    ],
)
def test_what_is_no_address_ends_here(address: str) -> None:
    assert not is_address(address)
    made = good(Letter([address, "bob@dest.example"]), EVERYTHING)
    assert made.rcpt == [b"RCPT TO:<bob@dest.example>\r\n"]
    assert [(index, failed.status) for index, failed in made.refused] == [(0, "5.1.3")]
    if address:
        assert refused(Letter(mail_from=address), EVERYTHING).status == "5.1.7"


@pytest.mark.parametrize(
    "address",
    [
        "ann@dest.example",
        "o'brien+tag@dest.example",
        '"a b"@dest.example',
        '"a\\"b>c"@dest.example',
        "ann@[192.0.2.1]",
        "ann@[IPv6:2001:db8::1]",
        "postmaster",
        "jörg@bücher.example",
        "用户@例子.example",
    ],
)
def test_addresses_of_the_wild_pass(address: str) -> None:
    assert is_address(address)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_text_makes_a_second_line(address: str, orcpt: str, envid: str) -> None:
    letter = Letter(
        [Recipient(f"{address}@dest.example", ("SUCCESS", f"X{orcpt}"), orcpt)], mail_from=f"{envid}@shop.example"
    )
    letter.envid, letter.ret = envid, orcpt
    made = lines(letter, EVERYTHING)
    if isinstance(made, Lines):
        for line in [made.mail, *made.rcpt]:
            assert re.fullmatch(rb"[^\r\n\0]+\r\n", line)
