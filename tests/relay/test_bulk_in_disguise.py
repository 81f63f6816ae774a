"""CLASS-9: what the policies are told of equal texts, over logins and tenants; the counters are the real ones."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from relay.consent.lookup import Lookup
from relay.counters.embedded import EmbeddedCounters
from relay.counters.one_node import OneNode
from relay.gather import Counting, Gather
from relay.mail.envelope import Account, Credential, Envelope, Recipient, SessionInfo, Stream, Submission, Tenant
from relay.mail.fingerprint import marks_of, text_of
from relay.mail.message import Message
from relay.policy.facts import Fact
from relay.store.threads import Threads
from tests.fakes.clock import START
from tests.harness.timing import rounds

NEWS = (
    "Beste {name}, deze maand hebben wij weer veel moois in de winkel. Kom langs en kijk rond tussen de planten, of bestel alles "
    "makkelijk thuis. Wie snel is krijgt er een mooie gieter bij. Onze medewerkers geven graag uitleg over grond en water. {word}"
)
RESET = (
    "U heeft een nieuw wachtwoord aangevraagd voor uw account. Met deze link kiest u er een; hij werkt een uur. Was u dit "
    "niet, dan hoeft u niets te doen."
)
DISCLAIMER = (
    "\r\n\r\nMet vriendelijke groet,\r\n{name}\r\n\r\n"
    + "Deze mail is alleen voor wie hem krijgen moet en kan vertrouwelijk zijn, stuur hem dan niet door. " * 3
)
Told = Callable[..., int]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """`told(text, login=, tenant=)`: how many nearly equal mails there are with this one."""
    counters = EmbeddedCounters(tmp_path)
    gather = Gather(cast(Lookup, None), cast(Threads, None), Counting(counters, OneNode(counters)))

    def ask(text: str, *, login: str = "office", tenant: int = 7, head: str = "", at: float = START) -> int:
        message = Message.split(f"From: a@shop.example\r\n{head}\r\n{text}\r\n".encode())
        assert isinstance(message, Message)
        account = Account(Tenant(tenant, "shop"), Credential(login, login, "shop", Stream.PERSONAL))
        envelope = Envelope("", (Recipient("p@x.example"),))
        mail = Submission(account, envelope, SessionInfo(""), at, message)
        return gather.facts([Fact.FINGERPRINT], mail, []).fingerprint

    yield ask
    counters.close()


def test_a_newsletter_in_slow_drips_over_many_accounts_is_bulk_from_number_20(told: Told) -> None:
    chance = random.Random(3)
    counts = [
        told(
            NEWS.format(
                name=chance.choice(("Jan", "Ann", "Piet")), word=chance.choice(("dank", "tot dan", "groetjes"))
            ),
            login=f"person{number % 8}",
            at=START + number * 2000,
        )
        for number in range(25)
    ]
    assert counts == list(range(1, 26))
    assert told(NEWS.format(name="Jan", word=""), tenant=8) == 1, "another tenant's"
    assert told(NEWS.format(name="Jan", word=""), at=START + 3 * 86_400) == 1, "a day later it is forgotten"


def test_ordinary_mail_of_an_office_is_no_campaign(told: Told) -> None:
    """Short answers, everybody's disclaimer, threads that quote one another, the same one line."""
    for number in range(60):
        login = f"person{number}"
        assert told(f"Prima, tot morgen dan!{DISCLAIMER.format(name=login)}", login=login) == 1
        quoted = "\r\n".join("> " + line for line in NEWS.split(". "))
        thread = (
            f"Leuk, ik doe mee.\r\n\r\nOp ma 5 jan. 2026 om 10:00 schreef Ann de Vries <ann@x.example>:\r\n{quoted}"
        )
        assert told(thread, login=login, head="In-Reply-To: <1@x.example>\r\n") == 1
        assert told("Dank voor je bericht, ik kom er snel op terug.", login=login) == 1, "alike by chance"
        assert told("ok", login="office") == 1
    forwarded = (
        f"Leuk voor jou!\r\n\r\n---------- Forwarded message ----------\r\nFrom: News <n@x.example>\r\n\r\n{NEWS}"
    )
    assert told(forwarded, head="References: <1@x.example>\r\n") == 1
    assert [told(forwarded, login=f"person{number}") for number in range(3)] == [1, 2, 3], "to a friend is no campaign"


def test_different_letters_of_a_tenant_do_not_meet(told: Told) -> None:
    chance = random.Random(5)
    words = [
        f"{one}{two}"
        for one in ("ba", "ko", "mi", "ru", "se", "ta")
        for two in ("len", "ven", "den", "ker", "mat", "pot")
    ]
    counts = [told(" ".join(chance.choices(words, k=80)), login=f"p{number % 9}") for number in range(3_000)]
    assert max(counts) < 5


def test_password_resets_are_counted_and_that_alone_changes_nothing(told: Told) -> None:
    """They are bulk by nature: classification needs the marks of advertising besides (tests/cases/classification.toml)."""
    assert [told(RESET, login="app") for _ in range(30)] == list(range(1, 31))


def test_figures(told: Told, record_property: Callable[[str, object], None]) -> None:
    """What it costs of its own, on 10 KB; a bound with room for a slow machine."""
    raw = f"Subject: x\r\n\r\n{(NEWS + ' ') * 42}\r\n".encode()
    best = float("inf")
    for timed in rounds(1_000e-6 * 100, time.process_time):
        messages = [Message.split(raw) for _ in range(100)]
        with timed:
            for message in messages:
                assert isinstance(message, Message)
                marks_of(text_of(message))
        best = min(best, timed.seconds / len(messages))
    figure = f"marks of {len(raw)} octets: {best * 1e6:.0f} us"
    sys.stdout.write(f"{figure}\n")
    record_property("figures", figure)
