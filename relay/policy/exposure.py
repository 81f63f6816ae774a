"""Who sees whom in a mail, and what its sender may choose about it, for the policy on recipients (rulebook section 7)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from relay.mail.address import narrow
from relay.mail.envelope import Submission
from relay.mail.insiders import internal_names
from relay.mail.message import Message
from relay.mail.visible import Audience, audience, own_addresses


class Terms(Protocol):
    """What the tenant has said of outsiders and of the choice that a sender gets."""

    @property
    def party_groups(self) -> tuple[str, ...]: ...

    @property
    def freemail(self) -> tuple[str, ...]: ...

    @property
    def ask_as_written(self) -> str: ...


def outside(mail: Submission, message: Message, seen: Collection[str], terms: Terms) -> Audience:
    """Those of `seen` who are strangers to the tenant, and the parties that they are; the sender's own are left out."""
    account = mail.account
    own = own_addresses(message) | {narrow(mail.envelope.mail_from), narrow(account.credential.username)}
    own |= set(map(narrow, account.credential.from_addresses))
    groups = {domain: group for group in terms.party_groups for domain in group.split()}
    return audience(set(seen) - own, internal_names(account.tenant), groups, terms.freemail)


def reaches(strangers: Audience, limit: int) -> bool:
    """At least `limit` of them see each other, and they are no one organisation (CC-1, CC-5)."""
    return len(strangers.addresses) >= limit and len(strangers.parties) > 1


def choices(mail: Submission, terms: Terms, *, invitation: bool = False) -> str:
    """What the sender himself may choose when he is asked (CC-10), with spaces between; not sending it he always may.

    For a sensitive audience it is a copy for each and nothing else (CC-4); an invitation can only go as it is (CC-13).
    """
    if mail.account.tenant.sensitive_audience:
        return "" if invitation else "split"
    may_show = terms.ask_as_written == "always" or (invitation and terms.ask_as_written == "invitations")
    ways = [] if invitation else ["split", "hidden"]
    return " ".join([*ways, "as_written"] if may_show else ways)
