"""XML of office documents, read as a stream by expat: no tree, no entities, no fetching.

A document type declaration ends the reading: office formats have none, and entities that grow (the billion laughs) need one.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.parsers import expat

from relay.mail.documents.budget import Broken, Budget, Chunks, Piece, Text

MAX_COLUMNS = 16_384  # Excel's own limit
MAX_TOKEN = 1024 * 1024  # octets of one tag: expat keeps what has no end, and reads it again with each chunk
MAX_NAMES = 1_000  # of elements that are remembered
MAX_DEPTH = 256  # elements in elements: expat keeps the name of each that is open
MAX_CELL = 64 * 1024  # characters of one cell that are kept; Excel allows 32,767


class _Locals(dict[str, str]):
    """`t` for `w:t`; each name is cut once."""

    def __missing__(self, name: str) -> str:
        cut = name.rpartition(":")[2]
        if len(self) < MAX_NAMES:
            self[name] = cut
        return cut


class Reader:
    """What a format does with elements and text. `out` is emptied after each chunk, so it never holds more than that gave.

    Names come with their prefix, whatever the document chose: `local` cuts it off. A format counts `depth` in `start` and `end`.
    """

    def __init__(self) -> None:
        self.out: list[Piece] = []
        self.local = _Locals()
        self.depth = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Called for an opening tag."""
        self.depth += 1

    def end(self, name: str) -> None:
        """Called for a closing tag."""
        self.depth -= 1

    def text(self, data: str) -> None: ...


class Values(Reader):
    """What stands in one attribute of any element, a line each."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        value = attributes.get(self._name, "")
        if value:
            self.out.append(Text(value.removeprefix("mailto:")[:MAX_CELL] + "\n"))


def read_xml(chunks: Chunks, reader: Reader, budget: Budget) -> Iterator[Piece]:
    """What `reader` puts out for a document. Raises Broken where it is not well-formed or declares a document type."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = 64 * 1024
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        fed = 0
        for chunk in chunks:
            parser.Parse(chunk, False)
            yield from _emptied(reader)
            budget.check()
            fed += len(chunk)
            if fed - parser.CurrentByteIndex > MAX_TOKEN or reader.depth > MAX_DEPTH:
                raise Broken("broken")
        parser.Parse(b"", True)
    except expat.ExpatError:
        yield from _emptied(reader)  # what came before is there all the same
        raise Broken("broken") from None
    yield from _emptied(reader)


def _emptied(reader: Reader) -> list[Piece]:
    found, reader.out = reader.out, []
    return found


def _refuse(*_: object) -> None:
    raise Broken("broken")
