"""The samples of `zegel demo --samples`: one mail or more for each policy, by real SMTP, and whether all went as it should."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from relay.cli.client import Link
from relay.cli.demo_post import LOOK_SECONDS, WAIT_SECONDS, Post, Sent, post_form
from relay.cli.demo_setup import (
    CLUB,
    CLUB_DOMAIN,
    DOMAIN,
    STRANGER,
    SUBSCRIBERS,
    TENANT,
    Demo,
    Login,
    consent,
    make_tenant,
)
from relay.dkim.keys import verify_with_dkimpy
from relay.keyring import Keyring
from relay.store.outbox import Stored
from relay.store.threads import Threads

CLUB_LIST = "clubblad"
MEMBER, LEAVER, NEWCOMER = "fred@example.net", "gina@example.net", "hans@example.org"
FLOOD, PACE = 12, 6  # mails at once, mails a minute
GUESTS = 30
OUTSIDERS = 9  # of a thread of 12: three are colleagues of the shop
_CONFIRM = re.compile(r"https?://\S+/optin/confirm/[^\s<>\"]+")
_LEAVE = re.compile(rb"<(https?://[^>]+/u/[^>]+)>")


class Told(NamedTuple):
    """What became of one sample."""

    title: str
    policy: str
    expected: str
    happened: str
    reply: str
    as_expected: bool
    links: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return {**self._asdict(), "links": list(self.links)}


class Bench:
    """What every sample works with."""

    def __init__(self, demo: Demo, post: Post, club: Login, records: dict[str, str]) -> None:
        self.demo = demo
        self.post = post
        self.club = club
        self.records = records  # DKIM records that the gateway would have published, by name
        self.news, self.orders, self.people = (demo.logins[name] for name in ("marketing", "transactional", "personal"))

    def tell(self, sample: Sample, sent: Sent, entries: list[Stored], *, happened: str, fine: bool) -> Told:
        """The line of one sample. A sample without an entry in the outbox is not as expected."""
        links = tuple(self.post.link(stored.id) for stored in entries[:3])
        return Told(sample.title, sample.policy, sample.expected, happened, sent.reply, fine and bool(entries), links)

    def is_signed(self, stored: Stored) -> bool:
        """dkimpy verifies what would have left, by the records to publish."""
        found = verify_with_dkimpy(stored.entry.outgoing, self.records.get)
        return bool(found) and all(one.good for one in found)


class Sample(NamedTuple):
    """One sample: what it shows, which policy speaks, what must happen, and how it is done."""

    title: str
    policy: str
    expected: str
    run: Callable[[Bench, Sample], Told]


def run_samples(demo: Demo, club: Login) -> list[Told]:
    """Every sample in its order; `club` is what `make_club` made. Raises Trouble where the gateway does not answer."""
    post = Post(demo)
    with Link(demo.settings) as link:
        names = (DOMAIN, CLUB_DOMAIN)
        records = {row["name"]: row["value"] for name in names for row in link.call("dkim.dns", {"domain": name})}
    bench = Bench(demo, post, club, records)
    try:
        return [sample.run(bench, sample) for sample in SAMPLES]
    finally:
        post.outbox.close()


def make_club(demo: Demo) -> Login:
    """A second tenant, whose mail without a way out gets one of ours, and whose pace is low; its login is new at each run.

    Before the gateway starts, so that the login is in force at once.
    """
    with Link(demo.settings) as link:
        return _make_club(link, demo, CLUB)


def _make_club(link: Link, demo: Demo, name: str) -> Login:
    known = {row["name"] for row in link.call("tenant.list", {})}
    if name not in known:
        make_tenant(link, demo.settings, name, CLUB_DOMAIN)
        link.call(
            "purpose.add",
            {"tenant": name, "name": CLUB_LIST, "title_nl": "het clubblad", "title_en": "the club magazine"},
        )
        link.call("policy.mode", {"tenant": name, "policy": "unsubscribe", "settings": {"missing": "inject"}})
        pace = {"marketing_messages_per_minute": PACE}
        link.call("policy.mode", {"tenant": name, "policy": "throttle", "settings": pace})
        for address in (MEMBER, LEAVER):
            link.call("consent.give", consent(name, CLUB_LIST, address))
    made = link.call("credential.add", {"tenant": name, "stream": "marketing", "purpose": CLUB_LIST})
    return Login(made["username"], made["password"])


# -- mails --------------------------------------------------------------------------------------------------------------


def mail(sender: str, to: str, subject: str, body: str, *, head: str = "") -> str:
    """A plain mail with LF line ends; `head` holds more fields, each with its line end."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
    return (
        f"From: {sender}\nTo: {to}\nSubject: {subject}\nDate: {date}\nMessage-ID: {{id}}\n{head}"
        f"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{body}\n"
    )


