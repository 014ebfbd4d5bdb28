"""The models in memory are looked after: a dead worker is loaded anew before anybody asks, a duller one is told of."""

import asyncio
import os
import signal
from collections import deque
from pathlib import Path

from studium.app import open_studium
from studium.config import load_config
from studium.domains.catalogue import all_domains
from studium.manage.health import WINDOW, judged, turn


async def test_a_worker_that_was_killed_is_there_again_before_it_is_asked(tmp_path: Path):
    overrides = {"workspace": tmp_path, "health.probe": "100ms"}
    config = load_config(None, environment={}, overrides=overrides)
    async with open_studium(config) as studium:
        await studium.ask("What is 3 + 4?", model="sprout")
        (before,) = await studium.fleet.residences()
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not studium.carer.revived:
                await asyncio.sleep(0.05)
        (after,) = await studium.fleet.residences()
        assert after.model == "sprout" and after.pid != before.pid
        assert studium.health()["sprout"]["errors"] == 1
        assert studium.health()["sprout"]["state"] == "closed"


async def test_known_problems_are_asked_of_models_that_are_used_alone(tmp_path: Path):
    config = load_config(None, environment={}, overrides={"workspace": tmp_path})
    async with open_studium(config) as studium:
        await studium.carer.test_one()
        assert not await studium.fleet.residences()
        for _ in range(3):
            await studium.ask("What is 3 + 4?", model="abacus", cache=False)
            await studium.carer.test_one()
            await studium.carer.test_one()  # nobody has used it since: it is let be
        assert studium.health()["abacus"]["problems_asked"] == 3


def test_every_domain_is_asked_at_each_of_its_levels():
    """As many domains as levels, and each was asked at one level for ever: both moved on together."""
    able = [(one, 0.9) for one in all_domains().values()]
    alike = [one for one in able if len(one[0].levels) == 3][:3]
    assert len(alike) == 3, "three domains of three levels"
    for domains in (alike, able, alike[:1]):
        pairs = {(one.name, level) for one, _ in domains for level in one.levels}
        most = len(domains) * max(len(one.levels) for one, _ in domains)
        reached = [turn(domains, asked) for asked in range(most)]
        assert {(one.domain.name, one.level) for one in reached} == pairs
        assert [one.domain for one in reached[: len(domains)]] == [one for one, _ in domains]


def test_degraded_is_who_clearly_gets_fewer_right_than_its_card_says():
    def seen(right: int, of: int) -> str:
        return judged(deque([True] * right + [False] * (of - right)), deque([0.95] * of))

    assert seen(6, WINDOW) and not seen(17, WINDOW) and not seen(WINDOW, WINDOW)
    assert not seen(0, 5)  # too few to tell
