"""A mail has the form that the standards ask for, and nothing in it that only a server may write.

More than 100 Received fields are a loop (SMTP-22). Fields that may occur once occur once (MSG-3). A missing Date or
Message-ID is added (MSG-4). Header lines over 998 octets are folded at a blank; body lines are re-encoded, which a signed
or encrypted part cannot bear, nor a mail whose parts cannot be told apart (MSG-5, MSG-6, OUT-9). Letters with accents in
a header need SMTPUTF8, and then are UTF-8 (MSG-8). Parts nested too deep or too many are refused (MSG-2). Taken out:
hidden recipients and other fields of the transport (CC-15), fields that claim a check by this server, foreign feedback
ids and every X-Zegel field (MSG-9, CLASS-11). A tenant may have a smaller largest message than the server (SMTP-8). A
subscriber's id too long for a token is refused (MSG-7).
"""

from dataclasses import dataclass

from relay.mail.edits import Edit, fold
from relay.mail.envelope import Submission
from relay.mail.lines import long_line_at
from relay.mail.message import MAX_LINE_OCTETS, Malformed, Message, name_of, stray_field
from relay.mail.mime import Structure, structure
from relay.mail.received import rfc5322_date
from relay.mail.recode import obstacle
from relay.mail.sender import from_domain
from relay.mail.stamps import message_id
from relay.policy.facts import Facts
from relay.policy.options import option
from relay.policy.verdict import Change, Note, Stage, Verdict

STAGE = Stage.JUDGE
MAX_SUBSCRIBER_OCTETS = 255  # what a token holds (relay.consent.token)
NEEDS = ()
_ONCE = frozenset(
    b"from sender reply-to to cc bcc message-id in-reply-to references subject date".split()
)  # RFC 5322 section 3.6
_REMOVED = {
    **dict.fromkeys((b"bcc", b"resent-bcc", b"return-path", b"content-length"), "CC-15"),
    **dict.fromkeys((b"feedback-id", b"cfbl-address", b"cfbl-feedback-id"), "MSG-9"),
    b"x-zegel-class": "CLASS-11",
}


@dataclass(frozen=True, slots=True)
class Settings:
    max_received: int = option(100, "Received fields before a mail counts as looping (SMTP-22).", minimum=30)
    max_message_bytes: int = option(0, "Largest message; 0: only the limit of the server (SMTP-8).")
    eight_bit_header: str = option("refuse", "Raw accented letters in a header (MSG-8).", choices=("refuse", "warn"))
    authserv_id: str = option("", "Authentication-Results of this name are removed; empty: all of them (MSG-9).")


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    message = mail.message
    if message is None:
        return Verdict.accept()
    if settings.max_message_bytes and message.size > settings.max_message_bytes:
        return Verdict.reject("content.too_big", limit=str(settings.max_message_bytes))
    subscriber = message.get(b"x-zegel-subscriber")
    if subscriber is not None and len(subscriber.decode("utf-8", "replace").encode()) > MAX_SUBSCRIBER_OCTETS:
        return Verdict.reject("content.subscriber_too_long", limit=str(MAX_SUBSCRIBER_OCTETS))
    names: dict[bytes, int] = {}
    for name, _ in message.fields:
        names[name] = names.get(name, 0) + 1
    if names.get(b"received", 0) > settings.max_received:
        return Verdict.reject("content.loop", limit=str(settings.max_received))
    for name in _ONCE & names.keys():
        if names[name] > 1:
            return Verdict.reject("content.duplicate_field", field=name.decode())
    made = structure(message)
    if isinstance(made, Malformed):
        return Verdict.reject(made.reason)
    changes = _removals(message, names, settings) + _stamps(mail, message, names)
    if raw := stray_field(message, utf8=mail.envelope.smtputf8):
        if settings.eight_bit_header == "refuse":
            reason = "content.header_not_utf8" if mail.envelope.smtputf8 else "content.eight_bit_header"
            return Verdict.reject(reason, field=name_of(raw).decode("ascii", "replace"))
        changes.append(Note("warn", "content.eight_bit_allowed"))
    wrong = _lines(message, made, changes) if long_line_at(message.raw) >= 0 else None
    return wrong or Verdict.accept(*changes)


def _removals(message: Message, names: dict[bytes, int], settings: Settings) -> list[Change]:
    changes: list[Change] = []
    for name in names:
        rule = _REMOVED.get(name) or ("MSG-9" if name.startswith(b"x-zegel-") else "")
        if name == b"authentication-results" and _claims_us(message, settings.authserv_id):
            rule = "MSG-9"
        if rule:
            written = next(name_of(raw) for field, raw in message.fields if field == name)
            changes.append(Edit("remove", written.decode("ascii"), "", rule))
    return changes


def _claims_us(message: Message, authserv_id: str) -> bool:
    ours = authserv_id.lower().encode()
    values = message.get_all(b"authentication-results")
    return not ours or any(value.partition(b";")[0].split(b" ")[0].lower() == ours for value in values)


def _stamps(mail: Submission, message: Message, names: dict[bytes, int]) -> list[Change]:
    changes: list[Change] = []
    if b"date" not in names:
        changes.append(Edit("append", "Date", rfc5322_date(int(mail.now)), "MSG-4"))
    if b"message-id" not in names:
        domain = from_domain(message) or mail.envelope.mail_from.rpartition("@")[2] or "localhost"
        changes.append(Edit("append", "Message-ID", message_id(message, mail.now, domain), "MSG-4"))
    return changes


def _lines(message: Message, made: Structure, changes: list[Change]) -> Verdict | None:
    """Mends long lines by adding to `changes`; a verdict where that cannot be done."""
    for name, raw in message.fields:
        if len(raw) > MAX_LINE_OCTETS and long_line_at(raw) >= 0:
            if long_line_at(fold(raw)) >= 0:
                return Verdict.reject("content.line_too_long", field=name.decode("ascii", "replace"))
            changes.append(Edit("refold", name_of(raw).decode("ascii"), "", "MSG-5"))
    if long_line_at(message.raw, message.body_start) >= 0:
        if any(part.signed and long_line_at(message.raw, part.start, part.end) >= 0 for part in made.parts):
            return Verdict.reject("content.signed_long_line")
        if broken := obstacle(message):  # said now, not by a report after the 250
            return Verdict.reject(broken.reason)
        changes.append(Edit("recode", "", "quoted-printable", "MSG-5"))
    return None
