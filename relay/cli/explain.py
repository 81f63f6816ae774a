"""`zegel explain`: the verdict that a mail would get now, by the road of the live gateway; nothing is sent, kept or counted.

The submission goes through `relay.intake.Intake` as a session would hand it in: MAIL, each RCPT, the message. Only what
lies outside is replaced: the queue takes nothing, the log and the watcher listen, and limits are looked at instead of
charged.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from relay.cli.frame import Frame, command
from relay.cli.trouble import NO, WRONG_USE, Trouble

if TYPE_CHECKING:
    from relay.intake import Intake
    from relay.keyring import Keyring
    from relay.mail.envelope import Account, Submission
    from relay.policy.ruling import Ruling
    from relay.policy.verdict import Note
    from relay.settings.model import Settings
    from relay.spool.item import Item
    from relay.trace import Trace

MailFile = Annotated[Path, typer.Argument(metavar="FILE", help="A mail with its headers; - reads standard input.")]
Credential = Annotated[
    str, typer.Option(metavar="NAME", help="Whose mail it is; name+purpose chooses a list.", show_default=False)
]
MailFrom = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Envelope sender; empty: the null sender.", show_default=False)
]
RcptTo = Annotated[list[str], typer.Option(metavar="ADDRESS", help="Repeat for each recipient.", show_default=False)]
ClientIp = Annotated[str, typer.Option(metavar="ADDRESS", help="As if it came from there.")]


def add_to(app: typer.Typer) -> None:
    example = (
        "zegel explain mail.eml --credential shop-newsletter --mail-from news@shop.example --rcpt-to ann@example.net"
    )
    command(app, "explain", example=example)(explain)


def explain(
    frame: Frame,
    file: MailFile,
    *,
    credential: Credential,
    mail_from: MailFrom,
    rcpt_to: RcptTo,
    client_ip: ClientIp = "127.0.0.1",
) -> None:
    """Tell what would become of a mail, and which policy says so. Nothing is sent. Exits 1 where it would not be taken."""
    from relay.cli.output import print_json
    from relay.cli.verdicts import show_verdict

    asked = Asked(credential, mail_from, tuple(rcpt_to), client_ip)
    verdict = explain_mail(frame.settings(), asked, read_mail(file))
    if frame.as_json:
        print_json(verdict)
    else:
        show_verdict(verdict)
    if verdict["action"] in ("reject", "defer"):
        raise typer.Exit(NO)


class Asked(NamedTuple):
    """Who would send it, from where, to whom."""

    credential: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    client_ip: str = "127.0.0.1"


def read_mail(file: Path) -> bytes:
    """The mail as it would arrive: lines end in CRLF, as every client sends them. Raises Trouble."""
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Trouble(
            WRONG_USE, f"{file} cannot be read ({error.strerror}): name a mail file, or - for standard input"
        ) from None
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def explain_mail(settings: Settings, asked: Asked, raw: bytes) -> dict[str, Any]:
    """The verdict as the contract prints it. Raises Trouble for a credential or an address that is none."""
    from relay.cli.client import as_folder_owner, require_folder
    from relay.directory import Directory
    from relay.keyring import Keyring
    from relay.observe.log import configure

    data = settings.server.data_dir
    require_folder(data)
    configure(settings, level="critical")  # the answer is printed; what the live gateway logs beside it is not
    with as_folder_owner(data):
        keyring = Keyring.open(settings.server.keys_dir, create=False)
        account = Directory.load(settings.database_path, keyring).account(asked.credential)
        if account is None:
            raise Trouble(
                WRONG_USE, f"there is no credential {asked.credential!r} in force: see `zegel credential list`"
            )
        listener = _Listener()
        submission = _submission(account, asked)
        return asyncio.run(_judge(_intake(settings, keyring, listener), listener, submission, raw))


def _submission(account: Account, asked: Asked) -> Submission:
    import time

    from relay.mail.address import parse_path
    from relay.mail.envelope import Envelope, Recipient, SessionInfo, Submission

    for address in (*asked.rcpt_to, *([asked.mail_from] if asked.mail_from else [])):
        wrong = parse_path(address)
        if isinstance(wrong, str):
            raise Trouble(WRONG_USE, f"{address!r} is not an address: {wrong}")
    envelope = Envelope(
        asked.mail_from,
        tuple(Recipient(address) for address in dict.fromkeys(asked.rcpt_to)),
        smtputf8=not (asked.mail_from + "".join(asked.rcpt_to)).isascii(),
    )
    return Submission(account, envelope, SessionInfo(asked.client_ip), time.time(), purpose=account.purpose)


def _intake(settings: Settings, keyring: Keyring, listener: _Listener) -> Intake:
    from relay.consent.lookup import Lookup
    from relay.counters.embedded import EmbeddedCounters
    from relay.gather import Gather
    from relay.intake import House, Intake
    from relay.policy.catalogue import Catalogue
    from relay.policy.pipeline import Pipeline
    from relay.store.threads import Threads

    class Looking(EmbeddedCounters):
        """Counters that are looked at: nothing is charged."""

        def take(self, charges: Any, now: float, *, park: bool, max_parked: int = 0) -> Any:
            return self.peek(charges, now, park=park, max_parked=max_parked)

    data = settings.server.data_dir
    gather = Gather(
        Lookup(settings.database_path, keyring),
        Threads(data, keyring.subject_hash, writable=False),
        Looking(data),
        dry=True,
    )
    house = House(settings.server.hostname, settings.web.public_url, settings.server.language)
    pipeline = Pipeline(Catalogue.load(settings.policies))
    log = cast("Trace", listener)  # it is all of Trace that intake uses
    return Intake(pipeline, gather, listener, log, house=house, watcher=listener)


class _Listener:
    """Stands where queue, log and watcher stand in the live gateway, and keeps what they are told."""

    def __init__(self) -> None:
        self.ruling: Ruling | None = None

    def next_id(self) -> int:
        return 0

    def commit(self, item: Item) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def pressure(self) -> str | None:
        return None

    def answered(self, number: int, ruling: Ruling, word: str, **rest: Any) -> None:
        self.ruling = ruling

    def refused(self, number: int, ruling: Ruling, reply: str) -> None:
        self.ruling = ruling

    def accepted(self, item: Item, ruling: Ruling, notes: Sequence[Note]) -> None:
        self.ruling = ruling

    def heard(self) -> Ruling:
        """The ruling behind the refusal that was just given."""
        assert self.ruling is not None, "intake tells every refusal"
        return self.ruling


async def _judge(intake: Intake, listener: _Listener, mail: Submission, raw: bytes) -> dict[str, Any]:
    """MAIL, each RCPT, then the message, as a session does it. The message is judged for everybody where nobody is left,
    so that the trace is whole; the answer is then that of RCPT.
    """
    stops = _before_data(intake, listener, mail)
    left = tuple(recipient for recipient in mail.recipients if recipient.address not in stops)
    listener.ruling = None
    await intake.submit(replace(mail, envelope=mail.envelope._replace(recipients=left or mail.recipients)), raw)
    if listener.ruling is None:
        return _malformed(intake, mail, raw)
    house, language = intake.house, mail.account.tenant.language
    verdict = listener.ruling.as_json(language, house.public_url)
    gone = [_outcome(address, stop.ruling) for address, stop in stops.items()]
    if left:
        verdict["recipients"] = gone + cast("list[Any]", verdict["recipients"])
    else:
        first = next(iter(stops.values()))
        verdict |= {"action": first.ruling.action.word, "reply": first.reply, "recipients": gone}
    verdict["policies"] = _merge(cast("list[Any]", verdict["policies"]), [stop.ruling for stop in stops.values()])
    return verdict


class _Stop(NamedTuple):
    """A refusal before the message: of the sender, or of one recipient."""

    reply: str
    ruling: Ruling


def _before_data(intake: Intake, listener: _Listener, mail: Submission) -> dict[str, _Stop]:
    """Who is refused at MAIL or RCPT, by address."""
    reply = intake.sender(replace(mail, envelope=mail.envelope._replace(recipients=())))
    if reply is not None:
        stop = _Stop(reply, listener.heard())
        return {recipient.address: stop for recipient in mail.recipients}
    stops = {}
    for recipient in mail.recipients:
        one = replace(mail, envelope=mail.envelope._replace(recipients=(recipient,)))
        reply, _ = intake.recipient(one)
        if reply is not None:
            stops[recipient.address] = _Stop(reply, listener.heard())
    return stops


def _outcome(address: str, ruling: Ruling) -> dict[str, str]:
    from relay.mail.reply import rule_of

    return {"address": address, "action": ruling.action.word, "rule": rule_of(ruling.reason), "reason": ruling.reason}


def _merge(entries: list[dict[str, Any]], refusals: list[Ruling]) -> list[dict[str, Any]]:
    """The trace of the message, with what a policy said at MAIL or RCPT where that was stronger."""
    from relay.policy.verdict import Action

    merged = {entry["policy"]: entry for entry in entries}
    for ruling in refusals:
        for step in ruling.trace:
            known = merged.get(step.policy)
            if step.action > (Action[known["action"].upper()] if known else Action.ACCEPT):
                merged[step.policy] = step.as_json()
    return list(merged.values())


def _malformed(intake: Intake, mail: Submission, raw: bytes) -> dict[str, Any]:
    """The verdict on what is no message: no policy sees it."""
    from relay.mail.message import Malformed, Message
    from relay.mail.reply import rule_of

    wrong = Message.split(raw)
    assert isinstance(wrong, Malformed), "intake would have judged it"
    reply = intake.malformed(wrong, mail.account.tenant.language)
    entry = {"action": "reject", "rule": rule_of(wrong.reason), "reason": wrong.reason}
    recipients = [{"address": recipient.address, **entry} for recipient in mail.recipients]
    return {"action": "reject", "reply": reply, "recipients": recipients, "policies": [], "headers_after": []}
