"""Lives one subject's file on a fake clock, with the true owner, policies and use records; chance is the same each time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from relay.consent.record import parse_time
from relay.consent.rested import Rested
from relay.consent.subject import person_hash
from relay.consent.token import TokenKind
from relay.consent.token import make as make_token
from relay.delivery.outcome import Delivered
from relay.mail.envelope import Account, Credential, Envelope, MailClass, Recipient, SessionInfo, Stream, Submission
from relay.owner import OwnerError
from relay.owner.expiry import years_before
from relay.policy.catalogue import Catalogue
from relay.policy.facts import Fact, Facts
from relay.policy.pipeline import Pipeline
from relay.portal import proof_page
from relay.serve.used import Uses
from relay.spool.item import Item
from relay.store import uses
from relay.store.uses import FOLDER, UseFiles
from tests.contract.conftest import World

HERE = Path(__file__).parent
SUBJECTS = sorted(path.stem for path in (HERE / "subjects").glob("*.toml"))
TAKEN = Delivered("2.0.0", "250 ok", "next.hop.test")
BODY = re.compile(r"<main>.*</main>", re.DOTALL)
_OWN = ("at", "do", "says", "token", "rows")


class Chance:
    """Octets that are the same each time."""

    def __init__(self) -> None:
        self._count = 0

    def octets(self, size: int | None = None) -> bytes:
        self._count += 1
        wanted = 32 if size is None else size
        return hashlib.shake_256(b"regulator %d" % self._count).digest(wanted)


@contextlib.contextmanager
def no_chance() -> Iterator[None]:
    chance = Chance()
    with (
        mock.patch.object(os, "urandom", chance.octets),
        mock.patch.object(secrets, "token_bytes", chance.octets),
        mock.patch.object(secrets, "token_hex", lambda size=None: chance.octets(size).hex()),
    ):
        yield


class Life:
    """One subject. `answers` are those to what the file asks."""

    def __init__(self, folder: Path, name: str) -> None:
        (folder / "data").mkdir(parents=True)
        self.told = tomllib.loads((HERE / "subjects" / f"{name}.toml").read_text("utf-8"))
        self.address: str = self.told["address"]
        self.world = World(folder, f"sqlite:///{folder}/data/zegel.db")
        self.world.now = at(self.told["step"][0]["at"])
        self.world.shop()
        files, database = UseFiles(folder / "data" / FOLDER, "0"), self.world.settings.storage.database
        self._rested = Rested(database, self.world.keyring, generation=None)
        self._files = files
        self.uses = Uses(files, self._rested)
        self._numbers = iter(range(1, 1_000))
        self._token = ""

    def live(self) -> list[dict[str, Any]]:
        for step in self.told["step"]:
            assert at(step["at"]) >= self.world.now, f"{step['at']} is before the step above it"
            self.world.now = at(step["at"])
            if "mail" in step:
                self._mail(step)
            elif step["do"] == "move":
                self._move(step.get("old", self.address), step.get("to", self.address))
            else:
                self._do(step)
        self.world.now = at(self.told["asked_at"])
        asks = self.told.get("ask", [{}])
        return [self._call("consent.proof", {"tenant": "shop", "address": self.address, **ask}) for ask in asks]

    def close(self) -> None:
        self._rested.close()
        self._files.close()
        self.world.owner.close()

    def _call(self, op: str, args: dict[str, Any]) -> Any:
        return self.world.owner.call(op, args, actor="operator:eve")

    def _do(self, step: dict[str, Any]) -> None:
        """An operation of the owner, about the subject unless it says otherwise; `says` is the code of a refusal."""
        op, args = step["do"], {name: value for name, value in step.items() if name not in _OWN}
        if op in ("consent.give", "consent.import_rows"):
            row = self.world.row(**{"email": self.address, **args})
            args = {"tenant": "shop", **row} if op == "consent.give" else {"tenant": "shop", "rows": [row]}
        elif op == "consent.confirm":
            args = {"token": self._token, **args}
        elif op.partition(".")[0] in ("consent", "suppression"):
            args = {"tenant": "shop", "address": self.address, **args}
        try:
            found = self._call(op, args)
        except OwnerError as error:
            assert error.code == step.get("says"), (step, error.text)
            return
        said = found["errors"][0]["reason"] if op == "consent.import_rows" and found["errors"] else None
        assert said == step.get("says"), (step, found)
        if op == "retention.run":  # as the hourly upkeep has it
            uses.forget_before(self._files.folder, years_before(self.world.now, 5))
        self._token = found.get("token", self._token) if isinstance(found, dict) else ""

    def _move(self, old: str, new: str) -> None:
        """The person moves the consents to another address, as the pages do it."""
        keyring = self.world.keyring
        link = make_token(
            keyring,
            TokenKind.MY,
            1,
            purpose="newsletter",
            subject_hash=person_hash(keyring, 1, old),
            subscriber="",
        )
        asked = self._call("mydata.ask", {"token": link, "address": old})
        proven = self._call("mydata.prove", {"asked": asked["asked"], "code": asked["code"]})
        moved = self._call("mydata.move", {"proof": proven["proof"], "link": link, "address": new})
        assert self._call("mydata.moved", {"token": moved["token"]})["moved"]

    def _mail(self, step: dict[str, Any]) -> None:
        """Advertising for the list `mail`: judged as before each delivery, and written down where it went. `says` is the reason
        why it did not.
        """
        world, name = self.world, step["mail"]
        address = step.get("to", self.address)
        sender = world.directory().tenant("shop")
        assert sender is not None
        credential = Credential("news", "news", "shop", Stream.MARKETING, name)
        account = Account(sender, credential, sender.purposes[name])
        mail = Submission(
            account,
            Envelope("news@shop.example", (Recipient(address),)),
            SessionInfo(""),
            world.now,
            mail_class=MailClass.COMMERCIAL,
            purpose=account.purpose,
        )
        with world.lookup() as lookup:
            facts: dict[Fact, object] = {
                Fact.CONSENTS: lookup.consents(1, name, [address], others=sender.purposes),
                Fact.SUPPRESSIONS: lookup.suppressions(1, [address], purpose=name),
                Fact.REQUESTS: lookup.requests(1, name, [address]),
            }
        ruling = Pipeline(Catalogue.load({})).recheck(mail, Facts(facts))
        assert (ruling.reason if not ruling.passes else "delivered") == step.get("says", "delivered"), step
        if ruling.passes:
            meta = {"tenant_id": 1, "stream": "marketing", "class": "commercial", "confirm": False, "purpose": name}
            item = Item(next(self._numbers), {**meta, "rcpt": [[address, [], ""]]}, b"", due=0.0)
            self.uses.saw(item, {0: TAKEN}, world.now)
            self.uses.flush()
            asyncio.run(self.uses.tell(self._tell))

    async def _tell(self, op: str, args: dict[str, Any]) -> Any:
        return self.world.owner.call(op, args)


def at(text: str) -> float:
    moment = parse_time(text)
    assert moment is not None, text
    return moment


def answer(folder: Path, name: str) -> tuple[dict[str, Any], str, str]:
    """The file of a subject, the answer as the command prints it, and the body of each page."""
    with no_chance():
        life = Life(folder, name)
        try:
            found = life.live()
        finally:
            life.close()
    written = "".join(json.dumps(one, indent=2, ensure_ascii=False) + "\n" for one in found)
    pages = "\n".join(BODY.findall("".join(proof_page.render(one)))[0] for one in found) + "\n"
    return life.told, written, pages
