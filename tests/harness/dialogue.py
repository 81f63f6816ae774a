"""SMTP conversations as files, played against the real gateway octet for octet.

# SMTP-4 SMTP-5                     the rules that it holds the gateway to
# One sentence that says what this proves.
given  door starttls               plain (default) | starttls | implicit | proxy | proxy-implicit | ipv6 | feedback
given  address 192.0.2.7           the client's address, on a door with PROXY
given  login personal              greeting, EHLO and AUTH are done before the first line
C: MAIL FROM:<a@b.example>         sent with CRLF; successive C lines leave in one packet
C= Subject: x\\r                    sent as it stands, escapes \\r \\n \\t \\0 \\xHH \\\\; no CRLF added
C: {message}                       a whole small message with its final dot
C: {tls}                           the TLS handshake          C: {eof}  the client says no more
S: 250 2.1.0                       the next reply: its last line begins so
S: {closed}                        the server has closed, without another word
has    AUTH PLAIN LOGIN            the reply before has this somewhere; `lacks` is the opposite
then   spool is empty              nothing was accepted
then   delivered 1                 so many messages reach the next hop, and no more
then   arrived has TEXT            somewhere in what the next hop got, envelope included; `arrived lacks`
then   head has TEXT               in a header section that arrived; `head lacks`
then   metric NAME +1              a sample has grown by so much since the start

Within C lines: {plain NAME}, {user NAME} and {password NAME} of a login in base64, {base64 TEXT}, {repeat N TEXT}.
"""

from __future__ import annotations

import base64
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.client import Client, plain
from tests.harness.gateway import MESSAGE, Gateway

RULES = re.compile(r"(?:[A-Z]{2,8}-[0-9]{1,2} ?)+")
_ENHANCED = re.compile(r"([245])[0-9][0-9] \1\.[0-9]{1,3}\.[0-9]{1,3} ")  # RFC 2034: every reply but greeting and EHLO
_GREETING = re.compile(r"(?:220|250)[ -]gw\.test")
_ESCAPE = re.compile(rb"\\(r|n|t|0|\\|x[0-9a-fA-F]{2})")
_SLOT = re.compile(r"\{(plain|user|password|base64|repeat) ([^}]*)\}")
_PLAIN_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


class Mismatch(AssertionError):
    """The gateway said something else than the file."""


@dataclass
class Dialogue:
    """One parsed file."""

    name: str
    rules: str = ""
    why: str = ""
    door: str = "plain"
    address: str = "192.0.2.1"
    login: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)
    then: list[str] = field(default_factory=list)

    @staticmethod
    def read(path: Path) -> Dialogue:
        dialogue = Dialogue(path.stem)
        for line in path.read_text("utf-8").splitlines():
            dialogue._take(line)
        assert RULES.fullmatch(dialogue.rules) and dialogue.why and dialogue.steps, path.name
        return dialogue

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "#" if not self.rules:
                self.rules = rest.strip()
            case "#":
                self.why += rest + " "
            case "given":
                key, _, value = rest.strip().partition(" ")
                assert key in ("door", "address", "login"), line
                setattr(self, key, value.strip())
            case "C:" | "C=" | "S:":
                self.steps.append((word, rest))
            case "has" | "lacks":
                self.steps.append((word, rest.strip()))
            case "then":
                self.then.append(rest.strip())
            case "":
                pass
            case _:
                raise ValueError(f"{self.name}: {line!r}")


def play(dialogue: Dialogue, gateway: Gateway) -> None:
    """Raises Mismatch with the conversation so far."""
    metrics = [words.split()[1] for words in dialogue.then if words.startswith("metric ")]
    before = {name: gateway.metric(name) for name in metrics}
    gateway.sink.clear()
    with gateway.connect(dialogue.door, address=dialogue.address) as client:
        if dialogue.login:
            said = client.login(*gateway.logins[dialogue.login])
            assert said.startswith("235"), said
        _Conversation(dialogue, gateway, client).run()
    for words in dialogue.then:
        _check(words, gateway, before)
    gateway.settle()


