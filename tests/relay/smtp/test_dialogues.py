"""Every conversation of tests/dialogues but those of delivery, against the real gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.dialogue import Dialogue, play
from tests.harness.gateway import Gateway

FOLDER = Path(__file__).parents[2] / "dialogues"
FILES = sorted(path for path in FOLDER.glob("*/*.smtp") if path.parent.name != "delivery")


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_dialogue(path: Path, gateway: Gateway) -> None:
    play(Dialogue.read(path), gateway)
