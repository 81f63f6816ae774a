"""What lies beside the queue, on its way into a backup."""

from __future__ import annotations

from pathlib import Path

from relay.backup.parts import BLOCK_BYTES
from relay.backup.stores import file_blocks


def test_a_file_that_grows_while_it_is_read_comes_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "grows"
    path.write_bytes(b"x" * (BLOCK_BYTES + 10))
    total = 0
    for block in file_blocks(path):
        total += len(block)
        assert total < 10 * BLOCK_BYTES, "it is read for ever"
        with path.open("ab") as file:
            file.write(b"y" * 2 * BLOCK_BYTES)
    assert total == BLOCK_BYTES + 10
