"""Forty scenarios of senders, lawful and not, through whole days of the real gateway with the settings that it comes with.

They are data: tests/cases/scenarios. What limits or reputation have a say in is told twice, with the counters of one node and
with those that gateways share in Redis.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes.clock import START
from tests.stories.player import Player
from tests.stories.story import Story, stories, unknown
from tests.stories.world import World

ROOT = Path(__file__).parents[2]
RULE = re.compile(r"[A-Z]+-\d+")
ALL = stories()
COUNTED = [story for story in ALL if story.counts]


async def play(story: Story, folder: Path, counters: str) -> None:
    world = await World(folder, START, counters).open()
    try:
        await Player(world, story).play()
    finally:
        await world.close()


@pytest.mark.parametrize("story", ALL, ids=[story.name for story in ALL])
async def test_story(story: Story, folder: Path) -> None:
    await play(story, folder, "embedded")


@pytest.mark.parametrize("story", COUNTED, ids=[story.name for story in COUNTED])
async def test_story_with_shared_counters(story: Story, folder: Path, redis: str) -> None:
    await play(story, folder, redis)


def test_the_table_is_whole() -> None:
    """Forty at least, nearly half of them lawful, each once, about rules that exist."""
    names = Counter(story.name for story in ALL)
    lawful = sum(story.lawful for story in ALL)
    assert len(ALL) >= 40 and not [name for name, times in names.items() if times > 1]
    assert lawful >= 18 and len(ALL) - lawful >= 18
    known = set(RULE.findall((ROOT / "docs" / "rules.md").read_text("utf-8")))
    for story in ALL:
        assert story.row["story"] and story.row["rules"], story.name
        assert not [wrong for step in story.steps if (wrong := unknown(step))], story.name
        assert any("expect" in step or "then" in step for step in story.steps), story.name
        assert set(story.row["rules"]) <= known, set(story.row["rules"]) - known
