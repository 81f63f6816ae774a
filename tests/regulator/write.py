"""`python -m tests.regulator.write [NAME...]`: write the answers anew. Read what changed before you keep it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.regulator.player import HERE, SUBJECTS, answer


def main() -> None:
    for name in sys.argv[1:] or SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            _, written, pages = answer(Path(folder) / "world", name)
        (HERE / "answers" / f"{name}.json").write_text(written, "utf-8")
        (HERE / "answers" / f"{name}.html").write_text(pages, "utf-8")


main()
