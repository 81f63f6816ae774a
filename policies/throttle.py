"""Nobody sends faster than agreed, and a flood of letters is an alarm.

The limits of the login, its tenant, its address and its From domain are counted outside, once for each accepted mail and
exactly over all workers; the strictest one answers (THROTTLE-1, THROTTLE-2). Mail of programs (marketing, transactional) over
the pace is taken and waits for its turn, because tools lose mail on a temporary refusal; it is refused only when too much
waits already. A person's mail over the pace gets a temporary refusal that names the limit and when it frees: the
mail client sends it again by itself. A new login or domain begins with few recipients a day and may send twice as many each
day, so that a stolen or bought one cannot do much (THROTTLE-3). A login that sends far more in an hour than it ever does in a
day looks like one with a stolen password: its mail waits for a person (THROTTLE-7). A newsletter is sudden each time, so it is
measured against the largest campaign of 90 days and against how many have agreed to get it. A thief writes to strangers: a login
may write to so many people a day whom it never wrote to before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.envelope import Submission
from relay.policy.facts import Fact, Facts
from relay.policy.options import PerStream, option
from relay.policy.verdict import Park, Stage, Verdict

STAGE = Stage.ADMIT
NEEDS: Sequence[Fact] = (Fact.ALLOWANCE,)
_WARM_UP = "warmup_recipients_per_day"
_SHARE_SECONDS = 900
"""When to try again at the latest while this node keeps to its share: the whole limit may be back by then."""
_OVER = PerStream(marketing="park", transactional="park", personal="defer")


@dataclass(frozen=True, slots=True)
class Settings:
    over: PerStream = option(_OVER, "Mail over the pace (THROTTLE-1).", choices=("park", "defer"))  # noqa: RUF009 a field
    personal_messages_per_minute: int = option(30, "Messages a minute of one personal login; 0: no limit (THROTTLE-1).")
    personal_recipients_per_day: int = option(10_000, "Recipients in 24 hours of one personal login (THROTTLE-1).")
    transactional_messages_per_minute: int = option(600, "Messages a minute of one transactional login (THROTTLE-1).")
    transactional_recipients_per_day: int = option(
        100_000, "Recipients in 24 hours of one transactional login (THROTTLE-1)."
    )
    marketing_messages_per_minute: int = option(600, "Messages a minute of one marketing login (THROTTLE-1).")
    marketing_recipients_per_day: int = option(100_000, "Recipients in 24 hours of one marketing login (THROTTLE-1).")
    personal_first_time_recipients_per_day: int = option(
        2_000, "People in 24 hours that one personal login never wrote to before; 0: any number (THROTTLE-1)."
    )
    transactional_first_time_recipients_per_day: int = option(
        50_000, "People in 24 hours that one transactional login never wrote to before; 0: any number (THROTTLE-1)."
    )
    first_time_learning_days: int = option(
        14, "Days in which a login's correspondents are learned before these two hold; `zegel limit set` holds at once."
    )
    stream_messages_per_minute: int = option(1_200, "Messages a minute of one tenant in one stream (THROTTLE-2).")
    tenant_messages_per_minute: int = option(1_800, "Messages a minute of one tenant (THROTTLE-2).")
    tenant_recipients_per_day: int = option(300_000, "Recipients in 24 hours of one tenant (THROTTLE-2).")
    domain_messages_per_minute: int = option(1_800, "Messages a minute from one From domain (THROTTLE-2).")
    client_messages_per_minute: int = option(1_800, "Messages a minute from one client address (THROTTLE-2).")
    max_parked_recipients: int = option(100_000, "Recipients of a tenant that may wait for their turn (THROTTLE-1).")
    warmup_recipients: int = option(
        50,
        "Recipients of a new login, and in each stream of a new domain, on its first day, each day twice as many (THROTTLE-3);"
        " 0: no warm-up.",
    )
    sudden_times: int = option(
        5,
        "An hour with more than so many times an average day of 14 is held; of campaigns, times the largest of 90 days and the"
        " consents held (THROTTLE-7); 0: never.",
    )
    sudden_recipients_per_hour: int = option(200, "Recipients of an hour up to which nothing is sudden (THROTTLE-7).")
    stream_recipients_per_day: int = option(0, "Recipients in 24 hours of one tenant in one stream; 0: no limit.")
    domain_recipients_per_day: int = option(0, "Recipients in 24 hours from one From domain; 0: no limit.")
    client_recipients_per_day: int = option(0, "Recipients in 24 hours from one client address; 0: no limit.")


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    allowance = facts.allowance
    if allowance.granted and allowance.sudden > settings.sudden_times * allowance.agreed:
        reason = "throttle.sudden_campaign" if mail.stream == "marketing" else "throttle.sudden"
        times, least = str(settings.sudden_times), str(settings.sudden_recipients_per_hour)
        return Verdict.hold(reason, times=times, limit=least)
    if allowance.granted and allowance.due <= mail.now:
        return Verdict.accept()
    wait = str(max(1, -int((mail.now - allowance.due) // 1)))
    if allowance.granted and settings.over.of(mail.stream) == "park":
        named = {"limit": allowance.limit, "scope": allowance.scope}
        reason = "throttle.warming" if allowance.limit == _WARM_UP else "throttle.parked"
        return Verdict.accept(Park(allowance.due), reason=reason, seconds=wait, **named)
    if allowance.is_share:
        soon = str(min(int(wait), _SHARE_SECONDS) if allowance.due else _SHARE_SECONDS)
        named = {"limit": allowance.limit, "allowed": str(allowance.allowed), "scope": allowance.scope}
        return Verdict.defer("throttle.shared_out", seconds=soon, **named)
    if settings.over.of(mail.stream) == "park" and allowance.backlog > settings.max_parked_recipients:
        most = str(settings.max_parked_recipients)
        return Verdict.defer("throttle.backlog", backlog=str(allowance.backlog), limit=most)
    named = {"limit": allowance.limit, "allowed": str(allowance.allowed), "scope": allowance.scope}
    if not allowance.due:
        return Verdict.defer("throttle.never", **named)
    if allowance.limit == _WARM_UP:
        return Verdict.defer("throttle.warming_over", seconds=wait, **named)
    return Verdict.defer("throttle.over", seconds=wait, **named)
