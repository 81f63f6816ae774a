"""Combinations that cannot work, as values: each names the key to change and what to write.

Pure: only what the settings themselves say. Whether files exist and fit is asked by `relay.settings.load`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from relay.mail.address import parse_path
from relay.settings.endpoint import Endpoint, Networks, Smarthost, is_hook, parse_ip
from relay.settings.model import Listener, Server, Settings
from relay.settings.whereabouts import undeclared

# OUT-2, RFC 5321 section 4.5.4.1: a failing destination at most every 30 minutes, after one or two shorter steps.
SHORT_RETRIES = 2
MIN_RETRY_SECONDS = 1800.0
OWN_FILES = re.compile(
    r"(counters|generation|history|outbox\.db|owner\.lock|queue|threads\.db|erased\.jsonl|control\.sock|uses|restored\.json|"
    r"\.restore)([./-].*)?$|.*-(wal|shm)$"
)
"""What else lies in data_dir."""


class Clash(NamedTuple):
    """A combination that cannot work; `key` is dotted, list items by their place ("listener.0.tls")."""

    key: str
    wrong: str
    remedy: str


def clashes(settings: Settings) -> list[Clash]:
    """Every combination in `settings` that cannot work, empty when it can start."""
    return [
        *_folders(settings),
        *_networks(settings),
        *_listeners(settings),
        *_addresses(settings),
        *_storage(settings),
        *_delivery(settings),
        *_smarthost_login(settings),
        *_limits(settings),
        *_alarms(settings),
        *_incidents(settings),
        *(Clash(found.key, found.wrong, found.remedy) for found in undeclared(settings) if found.stops),
    ]


def _incidents(settings: Settings) -> Iterator[Clash]:
    own = settings.incidents
    clocks = {
        "tenant": (*own.tenant_alarm_hours, own.tenant_hours),
        "authority": (*own.authority_alarm_hours, own.authority_hours),
    }
    for reader, (first, second, deadline) in clocks.items():
        if not first < second < deadline:
            remedy = f"Write two hours, the second later, both before {reader}_hours"
            yield Clash(
                f"incidents.{reader}_alarm_hours", "an alarm would come after the deadline, or out of turn", remedy
            )
    if own.office_from_hour >= own.office_until_hour:
        yield Clash("incidents.office_until_hour", "the office would close before it opens", "Write a later hour (UTC)")


def _folders(settings: Settings) -> Iterator[Clash]:
    data, keys = _plain(settings.server.data_dir), _plain(settings.server.keys_dir)
    if keys == data or data in keys.parents:
        # A copy of the data folder must not hold the keys that open it (GDPR-19).
        remedy = f'Write a folder beside it, for instance "{data.parent / "zegel-keys"}"'
        yield Clash(
            "server.keys_dir", "keys_dir lies inside data_dir, so a copy of the data would hold its keys", remedy
        )


def _plain(path: Path) -> Path:
    """The path without `..`, so that no detour hides what lies inside what."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] not in ("..", path.anchor):
            parts.pop()
        else:
            parts.append(part)
    return Path(*parts)


def _networks(settings: Settings) -> Iterator[Clash]:
    """What holds for a network of one's own must not hold for everybody."""
    for key, networks, gift in (
        ("server.private_networks", settings.server.private_networks, "everybody would be believed about who he is"),
        ("limits.bare_line_end_networks", settings.limits.bare_line_end_networks, "anybody could smuggle (SMTP-5)"),
    ):
        if any(network.partition("/")[2] == "0" for network in networks):
            yield Clash(key, f"a network of all addresses: {gift}", "Write the networks that are yours")


def _listeners(settings: Settings) -> Iterator[Clash]:
    for place, listener in enumerate(settings.listener):
        for key, wrong, remedy in (*_listener_tls(listener, settings.private), *_listener_place(listener, settings)):
            yield Clash(f"listener.{place}.{key}", wrong, remedy)


def _listener_tls(listener: Listener, private: Networks) -> Iterator[Clash]:
    pair = (listener.certificate is not None, listener.key is not None)
    if pair in ((True, False), (False, True)):
        missing = "key" if pair[0] else "certificate"
        yield Clash(missing, "certificate and key belong together", f"Write {missing} too, or neither")
    if listener.kind == "submissions" and listener.tls != "required":
        yield Clash(
            "tls",
            f'"submissions" is TLS from the first byte, so tls cannot be "{listener.tls}"',
            'Write tls = "required"',
        )
    elif listener.tls != "off" and not any(pair):
        yield Clash(
            "certificate", f'tls = "{listener.tls}" needs a certificate', "Write certificate and key, both PEM files"
        )
    elif listener.tls == "off" and listener.kind == "submission" and not listener.endpoint.is_loopback:
        # SMTP-2: AUTH only inside TLS or on loopback, and nothing is relayed without AUTH.
        yield Clash(
            "tls",
            f"nobody could log in on {listener.address}: passwords in clear are taken on loopback only",
            'Write tls = "required" with certificate and key, or an address on 127.0.0.1',
        )
    elif listener.tls == "off" and listener.endpoint.host not in private:
        yield Clash(
            "tls",
            f'tls = "off" on {listener.address}, which is neither loopback nor in server.private_networks',
            'Write tls = "opportunistic" with certificate and key, or add the network to server.private_networks',
        )


