"""HTML as words: entities, tags and blanks undone, and never an error."""

from __future__ import annotations

import pytest

from relay.mail.entities import unescape
from relay.mail.flat import comments, flat


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a & b", "a & b"),
        ("&euro;&#37;&#x41;", "€%A"),
        ("&#00000000000000000000000000037;", "%"),
        (f"&#{'0' * 5_000}37;", "%"),
        (f"a&#{'1' * 4_400};b", "a\ufffdb"),
        (f"&#{'1' * 4_400}", "\ufffd"),
        (f"&#x{'f' * 9_000};", "\ufffd"),
        ("&#;&#x;&#", "&#;&#x;&#"),
    ],
)
def test_references_are_undone_and_never_raise(text: str, plain: str) -> None:
    assert unescape(text) == plain


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("een\r\n  twee&nbsp;drie", "een twee drie"),
        ("een\t\r\n\ttwee", "een twee"),
        ("e<b>e</b>n", "een"),
        ('<b title="a > b">een</b>', "een"),
        ("<td>een</td><td>twee</td>", "<een<<twee<"),
        ("een<br/>twee", "een\ntwee"),
        ("een<!-- x > y --> twee", "een twee"),
        ("een<!-->twee", "eentwee"),
        ("<!-- een", "<!-- een"),
    ],
)
def test_words_stand_as_they_are_read(html: str, words: str) -> None:
    assert flat(html) == words


def test_comments_are_what_a_browser_takes_for_them() -> None:
    html = "a<!-->b<!--->c<!-- d -->e<!-- f"
    assert [html[start:end] for start, end in comments(html)] == ["<!-->", "<!--->", "<!-- d -->"]
