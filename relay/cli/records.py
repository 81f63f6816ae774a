"""What `zegel doctor` looks at in DNS: our own name and address, and SPF, DKIM and DMARC of every domain that sends."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import TYPE_CHECKING, Any

from relay.cli.findings import Finding, ok, warn, wrong
from relay.cli.output import moment
from relay.delivery import route
from relay.delivery.pool import check_peers
from relay.dns import Answer, Failed, NoRecord, Resolver, Result

if TYPE_CHECKING:
    from relay.settings.model import Settings

LONG_SECONDS = 20.0
MAX_SPF_LOOKUPS = 10  # RFC 7208 section 4.6.4
Domains = dict[str, list[dict[str, str]]]


def network(settings: Settings) -> list[Finding]:
    """Everything that lies outside of this machine: DNS, then the smarthosts."""
    from sqlalchemy.exc import SQLAlchemyError

    from relay.owner import OwnerError
    from relay.serve.channel import OpRefused, OpUnavailable
    from relay.store import StoreUnavailable

    unread: list[Finding] = []
    domains: Domains = {}
    try:  # the domains first: a running gateway is asked for them in a loop of its own
        domains = _domains(settings)
    except (SQLAlchemyError, StoreUnavailable, OwnerError, OpRefused, OpUnavailable):
        unread = [wrong("network", "the domains that send cannot be read from the database", "Mend the database first")]
    return unread + asyncio.run(_examine(settings, domains))


async def _examine(settings: Settings, domains: Domains) -> list[Finding]:
    found = await examine(settings, domains)
    if settings.delivery.mode != "smarthost":
        remedy = 'Write mode = "smarthost" and smarthosts under [delivery] when mail is to leave'
        return [*found, warn("delivery", "mode = capture: nothing leaves this machine", remedy)]
    try:
        async with asyncio.timeout(LONG_SECONDS):
            peers = await check_peers(route.peers(settings.delivery), route.terms(settings))
    except TimeoutError:
        return [
            *found,
            wrong(
                "smarthost", f"no answer within {LONG_SECONDS:g} s", "Look at the host name, the port and the firewall"
            ),
        ]
    for peer in peers:
        if peer.why:
            found.append(
                wrong(
                    "smarthost", f"{peer.name}: {peer.why} (at {peer.stage})", "Mend that, or write another smarthost"
                )
            )
        else:
            found.append(ok("smarthost", f"{peer.name} takes mail ({peer.tls or 'no TLS'})"))
    return found


async def examine(settings: Settings, domains: Domains) -> list[Finding]:
    """Every finding; a server that does not answer is told once for each question."""
    resolver = Resolver()
    found = await own_name(resolver, settings.server.hostname)
    lots = await asyncio.gather(*(_domain(resolver, name, rows) for name, rows in domains.items()))
    await resolver.close()
    return found + [finding for lot in lots for finding in lot]


def _domains(settings: Settings) -> Domains:
    """Domains of all tenants, each with the DKIM records to publish."""
    from relay.cli.client import Link

    if not settings.database_path.exists():
        return {}
    with Link(settings) as link:
        found: Domains = {row["domain"]: [] for row in link.call("domain.list", {})}
        for key in link.call("dkim.list", {}):
            found.setdefault(key["domain"], []).append({**key["record"], **_age_of(key, settings)})
    return found


def _age_of(key: dict[str, Any], settings: Settings) -> dict[str, str]:
    """Its state; `until` when a retired key is to be published, and `due` where an active one is to be replaced."""
    from relay.dkim import rotation

    told = {"state": str(key["state"])}
    if key["retired_at"] is not None:
        until = key["retired_at"] + rotation.keep_seconds(settings.delivery.give_up_after_hours)
        told["until"] = moment(until) if until > time.time() else ""
    if rotation.is_due(key, time.time()):
        told["due"] = "yes"
    return told


async def own_name(resolver: Resolver, hostname: str) -> list[Finding]:
    """Our name has an address, and that address our name."""
    if "." not in hostname:
        return [ok("own name", f"{hostname}: this machine only")]
    found = await resolver.addresses(hostname)
    if not isinstance(found, Answer):
        return [_missing("own name", hostname, found, f"Publish an A or AAAA record for {hostname}")]
    results = [ok("own name", f"{hostname} is {', '.join(found.records)}")]
    for address in found.records:
        if ipaddress.ip_address(address).is_private:
            continue
        names = await resolver.reverse(address)
        if not isinstance(names, Answer):
            results.append(
                warn("PTR", f"{address} has no name ({_why(names)})", f"Ask its provider for a PTR record: {hostname}")
            )
        elif hostname not in (name.lower().rstrip(".") for name in names.records):
            told = f"{address} is called {', '.join(names.records)}"
            results.append(warn("PTR", told, f"Ask its provider to call it {hostname}"))
        else:
            results.append(ok("PTR", f"{address} is called {hostname}"))
    return results


async def _domain(resolver: Resolver, name: str, keys: list[dict[str, str]]) -> list[Finding]:
    lots = await asyncio.gather(spf(resolver, name), dkim(resolver, name, keys), dmarc(resolver, name))
    return [finding for lot in lots for finding in lot]


async def spf(resolver: Resolver, name: str) -> list[Finding]:
    """One SPF record that does not let everybody send (RFC 7208)."""
    found = await resolver.txt(name)
    if isinstance(found, Failed):
        return [_missing("SPF", name, found, "")]
    records = [text for text in getattr(found, "records", ()) if text.lower().split(" ")[0] == "v=spf1"]
    if not records:
        remedy = f'Publish TXT at {name}: "v=spf1 include:<your provider> -all"'
        return [wrong("SPF", f"{name} has no SPF record", remedy)]
    if len(records) > 1:
        return [wrong("SPF", f"{name} has {len(records)} SPF records; receivers then see none", "Join them into one")]
    terms = records[0].lower().split()[1:]
    if terms and terms[-1] in ("all", "+all"):
        return [wrong("SPF", f"{name} lets everybody send ({terms[-1]})", "End it with -all or ~all")]
    count = sum(map(_is_lookup, terms))
    if count > MAX_SPF_LOOKUPS:
        return [
            wrong(
                "SPF", f"{name} asks for {count} look-ups, {MAX_SPF_LOOKUPS} are allowed", "Take out what is not needed"
            )
        ]
    return [ok("SPF", f"{name}: {records[0]}")]


def _is_lookup(term: str) -> bool:
    name = term.lstrip("+-~?").partition(":")[0].partition("/")[0]
    return name in ("include", "a", "mx", "ptr", "exists") or name.startswith("redirect=")


async def dkim(resolver: Resolver, name: str, keys: list[dict[str, str]]) -> list[Finding]:
    """What we sign with is what DNS shows (DKIM-8)."""
    if all(key["state"] == "retired" for key in keys):
        return [
            wrong("DKIM", f"{name} has no key, so it cannot send (DKIM-8)", f"Make one with `zegel dkim add {name}`")
        ]
    findings = []
    for key in keys:
        found = await resolver.txt(key["name"])
        wanted = "".join(key["value"].split())
        seen = ["".join(text.split()) for text in getattr(found, "records", ())]
        if key["state"] == "retired":
            findings += _retired(key, is_there=wanted in seen, is_known=not isinstance(found, Failed))
        elif wanted in seen and key["state"] == "active" and "due" in key:
            old = f"{key['name']} is our key, and signs for over half a year"
            findings.append(warn("DKIM", old, f"Make the next one with `zegel dkim rotate {name}`"))
        elif wanted in seen:
            told = ok("DKIM", f"{key['name']} is our key")
            findings.append(
                told
                if key["state"] == "active"
                else warn("DKIM", f"{key['name']} is published but not in use", f"Run `zegel dkim check {name}`")
            )
        elif isinstance(found, Failed):
            findings.append(_missing("DKIM", key["name"], found, ""))
        elif seen:
            findings.append(
                wrong("DKIM", f"{key['name']} shows another key", f"Publish what `zegel dkim dns {name}` prints")
            )
        else:
            state = wrong if key["state"] == "active" else warn
            findings.append(state("DKIM", f"nothing at {key['name']}", f"Publish what `zegel dkim dns {name}` prints"))
    return findings


def _retired(key: dict[str, str], *, is_there: bool, is_known: bool) -> list[Finding]:
    """The record of a retired key stays for mail that is on its way, and then says that the key is withdrawn (DKIM-9)."""
    if not is_known:
        return []
    if key["until"] and not is_there:
        told = f"{key['name']} is gone, and mail that was signed with it is still on its way"
        return [warn("DKIM", told, f"Publish it again until {key['until']}: {key['value']}")]
    if not key["until"] and is_there:
        told = f"{key['name']} is of a retired key that nobody needs any more"
        return [warn("DKIM", told, 'Make its value "v=DKIM1; p="')]
    return []


async def dmarc(resolver: Resolver, name: str) -> list[Finding]:
    """A DMARC record at the domain or above it (RFC 7489)."""
    from relay.mail.domain import org_domain

    found: Result = NoRecord(nxdomain=True)
    for place in dict.fromkeys((name, org_domain(name))):
        found = await resolver.txt(f"_dmarc.{place}")
        if isinstance(found, Failed):
            return [_missing("DMARC", f"_dmarc.{place}", found, "")]
        records = [
            text for text in getattr(found, "records", ()) if text.replace(" ", "").lower().startswith("v=dmarc1")
        ]
        if len(records) > 1:
            return [wrong("DMARC", f"_dmarc.{place} has {len(records)} records; receivers then see none", "Keep one")]
        if records:
            return _dmarc_record(place, records[0])
    remedy = f'Publish TXT at _dmarc.{name}: "v=DMARC1; p=none; rua=mailto:dmarc@{name}", later p=reject'
    return [wrong("DMARC", f"{name} has no DMARC record; large providers refuse bulk mail without one", remedy)]


def _dmarc_record(place: str, record: str) -> list[Finding]:
    tags = dict(part.strip().lower().partition("=")[::2] for part in record.split(";") if "=" in part)
    policy = tags.get("p", "").strip()
    if policy not in ("none", "quarantine", "reject"):
        return [wrong("DMARC", f"_dmarc.{place} has no usable p=: {record}", "Write p=none, p=quarantine or p=reject")]
    if policy == "none":
        return [
            warn(
                "DMARC",
                f"_dmarc.{place} only watches (p=none)",
                "Write p=quarantine or p=reject once the reports are clean",
            )
        ]
    return [ok("DMARC", f"_dmarc.{place}: p={policy}")]


def _missing(check: str, name: str, result: Result, remedy: str) -> Finding:
    if isinstance(result, Failed):
        return warn(check, f"DNS does not tell about {name}: {result.why}", "Look at /etc/resolv.conf, and try again")
    return wrong(check, f"{name} is not in DNS", remedy)


def _why(result: Result) -> str:
    return result.why if isinstance(result, Failed) else "not in DNS"
