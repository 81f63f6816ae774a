"""A policy with a bug, for tests: it falls over a mail that asks for it."""

from dataclasses import dataclass

from relay.mail.envelope import Submission
from relay.policy.facts import Facts
from relay.policy.verdict import Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = ()


@dataclass(frozen=True, slots=True)
class Settings:
    pass


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    if mail.message is not None and mail.message.get(b"subject") == b"trip":
        raise ZeroDivisionError(mail.envelope.mail_from)
    return Verdict.accept()