def _listener_place(listener: Listener, settings: Settings) -> Iterator[Clash]:
    if listener.proxy_tls and not listener.proxy_protocol:
        yield Clash(
            "proxy_tls", "proxy_tls tells of a balancer, and proxy_protocol is off", "Write proxy_protocol = true too"
        )
    if listener.proxy_protocol and not listener.endpoint.is_loopback and not settings.server.private_networks:
        yield Clash(
            "proxy_protocol",
            "nobody could connect: no balancer is in server.private_networks",
            "Write the balancers' network in server.private_networks, or proxy_protocol = false",
        )


def _addresses(settings: Settings) -> Iterator[Clash]:
    wanted = [(f"listener.{place}.address", listener.endpoint) for place, listener in enumerate(settings.listener)]
    wanted.append(("web.address", settings.web.endpoint))
    taken: dict[object, str] = {}
    for key, endpoint in wanted:
        if endpoint.port and endpoint in taken:
            yield Clash(key, f"{endpoint} is the address of {taken[endpoint]} already", "Write another port")
        taken[endpoint] = key
    public = [key for key, endpoint in wanted if key.startswith("listener") and not endpoint.is_loopback]
    if public and "." not in settings.server.hostname:
        remedy = 'Write the full name of this machine, for instance "relay.example.org"'
        yield Clash(
            "server.hostname", f"{settings.server.hostname!r} means nothing to those who reach {public[0]}", remedy
        )


def _storage(settings: Settings) -> Iterator[Clash]:
    database = settings.storage.database
    if database.startswith("postgresql"):
        wrong = "PostgreSQL comes with a later release"
        yield Clash("storage.database", wrong, 'Write "sqlite:///zegel.db" and run one node')
    elif not database.startswith("sqlite:///") or database in ("sqlite:///", "sqlite:///:memory:"):
        wrong = (
            f"{database!r} is no database that keeps anything"
            if "memory" in database
            else f"{database!r} is no database"
        )
        yield Clash("storage.database", wrong, 'Write "sqlite:///zegel.db"; a relative file lies in data_dir')
    elif "?" in f"{settings.server.data_dir}{database}":
        key = "storage.database" if "?" in database else "server.data_dir"
        yield Clash(key, "the path of the database has a question mark, behind which nothing is a path", "Rename it")
    elif _is_taken(settings.server, database.removeprefix("sqlite:///")):
        wrong = f"{database!r} is a file that the gateway keeps something else in"
        yield Clash("storage.database", wrong, 'Write "sqlite:///zegel.db"; a relative file lies in data_dir')
    yield from _counters(settings)


def _is_taken(server: Server, file: str) -> bool:
    """Whether something of ours lies there, or would: in data_dir, or anything in keys_dir."""
    if OWN_FILES.match(_inside(server.data_dir, file)):
        return True
    data, keys = (Path(os.path.realpath(folder)) for folder in (server.data_dir, server.keys_dir))
    if keys == data or keys in data.parents:  # told by itself
        return False
    return bool(_inside(keys, os.path.realpath(data / file)))


def _inside(folder: Path, file: str) -> str:
    """The path of a file below a folder, wherever links lead; "" where it lies elsewhere."""
    path, top = (Path(os.path.realpath(each)) for each in (folder / file, folder))
    return str(path.relative_to(top)) if top in path.parents else ""


def _counters(settings: Settings) -> Iterator[Clash]:
    storage = settings.storage
    if storage.redis is None:
        for key in ("counters_password_file", "counters_ca_file"):
            if getattr(storage, key) is not None:
                remedy = f"Remove {key}, or write the address of a Redis in counters"
                yield Clash(f"storage.{key}", 'counters = "embedded" needs none', remedy)
        return
    if storage.counters_ca_file is not None and not storage.redis.tls:
        yield Clash(
            "storage.counters_ca_file", "redis:// is not encrypted", "Write rediss:// in counters, or remove it"
        )
    if storage.counters_password_file is not None and storage.redis.password:
        wrong = "the address in counters holds a password too"
        yield Clash("storage.counters_password_file", wrong, "Remove the one or the other")
    if not storage.redis.tls:
        for host, _ in storage.redis.hosts:
            # A name is not looked up: between containers it is how a Redis on a network of their own is called.
            if parse_ip(host) is not None and host not in settings.private:
                wrong = f"redis:// in clear to {host}, which is neither loopback nor in server.private_networks"
                remedy = "Write rediss://, or add the network to server.private_networks"
                yield Clash("storage.counters", wrong, remedy)


