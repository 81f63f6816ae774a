"""`python -m tests.harness.run`: a supervisor with the settings that come as JSON on standard input, and the log they ask for.

Says `ready` when it serves.
"""

from __future__ import annotations

import sys

from relay.observe.log import configure
from relay.settings.model import Settings
from tests.harness.serve import run


def main() -> None:
    given = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure(given)
    run(given)


if __name__ == "__main__":
    main()