def newsletter(to: str, *, way_out: bool = True, domain: str = DOMAIN) -> str:
    """A newsletter, with its own one-click pair and a visible link unless told otherwise."""
    url = f"https://{domain}/leave/{to.partition('@')[0]}"
    head = f"List-Unsubscribe: <{url}>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n" if way_out else ""
    body = "Our news of this month." + (f"\n\nUnsubscribe: {url}" if way_out else "")
    return mail(f"News <news@{domain}>", to, "News of this month", body, head=head)


# -- samples ------------------------------------------------------------------------------------------------------------


def _lawful(bench: Bench, sample: Sample) -> Told:
    to = SUBSCRIBERS[0]
    sent = bench.post.send(bench.news, f"news@{DOMAIN}", [to], newsletter(to))
    entries = bench.post.entries(sent)
    signed = bool(entries) and bench.is_signed(entries[0])
    return bench.tell(
        sample, sent, entries, happened="passed, signed, verified" if signed else "not as it should", fine=signed
    )


def _no_consent(bench: Bench, sample: Sample) -> Told:
    sent = bench.post.send(bench.news, f"news@{DOMAIN}", [SUBSCRIBERS[1], STRANGER], newsletter(SUBSCRIBERS[1]))
    entries = bench.post.refusal(STRANGER, sent.at - 1) + bench.post.entries(sent)
    refused = sent.rcpt[1].startswith("550") and "CONSENT-1]" in sent.rcpt[1]
    fine = refused and sent.rcpt[0].startswith("2") and bool(sent.queue_id) and len(entries) == 2
    told = bench.tell(
        sample,
        sent,
        entries,
        happened="refused at RCPT; who had said yes got it" if fine else "not as it should",
        fine=fine,
    )
    return told._replace(reply=sent.rcpt[1])


def _no_way_out(bench: Bench, sample: Sample) -> Told:
    to = SUBSCRIBERS[0]
    sent = bench.post.send(bench.news, f"news@{DOMAIN}", [to], newsletter(to, way_out=False))
    return _refused(bench, sample, sent, "UNSUB-")


def _injected(bench: Bench, sample: Sample) -> Told:
    sent = bench.post.send(
        bench.club, f"news@{CLUB_DOMAIN}", [LEAVER], newsletter(LEAVER, way_out=False, domain=CLUB_DOMAIN)
    )
    entries = bench.post.entries(sent)
    fine = bool(entries) and _LEAVE.search(entries[0].entry.outgoing) is not None and bench.is_signed(entries[0])
    return bench.tell(
        sample, sent, entries, happened="passed with a link of ours" if fine else "not as it should", fine=fine
    )


def _left(bench: Bench, sample: Sample) -> Told:
    """The link of the mail before is used as a mailbox provider uses it; then the next mail comes too late."""
    earlier = [s for s in bench.post.outbox.entries(limit=200) if s.entry.recipients == (LEAVER,) and s.entry.outgoing]
    found = _LEAVE.search(earlier[0].entry.outgoing) if earlier else None
    status = post_form(found[1].decode(), **{"List-Unsubscribe": "One-Click"}) if found else 0
    sent = bench.post.send(
        bench.club, f"news@{CLUB_DOMAIN}", [LEAVER], newsletter(LEAVER, way_out=False, domain=CLUB_DOMAIN)
    )
    told = _refused(bench, sample, sent, "")
    fine = told.as_expected and status == 200 and not sent.data
    return told._replace(
        as_expected=fine, happened=f"one click ({status}), then refused at RCPT" if fine else "not as it should"
    )


def _exposed(bench: Bench, sample: Sample) -> Told:
    guests = [f"guest{number}@guests{number}.example" for number in range(GUESTS)]
    text = mail(
        f"office@{DOMAIN}",
        f"office@{DOMAIN}",
        "Meeting on Thursday",
        "See you there.",
        head=f"Cc: {', '.join(guests)}\n",
    )
    sent = bench.post.send(bench.people, f"office@{DOMAIN}", guests, text)
    entries = bench.post.entries(sent, GUESTS)
    shown = [stored.entry.outgoing.partition(b"\r\n\r\n")[0] for stored in entries]
    alone = all(sum(guest.encode() in head for guest in guests) == 1 for head in shown)
    fine = len(entries) == GUESTS and alone
    happened = f"{len(entries)} copies, each shows one address" if alone else "not as it should"
    return bench.tell(sample, sent, entries, happened=happened, fine=fine)