def _delivery(settings: Settings) -> Iterator[Clash]:
    delivery = settings.delivery
    if delivery.mode == "mx":
        remedy = 'Write mode = "smarthost" and the server of your provider in smarthosts'
        yield Clash("delivery.mode", "delivery by MX comes with a later release", remedy)
    if delivery.mode == "smarthost" and not delivery.hops:
        remedy = 'Write for instance smarthosts = ["smtp://mail.example.org:587"]'
        yield Clash("delivery.smarthosts", 'mode = "smarthost" has nowhere to send', remedy)
    for place, hop in enumerate(delivery.hops):
        own = next((one.endpoint for one in settings.listener if _is_same(hop, one.endpoint)), None)
        if own is not None:
            wrong = f"{own} is this gateway itself, so no mail would ever leave"
            yield Clash(f"delivery.smarthosts.{place}", wrong, "Write the server that delivers your mail")
    foreign = _foreign(settings)
    if delivery.tls == "off" and foreign:
        wrong = f'tls = "off" to {foreign[0].host}, which is neither loopback nor in server.private_networks'
        yield Clash("delivery.tls", wrong, 'Write tls = "required"')
    if delivery.tls == "off" and any(hop.implicit_tls for hop in delivery.hops):
        yield Clash(
            "delivery.tls", 'tls = "off" to a smtps:// smarthost', 'Write tls = "required", or smtp://host:port'
        )
    # The last wait repeats, so a list of one or two has no longer wait after them.
    waits = delivery.retry_after_seconds
    early = [seconds for seconds in (waits[SHORT_RETRIES:] or waits[-1:]) if seconds < MIN_RETRY_SECONDS]
    if early and foreign:
        wrong = f"{early[0]:g} s is too soon for a third or later attempt at somebody else's server (RFC 5321 4.5.4.1)"
        yield Clash("delivery.retry_after_seconds", wrong, f"Write at least {MIN_RETRY_SECONDS:g} from the third on")


def _is_same(hop: Smarthost, endpoint: Endpoint) -> bool:
    """Whether a next hop is a listener of ours, as far as the settings tell: names are not looked up."""
    if not endpoint.port or hop.port != endpoint.port:
        return False
    ip = parse_ip(hop.host)
    listens_everywhere = endpoint.host in ("0.0.0.0", "::")
    if ip is None or listens_everywhere:
        return hop.is_loopback and (listens_everywhere or endpoint.is_loopback)
    return str(ip) == endpoint.host


def _foreign(settings: Settings) -> list[Smarthost]:
    """Smarthosts that are not known to be on this machine or in a private network; names are not looked up."""
    return [hop for hop in settings.delivery.hops if not hop.is_loopback and hop.host not in settings.private]


def _smarthost_login(settings: Settings) -> Iterator[Clash]:
    delivery = settings.delivery
    if delivery.username and delivery.password_file is None:
        yield Clash(
            "delivery.password_file", "username without a password", "Write password_file, a file with one line"
        )
    if delivery.password_file is not None and not delivery.username:
        yield Clash("delivery.username", "password_file without a username", "Write username, or remove password_file")
    beyond = [hop for hop in delivery.hops if not hop.is_loopback]
    if delivery.username and delivery.tls != "required" and beyond:
        wrong = f'tls = "{delivery.tls}" could give the password to whoever listens on the way to {beyond[0].host}'
        yield Clash("delivery.tls", wrong, 'Write tls = "required"')


def _limits(settings: Settings) -> Iterator[Clash]:
    limits = settings.limits
    if limits.max_message_bytes > limits.max_in_flight_bytes:
        wrong = "a message of max_message_bytes would never be let in"
        yield Clash("limits.max_in_flight_bytes", wrong, f"Write at least {limits.max_message_bytes}")


def _alarms(settings: Settings) -> Iterator[Clash]:
    alarms = settings.alarms
    for place, address in enumerate(alarms.mail_to):
        if isinstance(parse_path(address), str):
            yield Clash(f"alarms.mail_to.{place}", f"{address!r} is no address", 'Write for instance "ops@example.org"')
    if (alarms.webhook_secret_file is None) != (not alarms.webhook_url):
        missing = "webhook_url" if alarms.webhook_secret_file else "webhook_secret_file"
        yield Clash(
            f"alarms.{missing}", "an address and the key of its signature belong together", f"Write {missing} too"
        )
    if alarms.webhook_url and not is_hook(alarms.webhook_url):
        remedy = 'Write for instance "https://alarms.example.org/zegel"'
        yield Clash("alarms.webhook_url", f"{alarms.webhook_url!r} is no https address (http: on loopback)", remedy)
