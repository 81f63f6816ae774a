"""From the [delivery] table to the parts of the outgoing side."""

from __future__ import annotations

from collections.abc import Callable

from relay.delivery.connection import Terms, Timeouts
from relay.delivery.peers import Peer, TlsMode
from relay.delivery.pool import PoolSettings
from relay.delivery.retry import HOUR, RetryPlan
from relay.settings.model import Delivery, Settings
from relay.spool.item import Item

_TLS: dict[str, TlsMode] = {"required": "verify", "opportunistic": "opportunistic", "off": "off"}


def peers(delivery: Delivery) -> tuple[Peer, ...]:
    """The next hops. Raises peers.PeerError or OSError (password file), each with what to do."""
    password = ""
    if delivery.password_file is not None:
        password = delivery.password_file.read_text("utf-8").partition("\n")[0].strip()
    return tuple(
        Peer(
            hop.host,
            hop.port,
            implicit_tls=hop.implicit_tls,
            tls=_TLS[delivery.tls],
            user=delivery.username,
            password=password,
            ca_file=delivery.ca_file,
            clear_auth=delivery.tls == "off",
        )
        for hop in delivery.hops
    )


def terms(settings: Settings) -> Terms:
    delivery = settings.delivery
    command, final = delivery.command_timeout_seconds, delivery.data_timeout_seconds
    timeouts = Timeouts(
        connect=delivery.connect_timeout_seconds,
        greeting=command,
        command=command,
        mail=command,
        rcpt=command,
        data=min(command, 120.0),
        final=final,
    )
    return Terms(settings.server.hostname, timeouts, delivery.idle_timeout_seconds)


def pool_settings(settings: Settings, workers: int) -> PoolSettings:
    """The pool of one worker: its share of the node's connections, at least one."""
    delivery = settings.delivery
    return PoolSettings(
        peers(delivery),
        terms(settings),
        connections=connections(delivery, workers),
        messages_per_connection=delivery.messages_per_connection,
    )


def connections(delivery: Delivery, workers: int) -> int:
    """To next hops, of one worker."""
    return max(1, delivery.connections_per_destination * len(delivery.smarthosts) // workers)


def plans(delivery: Delivery) -> Callable[[Item], RetryPlan]:
    """The retry plan of a message by its stream (OUT-2)."""
    steps = delivery.retry_after_seconds
    warn = delivery.warn_after_hours * HOUR
    standard = RetryPlan(steps, delivery.give_up_after_hours * HOUR, warn)
    short_hours = min(delivery.transactional_give_up_after_hours, delivery.give_up_after_hours)
    short = RetryPlan(steps, short_hours * HOUR, warn if warn < short_hours * HOUR else 0.0)
    return lambda item: short if item.meta["stream"] == "transactional" else standard


def first_word_seconds(delivery: Delivery) -> float:
    """The youngest age at which the sender of a message that does not leave has to hear something."""
    ages = [delivery.give_up_after_hours, delivery.transactional_give_up_after_hours, delivery.warn_after_hours]
    return HOUR * min(age for age in ages if age > 0)
