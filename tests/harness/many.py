"""How much of what can be tested without end a run tests: ZEGEL_TEST_MANY=1 asks for all of it."""

from __future__ import annotations

import os

MANY = bool(os.environ.get("ZEGEL_TEST_MANY"))
_SHARE = 3


def examples(all_of_them: int) -> int:
    """Cases that Hypothesis draws for one test: a third where not all are asked for."""
    return all_of_them if MANY else all_of_them // _SHARE