class _Conversation:
    def __init__(self, dialogue: Dialogue, gateway: Gateway, client: Client) -> None:
        self.dialogue = dialogue
        self.gateway = gateway
        self.client = client
        self.packet = b""
        self.last = ""
        self.log: list[str] = []

    def run(self) -> None:
        for word, text in self.dialogue.steps:
            self.log.append(f"{word} {text}")
            if word in ("C:", "C="):
                self._say(word, text)
                continue
            self._flush()
            if word == "S:":
                self._expect(text)
            elif (text in self.last) != (word == "has"):
                self._fail(f"the reply {word} not {text!r}" if word == "has" else f"the reply has {text!r}")
        self._flush()

    def _say(self, word: str, text: str) -> None:
        if text == "{tls}":
            self._flush()
            self.client.start_tls()
        elif text == "{eof}":
            self._flush()
            self.client.sock.shutdown(socket.SHUT_WR)
        elif text == "{message}":
            self.packet += MESSAGE + b".\r\n"
        else:
            self.packet += unescape(self._fill(text)) + (b"\r\n" if word == "C:" else b"")

    def _fill(self, text: str) -> str:
        return _SLOT.sub(self._slot, text)

    def _slot(self, match: re.Match[str]) -> str:
        kind, value = match.groups()
        if kind == "plain":
            return plain(*self.gateway.logins[value])
        if kind == "repeat":
            count, _, what = value.partition(" ")
            return what * int(count)
        clear = value if kind == "base64" else self.gateway.logins[value][kind == "password"]
        return base64.b64encode(unescape(clear)).decode()

    def _flush(self) -> None:
        if self.packet:
            try:
                self.client.send(self.packet)
            except ConnectionError:
                pass  # the server has closed; whether it may is for the S line to say
            self.packet = b""

    def _expect(self, text: str) -> None:
        if text == "{closed}":
            if not self.client.is_closed():
                self._fail(f"the connection is open, and the server says {self.client.reply()!r}")
            return
        try:
            self.last = self.client.reply()
        except Exception as error:
            self._fail(repr(error))
        if not self.last.startswith("3") and not _GREETING.match(self.last) and not _ENHANCED.match(self.last):
            self._fail(f"SMTP-17: no enhanced code, or one of another class, in {self.last!r}")
        if not self.last.rpartition("\n")[2].startswith(text):
            self._fail(f"got {self.last!r}")

    def _fail(self, what: str) -> None:
        raise Mismatch("\n".join([self.dialogue.why, *self.log[-12:], what]))


def _check(words: str, gateway: Gateway, before: dict[str, float]) -> None:
    what, _, rest = words.partition(" ")
    if words == "spool is empty":
        assert gateway.queued() == 0, "something is queued"
        assert not gateway.sink.arrived, f"delivered: {gateway.sink.arrived}"
    elif what == "delivered":
        gateway.sink.wait(int(rest))
        gateway.settle()
        assert len(gateway.sink.arrived) == int(rest), gateway.sink.arrived
    elif what in ("arrived", "head"):
        kind, _, text = rest.partition(" ")
        shown = "".join(
            one.head if what == "head" else "\r\n".join([one.mail, *one.rcpt, one.raw.decode("utf-8", "replace")])
            for one in gateway.sink.arrived
        )
        wanted = unescape(text).decode()
        assert kind in ("has", "lacks") and (wanted in shown) == (kind == "has"), f"{words}: {shown}"
    elif what == "metric":
        name, _, grown = rest.rpartition(" ")
        gateway.until(
            lambda: gateway.metric(name) == before[name] + float(grown), 5.0, f"{name} is {gateway.metric(name)}"
        )
    else:
        raise ValueError(words)


def unescape(text: str) -> bytes:
    r"""The octets that `text` stands for: \r \n \t \0 \xHH and \\."""
    return _ESCAPE.sub(
        lambda match: _PLAIN_ESCAPES.get(match[1]) or bytes.fromhex(match[1][1:].decode()), text.encode()
    )
