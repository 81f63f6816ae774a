"""The one error that an operation answers with."""

from __future__ import annotations


class OwnerError(Exception):
    """An operation that was refused; nothing changed. `code` is stable, `text` a sentence with the remedy."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} [{self.code}]"