def _thread(bench: Bench, sample: Sample) -> Told:
    """Twelve people in one thread: the first mail shows them, then everybody answers everybody."""
    colleagues = [f"{name}@{DOMAIN}" for name in ("office", "piet", "sara")]
    others = [f"partner{number}@partner{number}.example" for number in range(OUTSIDERS)]
    everybody = ", ".join([*colleagues[1:], *others])
    first = bench.post.send(
        bench.people, colleagues[0], [*colleagues[1:], *others], mail(colleagues[0], everybody, "Plans", "Shall we?")
    )
    _wait_for_thread(bench, first.message_id)
    head = f"In-Reply-To: {first.message_id}\nReferences: {first.message_id}\n"
    answer = mail(colleagues[1], ", ".join([colleagues[0], colleagues[2], *others]), "Re: Plans", "Yes.", head=head)
    sent = bench.post.send(bench.people, colleagues[1], [colleagues[0], colleagues[2], *others], answer)
    entries = bench.post.entries(sent)
    kept = bool(entries) and all(other.encode() in entries[0].entry.outgoing for other in others)
    silent = bool(entries) and not any(
        step["policy"] == "recipients" and step["reason"] for step in entries[0].entry.trace
    )
    happened = "one mail, all twelve stand in it" if kept else "not as it should"
    return bench.tell(sample, sent, entries, happened=happened, fine=kept and silent)


def _wait_for_thread(bench: Bench, message_id: str) -> None:
    """Until the owner has written down which addresses that mail showed."""
    settings = bench.demo.settings
    keyring = Keyring.open(settings.server.keys_dir, create=False)
    threads = Threads(settings.server.data_dir, keyring.subject_hashes, writable=False)
    with Link(settings) as link:
        tenant_id = int(link.call("tenant.show", {"name": TENANT})["id"])
    deadline = time.monotonic() + WAIT_SECONDS
    while threads.seen(tenant_id, message_id.encode(), [], now=time.time()) is None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    threads.close()


def _invoice(bench: Bench, sample: Sample) -> Told:
    to = "dave@example.net"
    sent = bench.post.send(
        bench.orders,
        f"orders@{DOMAIN}",
        [to],
        mail(f"orders@{DOMAIN}", to, "Invoice 2026-17", "Your invoice: 12,50 euro."),
    )
    entries = bench.post.entries(sent)
    entry = entries[0].entry if entries else None
    fine = entry is not None and entry.outgoing.endswith(entry.incoming) and bench.is_signed(entries[0])
    happened = "every byte as it came, below our stamp and signature" if fine else "not as it should"
    return bench.tell(sample, sent, entries, happened=happened, fine=fine)


def _hidden_offer(bench: Bench, sample: Sample) -> Told:
    to = "dave@example.net"
    text = mail(
        f"orders@{DOMAIN}", to, "Your order", "It is on its way. Now 20% off everything: https://shop.example/sale"
    )
    return _refused(bench, sample, bench.post.send(bench.orders, f"orders@{DOMAIN}", [to], text), "")


def _spoofed(bench: Bench, sample: Sample) -> Told:
    text = mail("Your bank <service@bank.example>", "ann@example.net", "Your account", "Log in here.")
    return _refused(
        bench, sample, bench.post.send(bench.people, f"office@{DOMAIN}", ["ann@example.net"], text), "ID-1]"
    )


def _malformed(bench: Bench, sample: Sample) -> Told:
    text = mail(f"office@{DOMAIN}", "ann@example.net", "One", "Two subjects.", head="Subject: Two\n")
    return _refused(bench, sample, bench.post.send(bench.people, f"office@{DOMAIN}", ["ann@example.net"], text), "MSG-")


def _address_file(bench: Bench, sample: Sample) -> Told:
    rows = "".join(f"Customer {number};Main Street {number};1234 AB\n" for number in range(60))
    text = mail(f"office@{DOMAIN}", "print@example.net", "Our customers", "name;address;postcode\n" + rows)
    attached = 'Content-Type: text/csv\nContent-Disposition: attachment; filename="customers.csv"'
    text = text.replace("Content-Type: text/plain; charset=utf-8", attached)
    return _refused(
        bench, sample, bench.post.send(bench.people, f"office@{DOMAIN}", ["print@example.net"], text), "DLP-5]"
    )


