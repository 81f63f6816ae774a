"""What a table of mails cannot show of the leaks policy: a reader of ours that breaks."""

from __future__ import annotations

from policies import leaks
from relay.mail.leaks.findings import Findings
from relay.policy.facts import Fact, Facts
from relay.policy.options import PerClass
from relay.policy.verdict import Action
from tests.policies.casebook import submission


def test_a_reader_that_breaks_refuses_nothing_for_good() -> None:
    mail = submission({"stream": "personal", "rcpt": ["ann@example.net"], "body": "Hello"})
    settings = leaks.Settings(unreadable=PerClass.all("reject"))
    unread = Findings({"unreadable": 1}, unreadable=("encrypted",))
    assert leaks.decide(mail, Facts({Fact.LEAKS: unread}), settings).action is Action.REJECT
    broken = unread._replace(crashes=("xlsx.py:1",))
    assert leaks.decide(mail, Facts({Fact.LEAKS: broken}), settings).action is Action.HOLD
