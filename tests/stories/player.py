"""Plays a story in a world: each step at its time, and what was said and came of it against what the row expects."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from relay.mail.address import parse_path
from relay.mail.envelope import Recipient, SessionInfo
from relay.mail.reply import rule_of
from relay.policy.ruling import Ruling
from relay.policy.verdict import Action
from relay.smtp.front import Transaction
from relay.smtp.syntax import MailCommand
from relay.spool.item import encode_id
from tests.fakes.clock import START
from tests.harness.gateway import consent_row
from tests.stories.mails import Mail
from tests.stories.story import DAY, GOES, Row, Story, moments, people, runs, span, told
from tests.stories.world import World

TOGETHER = 50
TOGETHER_SECONDS = 3600.0
"""Mails of one step that are handed in before the next round of deliveries, and how long after the first."""
_RULE = re.compile(r"\[([A-Z]+-\d+)\]")
_CODE = re.compile(r"\d{3} \d\.\d+\.\d+")
AGREED_AT = "2025-06-02T10:00:00Z"


class Player:
    """Plays one story. A wrong verdict is an AssertionError that tells the step, its time, and both."""

    def __init__(self, world: World, story: Story) -> None:
        self.world = world
        self.story = story
        self.passwords: dict[str, str] = {}
        self._made = 0

    async def play(self) -> None:
        """Every step in the order of time; steps of one moment in the order of the table."""
        timeline = sorted(
            ((at, number, step) for number, step in enumerate(self.story.steps) for at in moments(step)),
            key=lambda entry: entry[:2],
        )
        for at, _, step in timeline:
            await self.world.pass_to(at)
            for word, act in _ACTS.items():
                if word in step:
                    await act(self, step)
        if self.story.lawful:
            await self._ends_well()

    async def _ends_well(self) -> None:
        """Of lawful mail nothing is left behind, and nobody's name has suffered."""
        world = self.world
        await world.pass_to(world.clock.now() + 15 * DAY)
        queue = world.queue
        assert not (queue.held or queue.ready or queue.backlog.later or queue.backlog.frozen), "something did not leave"
        for tenant in world.directory().tenants():
            logins = world.directory().credentials_of(tenant)
            assert not tenant.suspended and not any(login.suspended for login in logins)
            standing = {world.level(tenant.name, "credential", login.name) for login in logins}
            assert standing | {world.level(tenant.name, "tenant", "")} <= {"good"}, standing

    # -- what happens -----------------------------------------------------------------------------------------------

    async def _owner(self, step: Row) -> None:
        """`op`, with its other fields as arguments: what an operator or a tenant does; for each `name`, if several."""
        given = {name: value for name, value in step.items() if name not in ("at", "again", "op", *_ACTS)}
        for name in _each(given.get("name")):
            made = self.world.owner.call(step["op"], {**given, "name": name} if name else given)
            if step["op"] == "reputation.release":  # the owner writes down who did it; the windows lie in the counters
                await self.world.let_send(given)
            if step["op"] == "credential.add":
                assert isinstance(made, dict)
                self.passwords[made["name"]] = made["password"]

    async def _agree(self, step: Row) -> None:
        """`agree`: so many people gave a complete consent, `to` whom mail of `purpose` may go; `proof` changes the record."""
        agreed, more = step["agree"], step.get("proof", {})
        tenant, purpose = step.get("tenant", "shop"), step.get("purpose", "newsletter")
        everybody = people(step, step.get("from", 0), agreed)
        rows = [{**consent_row(address), "given_at": AGREED_AT, "purpose": purpose, **more} for address in everybody]
        results = [
            self.world.owner.call("consent.import_rows", {"tenant": tenant, "rows": rows[start : start + 500]})
            for start in range(0, len(rows), 500)
        ]
        imported = sum(result["imported"] + result["unchanged"] for result in results if isinstance(result, dict))
        assert imported == step.get("imported", agreed), results[0]

    async def _send(self, step: Row) -> None:
        """`mails` messages of `login`, or of several in turn, `every` so often, each to `people` of the pattern `to`."""
        world, mail = self.world, Mail(step)
        expected = runs(step["expect"], mail.number)
        if self.story.lawful:
            assert all(verdict.startswith(GOES) for verdict in expected), "a lawful sender is never stopped"
        verdicts: list[str] = []
        pause = span(step["every"]) if "every" in step else 0.0
        together = max(1, min(TOGETHER, int(TOGETHER_SECONDS / pause))) if pause else TOGETHER
        for start in range(0, mail.number, together):
            if pause and start:
                await world.pass_to(world.clock.now() + pause)
            lot = range(start, min(start + together, mail.number))
            verdicts += await self._hand_in_lot(mail, _each(step["login"]), lot, pause)
            await world.deliver()
        assert told(verdicts) == told(expected), f"{self._where(step)} {told(verdicts)}, not {told(expected)}"

    async def _hand_in_lot(self, mail: Mail, logins: Sequence[str], lot: range, pause: float) -> list[str]:
        """Mails that share a commit: each is judged and charged at its own time, in order."""
        work: list[asyncio.Task[str]] = []
        for index in lot:
            if pause and work:
                self.world.clock.advance(pause)
            work.append(asyncio.get_running_loop().create_task(self._hand_in(mail, logins[index % len(logins)], index)))
            await asyncio.sleep(0)  # until it waits for its commit, or for Redis
        return list(await asyncio.gather(*work))

    async def _hand_in(self, mail: Mail, login: str, index: int) -> str:
        """One transaction, as a session hands it in; the verdict in words."""
        desk, account = self.world.desk, self.world.account(login)
        self._made += 1
        sender = parse_path(mail.sender)
        assert not isinstance(sender, str), sender
        session = SessionInfo(mail.client, "client.test", "TLSv1.3")
        transaction = Transaction(account, session, MailCommand(sender))
        reply = desk.mail(transaction)
        if reply is not None:
            return word_of(reply)
        stops: list[str] = []
        for address in mail.recipients(index):
            parsed = parse_path(address)
            assert not isinstance(parsed, str), (address, parsed)
            if len(transaction.recipients) >= desk.limits.max_recipients:
                stops.append(desk.say("session.too_many_recipients", account, limit=str(desk.limits.max_recipients)))
                continue
            reply = desk.recipient(transaction, parsed, Recipient(address))
            if reply is None:
                transaction.add(parsed, Recipient(address))
            else:
                stops.append(reply)
        stopped = f"{word_of(stops[0])}" if stops else ""
        if not transaction.recipients:
            return stopped
        reply = await desk.message(transaction, mail.raw(index, self._made, self.world.clock.now()))
        said = self._verdict(reply)
        return f"{said}; {len(stops)} of them {stopped}" if stops else said

    def _verdict(self, reply: str) -> str:
        if not reply.startswith("250"):
            return word_of(reply)
        return self._taken(*self.world.log.answers.pop(reply))

    def _taken(self, ruling: Ruling, word: str) -> str:
        """What became of a mail that was taken: accepted, split, held and why, parked and until which day."""
        said = word
        if word == "held":
            said = f"held {rule_of(ruling.reason)}"
        elif word == "parked":
            reasons = [entry.reason for entry in ruling.trace if entry.policy == "throttle"]
            day, today = (int((at - START) // DAY) for at in (ruling.due, self.world.clock.now()))
            said = f"parked {rule_of(reasons[0])}" + (f" until day {day}" if day > today else "")
        elif any(edit.kind in ("to_self", "unsubscribe") for edit in ruling.edits) and len(ruling.recipients) > 1:
            said = "split"
        seen = [entry.rule for entry in ruling.trace if entry.mode == "observe" and entry.action > Action.ACCEPT]
        return ", ".join([said, *(f"seen {rule}" for rule in seen)])

    async def _log_in(self, step: Row) -> None:
        """`log_in`: a login tries to come in; `password` where it is not its own."""
        password = step.get("password", self.passwords.get(step["log_in"], ""))
        reply = await self.world.login(step["log_in"], password)
        assert reply.startswith(step["expect"]), (self._where(step), reply)

    async def _complain(self, step: Row) -> None:
        await self.world.complain(step["login"], step["complain"])

    async def _held(self, step: Row) -> None:
        """`decide`: a person lets all held mail go, or refuses it."""
        for number in list(self.world.queue.held):
            await self.world.queue_ops.run(f"held.{step['decide']}", {"id": encode_id(number)})

    # -- what came of it --------------------------------------------------------------------------------------------

    async def _then(self, step: Row) -> None:
        """`then`: what has become of everything by now."""
        world = self.world
        await world.deliver()
        found: Row = {}
        for name, wanted in step["then"].items():
            if name == "delivered":
                found[name] = {login: world.delivered[login] for login in wanted}
            elif name == "letters":
                found[name] = {address: world.letters[address] for address in wanted}
            elif name == "held":
                found[name] = len(world.queue.held)
            elif name == "parked":
                found[name] = world.queue.backlog.later
            elif name == "frozen":
                found[name] = world.queue.backlog.frozen
            elif name == "stands":
                found[name] = {whose: self._stands(whose) for whose in wanted}
            else:
                raise AssertionError(f"nobody knows what {name!r} is")
        assert found == step["then"], f"{self._where(step)} {found}, not {step['then']}"

    def _stands(self, whose: str) -> str:
        """Of `shop stream marketing`, or `shop tenant`."""
        tenant, scope, *subject = whose.split()
        return self.world.level(tenant, scope, " ".join(subject))

    def _where(self, step: Row) -> str:
        now = self.world.clock.now() - START
        clock = f"day {int(now // DAY)}, {int(now % DAY // 3600):02}:{int(now % 3600 // 60):02}"
        return f"{self.story.name}: {clock}, step of {step['at']}:"


def word_of(reply: str) -> str:
    """`550 5.7.1 [ID-1] ...` as `refused ID-1`, `450 4.7.28 [THROTTLE-1] ...` as `put off THROTTLE-1`."""
    rule = _RULE.search(reply)
    named = rule[1] if rule else reply[:9]
    return f"{'put off' if reply.startswith('4') else 'refused'} {named}"


def _each(names: str | list[str] | None) -> list[str]:
    """One name or several as a list; of none that which is empty."""
    return names if isinstance(names, list) else [names or ""]


Act = Callable[[Player, Row], Coroutine[Any, Any, None]]
_ACTS: dict[str, Act] = {
    "op": Player._owner,
    "agree": Player._agree,
    "mail": Player._send,
    "log_in": Player._log_in,
    "complain": Player._complain,
    "decide": Player._held,
    "then": Player._then,
}
"""What a step may say, in the order in which it is done."""
