"""Letters of the house to a tenant's contact: whole mails in two languages, that any host takes."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage

import pytest

from relay.mail.address import parse_list
from relay.mail.digest import Reader, Rule, Stamp, Waiting, digest, first_refusal
from relay.mail.envelope import Tenant
from relay.mail.letters import confirmation, own_data, standing_letter, sudden, suspension

NOW = 1_790_000_000.0
HOST, URL = "gw.example", "https://gw.example"
CONTACT = "beheer@bücher.example"
LINES = [("credential", "shop-news", "paused", "REP-1"), ("tenant", "shop", "warn", "REP-2")]


def letters(language: str, contact: str = CONTACT, reason: str = "") -> dict[str, str]:
    tenant = Tenant(1, "shop", language=language, contact=contact)
    about = {"kind": "tenant", "name": "shop", "reason": reason, "contact": contact, "language": language}
    reader, stamp = Reader("shop", "Tuinhuis BV", contact, language), Stamp(HOST, NOW, "id1", URL)
    rule = Rule("CC-1", "title", "what", "why", "do")
    return {
        "standing": standing_letter(tenant, LINES, (1000, 104, 1), host=HOST, url=URL, now=NOW),
        "sudden": sudden(tenant, "shop-office", HOST, NOW).raw,
        "tenant": suspension(about, HOST, NOW, hours=72.0).raw,
        "login": suspension({**about, "kind": "credential", "name": "shop-office"}, HOST, NOW, hours=72.0).raw,
        "digest": digest(reader, [], Waiting(2, NOW), stamp, since=NOW).decode(),
        "first": first_refusal(reader, rule, NOW, stamp).decode(),
    }


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("name", letters("nl"))
def test_a_letter_to_an_internationalised_domain_needs_no_smtputf8(name: str, language: str) -> None:
    raw = letters(language)[name]
    assert raw.partition("\r\n\r\n")[0].isascii()
    made = email.message_from_string(raw, policy=email.policy.SMTP)
    assert isinstance(made, EmailMessage) and made["To"] == "beheer@xn--bcher-kva.example"


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("reason", ["", "password stolen"])
@pytest.mark.parametrize("name", letters("nl"))
def test_a_letter_reads_well(name: str, reason: str, language: str) -> None:
    raw = letters(language, reason=reason)[name]
    made = email.message_from_string(raw, policy=email.policy.SMTP)
    assert isinstance(made, EmailMessage)
    lines = made.get_content().splitlines()
    assert max(map(len, lines)) <= 110 and "{" not in made.get_content()
    assert ("password stolen" in made.get_content()) is bool(reason and name in ("tenant", "login"))
    words = [len(line.split()) for line in lines]
    ragged = [
        lines[at] for at in range(1, len(lines) - 1) if 0 < words[at] < 4 and words[at - 1] > 10 and words[at + 1] > 4
    ]
    assert not ragged, "a few words alone on a line in the middle of a paragraph"
    assert "1 recipients" not in raw and "1 ontvangers" not in raw


@pytest.mark.parametrize(
    "name",
    [
        "Jansen, Zonen", "Shop B.V.", "Evil <ceo@bank.example>", 'a" <x@bank.example>, "b', "x; y:", "(a) b", "J@nsen",
        "Bücher, Söhne <x@bank.example>", "=?utf-8?q?=3Cx=40bank.example=3E?=", "back\\slash", "Zegel",
    ],
)  # fmt: skip
def test_a_sender_of_whatever_name_writes_from_one_address_his_own(name: str) -> None:
    """A name with a comma made two senders, which hosts refuse; one with an address in it wrote from that address."""
    tenant = Tenant(1, "shop", legal_name=name, contact="info@shop.example")
    for letter in (
        own_data(
            tenant, "code", "ann@example.net", {"code": "012345", "link": "https://m.example/my/t"}, language="nl"
        ),
        confirmation(tenant, "newsletter", "ann@example.net", f"{URL}/optin/confirm/x", language="en"),
    ):
        made = email.message_from_string(letter.raw, policy=email.policy.SMTP)
        (sender,) = made["From"].addresses
        assert (sender.display_name, sender.addr_spec) == (name, "info@shop.example")
        value = re.search(r"^From: (.*(?:\r\n .*)*)\r\n", letter.raw, re.MULTILINE)
        assert value is not None
        boxes = parse_list(value[1].replace("\r\n", "").encode())
        assert boxes is not None and [box.address for box in boxes] == ["info@shop.example"]
