"""The road of the live gateway without its ends: a mail is judged, and nothing is sent, kept or charged.

The submission goes through `relay.intake.Intake` as a session would hand it in: MAIL, each RCPT, the message. Only what
lies outside is replaced: the queue takes nothing, the log and the watcher listen, and limits are looked at instead of
charged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from relay.cli.client import as_folder_owner, require_folder
from relay.cli.counting import book
from relay.cli.explain import Asked
from relay.cli.trouble import WRONG_USE, Trouble
from relay.consent.lookup import Lookup
from relay.counters.contract import Charge, CountersUnavailable
from relay.counters.embedded import EmbeddedCounters
from relay.counters.many_nodes import ManyNodes, open_shared
from relay.counters.one_node import OneNode
from relay.directory import Directory
from relay.enqueue import House
from relay.gather import Counting, Gather
from relay.intake import Intake
from relay.keyring import Keyring
from relay.mail.address import parse_path
from relay.mail.envelope import Account, Envelope, Recipient, SessionInfo, Submission
from relay.mail.message import Malformed, Message, is_utf8
from relay.mail.reply import reply_line, rule_of
from relay.observe.log import configure
from relay.policy.catalogue import Catalogue
from relay.policy.facts import Allowance
from relay.policy.pipeline import Pipeline
from relay.policy.ruling import Ruling, TraceEntry
from relay.policy.verdict import Action, Note
from relay.scan import Scan
from relay.settings.model import Settings
from relay.smtp.data import fault
from relay.smtp.desk import own_value
from relay.smtp.line_ends import LineEnds
from relay.spool.item import Item
from relay.store.threads import Threads
from relay.trace import Trace


def explain_mail(settings: Settings, asked: Asked, raw: bytes) -> dict[str, Any]:
    """The verdict as the contract prints it. Raises Trouble for a credential or an address that is none."""

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
        submission = _submission(account, asked, raw)
        counters = open_shared(settings.storage, _Looking(data), _LookingAfar)
        intake = _intake(settings, keyring, listener, counters)
        return asyncio.run(_and_close(_judge(intake, listener, submission, raw, settings), counters))


async def _and_close(work: Coroutine[Any, Any, dict[str, Any]], counters: OneNode | ManyNodes) -> dict[str, Any]:
    try:
        with contextlib.suppress(CountersUnavailable):  # nobody is known to be paused then, as in the gateway
            await counters.windows.look()
        return await work
    finally:
        await counters.close()


def _submission(account: Account, asked: Asked, raw: bytes) -> Submission:
    """As a client would hand it in: with SMTPUTF8 where an address or the head needs it, each mailbox once."""
    mailboxes: dict[str, Recipient] = {}
    for address in (*asked.rcpt_to, *([asked.mail_from] if asked.mail_from else [])):
        wrong = parse_path(address)
        if isinstance(wrong, str):
            raise Trouble(WRONG_USE, f"{address!r} is not an address: {wrong}")
        if address in asked.rcpt_to:
            mailboxes.setdefault(wrong.mailbox, Recipient(address))
    head = raw.partition(b"\r\n\r\n")[0]
    is_wide = not (asked.mail_from + "".join(asked.rcpt_to)).isascii() or (not head.isascii() and is_utf8(head))
    envelope = Envelope(asked.mail_from, tuple(mailboxes.values()), smtputf8=is_wide)
    return Submission(account, envelope, SessionInfo(asked.client_ip), time.time(), purpose=account.purpose)


def _intake(settings: Settings, keyring: Keyring, listener: _Listener, shared: OneNode | ManyNodes) -> Intake:
    data = settings.server.data_dir
    gather = Gather(
        Lookup(settings.database_path, keyring),
        Threads(data, keyring.subject_hashes, writable=False),
        Counting(_Looking(data), shared, book(settings, shared)),
        dry=True,
        scan=Scan.of(keyring, time.monotonic),
    )
    house = House(settings.server.hostname, settings.web.public_url, settings.server.language)
    pipeline = Pipeline(Catalogue.load(settings.policies))
    log = cast("Trace", listener)  # it is all of Trace that intake uses
    return Intake(pipeline, gather, listener, log, house=house, watcher=listener)


class _Looking(EmbeddedCounters):
    """Counters that are looked at: nothing is charged."""

    def take(self, charges: Sequence[Charge], now: float, *, park: bool, max_parked: int = 0) -> Allowance:
        return self.peek(charges, now, park=park, max_parked=max_parked)


class _LookingAfar(ManyNodes):
    """The counters of all nodes, looked at; without them the share of this one."""

    async def take(
        self, charges: Sequence[Charge], now: float, *, once: int, park: bool, max_parked: int = 0
    ) -> Allowance:
        return await self.peek(charges, now, park=park, max_parked=max_parked)


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

    def reports(self, item: Item, ruling: Ruling) -> list[Item]:
        return []

    def accepted(self, item: Item, ruling: Ruling, notes: Sequence[Note]) -> None:
        self.ruling = ruling

    def forget(self) -> None:
        self.ruling = None

    def heard(self) -> Ruling:
        """The ruling behind the refusal that was just given."""
        assert self.ruling is not None, "intake tells every refusal"
        return self.ruling


async def _judge(
    intake: Intake, listener: _Listener, mail: Submission, raw: bytes, settings: Settings
) -> dict[str, Any]:
    """MAIL, each RCPT, then the message, as a session does it. The message is judged for everybody where nobody is left,
    so that the trace is whole; the answer is then that of RCPT.
    """
    if mail.session.client_ip in settings.line_ends_mended:
        raw = LineEnds().mend(raw)
    if mail.account.suspended:
        return _refused_unread(_said(intake, mail, "account.suspended"), {}, mail)
    stops = _before_data(intake, listener, mail, settings.limits.max_recipients)
    left = tuple(recipient for recipient in mail.recipients if recipient.address not in stops)
    listener.forget()
    if left and (stop := _at_the_door(intake, mail, raw, settings)) is not None:
        return _refused_unread(stop, stops, mail)
    await intake.submit(replace(mail, envelope=mail.envelope._replace(recipients=left or mail.recipients)), raw)
    if listener.ruling is None:
        return _malformed(intake, mail, raw)
    house, language = intake.house, mail.account.tenant.language
    verdict = listener.ruling.as_json(language, house.public_url)
    gone = [stop.outcome(address) for address, stop in stops.items()]
    if left:
        verdict["recipients"] = gone + cast("list[Any]", verdict["recipients"])
    else:
        first = next(iter(stops.values()))
        verdict |= {"action": first.action.word, "reply": first.reply, "recipients": gone}
    verdict["policies"] = _merge(cast("list[Any]", verdict["policies"]), [*stops.values()])
    return verdict


class _Stop(NamedTuple):
    """A refusal before the message: of the sender, or of one recipient."""

    reply: str
    action: Action
    reason: str
    trace: tuple[TraceEntry, ...] = ()

    @staticmethod
    def of(reply: str, ruling: Ruling) -> _Stop:
        return _Stop(reply, ruling.action, ruling.reason, tuple(ruling.trace))

    def outcome(self, address: str) -> dict[str, str]:
        return {"address": address, "action": self.action.word, "rule": rule_of(self.reason), "reason": self.reason}


def _said(intake: Intake, mail: Submission, reason: str, **detail: int) -> _Stop:
    """What the session answers by itself, before any policy is asked."""
    words = [(name, str(value)) for name, value in detail.items()]
    reply = reply_line(reason, words, mail.account.tenant.language, intake.house.public_url)
    return _Stop(reply, Action.DEFER if reply.startswith("4") else Action.REJECT, reason)


def _at_the_door(intake: Intake, mail: Submission, raw: bytes, settings: Settings) -> _Stop | None:
    """What the session refuses a whole message for (SMTP-5, SMTP-8, SMTP-24)."""
    most = settings.limits.max_message_bytes
    if len(raw) > most:
        return _said(intake, mail, "session.too_big", limit=most)
    wrong = fault(raw)
    return _said(intake, mail, wrong) if wrong else None


def _refused_unread(stop: _Stop, stops: dict[str, _Stop], mail: Submission) -> dict[str, Any]:
    """The verdict on a message that no policy sees."""
    recipients = [stops.get(one.address, stop).outcome(one.address) for one in mail.recipients]
    verdict = {"action": stop.action.word, "reply": stop.reply, "recipients": recipients}
    return {**verdict, "policies": _merge([], [*stops.values()]), "headers_after": []}


def _before_data(intake: Intake, listener: _Listener, mail: Submission, most: int) -> dict[str, _Stop]:
    """Who is refused at MAIL or RCPT, by address."""
    reply = intake.sender(replace(mail, envelope=mail.envelope._replace(recipients=())))
    if reply is not None:
        stop = _Stop.of(reply, listener.heard())
        return {recipient.address: stop for recipient in mail.recipients}
    stops: dict[str, _Stop] = {}
    alone = False
    own = own_value(mail.account, "recipients_per_message")
    most, too_many = (own, "session.recipients_per_message") if own else (most, "session.too_many_recipients")
    for number, recipient in enumerate(mail.recipients):
        if number - len(stops) >= most:
            stops[recipient.address] = _said(intake, mail, too_many, limit=most)
            continue
        envelope = mail.envelope._replace(recipients=(recipient,))
        said = intake.recipient(replace(mail, envelope=envelope, in_company=number > len(stops)), alone=alone)
        alone = alone or said.alone
        if said.refusal is not None:
            stops[recipient.address] = _Stop.of(said.refusal, listener.heard())
    return stops


def _merge(entries: list[dict[str, Any]], refusals: list[_Stop]) -> list[dict[str, Any]]:
    """The trace of the message, with what a policy said at MAIL or RCPT where that was stronger."""

    merged = {entry["policy"]: entry for entry in entries}
    for stop in refusals:
        for step in stop.trace:
            known = merged.get(step.policy)
            if step.action > (Action[known["action"].upper()] if known else Action.ACCEPT):
                merged[step.policy] = step.as_json()
    return list(merged.values())


def _malformed(intake: Intake, mail: Submission, raw: bytes) -> dict[str, Any]:
    """The verdict on what is no message: no policy sees it."""

    wrong = Message.split(raw)
    assert isinstance(wrong, Malformed), "intake would have judged it"
    reply = intake.malformed(wrong, mail.account.tenant.language)
    entry = {"action": "reject", "rule": rule_of(wrong.reason), "reason": wrong.reason}
    recipients = [{"address": recipient.address, **entry} for recipient in mail.recipients]
    return {"action": "reject", "reply": reply, "recipients": recipients, "policies": [], "headers_after": []}
