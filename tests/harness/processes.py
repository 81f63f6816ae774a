"""The processes of a gateway, as the kernel knows them."""

from __future__ import annotations

from pathlib import Path

ZYGOTE = "zegel-zygote"


def children(supervisor: int) -> list[int]:
    """Workers and the web process; nothing where it has ended."""
    return [pid for pid in every_child(supervisor) if _name(pid) not in (ZYGOTE, "")]


def zygotes(supervisor: int) -> list[int]:
    """The process that the others are forked from, or none."""
    return [pid for pid in every_child(supervisor) if _name(pid) == ZYGOTE]


def every_child(supervisor: int) -> list[int]:
    """Of any name, also those that have ended and were not waited for."""
    try:
        return [int(word) for word in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    """Empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
