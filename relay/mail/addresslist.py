"""The grammar of address lists in header fields, as mail programs read it (RFC 5322 section 3.4 and 4.4, rule CC-7).

Theory of operation. One expression cuts the text into tokens, once, from left to right; a state machine walks the
tokens. Inside the walk every token is looked at a bounded number of times, so the whole is linear. Where a phrase holds
an `@` and no address was found (an encoded-word or a quoted string that hides a list), its decoded text is read as a
list again, at most twice. `relay.mail.address` is the entry.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from relay.mail.words import decode_words, words_apart

MAX_DEPTH = 2  # lists hidden in phrases, and lists hidden in those
ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
DOT_ATOM = re.compile(rf"[{ATEXT}\x80-\U0010ffff]++(?>(?:\.[{ATEXT}\x80-\U0010ffff]++)*)")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]++)
    |(?P<word>=\?[^?\s]{1,64}+\?[bBqQ]\?[^?\r\n]*+\?=)
    |(?P<quoted>"(?>(?:[^"\\]|\\.)*)")
    |(?P<literal>\[[^\[\]\\]*+\])
    |(?P<atom>[^ \t\r\n()<>\[\]:;@\\,"]++)
    |(?P<special>.)""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Mailbox(NamedTuple):
    """One mailbox of a header field: decoded display name ("" if none) and `local@domain` as written, without comments."""

    display: str
    address: str


class _Token(NamedTuple):
    kind: str  # word | quoted | literal | atom | comment, or the special character itself
    text: str  # quoted: without quotes and escapes; comment: without its brackets
    spaced: bool  # blank or comment in front


_VALUES = frozenset(("word", "quoted", "atom"))
_ENDS = frozenset(",;")


def quote(content: str) -> str:
    """A local part from its content: in quotes only where they are needed (RFC 5321 section 4.1.2)."""
    if DOT_ATOM.fullmatch(content):
        return content
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse(text: str, depth: int = 0) -> list[Mailbox] | None:
    """Mailboxes of the list in `text`; None if it is none."""
    tokens = _tokens(text)
    return None if tokens is None else _Walk(tokens, depth).run()


def comments(text: str) -> str:
    """What the comments of a list say, which a reader sees beside the names; "" where there are none."""
    return " ".join(token.text for token in _tokens(text) or () if token.kind == "comment")


def _tokens(text: str) -> list[_Token] | None:
    result: list[_Token] = []
    position, end, spaced = 0, len(text), False
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:  # never: the last branch takes any character
            return None
        kind, found = str(match.lastgroup), match[0]
        position = match.end()
        if kind == "space":
            spaced = True
            continue
        if kind == "quoted":
            found = _ESCAPE.sub(r"\1", found[1:-1])
        elif kind == "special":
            if found == "(":
                close = _comment_end(text, position)
                if close < 0:
                    return None
                result.append(_Token("comment", _ESCAPE.sub(r"\1", text[position : close - 1]).strip(), spaced))
                position, spaced = close, True
                continue
            if found in '"[])\\':  # never opened or never closed; going on would be guessing, and quadratic
                return None
            kind = found
        result.append(_Token(kind, found, spaced))
        spaced = False
    return result


def _comment_end(text: str, position: int) -> int:
    open_ones = 1
    for match in _COMMENT.finditer(text, position):
        if match[0] == "(":
            open_ones += 1
        elif match[0] == ")":
            open_ones -= 1
            if not open_ones:
                return match.end()
    return -1


def _text(token: _Token) -> str:
    return decode_words(token.text.encode(errors="replace")) if token.kind == "word" else token.text


def _phrase(tokens: list[_Token]) -> str:
    """Text of a display name; blanks between two encoded-words vanish (RFC 2047 section 6.2)."""
    parts: list[str] = []
    previous = ""
    for token in tokens:
        both_words = token.kind == previous == "word"
        if parts and (token.spaced or token.kind == previous == "quoted") and not both_words:
            parts.append(" ")
        # Encoded as one run so that a character cut in two by a word boundary survives.
        if both_words:
            parts[-1] += token.text
        else:
            parts.append(token.text)
        previous = token.kind
    joined = "".join(parts)
    return decode_words(words_apart(joined.encode(errors="replace"))) if "=?" in joined else joined


def _joined(left: _Token, right: _Token) -> bool:
    """Whether two words of an obsolete dotted name belong together (RFC 5322 section 4.4)."""
    return (left.kind == "atom" and left.text.endswith(".")) or (right.kind == "atom" and right.text.startswith("."))


def _local(tokens: list[_Token]) -> tuple[str, list[_Token]]:
    """Local part at the end of `tokens`, and the tokens in front of it; "" if there is none."""
    if not tokens or tokens[-1].kind not in _VALUES:
        return "", tokens
    start = len(tokens) - 1
    while start and tokens[start - 1].kind in _VALUES and _joined(tokens[start - 1], tokens[start]):
        start -= 1
    content = "".join(_text(token) for token in tokens[start:])
    return (quote(content) if content else ""), tokens[:start]


class _Walk:
    """One pass over the tokens of a list."""

    def __init__(self, tokens: list[_Token], depth: int) -> None:
        self.tokens = tokens
        self.depth = depth
        self.at = 0
        self.words: list[_Token] = []  # of the present element, not yet used
        self.comment: _Token | None = None
        self.bare = False  # the last mailbox came without brackets in the present element
        self.is_empty = not tokens  # or says in words that it names nobody
        self.result: list[Mailbox] = []

    def run(self) -> list[Mailbox] | None:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            self.at += 1
            if token.kind in _ENDS or token.kind == ":":
                good = self._close(is_group=token.kind == ":")
            elif token.kind == "<":
                good = self._angle()
            elif token.kind == "@":
                good = self._bare_address()
            elif token.kind == "comment":
                self._name_by_comment(token)
                good = True
            else:
                self.words.append(token)
                good = token.kind in _VALUES
            if not good:
                return None
        if not self._close(is_group=False):
            return None
        return self.result if self.result or self.is_empty else None  # separators alone are no list

    def _close(self, *, is_group: bool) -> bool:
        """End of an element or of a group's name; False if it is nothing that can be understood."""
        words, self.words = self.words, []
        self.bare, self.comment = False, None
        if not words:
            return not is_group
        text = _phrase(words)
        if "@" in text:
            return self._hidden(text)
        self.is_empty = is_group or text.lower().lstrip().startswith("undisclosed")
        return self.is_empty

    def _hidden(self, text: str) -> bool:
        if self.depth >= MAX_DEPTH:
            return False
        found = parse(text, self.depth + 1)
        if not found:
            return False
        self.result.extend(found)
        return True

    def _name_by_comment(self, token: _Token) -> None:
        """`ann@x.test (Ann)`: the comment is the display name if there is no other (RFC 822 habit)."""
        if self.bare and self.result and not self.result[-1].display:
            self.result[-1] = Mailbox(decode_words(token.text.encode(errors="replace")), self.result[-1].address)
        elif self.comment is None:
            self.comment, self.is_empty = token, True

    def _bare_address(self) -> bool:
        """An `@` outside brackets: the word in front is the local part, what follows the domain."""
        local, rest = _local(self.words)
        domain = self._domain(self.tokens, self.at)
        if not local or domain is None:
            return False
        name, self.at = domain
        self.words = []
        display = _phrase(rest)
        if not display and self.comment is not None:
            display, self.comment = _phrase([self.comment]), None
        self.result.append(Mailbox(display, f"{local}@{name}"))
        self.bare = True
        return True

    def _domain(self, tokens: list[_Token], at: int) -> tuple[str, int] | None:
        while at < len(tokens) and tokens[at].kind == "comment":
            at += 1
        if at >= len(tokens) or tokens[at].kind not in ("atom", "literal", "word"):
            return None
        start = at
        at += 1
        while (
            at < len(tokens)
            and tokens[at].kind == tokens[at - 1].kind == "atom"
            and _joined(tokens[at - 1], tokens[at])
        ):
            at += 1
        name = "".join(_text(token) for token in tokens[start:at]).strip(".")
        return (name, at) if name else None

    def _angle(self) -> bool:
        inner = self._inner()
        words, self.words = self.words, []
        if self.bare:  # ann@x.test <ann@x.test>: the first one is the display name
            previous = self.result.pop()
            words = [_Token("quoted", f"{previous.display} {previous.address}".strip(), False), *words]
        self.bare = False
        display = _phrase(words)
        if not display and self.comment is not None:
            display, self.comment = _phrase([self.comment]), None
        colon = max((n for n, token in enumerate(inner) if token.kind == ":"), default=-1)
        if colon >= 0 and any(token.kind == "@" for token in inner[colon:]):
            inner = inner[colon + 1 :]  # a route (RFC 5322 section 4.4), or a scheme such as mailto
        marks = [n for n, token in enumerate(inner) if token.kind == "@"]
        if len(marks) != 1:
            return self._odd_angle(inner)
        local, rest = _local(inner[: marks[0]])
        domain = self._domain(inner, marks[0] + 1)
        if not local or domain is None:
            return False
        if rest or domain[1] != len(inner):
            return self._odd_angle(inner)
        self.result.append(Mailbox(display, f"{local}@{domain[0]}"))
        return True

    def _inner(self) -> list[_Token]:
        """Tokens up to the closing bracket, which is taken; without one, up to the end of the element."""
        start = self.at
        end = start
        while end < len(self.tokens) and self.tokens[end].kind not in ("<", ">"):
            end += 1
        if end < len(self.tokens) and self.tokens[end].kind == ">":
            self.at = end + 1
        else:
            cut = start
            while cut < end and self.tokens[cut].kind not in _ENDS:
                cut += 1
            self.at = end = cut
        return [token for token in self.tokens[start:end] if token.kind != "comment"]

    def _odd_angle(self, inner: list[_Token]) -> bool:
        """Brackets around no address, a hidden one, or several."""
        if not inner or self.depth >= MAX_DEPTH:
            return False
        found = _Walk(inner, self.depth + 1).run()
        if found is None:
            return False
        self.is_empty = not found
        self.result.extend(found)
        return True
