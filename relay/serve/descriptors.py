"""How many connections the limit on open files has room for. Each takes a descriptor; so do queue files and deliveries.

Without a cap of its own a worker would take connections until nothing can be opened any more: the sessions that are
in could then not be served, and the mail that was taken could not leave.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import NamedTuple

from relay.delivery import route
from relay.settings.model import Settings

MOST = 1 << 20  # more than any gateway needs; a limit beyond that costs time wherever descriptors are counted
# Of one worker, apart from sessions and deliveries: queue files, databases, history, sockets, and who is being refused.
KEPT = 192


class Room(NamedTuple):
    """Connections of one worker: `wanted` is its share of `max_connections`, `possible` what `limit` leaves of it.

    With a limit of `needed` all that is wanted is possible.
    """

    wanted: int
    possible: int
    limit: int
    needed: int


def raise_limit() -> int:
    """Take as many descriptors as this process may; what it starts inherits that. The limit that is in force then."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = reachable()
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # the platform has a smaller limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return present()


def present() -> int:
    """The limit in force for this process."""
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def reachable() -> int:
    """What `raise_limit` would make of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_number(soft), min(_number(hard), MOST))


def room(settings: Settings, limit: int, workers: int) -> Room:
    """What `limit` descriptors leave for the connections of one of `workers`."""
    wanted = max(1, settings.limits.max_connections // workers)
    kept = KEPT + (route.connections(settings.delivery, workers) if settings.delivery.mode == "smarthost" else 0)
    # Half at least is for connections: with so small a limit something must be served too, and `zegel doctor` says more.
    return Room(wanted, max(1, min(wanted, limit - min(kept, limit // 2))), limit, wanted + kept)


def shortage(settings: Settings, limit: int) -> tuple[str, str] | None:
    """What is wrong with `limit` and what to write, as two sentences; None where it is enough."""
    workers = settings.server.workers or os.cpu_count() or 1
    found = room(settings, limit, workers)
    if found.possible >= found.wanted:
        return None
    wrong = (
        f"{limit} open files leave room for {found.possible * workers} connections, "
        f"not for max_connections = {settings.limits.max_connections}; who comes on top of that gets 421"
    )
    remedy = (
        f"Write LimitNOFILE={found.needed} in the systemd unit (or run `ulimit -n {found.needed}` before `zegel serve`)"
    )
    return wrong, f"{remedy}, or set limits.max_connections = {found.possible * workers}"


def _number(limit: int) -> int:
    return MOST if limit == resource.RLIM_INFINITY else limit
