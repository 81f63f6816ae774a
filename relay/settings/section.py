"""What every table of the settings is, and the kinds of values that several of them have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

FilePath = Annotated[Path, Field(strict=False)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


def refuse(wrong: str, remedy: str) -> PydanticCustomError:
    """A value that is not taken: what is wrong with it and what to write."""
    return PydanticCustomError("setting", "{wrong}", {"wrong": wrong, "remedy": remedy})


class Section(BaseModel):
    """One table of the file: closed (an unknown key is an error), strict (no "30" for 30) and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
