"""Puts policies that only tests have beside those of the house, in every process of the harness."""

from pathlib import Path

import policies

policies.__path__.append(str(Path(__file__).parent / "more_policies"))
