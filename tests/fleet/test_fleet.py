"""The fleet on scripted models: bounded memory, seats, failures, and nothing left behind."""

import asyncio

import pytest
from tests.fleet.house import MIB, house, script, student

from studium.engines.scripted import Fault, FaultKind
from studium.errors import DoesNotFit, EngineDied, EngineTimeout, ModelBroken
from studium.fleet.plan import plan
from studium.fleet.situation import Evict, Move, Situation, TenantState
from studium.records.answers import MoveKind
from studium.records.models import ModelSpec, Student


async def test_five_students_answer_in_memory_for_two_and_the_budget_holds():
    async with house({name: script() for name in "abcde"}) as h:
        answers = await asyncio.gather(*(h.ask(student(name)) for name in "abcde"))
        assert answers == ["hi there"] * 5
        assert h.most_occupied_mib <= 100
        assert {move.model for move in h.fleet.moves_since(0) if move.kind is MoveKind.LOAD} == set("abcde")


async def test_no_more_models_at_once_than_allowed_though_memory_has_room():
    async with house({name: script(10) for name in "abc"}, max_models=1) as h:
        answers = await asyncio.gather(*(h.ask(student(name)) for name in "abcabc"))
        assert answers == ["hi there"] * 6
        assert h.most_occupied_mib == 10


async def test_who_is_in_use_is_left_in_memory_whatever_is_planned():
    """Found by the simulator: one plan seated an ask at a model and evicted the model."""

    def hasty(situation: Situation) -> list[Move]:
        staying = [tenant for tenant in situation.tenants if tenant.state is TenantState.RESIDENT]
        return [*plan(situation), *(Evict(tenant.model, "a mistake") for tenant in staying)]

    async with house({"a": script(first_token_s=0.05)}, planner=hasty) as h:
        assert await h.ask(student("a")) == "hi there"
        assert [run.error_code for run in h.runs] == [""]


async def test_two_students_of_one_model_share_its_place():
    model = ModelSpec("shared", "scripted", "shared", slots=2)
    async with house({"shared": script(90)}) as h:
        await asyncio.gather(h.ask(Student("x", model)), h.ask(Student("y", model)))
        assert [event.what for event in h.engine.events].count("load") == 1


async def test_a_model_stays_in_memory_between_asks():
    async with house({"a": script()}) as h:
        await h.ask(student("a"))
        await h.ask(student("a"))
        assert [event.what for event in h.engine.events].count("load") == 1
        assert [run.load_seconds > 0 for run in h.runs] == [True, False]


async def test_what_can_never_fit_is_refused_with_both_numbers():
    async with house({"a": script(200)}) as h:
        with pytest.raises(DoesNotFit, match="needs 200 MiB, the whole budget is 100 MiB"):
            await h.ask(student("a"))


async def test_a_broken_model_fails_its_own_asks_and_nobody_elses():
    broken = script(fault=Fault(FaultKind.CRASH_AT_LOAD))
    async with house({"a": broken, "b": script()}) as h:
        results = await asyncio.gather(h.ask(student("a")), h.ask(student("b")), return_exceptions=True)
        assert isinstance(results[0], ModelBroken)
        assert results[1] == "hi there"
        assert h.fleet.residency.reserved_bytes() == 40 * MIB


async def test_a_model_that_dies_is_loaded_again_for_the_next_ask():
    async with house({"a": script(fault=Fault(FaultKind.CRASH, after_tokens=1, times=1))}) as h:
        with pytest.raises(EngineDied):
            await h.ask(student("a"))
        assert await h.ask(student("a")) == "hi there"
        assert [run.error_code for run in h.runs] == ["engine_died", ""]


async def test_a_seat_is_not_waited_for_longer_than_allowed():
    async with house({"a": script(90), "b": script(90)}) as h, h.fleet.seat(student("a"), timeout_s=5):
        with pytest.raises(EngineTimeout, match="no place in memory"):
            await h.ask(student("b"), timeout_s=0.05)
        assert h.fleet.residency.resident() == ["a"]


async def test_a_load_nobody_wants_any_more_is_stopped_and_its_memory_counted_free():
    async with house({"a": script(90, fault=Fault(FaultKind.HANG_AT_LOAD)), "b": script(90)}) as h:
        asking = asyncio.create_task(h.ask(student("a"), timeout_s=30))
        while not h.fleet.residency.reserved_bytes():
            await asyncio.sleep(0)
        asking.cancel()
        assert await h.ask(student("b")) == "hi there"
        assert [event.model for event in h.engine.events if event.what == "load"] == ["b"]


async def test_an_ask_that_is_cancelled_in_its_seat_gives_the_place_back():
    slow = script(90, first_token_s=30.0)
    async with house({"a": slow, "b": script(90)}) as h:
        asking = asyncio.create_task(h.ask(student("a"), timeout_s=30))
        while not any(event.what == "ask" for event in h.engine.events):
            await asyncio.sleep(0)
        asking.cancel()
        assert await h.ask(student("b")) == "hi there"
        assert h.runs[0].error_code == "withdrawn"
        assert h.fleet.profiles.of(student("a").model).failures == 0


async def test_cancelling_at_any_moment_never_loses_a_place():
    """Found by reasoning: an ask withdrawn in the very step in which it was granted kept its slot for ever."""
    async with house({"a": script(90, load_s=0.001), "b": script(90, load_s=0.001)}) as h:
        for steps in range(40):
            asking = asyncio.create_task(h.ask(student("ab"[steps % 2]), timeout_s=30))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert await h.ask(student("a")) == "hi there"
        assert await h.ask(student("b")) == "hi there"


async def test_a_blocked_model_gets_its_turn_though_others_keep_coming():
    async with house({"a": script(90, first_token_s=0.005), "b": script(90)}, patience_s=0.05) as h:
        await h.fleet.load(student("b"))  # what a swap costs is known
        stop = asyncio.Event()

        async def hog() -> None:
            while not stop.is_set():
                await h.ask(student("a"))

        hogs = [asyncio.create_task(hog()) for _ in range(3)]
        await h.ask(student("a"))
        assert await h.ask(student("b"), timeout_s=4) == "hi there"
        stop.set()
        await asyncio.gather(*hogs)


async def test_learned_memory_replaces_the_estimate():
    async with house({"a": script(40, peak_bytes=60 * MIB)}) as h:
        model = student("a").model
        assert await h.fleet.residency.need_bytes(model) == 60 * MIB  # the engine's estimate
        await h.ask(student("a"))
        assert 60 * MIB <= await h.fleet.residency.need_bytes(model) < 70 * MIB
        for _ in range(3):
            await h.ask(student("a"))
        assert 60 * MIB <= await h.fleet.residency.need_bytes(model) < 65 * MIB


async def test_unloading_by_name_waits_for_nobody_who_uses_it():
    async with house({"a": script()}) as h:
        await h.fleet.load(student("a"))
        async with h.fleet.seat(student("a"), timeout_s=5):
            assert not await h.fleet.unload(student("a").model)
        assert await h.fleet.unload(student("a").model)
        assert h.engine.occupied_bytes == 0
