"""The writer's thread waits empty-handed: a message that is written and gone must not lie in memory until the next one."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence

from relay.spool.writer import Writer


class Op:
    """Something to write that can be looked for afterwards."""


async def write_one() -> tuple[Writer[Op], weakref.ref[Op]]:
    def write(batch: Sequence[Op]) -> list[BaseException | None]:
        return [None] * len(batch)

    done = asyncio.Event()
    writer: Writer[Op] = Writer(asyncio.get_running_loop(), write, lambda op, error: done.set(), name="test")
    op = Op()
    writer.submit(op)
    await done.wait()
    await writer.drain()
    return writer, weakref.ref(op)


async def second_round() -> bool:
    writer, first = await write_one()
    # The thread lets go right after it told the loop, which may be a moment later than the loop hears of it.
    end = asyncio.get_running_loop().time() + 5.0
    while first() is not None and asyncio.get_running_loop().time() < end:
        gc.collect()
        await asyncio.sleep(0)
    is_gone = first() is None
    writer.stop()
    return is_gone


def test_nothing_of_the_last_batch_stays() -> None:
    assert asyncio.run(second_round())