def _flood(bench: Bench, sample: Sample) -> Told:
    text = newsletter(MEMBER, domain=CLUB_DOMAIN)
    sents = [bench.post.send(bench.club, f"news@{CLUB_DOMAIN}", [MEMBER], text) for _ in range(FLOOD)]
    last = sents[-1]
    parked = [stored for stored in bench.post.entries(last) if stored.entry.verdict == "parked"]
    fine = all(sent.queue_id for sent in sents) and bool(parked) and parked[0].entry.due > time.time()
    happened = (
        f"all {FLOOD} taken, the last leaves in {parked[0].entry.due - time.time():.0f} s"
        if parked
        else "not as it should"
    )
    return bench.tell(sample, last, parked, happened=happened, fine=fine)


def _signed_up(bench: Bench, sample: Sample) -> Told:
    """Refused; signs up; gets the question; says yes; gets the newsletter."""
    base = bench.demo.settings.web.public_url
    before = bench.post.send(bench.news, f"news@{DOMAIN}", [NEWCOMER], newsletter(NEWCOMER))
    started = time.time()
    asked = post_form(f"{base}/optin/{bench.demo.optin_key}", email=NEWCOMER)
    question = bench.post.mail_to(NEWCOMER, started - 1)
    found = _CONFIRM.search(_text_of(question)) if question else None
    confirmed = post_form(found[0]) if found else 0
    sent = bench.post.send(bench.news, f"news@{DOMAIN}", [NEWCOMER], newsletter(NEWCOMER))
    entries = ([question] if question else []) + bench.post.entries(sent)
    fine = (before.data, asked, confirmed) == ("", 202, 200) and bool(sent.queue_id)
    happened = "refused; asked; confirmed; got it" if fine else f"form {asked}, confirmation {confirmed}"
    return bench.tell(sample, sent, entries, happened=happened, fine=fine)


def _text_of(stored: Stored) -> str:
    import email
    import email.policy

    body = email.message_from_bytes(stored.entry.outgoing, policy=email.policy.default).get_body(("plain",))
    return "" if body is None else str(body.get_content())


def _refused(bench: Bench, sample: Sample, sent: Sent, rule: str) -> Told:
    entries = bench.post.entries(sent)
    fine = sent.reply.startswith("5") and rule in sent.reply
    happened = f"refused {'at the end of the data' if sent.data else 'at RCPT'}" if fine else "not as it should"
    return bench.tell(sample, sent, entries, happened=happened, fine=fine)


SAMPLES = (
    Sample("newsletter to a subscriber", "consent", "passes, signed", _lawful),
    Sample("newsletter to somebody who never asked", "consent", "refused at RCPT", _no_consent),
    Sample("newsletter without a way out", "unsubscribe", "refused", _no_way_out),
    Sample("the same, where the tenant chose inject", "unsubscribe", "passes with our link", _injected),
    Sample("the next one, after one click on that link", "suppression", "refused at RCPT", _left),
    Sample(f"{GUESTS} people in Cc", "recipients", f"{GUESTS} separate mails", _exposed),
    Sample("answer to all, 12 people of one thread", "recipients", "left alone", _thread),
    Sample("invoice", "classification", "passes untouched", _invoice),
    Sample("order mail with an offer in it", "classification", "refused", _hidden_offer),
    Sample("From of a bank", "identity", "refused", _spoofed),
    Sample("a file of 60 customers", "leaks", "refused, the answer names the portal", _address_file),
    Sample("two subjects", "content", "refused", _malformed),
    Sample(f"{FLOOD} mails at once where {PACE} a minute are agreed", "throttle", "the rest parked", _flood),
    Sample("sign-up with confirmation", "consent", "then gets its newsletter", _signed_up),
)


def show(told: list[Told], demo: Demo) -> None:
    """The table for people."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from relay.cli.output import clean, console

    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="bold",
        title="What became of the samples",
        title_justify="left",
    )
    for title in ("", "mail", "policy", "what happened", "answer", "look"):
        made.add_column(title, overflow="fold", no_wrap=title in ("", "look"))
    for one in told:
        mark = Text("ok", style="green") if one.as_expected else Text("NO", style="bold red")
        happened = one.happened if one.as_expected else f"{one.happened}; expected: {one.expected}"
        made.add_row(
            mark, clean(one.title), one.policy, clean(happened), clean(one.reply), one.links[0] if one.links else "–"
        )
    console().print(made)
