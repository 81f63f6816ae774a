"""Data that should not travel by mail stays here: citizen numbers, bank accounts, cards, lists and files of addresses.

What is counted: citizen service numbers (BSN) with a word or a crowd that says so (DLP-1), bank accounts that are not the
tenant's own (DLP-2), payment cards (DLP-3), addresses of outsiders in the text (DLP-4), and files of people (DLP-5), in the
subject, texts, attachments, attached mails and one level of archives. Words of care beside a person are watched, never acted
on (DLP-7). Where the tenant has a portal the answer names it, since a file of people belongs there (DLP-6). A bomb is
refused; what cannot be read, encrypted files above all, passes with a note unless the tenant says otherwise (DLP-8).
Mail to the tenant's own people is not looked at, and each detector has partners it lets pass (DLP-9). Counts leave the scan,
values never do (DLP-10; GDPR art. 5(1)(c)). Who sees whom is the question of the recipients policy, and so is who is outside
(CC-5). Marketing is off to begin with: campaigns are written for the public and are many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.address import party
from relay.mail.envelope import MailClass, Submission
from relay.mail.insiders import internal_names, is_internal
from relay.mail.leaks.findings import DETECTORS
from relay.policy.facts import Fact, Facts
from relay.policy.options import PerClass, PerStream, option
from relay.policy.verdict import Action, Note, Stage, Verdict

STAGE = Stage.JUDGE
NEEDS = (Fact.LEAKS,)
MODE = PerStream(marketing="off", transactional="observe", personal="observe")
ON_UNAVAILABLE = "defer"  # a scan that is not ready is no leave to go (PIPE-6)
_ACTS = ("off", "observe", "hold", "reject")
_ACT = PerClass(commercial="reject", bulk="reject", transactional="hold", personal="hold")
_WATCH = PerClass.all("observe")
_PASS = PerClass.all("allow")
_ACTION = {"allow": Action.ACCEPT, "observe": Action.ACCEPT, "hold": Action.HOLD, "reject": Action.REJECT}


@dataclass(frozen=True, slots=True)
class Settings:
    bsn: PerClass = option(_ACT, "What happens with citizen service numbers (DLP-1).", choices=_ACTS)  # noqa: RUF009 a field
    iban: PerClass = option(_ACT, "The same with bank accounts (DLP-2).", choices=_ACTS)  # noqa: RUF009 as above
    card: PerClass = option(_ACT, "The same with payment cards (DLP-3).", choices=_ACTS)  # noqa: RUF009 as above
    address_list: PerClass = option(_ACT, "The same with addresses in the text (DLP-4).", choices=_ACTS)  # noqa: RUF009 as above
    address_file: PerClass = option(_ACT, "The same with address files (DLP-5).", choices=_ACTS)  # noqa: RUF009 as above
    special: PerClass = option(_WATCH, "The same with words of care (DLP-7).", choices=("off", "observe"))  # noqa: RUF009 as above
    unreadable: PerClass = option(_PASS, "Files that cannot be checked (DLP-8).", choices=("allow", "hold", "reject"))  # noqa: RUF009 as above
    bsn_numbers: int = option(3, "Numbers without a word like BSN beside them that count (DLP-1).", minimum=2)
    iban_numbers: int = option(5, "Accounts, the own ones left out, that are too many (DLP-2).", minimum=1)
    card_numbers: int = option(3, "Numbers without a word like CVC beside them that count (DLP-3).", minimum=2)
    text_addresses: int = option(20, "Outsiders in the text that are a list (DLP-4).", minimum=2)
    file_addresses: int = option(50, "Addresses in a file that make it an address file (DLP-5).", minimum=2)
    file_rows: int = option(50, "Rows of a table of people that make it one (DLP-5).", minimum=2)
    file_columns: int = option(3, "Columns like name or postcode that make a table one of people (DLP-5).", minimum=2)
    own_ibans: tuple[str, ...] = option((), "The tenant's own accounts, which do not count (DLP-2).")
    portal: str = option("", "Where files can be shared safely; answers name it (DLP-6).")
    bsn_partners: tuple[str, ...] = option((), "Domains that BSNs may go to (DLP-9).", domains=True)
    iban_partners: tuple[str, ...] = option((), "Domains that bank accounts may go to.", domains=True)
    card_partners: tuple[str, ...] = option((), "Domains that cards may go to.", domains=True)
    address_partners: tuple[str, ...] = option((), "Domains that lists and files of addresses may go to.", domains=True)
    max_unpacked_bytes: int = option(100_000_000, "What archives may unpack to (DLP-8).", minimum=1_000_000)
    max_unpacked_ratio: int = option(100, "How many times their size they may unpack to.", minimum=10)
    max_archive_entries: int = option(1_000, "Files in one archive.", minimum=10)
    scan_seconds: int = option(20, "Longest scan; then what on_unavailable says (PIPE-6).", minimum=1)


def asks(mail: Submission, settings: Settings) -> Sequence[Fact]:
    """Mail that stays inside, or is our own, is not looked at (DLP-9)."""
    return NEEDS if mail.message is not None and mail.mail_class is not MailClass.SYSTEM and _outside(mail) else ()


def decide(mail: Submission, facts: Facts, settings: Settings) -> Verdict:
    if not asks(mail, settings):
        return Verdict.accept()
    found = facts.leaks
    if found.bomb:
        return Verdict.reject("leaks.bomb", limit=found.bomb, bomb="1")
    outside = _outside(mail)
    said = [
        (_ACTION[act], detector, count)
        for detector in DETECTORS
        if (count := found.counts.get(detector, 0))
        and (act := getattr(settings, detector).of(mail)) != "off"
        and not _exempt(outside, detector, settings)
    ]
    if not said:
        return Verdict.accept()
    action, detector, count = max(said, key=lambda one: one[0])  # the first of the strongest
    if detector == "unreadable" and found.crashes:
        action = min(action, Action.HOLD)  # nothing of ours that breaks refuses for good
    reason = f"leaks.{detector}"
    if settings.portal and detector == "address_file":
        reason += "_portal"
    if action is not Action.REJECT:
        reason += "_seen"
    detail = (("count", str(count)), ("portal", settings.portal), *((name, str(number)) for _, name, number in said))
    return Verdict(action, reason, (Note("held", reason, count),) if action is Action.HOLD else (), detail)


def _outside(mail: Submission) -> list[str]:
    names = internal_names(mail.account.tenant)
    return [recipient.address for recipient in mail.recipients if not is_internal(recipient.address, names)]


def _exempt(outside: Sequence[str], detector: str, settings: Settings) -> bool:
    """Whether everybody outside who gets the mail is a partner for this detector (DLP-9)."""
    listed = getattr(settings, f"{detector.partition('_')[0]}_partners", ())
    names = {name for item in listed for name in item.lower().split()}
    return bool(names) and all(
        address.rpartition("@")[2].lower() in names or party(address) in names for address in outside
    )
