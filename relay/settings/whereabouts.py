"""Where data may go by what the settings say: every host of others stands in `processing.endpoints` with its country.

What can be checked is what was declared: no name is looked up, and no address is asked where it is. This machine, names without a
dot (a container's neighbours) and `server.private_networks` are the operator's own, which `server.region` speaks for.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from relay.settings.endpoint import is_hook, is_loopback_name, parse_ip
from relay.settings.model import Settings


class Reached(NamedTuple):
    """A host that the gateway gives data to: the setting that names it, the host, and what goes there."""

    key: str
    host: str
    what: str


def reached(settings: Settings) -> list[Reached]:
    """Every host of the settings that gets data, our own among them."""
    found = []
    if settings.storage.redis is not None:
        found += [Reached("storage.counters", host, "counters") for host, _ in settings.storage.redis.hosts]
    if settings.delivery.mode == "smarthost":
        found += [
            Reached(f"delivery.smarthosts.{place}", hop.host, "mail")
            for place, hop in enumerate(settings.delivery.hops)
        ]
    if settings.alarms.webhook_url and is_hook(settings.alarms.webhook_url):
        host = urlsplit(settings.alarms.webhook_url).hostname or ""
        found.append(Reached("alarms.webhook_url", host, "alarms"))
    return [one._replace(host=one.host.lower()) for one in found]


def is_own(settings: Settings, host: str) -> bool:
    """This machine, a neighbour that no other network knows, or a private network of the operator."""
    if is_loopback_name(host) or host in settings.private:
        return True
    return parse_ip(host) is None and "." not in host


class Undeclared(NamedTuple):
    """A host that nobody said the country of. It stops the start where `stops`; elsewhere it is a warning."""

    key: str
    wrong: str
    remedy: str
    stops: bool


def undeclared(settings: Settings) -> list[Undeclared]:
    """Each host without a line in `processing.endpoints` (GDPR-15), in the order of the settings, once for mail and counters.

    The service that gets alarms is somebody else's by its nature, and waits for its line (GDPR-16). Mail and counters go on: a
    gateway that ran before its hosts were asked for must start again.
    """
    places, region, found = settings.processing.places, settings.server.region, dict[tuple[str, bool], Undeclared]()
    for one in reached(settings):
        stops = one.what == "alarms"
        if one.host in places or (one.host, stops) in found or is_own(settings, one.host):
            continue
        found[one.host, stops] = Undeclared(
            one.key,
            f"{one.what} {'would ' if stops else ''}go to {one.host}, and nothing says in which country it is (GDPR-15)",
            f'Write it in processing.endpoints, for instance "{one.host} {region}"; outside of the EEA with the '
            f'ground: "{one.host} US adequacy: DECISION" (GDPR-16)',
            stops,
        )
    return list(found.values())
