"""Who mails people who do not exist, or who complain, is slowed down, and stopped before providers stop everybody here.

Of each login, stream, From domain and tenant the last 1,000 deliveries are counted: bounces (REP-1), complaints (REP-2), and
unknown addresses at the beginning of a campaign, as of a bought list (THROTTLE-8). Who is warned or reviewed sends on within a
part of his limits. Who is paused may hand in mail, and it waits for a person: nothing is refused and nothing is lost. A
campaign's faults never hold back transactional or personal mail, and mail of our own is never held back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.envelope import MailClass, Submission
from relay.policy.facts import Fact, Facts
from relay.policy.options import option
from relay.policy.verdict import Stage, Verdict

STAGE = Stage.ADMIT
NEEDS: Sequence[Fact] = (Fact.STANDING,)
_PAUSED = 3


@dataclass(frozen=True, slots=True)
class Settings:
    warn_percent: int = option(50, "Part of each limit that is left to who is warned (REP-1).", minimum=1)
    review_percent: int = option(25, "Part of each limit that is left to who is reviewed (REP-1, REP-2).", minimum=1)


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    standing = facts.standing
    if standing.level < _PAUSED or mail.mail_class is MailClass.SYSTEM:
        return Verdict.accept()
    return Verdict.hold("reputation.paused", scope=standing.scope)
