"""How the demo sends its samples and finds them again: a plain SMTP client, a plain web client, and the outbox."""

from __future__ import annotations

import re
import smtplib
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.cli.demo_setup import Demo, Login
from relay.cli.trouble import DOWN, Trouble
from relay.keyring import Keyring
from relay.store.outbox import Outbox, Stored

WAIT_SECONDS = 15.0
LOOK_SECONDS = 0.05
_QUEUED = re.compile(r"queued as ([0-9A-Z]{13})")


class Sent(NamedTuple):
    """What the gateway answered: at each RCPT, and at the end of the data ("" where it did not come to that)."""

    rcpt: tuple[str, ...]
    data: str
    message_id: str
    to: tuple[str, ...]
    at: float

    @property
    def queue_id(self) -> str:
        found = _QUEUED.search(self.data)
        return found[1] if found else ""

    @property
    def reply(self) -> str:
        """The answer that settled it."""
        return self.data or next((reply for reply in self.rcpt if reply[0] != "2"), "")


class Post:
    """Sends and looks. For one thread."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self._count = 0
        keyring = Keyring.open(demo.settings.server.keys_dir, create=False)
        self.outbox = Outbox(demo.settings.server.data_dir / "outbox.db", keyring)

    def send(self, login: Login, sender: str, to: Sequence[str], mail: str) -> Sent:
        """One transaction. `mail` has LF line ends and `{id}` where its Message-ID goes."""
        endpoint = self.demo.settings.listener[0].endpoint
        self._count += 1
        message_id = f"<sample-{self._count}.{time.time_ns()}@{sender.rpartition('@')[2]}>"
        raw = mail.replace("{id}", message_id).replace("\n", "\r\n").encode()
        at = time.time()
        try:
            with smtplib.SMTP(endpoint.host, endpoint.port, timeout=30) as smtp:
                smtp.login(login.username, login.password)
                rcpt, data = _transact(smtp, sender, to, raw)
        except (OSError, smtplib.SMTPException) as error:
            raise Trouble(DOWN, f"a sample could not be sent: {error}") from None
        return Sent(rcpt, data, message_id, tuple(to), at)

    def entries(self, sent: Sent, count: int = 1) -> list[Stored]:
        """The outbox's entries of what was sent, whole, oldest first; waits until `count` are there, for a while."""

        def look() -> list[Stored]:
            if sent.queue_id:
                found = self.outbox.siblings(sent.queue_id)
            else:
                found = [stored for stored in self.outbox.entries(limit=200) if _is_about(stored, sent)][::-1]
            return found if len(found) >= count else []

        found = self.wait(look)
        return [whole for stored in found if (whole := self.outbox.entry(stored.id)) is not None]

    def refusal(self, address: str, since: float) -> list[Stored]:
        """The entry of one recipient that was refused at RCPT."""

        def look() -> list[Stored]:
            recent = self.outbox.entries(verdict="reject", limit=50)
            return [
                s
                for s in recent
                if s.entry.recipients == (address,) and s.entry.at >= since and s.entry.stage == "rcpt"
            ]

        return self.wait(look)[:1]

    def mail_to(self, address: str, since: float) -> Stored | None:
        """A mail of the gateway's own to `address`, for instance a confirmation."""

        def look() -> list[Stored]:
            recent = self.outbox.entries(limit=50)
            return [
                s for s in recent if s.entry.recipients == (address,) and s.entry.at >= since and not s.entry.mail_from
            ]

        found = self.wait(look)
        return self.outbox.entry(found[0].id) if found else None

    def wait(self, look: Callable[[], list[Stored]]) -> list[Stored]:
        """What `look` finds, as soon as it finds something; [] after a while."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := look()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return found

    def link(self, number: int) -> str:
        return f"{self.demo.settings.web.public_url}/outbox/{number}"


def _transact(smtp: smtplib.SMTP, sender: str, to: Sequence[str], raw: bytes) -> tuple[tuple[str, ...], str]:
    code, text = smtp.mail(sender)
    if code != 250:
        return (), _told(code, text)
    replies = tuple(_told(*smtp.rcpt(address)) for address in to)
    if not any(reply.startswith("2") for reply in replies):
        smtp.rset()
        return replies, ""
    return replies, _told(*smtp.data(raw))


def _told(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}".replace("\n", " ")


def _is_about(stored: Stored, sent: Sent) -> bool:
    entry = stored.entry
    if entry.stage == "rcpt":
        return not sent.data and entry.at >= sent.at - 1 and set(entry.recipients) <= set(sent.to)
    return sent.message_id.encode() in entry.incoming


def post_form(url: str, **fields: str) -> int:
    """The status of a form that was posted, as a browser or a mailbox provider does it."""
    data = urllib.parse.urlencode(fields).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as answer:  # our own http
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        raise Trouble(DOWN, f"the pages do not answer: {error}") from None
