"""`zegel reputation`: how senders stand by what became of their mail, and who may send again."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from relay.cli.frame import Frame, command, group
from relay.cli.limits import Narrowed
from relay.cli.output import moment, show_record, show_rows
from relay.cli.tenants import Name
from relay.cli.trouble import DOWN, NO, Trouble

if TYPE_CHECKING:
    from relay.settings.model import Settings

app = group("How senders stand by what became of their last 1,000 deliveries. See docs/limits.md.")


@command(app, "show", example="zegel reputation show shop")
def show(frame: Frame, tenant: Name, *, narrowed: Narrowed) -> None:
    """Show how the logins, streams and From domains of a tenant stand, and the tenant itself."""
    scope, subject = narrowed.place()
    rows = [
        row
        for row in _rows(frame.settings(), tenant)
        if scope in ("", row["scope"]) and subject in ("", row["subject"])
    ]
    if not frame.as_json:
        for row in rows:
            row["since"] = moment(row["since"]) if row["since"] else None
            for name in ("bounce_ratio", "complaint_ratio"):
                row[name] = None if row[name] is None else f"{row[name]:.1%}"
    columns = (
        ("scope", "counted by"), ("subject", "whose"), ("level", "stands"), ("since", "since"),
        ("deliveries", "deliveries"), ("bounces", "bounces"), ("bounce_ratio", "part"), ("complaints", "complaints"),
        ("complaint_ratio", "part"),
    )  # fmt: skip
    show_rows(frame, rows, columns, empty="Nobody stands so.")


@command(app, "release", example="zegel reputation release shop --stream marketing")
def release(frame: Frame, tenant: Name, *, narrowed: Narrowed) -> None:
    """Let a tenant, or one login, stream or From domain of it, send again: its window begins anew and what waited leaves.

    It is written down who did it. Ask first where the addresses came from.
    """
    scope, subject = narrowed.place()
    settings = frame.settings()
    leaves = _leaves(frame, tenant, scope, subject)
    told = frame.call("reputation.release", tenant=tenant, **narrowed.given())
    released = {**told, "released": _release(settings, tenant, scope, subject), **leaves}
    show_record(frame, released, title="Released")


def _leaves(frame: Frame, tenant: str, scope: str, subject: str) -> dict[str, int]:
    """How many of the mails that wait for this release leave at once, and how many in their turn; {} where nobody can say."""
    from relay.mail.domain import org_domain
    from relay.serve.channel import OpRefused, OpUnavailable
    from relay.spool.contract import SpoolUnavailable

    whose = org_domain(subject) if scope == "domain" else subject
    stays = [
        (row["scope"], row["subject"])
        for row in _rows(frame.settings(), tenant)
        if row["level"] == "paused" and not (scope in ("", row["scope"]) and whose in ("", row["subject"]))
    ]
    with suppress(OpRefused, OpUnavailable, SpoolUnavailable, OSError), frame.link() as link:
        found = link.call("held.paused", {"tenant": tenant, "freed": (scope, whose), "still": stays})
        return {"leave_at_once": found["at_once"], "leave_in_turn": found["in_turn"]}
    return {}


def _rows(settings: Settings, name: str) -> list[dict[str, Any]]:
    from relay.cli import counting
    from relay.counters.contract import CountersUnavailable
    from relay.reputation.rows import rows

    with counting.opened(settings) as (_, directory, counters):
        tenant = directory.tenant(name)
        if tenant is None:
            raise Trouble(NO, "there is no tenant of that name: see `zegel tenant list`")
        work = rows(counting.book(settings, counters), tenant, directory.credentials_of(tenant), time.time())
        try:
            return counting.run(counters, work)
        except CountersUnavailable as error:
            raise _away(error) from None


def _release(settings: Settings, name: str, scope: str, subject: str) -> int:
    """How many had stood otherwise than well."""
    from relay.cli import counting
    from relay.counters.contract import CountersUnavailable
    from relay.mail.address import org_domain
    from relay.reputation.rows import chosen, seats

    with counting.opened(settings) as (_, directory, counters):
        tenant = directory.tenant(name)
        assert tenant is not None, "the owner knew it a moment ago"
        whose = org_domain(subject) if scope == "domain" else subject
        places = [seat.place for seat in chosen(seats(tenant, directory.credentials_of(tenant)), scope, whose)]
        work = counting.book(settings, counters).release(places, time.time())
        try:
            return counting.run(counters, work)
        except CountersUnavailable as error:
            raise _away(error) from None


def _away(error: Exception) -> Trouble:
    kind = getattr(error, "kind", type(error).__name__)
    return Trouble(DOWN, f"Redis does not answer ({kind}): do it again when `zegel doctor` finds it")
