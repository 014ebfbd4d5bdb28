"""What is announced is loaded ahead, kept, forgotten, and never in anybody's way."""

import asyncio

from tests.fleet.house import House, eventually, house, script, student

from studium.fleet import Coming
from studium.records.answers import MoveKind
from studium.records.scheduling import Priority

SLOW_LOAD_S = 0.3


def loads(h: House) -> list[str]:
    return [move.model for move in h.fleet.moves_since(0) if move.kind is MoveKind.LOAD]


async def knowing(h: House, *names: str) -> None:
    """Let models be loaded and unloaded once, so that their cost is known."""
    for name in names:
        await h.ask(student(name))
        assert await h.fleet.unload(student(name).model)


async def test_an_expected_model_is_loaded_ahead_and_the_ask_finds_it_there():
    async with house({"a": script(load_s=SLOW_LOAD_S)}) as h:
        await knowing(h, "a")
        with h.fleet.expect([Coming(student("a"), 2.0)]):
            await eventually(lambda: h.fleet.residency.resident() == ["a"])
            await h.ask(student("a"))
        assert loads(h) == ["a", "a"]
        assert h.runs[-1].load_seconds == 0.0


async def test_a_load_only_an_expectation_wanted_is_stopped_when_it_is_withdrawn():
    async with house({"a": script(load_s=SLOW_LOAD_S)}) as h:
        await knowing(h, "a")
        expectation = h.fleet.expect([Coming(student("a"), 2.0)])
        await eventually(lambda: h.fleet.residency.reserved_bytes() > 0)
        expectation.withdraw()
        await eventually(lambda: h.fleet.residency.reserved_bytes() == 0)
        assert loads(h) == ["a"]


async def test_a_model_nobody_ever_loaded_and_one_that_loads_in_no_time_are_not_loaded_ahead():
    async with house({"never": script(load_s=SLOW_LOAD_S), "quick": script(), "c": script(10)}) as h:
        await knowing(h, "quick")
        with h.fleet.expect([Coming(student("never"), 1.0), Coming(student("quick"), 1.0)]):
            for _ in range(20):
                await h.ask(student("c"))
            await asyncio.sleep(0.05)
            assert h.fleet.residency.resident() == ["c"]


async def test_nobody_who_asks_waits_for_what_is_only_expected():
    async with house({"a": script(60, load_s=SLOW_LOAD_S), "b": script(60)}) as h:
        await knowing(h, "a", "b")
        with h.fleet.expect([Coming(student("a"), 5.0)]):
            await eventually(lambda: h.fleet.residency.reserved_bytes() > 0)
            assert await h.ask(student("b")) == "hi there"


async def test_the_longest_wait_is_nothing_where_a_place_is_free_and_grows_with_the_class():
    async with house({"a": script(60), "b": script(60)}) as h:
        assert h.fleet.wait_bound_s(student("a")) > 0
        await h.ask(student("a"))
        assert h.fleet.wait_bound_s(student("a")) == 0
        interactive = h.fleet.wait_bound_s(student("b"))
        assert 0 < interactive < h.fleet.wait_bound_s(student("b"), Priority.CAMPAIGN)
