"""/outbox: what came in beside what would leave, every change with its rule, nothing of a stranger's mark-up alive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import EmailMessage

import httpx
import pytest

from relay.mail.edits import Edit
from relay.portal.preview import html_text, previews
from relay.store.outbox import Entry
from tests.fakes.gateway import MemoryGateway, portal_settings
from tests.fakes.portal import browser

HTML = {"Accept": "text/html"}
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
IN = (
    b"From: Shop <news@shop.example>\r\nTo: ann@example.net,\r\n bob@example.org\r\nBcc: secret@shop.example\r\n"
    b"Subject: Spring\r\nX-Zegel-Purpose: newsletter\r\n\r\nHello\r\n"
)
OUT = (
    b"DKIM-Signature: v=1; b=abc\r\nReceived: by gw\r\nFrom: Shop <news@shop.example>\r\nTo: ann@example.net\r\n"
    b"Subject: Spring\r\nList-Unsubscribe: <https://z.example/u/x>\r\n\r\nHello\r\n"
)
EDITS = (
    Edit("to_self", "", "", "CC-8"),
    Edit("remove", "Bcc", "", "CC-15"),
    Edit("remove", "X-Zegel-Purpose", "", "MSG-9"),
    Edit("unsubscribe", "", "", "UNSUB-16"),
)
ENTRY = Entry(
    "01J8ZK", 1_700_000_000.0, "shop", "news", "marketing", "accept",
    mail_from="b@shop.example", recipients=("ann@example.net",), incoming=IN, outgoing=OUT, edits=EDITS,
    trace=({"policy": "consent", "mode": "enforce", "action": "accept", "rule": "CONSENT-1", "reason": "consent.found"},),
)  # fmt: skip
REFUSED = ENTRY._replace(
    queue_id="", verdict="reject", rule="UNSUB-1", reply="550 5.7.1 [UNSUB-1] No link", outgoing=b"", edits=()
)


@pytest.fixture
async def web(gateway: MemoryGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(gateway, portal_settings(), address="127.0.0.1") as client:
        yield client


@pytest.mark.parametrize(
    ("address", "headers", "exposed", "status"),
    [
        ("127.0.0.1", {}, False, 200),
        ("192.0.2.44", {}, False, 404),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, False, 404),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False, 404),
        ("127.0.0.1", {"Host": "localhost:8025"}, False, 200),
        ("127.0.0.1", {"Host": "[::1]:8025"}, False, 200),
        ("127.0.0.1", {"Host": "evil.example"}, False, 404),
        ("192.0.2.44", {}, True, 200),
        ("192.0.2.44", {"Host": "zegel.test"}, True, 200),
    ],
    ids=[
        "this machine", "elsewhere", "behind the web proxy", "behind another", "by its local name", "by its address",
        "by a name that is not ours", "elsewhere, exposed", "exposed under any name",
    ],
)  # fmt: skip
async def test_who_sees_captured_mail(
    gateway: MemoryGateway, address: str, headers: dict[str, str], exposed: bool, status: int
) -> None:
    """It is mail of people, of all tenants, and has no login."""
    number = box(gateway).record_copy(ENTRY)
    async with browser(gateway, portal_settings(outbox=exposed), address=address) as client:
        for path in ("/outbox", f"/outbox/{number}", f"/outbox/{number}/in.eml", f"/outbox/{number}/out.eml"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status and (status == 200 or "ann@example.net" not in answer.text), path


def box(gateway: MemoryGateway):  # type: ignore[no-untyped-def]  # narrows the optional
    assert gateway.outbox is not None
    return gateway.outbox


async def test_the_list_shows_newest_first_with_verdict_rule_and_changes(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    box(gateway).record_copy(ENTRY)
    box(gateway).record_refusal(REFUSED._replace(incoming=b"", recipients=("zoe@example.net",)))
    box(gateway).record_waiting(
        ENTRY._replace(queue_id="02", verdict="parked", rule="THROTTLE-1", due=1_700_000_600.0, outgoing=b"")
    )
    page = (await web.get("/outbox?lang=en", headers=HTML)).text
    assert page.index("Parked") < page.index("zoe@example.net") < page.index("4 changes")
    assert 'href="/why/UNSUB-1?lang=en"' in page
    assert "2023-11-14 22:23:20" in page  # its due time
    assert "Refused before the content came" in page
    only = (await web.get("/outbox?verdict=reject", headers=HTML)).text
    assert "zoe@example.net" in only
    assert "Geparkeerd op" not in only
    assert only.count('<li class="mail ') == 1
    assert (await web.get("/outbox?verdict=nonsense")).text.count('<li class="mail ') == 3


async def test_an_entry_marks_each_change_with_the_rule_that_made_it(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    number = box(gateway).record_copy(ENTRY)
    page = (await web.get(f"/outbox/{number}?lang=en", headers=HTML)).text
    rows = {row.split('"', 1)[0]: row for row in page.split('<tr class="row-')[1:]}
    assert set(rows) == {"added", "changed", "removed", "same"}
    for text, mark, rule in (
        ("DKIM-Signature: v=1", "added", "DKIM-1"),
        ("Received: by gw", "added", "SMTP-22"),
        ("List-Unsubscribe: &lt;https", "added", "UNSUB-16"),
        ("Bcc: secret@shop.example", "removed", "CC-15"),
        ("X-Zegel-Purpose: newsletter", "removed", "MSG-9"),
        ("To: ann@example.net,\n bob@example.org", "changed", "CC-8"),
    ):
        row = next(part for part in page.split("<tr ") if text in part)
        assert row.startswith(f'class="row-{mark}"'), text
        assert f"/why/{rule}" in row, text
    assert "equal byte for byte" in page
    assert "consent.found" in page


async def test_a_refused_mail_shows_its_reply_and_the_rule_in_plain_words(
    web: httpx.AsyncClient, gateway: MemoryGateway
) -> None:
    number = box(gateway).record_refusal(REFUSED)
    page = (await web.get(f"/outbox/{number}?lang=nl", headers=HTML)).text
    assert "550 5.7.1 [UNSUB-1] No link" in page
    assert "De mail heeft geen afmeldlink" in page
    assert "Er vertrekt niets" in page
    assert f"/outbox/{number}/out.eml" not in page


async def test_copies_of_a_split_lead_to_each_other(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    numbers = [box(gateway).record_copy(ENTRY._replace(recipients=(f"r{index}@example.net",))) for index in range(3)]
    page = (await web.get(f"/outbox/{numbers[0]}", headers=HTML)).text
    assert f'href="/outbox/{numbers[1]}"' in page
    assert f'href="/outbox/{numbers[2]}"' in page
    assert f'href="/outbox/{numbers[0]}"' not in page


@pytest.mark.parametrize("place", ["subject", "from", "recipient", "reply", "body", "name", "trace"])
async def test_nothing_of_a_strangers_mark_up_is_alive(
    web: httpx.AsyncClient, gateway: MemoryGateway, place: str
) -> None:
    evil = EVIL.encode()
    entry = {
        "subject": ENTRY._replace(incoming=b"Subject: " + evil + b"\r\n\r\nx\r\n"),
        "from": ENTRY._replace(mail_from=EVIL, incoming=b"From: " + evil + b"\r\n\r\nx\r\n"),
        "recipient": ENTRY._replace(recipients=(EVIL,)),
        "reply": REFUSED._replace(reply=EVIL, rule=EVIL),
        "body": ENTRY._replace(incoming=IN + evil, outgoing=OUT + evil + b"2"),
        "name": ENTRY._replace(queue_id=EVIL, credential=EVIL, edits=(Edit(EVIL, EVIL, EVIL, EVIL),)),
        "trace": ENTRY._replace(trace=({"policy": EVIL, "rule": EVIL, "reason": EVIL},)),
    }[place]
    number = box(gateway).record_refusal(entry)
    for path in ("/outbox", f"/outbox/{number}"):
        page = (await web.get(path, headers=HTML)).text
        assert "<script" not in page
        assert "<img" not in page
    download = await web.get(f"/outbox/{number}/in.eml")
    assert download.headers["content-disposition"].startswith('attachment; filename="')
    assert EVIL not in download.headers["content-disposition"]
    assert download.headers["content-type"] == "application/octet-stream"


async def test_downloads_are_the_bytes_themselves(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    number = box(gateway).record_copy(ENTRY)
    assert (await web.get(f"/outbox/{number}/in.eml")).content == IN
    assert (await web.get(f"/outbox/{number}/out.eml")).content == OUT
    for path in (f"/outbox/{number}/other.eml", "/outbox/999999", "/outbox/999999/in.eml", "/outbox/0", "/outbox/x"):
        assert (await web.get(path)).status_code == 404
    assert (await web.get(f"/outbox/{10**30}")).status_code == 404
    assert (await web.get(f"/outbox?before={10**30}")).status_code == 404


async def test_the_page_refreshes_itself_only_where_asked(web: httpx.AsyncClient) -> None:
    assert "http-equiv" not in (await web.get("/outbox", headers=HTML)).text
    assert '<meta http-equiv="refresh" content="5">' in (await web.get("/outbox?live=1", headers=HTML)).text


async def test_older_entries_are_a_page_away(web: httpx.AsyncClient, gateway: MemoryGateway) -> None:
    for index in range(60):
        box(gateway).record_copy(ENTRY._replace(queue_id=str(index)))
    first = (await web.get("/outbox", headers=HTML)).text
    assert first.count('<li class="mail ') == 50
    assert "/outbox?before=11" in first
    assert (await web.get("/outbox?before=11", headers=HTML)).text.count('<li class="mail ') == 10


@pytest.mark.parametrize("path", ["/outbox", "/outbox/1", "/outbox/1/in.eml"])
async def test_there_is_no_outbox_where_mail_really_leaves(gateway: MemoryGateway, path: str) -> None:
    box(gateway).record_copy(ENTRY)
    async with browser(gateway, portal_settings(mode="smarthost")) as client:
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"\x00\x01", b"no colon\r\n\r\nx", b"A: b\r\n" * 3000 + b"\r\n", b"\xff" * 500]
)
async def test_broken_mail_is_shown_as_far_as_it_goes(
    web: httpx.AsyncClient, gateway: MemoryGateway, raw: bytes
) -> None:
    number = box(gateway).record_refusal(REFUSED._replace(incoming=raw))
    assert (await web.get("/outbox", headers=HTML)).status_code == 200
    assert (await web.get(f"/outbox/{number}", headers=HTML)).status_code == 200
    copy = box(gateway).record_copy(ENTRY._replace(incoming=raw, outgoing=raw + b"x"))
    assert (await web.get(f"/outbox/{copy}", headers=HTML)).status_code == 200


def test_html_becomes_its_text_with_the_links_spelled_out() -> None:
    text = html_text(
        "<html><head><style>p{}</style><title>t</title></head><body><h1>Spring</h1><p>Read <b>the</b> "
        '<a href="https://shop.example/tips">tips</a></p><img src="https://track.example/p.gif"><script>alert(1)</script>'
    )
    assert "Spring" in text
    assert "[https://shop.example/tips]" in text
    for gone in ("alert", "track.example", "p{}"):
        assert gone not in text


def test_each_part_is_previewed_and_attachments_are_only_named() -> None:
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content("café\n" * 10_000)
    message.add_alternative("<p>café</p>", subtype="html")
    message.add_attachment(b"%PDF" * 1000, maintype="application", subtype="pdf", filename="a.pdf")
    plain, html, pdf = previews(message.as_bytes().replace(b"\n", b"\r\n"))
    assert plain.is_cut
    assert plain.text.startswith("café")
    assert (html.text, html.is_html) == ("café", True)
    assert (pdf.text, pdf.content_type) == ("", "application/pdf")
    assert pdf.size > 4000
