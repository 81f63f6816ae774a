"""Posting a mail to a gateway of the harness as a client does, and what it answered."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from typing import NamedTuple

from tests.harness.gateway import MESSAGE, SENDER, Gateway


class Answer(NamedTuple):
    """`reply` ends the transaction; `refused` holds the recipients that were refused, each with its reply."""

    reply: str
    refused: dict[str, str]

    @property
    def queue_id(self) -> str:
        assert self.reply.startswith("250 "), self
        return self.reply.rpartition(" ")[2]


def post(
    gateway: Gateway,
    login: str,
    to: Sequence[str],
    raw: bytes,
    *,
    mail: Sequence[str] = (),
    rcpt: Sequence[str] = (),
) -> Answer:
    """One message from SENDER; `mail` and `rcpt` are parameters of these commands."""
    with smtplib.SMTP("127.0.0.1", gateway.doors["plain"].port, local_hostname="client.test") as smtp:
        smtp.login(*gateway.logins[login])
        smtp.command_encoding = "utf-8"
        refused: dict[str, str] = {}
        code, text = smtp.mail(SENDER, list(mail))
        if code != 250:
            return Answer(f"{code} {text.decode()}", refused)
        for address in to:
            code, text = smtp.rcpt(address, list(rcpt))
            if code != 250:
                refused[address] = f"{code} {text.decode()}"
        if len(refused) == len(to):
            return Answer("", refused)
        code, text = smtp.data(raw)
        return Answer(f"{code} {text.decode()}", refused)


def mail(gateway: Gateway, login: str, to: str, raw: bytes = MESSAGE) -> str:
    """The last reply of one transaction for one recipient, wherever it ends."""
    with gateway.connect() as client:
        assert client.login(*gateway.logins[login]).startswith("235")
        for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{to}>", "DATA"):
            reply = client.ask(command)
            if reply[0] not in "23":
                return reply
        client.send(raw + b".\r\n")
        return client.reply()


def letter(*fields: str, body: str = "Hello.") -> bytes:
    """A mail from SENDER with these fields beside."""
    return "\r\n".join([f"From: Shop <{SENDER}>", *fields, "", body, ""]).encode()


def outsiders(number: int) -> list[str]:
    """So many people of as many organisations."""
    return [f"p{index}@party{index}.example" for index in range(number)]


NEWS = letter(
    "To: list@sender.example",
    "Subject: News",
    "List-Unsubscribe: <https://shop.example/leave/a>",
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    body="News. Unsubscribe: https://shop.example/leave/a",
)
