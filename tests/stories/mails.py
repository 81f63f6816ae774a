"""The mails that the stories send, made from tests/cases/scenarios/mails.toml."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from functools import cache

from tests.stories.story import Row, people, texts

FROM = "Tuinhuis BV <info@shop.example>"
BOUNDARY = "=-part"
NAMES = ("Jan", "Fatima", "Piet", "Sanne", "Ahmed", "Lotte", "Bram", "Noor")


class Mail:
    """What one step sends: `number` messages, each to `people` of the pattern `to`; {n} counts people."""

    def __init__(self, step: Row) -> None:
        self.number: int = step.get("mails", 1)
        self.client: str = step.get("client", "192.0.2.1")
        self._author: str = step.get("author", FROM)
        self.sender = step.get("sender", self._author.rpartition("<")[2].rstrip(">"))
        self._step = step
        self._people: int = step.get("people", 1)
        self._from: int = step.get("from", 0)
        self._hidden: bool = step.get("hidden", False)
        self._cc: list[str] = step.get("cc", [])
        self._head: list[str] = step.get("head", [])
        self._name: str = step["mail"]

    def recipients(self, index: int) -> list[str]:
        if isinstance(self._step["to"], list):
            return list(self._step["to"])
        return people(self._step, self._from + index * self._people, self._people)

    def raw(self, index: int, made: int, now: float) -> bytes:
        """The message. `made` makes its Message-ID a new one."""
        readers = self.recipients(index)
        mail = _mails()[self._name]
        shown = "undisclosed-recipients:;" if self._hidden else _folded(readers)
        words = {"n": str(self._from + index), "name": NAMES[index % len(NAMES)], "to": readers[0]}
        head = [f"From: {self._author}", f"To: {shown}", *([f"Cc: {_folded(self._cc)}"] if self._cc else [])]
        head += [f"Date: {formatdate(now)}", "MIME-Version: 1.0"]
        head += [filled(line, words) for line in (*mail.get("head", ()), *self._head)]
        if not any(line.startswith("Message-ID:") for line in head):
            head.append(f"Message-ID: <{made}@client.shop.example>")
        text = filled(mail["text"], words)
        if "file" in mail:
            head.append(f'Content-Type: multipart/mixed; boundary="{BOUNDARY}"')
            text = _with_file(text, mail["file"])
        return "\r\n".join([*head, "", *text.split("\n")]).encode()


def _with_file(text: str, file: Row) -> str:
    """The text and, after it, a file of `rows` lines like `row`, in which [row] counts."""
    lines = [file["row"].replace("[row]", str(number)) for number in range(file["rows"])]
    content = "\n".join([file["first"], *lines, file.get("last", "")])
    kind = f'Content-Type: {file["type"]}; name="{file["name"]}"\nContent-Disposition: attachment; filename="{file["name"]}"'
    parts = (f"Content-Type: text/plain; charset=utf-8\n\n{text}", f"{kind}\n\n{content}")
    return "".join(f"--{BOUNDARY}\n{part}\n" for part in parts) + f"--{BOUNDARY}--\n"


def filled(text: str, words: dict[str, str]) -> str:
    """The text with its slots; other braces stay, as placeholders of ours and styles have them."""
    for name, value in words.items():
        text = text.replace(f"[{name}]", value)
    return text


def _folded(addresses: Sequence[str]) -> str:
    return ",\r\n ".join(addresses)


@cache
def _mails() -> dict[str, Row]:
    return texts()
