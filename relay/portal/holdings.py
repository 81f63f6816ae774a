"""What is held about a person, as files for him to take along: JSON for programs, CSV for spreadsheets (GDPR-10, GDPR-6)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from relay.consent.record import format_time
from relay.consent.rows import harmless
from relay.mail.envelope import Tenant
from relay.portal.gateway import Mailed
from relay.portal.pages import Site

COLUMNS = ("kind", "purpose", "what", "at", "until", "basis", "text", "source", "details")


class Document(NamedTuple):
    """The JSON document; its form is in docs/my-data.schema.json."""

    values: dict[str, Any]

    @property
    def encoded(self) -> bytes:
        return orjson.dumps(self.values, option=orjson.OPT_INDENT_2)


def as_json(site: Site, tenant: Tenant, held: dict[str, Any], mails: Sequence[Mailed]) -> Document:
    server, privacy = site.settings.server, site.settings.privacy
    return Document(
        {
            "format": 1,
            "made_at": held["at"],
            "address": held["address"],
            "controller": {
                "name": tenant.legal_name or tenant.name,
                "contact": tenant.contact or None,
                "postal_address": tenant.postal_address or None,
            },
            "processor": {"host": server.hostname, "region": server.region},
            "kept": {
                "delivery_log_days": privacy.delivery_log_days,
                "changes_log_days": privacy.security_log_days,
                "internet_address_months": privacy.consent_ip_months,
            },
            "consents": held["consents"],
            "history": held["history"],
            "stops": held["stops"],
            "mails": [
                {
                    "id": mail.queue_id,
                    "at": format_time(mail.at),
                    "from": mail.sender or None,
                    "class": mail.kind or None,
                    "outcome": mail.outcome,
                }
                for mail in mails
            ],
        }
    )


def as_csv(document: Document) -> bytes:
    """One table with a row for each thing that is held (RFC 4180), UTF-8 with the mark by which spreadsheets know it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in _rows(document.values):
        writer.writerow([harmless(str(row.get(name) or "")) for name in COLUMNS])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _rows(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"kind": "address", "what": values["address"], "at": values["made_at"]}
    for one in values["consents"]:
        known = ("purpose", "status", "basis", "text", "source", "given_at", "expires_at")
        yield {
            "kind": "consent",
            **one,
            "what": one["status"],
            "at": one.get("given_at"),
            "until": one.get("expires_at"),
            "details": _told({name: value for name, value in one.items() if name not in known}),
        }
    for one in values["history"]:
        yield {"kind": "event", **one, "what": one["event"], "details": _told(one["personal"] | one["evidence"])}
    for one in values["stops"]:
        purpose = "" if one["scope"] == "all" else one["scope"]
        lifted = {"lifted": " ".join(one["lifted"])} if one["lifted"] else {}
        yield {"kind": "stop", **one, "purpose": purpose, "what": one["reason"], "details": _told(lifted)}
    for one in values["mails"]:
        yield {"kind": "mail", "what": one["outcome"], "at": one["at"], "source": one["from"], "details": one["id"]}


def _told(values: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values.items() if value)
