"""Look up in DNS what an operation wants to see, before it is handed to the owner: the owner never waits for a network."""

from __future__ import annotations

from collections.abc import Sequence

from relay.dns import Answer, NoRecord, Resolver


async def gather_evidence(resolver: Resolver, names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """`{"seen": {name: [TXT texts]}}` for the names of `Owner.questions`, to put over the arguments of the operation.

    So whatever a caller claims to have seen is replaced. A name without an answer is left out: unknown is not the
    same as absent (DKIM-8).
    """
    resolver.forget()
    seen: dict[str, list[str]] = {}
    for name in names:
        result = await resolver.txt(name)
        if isinstance(result, Answer):
            seen[name] = list(result.records)
        elif isinstance(result, NoRecord):
            seen[name] = []
    return {"seen": seen}
