"""Links, and the way out that a person can find (UNSUB-10); all of it in linear time (MSG-11)."""

from __future__ import annotations

import pytest

from relay.mail.links import find_way_out, links, plain_links
from relay.mail.signals import body_signals, text_blemishes
from relay.mail.texts import Texts
from tests.harness.timing import rounds

# html, shown
VISIBLE = [
    ('<a href="https://x.example/u">Afmelden</a>', True),
    ("<a href='https://x.example/u'>uitschrijven</a>", True),
    ("<A HREF=https://x.example/u>Unsubscribe</A>", True),
    ('<a href="https://x.example/optout">hier</a>', True),
    ('<a href="mailto:stop@x.example">abmelden</a>', True),
    ("<p>Afmelden? Mail naar stop@x.example</p>", True),
    ("<p>Om u af te melden: <b>afmelden</b> kan <a href='https://x.example'>hier</a></p>", True),
    ("<p>afmelden kan bij de balie</p>", False),
    ('<a href="#">afmelden</a>', False),
    ('<a name="x">afmelden</a>', False),
    ('<a href="javascript:void(0)">afmelden</a>', False),
    ('<a style="display:none" href="https://x.example/u">afmelden</a>', False),
    ('<a style="DISPLAY : NONE" href="https://x.example/u">afmelden</a>', False),
    ('<p style="visibility:hidden"><a href="https://x.example/u">afmelden</a></p>', False),
    ('<p style="opacity:0"><a href="https://x.example/u">afmelden</a></p>', False),
    ('<p style="opacity:0.8"><a href="https://x.example/u">afmelden</a></p>', True),
    ('<p style="font-size:0"><a href="https://x.example/u">afmelden</a></p>', False),
    ('<p style="font-size:5.5px"><a href="https://x.example/u">afmelden</a></p>', False),
    ('<p style="font-size:0.9em"><a href="https://x.example/u">afmelden</a></p>', True),
    ('<p style="font-size:12px"><a href="https://x.example/u">afmelden</a></p>', True),
    ('<p style="color:#fff;background-color: #fff"><a href="https://x.example/u">afmelden</a></p>', False),
    ('<p style="color:#000;background-color:#fff"><a href="https://x.example/u">afmelden</a></p>', True),
    ('<div style="display:none"><div>a</div><div>b</div></div><a href="https://x.example/u">afmelden</a>', True),
    ('<div style="display:none"><div>a</div><a href="https://x.example/u">afmelden</a></div>', False),
    ('<p style="display:none">x</p><pre></pre><a href="https://x.example/u">afmelden</a>', True),
    ('<img style="display:none" src="x.png"><a href="https://x.example/u">afmelden</a>', True),
    ('<br style="display:none"/><a href="https://x.example/u">afmelden</a>', True),
    ("<style>p {display:none}</style><a href='https://x.example/u'>afmelden</a>", True),
    ('<div style="display:none"><a href="https://x.example/u">afmelden</a>', False),
    ('<!-- <a href="https://x.example/u">afmelden</a> -->', False),
    ('<!-- <a href="https://x.example/u">afmelden</a>', False),
    ('<!-- hier onder --><a href="https://x.example/u">afmelden</a><!-- einde -->', True),
    ('<!--[if !mso]><!--><a href="https://x.example/u">afmelden</a><!--<![endif]-->', True),
    ('<template><a href="https://x.example/u">afmelden</a></template>', False),
    ('<a href="{{link}}">afmelden</a>', False),
]


@pytest.mark.parametrize(("html", "shown"), VISIBLE)
def test_a_way_out_counts_when_a_person_can_see_it(html: str, shown: bool) -> None:
    assert find_way_out(Texts(html, "")).html is shown


def test_one_hidden_link_does_not_spoil_a_shown_one() -> None:
    hidden = '<p style="display:none"><a href="https://x.example/u">afmelden</a></p>'
    assert find_way_out(Texts(hidden + '<a href="https://x.example/u">afmelden</a>', "")).html is True
    assert find_way_out(Texts('<a href="https://x.example/u">afmelden</a>' + hidden, "")).html is True


def test_plain_text_needs_the_word_and_a_link_near_it() -> None:
    assert find_way_out(Texts("", "Afmelden: https://x.example/u")) == (None, True, True)
    assert find_way_out(Texts("", "Afmelden bij de balie")) == (None, False, False)
    assert find_way_out(Texts("", "Afmelden bij de balie." + " " * 500 + "https://x.example")) == (None, False, True)
    assert find_way_out(Texts("", "Zie https://x.example/u/1"), ["https://X.example/u/1"]) == (None, True, True)
    assert find_way_out(Texts("", "")) == (None, None, False)


def test_targets_of_links_come_as_written() -> None:
    html = """<a href="https://x.example/?a=1&amp;b=2">x</a><a class=y href='/rel'>y</a><link href=z.css>"""
    assert links(html) == ["https://x.example/?a=1&b=2", "/rel", "z.css"]
    assert plain_links("zie https://x.example/a (of http://y.example/b)") == [
        "https://x.example/a",
        "http://y.example/b)",
    ]


SIZE = 64 * 1024
HOSTILE = {
    "anchors that never close": "<a href=" * (SIZE // 8),
    "anchors without links": "<a>" * (SIZE // 3) + "afmelden",
    "hidden openings": '<p style="display:none">' * (SIZE // 24) + "afmelden",
    "hidden and closed": '<p style="display:none"></p>' * (SIZE // 28) + '<a href="https://x">afmelden</a>',
    "nested and closed": '<p style="display:none">' * 1200 + "</p>" * 1200 + '<a href="https://x">afmelden</a>',
    "words without links": "afmelden " * (SIZE // 9),
    "words in hidden text": '<div style="opacity:0">' + "unsubscribe @ " * (SIZE // 14),
    "styles outside tags": "display:none background:red color:red font-size:1px " * (SIZE // 52) + "afmelden",
    "backgrounds": '<p style="background:#fff">' * (SIZE // 27) + "afmelden",
    "one endless tag": '<a style="' + "background:#fff;color:#000;" * (SIZE // 27) + "afmelden",
    "href without end": "href=" + "'" * SIZE,
    "at signs": "a@" * (SIZE // 2) + "afmelden",
    "images": '<img width="1" ' * (SIZE // 15),
    "percent": "korting " * 4000 + "%" * (SIZE // 2),
    "amounts": "nu € " * (SIZE // 5),
    "digits": "1" * SIZE + "%",
    "inline tags that never close": "<b " * (SIZE // 3),
    "quotes that never close": "<b \"<b '" * (SIZE // 8),
    "quotes in quotes": "<a '\"<a \"' " * (SIZE // 11),
    "comments that never close": "<!--" * (SIZE // 4),
    "comments": "<!-- -->" * (SIZE // 8),
    "entities": "&euro;&#0;&" * (SIZE // 11),
    "digits of an entity": "&#" + "0" * (SIZE // 2) + "9" * (SIZE // 2),
    "comments around words": "<!-- -->afmelden" * (SIZE // 16),
    "links around words": '<a href="https://x.example/u">' * (SIZE // 30) + "afmelden",
    "redirects": '<a href="https://t.example/click/aaaaaaaaa">' * (SIZE // 45),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_no_more_than_its_length(name: str) -> None:
    """MSG-11: each of these would take minutes with an expression that goes back. Processor time, so load does not count."""
    text = HOSTILE[name]
    for timed in rounds(1.0):
        with timed:
            find_way_out(Texts(text, text), ["https://x.example/u"])
            body_signals(Texts(text, text))
            text_blemishes(Texts(text, text))
