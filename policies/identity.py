"""Nobody sends in another's name.

The envelope sender and the From of a mail must belong to a domain that the tenant has proven to own (subdomains
included), and, where the login is made for certain addresses only, to one of those. From is one field with one address;
several authors need a Sender and are refused for bulk and advertising. An address at a mailbox provider (gmail.com, ziggo.nl)
cannot be the From, and the name in front of the address may not show an address or a domain of somebody else. A domain
that never had a DKIM key cannot send: receivers would refuse it. An empty sender needs a login made for mail servers.

Rules: ID-1, ID-2, ID-3, ID-4, DKIM-8, SMTP-20, and MSG-4 for a mail without From.
"""

from dataclasses import dataclass

from relay.mail.address import Mailbox, is_freemail, narrow, parse_list, wide
from relay.mail.displayname import named_domains
from relay.mail.envelope import Domain, MailClass, Submission, Tenant
from relay.mail.message import Message
from relay.policy.facts import Facts
from relay.policy.options import option
from relay.policy.verdict import Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = ()


@dataclass(frozen=True, slots=True)
class Settings:
    check_sender_field: bool = option(False, "Whether the Sender field must be an own address too (ID-1).")
    check_reply_to: bool = option(False, "Whether Reply-To must be an own address too (ID-1).")
    require_key: bool = option(True, "Whether the From domain must have, or have had, an active DKIM key (DKIM-8).")


def decide_sender(mail: Submission, settings: Settings) -> Verdict:
    """The envelope sender, at MAIL. A +part is no other sender, so tools with a return path per mail can work."""
    address, credential = mail.envelope.mail_from, mail.account.credential
    if not address:
        return Verdict.accept() if credential.null_sender else Verdict.reject("identity.null_sender")
    if _may_use(mail, narrow(address)) or (credential.from_addresses and _may_use(mail, wide(address))):
        return Verdict.accept()
    return Verdict.reject("identity.sender_not_owned", address=address)


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    verdict = decide_sender(mail, settings)
    if verdict.reason or mail.message is None:
        return verdict
    values = mail.message.get_all(b"from")
    if len(values) != 1:
        return Verdict.reject("identity.from_twice" if values else "identity.from_missing")
    authors = parse_list(values[0])
    if not authors:
        return Verdict.reject("identity.from_unparsable")
    if len(authors) > 1:
        strict = mail.bulk or mail.mail_class is MailClass.COMMERCIAL
        if strict or mail.message.get(b"sender") is None:
            return Verdict.reject("identity.from_several")
    for author in authors:
        verdict = _author(mail, author, settings)
        if verdict.reason:
            return verdict
    return _other_fields(mail, mail.message, settings)


def _author(mail: Submission, author: Mailbox, settings: Settings) -> Verdict:
    tenant, address = mail.account.tenant, narrow(author.address)
    domain = address.rpartition("@")[2]
    if not _may_use(mail, address):
        if is_freemail(domain):
            return Verdict.reject("identity.from_freemail", domain=domain)
        return Verdict.reject("identity.from_not_owned", address=address)
    for found in named_domains(author.display):
        if not _owner(tenant, found):
            return Verdict.reject("identity.display_name", found=found)
    if settings.require_key and not any(owned.has_key for owned in _owners(tenant, domain)):
        return Verdict.reject("identity.no_key", domain=domain)
    return Verdict.accept()


def _other_fields(mail: Submission, message: Message, settings: Settings) -> Verdict:
    for name, wanted in (("Sender", settings.check_sender_field), ("Reply-To", settings.check_reply_to)):
        value = message.get(name.lower().encode()) if wanted else None
        if value is not None:
            boxes = parse_list(value)
            if not boxes or not all(_may_use(mail, narrow(box.address)) for box in boxes):
                return Verdict.reject("identity.field_not_owned", field=name)
    return Verdict.accept()


def _may_use(mail: Submission, address: str) -> bool:
    """Whether the login may send as this address, given in `narrow` form."""
    listed = mail.account.credential.from_addresses
    if listed and address not in listed and address not in map(narrow, listed):
        return False
    return _owner(mail.account.tenant, address.rpartition("@")[2])


def _owner(tenant: Tenant, domain: str) -> bool:
    return any(owned.usable for owned in _owners(tenant, domain))


def _owners(tenant: Tenant, domain: str) -> list[Domain]:
    """The tenant's domains that `domain` is or lies under, nearest first."""
    found = []
    while domain:
        if domain in tenant.domains:
            found.append(tenant.domains[domain])
        domain = domain.partition(".")[2]
    return found
