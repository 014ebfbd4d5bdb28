"""Memory that others take, engines that lie about theirs, loads that run out of it."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psutil
import pytest
from tests.fleet.house import MIB, House, eventually, house, script, student

from studium.engines.scripted import Fault, FaultKind, ModelScript, ScriptedEngine
from studium.errors import DoesNotFit, EngineTimeout
from studium.records.answers import MoveKind
from studium.records.messages import Ask, Message
from studium.records.models import ModelSpec, Student

QUICK = {"watch_s": 0.01, "settle_s": 0.1}


class Machine:
    """A machine of 100 MiB. `thief_mib` is what another program holds of it."""

    def __init__(self, thief_mib: int = 0) -> None:
        self.thief_mib = thief_mib
        self.most_bytes = 0

    def available(self, engine: ScriptedEngine) -> Mapping[str, int]:
        used = engine.occupied_bytes + self.thief_mib * MIB
        self.most_bytes = max(self.most_bytes, used)
        return {"memory": 100 * MIB - used}


def loaded(h: House) -> list[str]:
    return [move.model for move in h.fleet.moves_since(0) if move.kind is MoveKind.LOAD]


async def test_a_thief_makes_models_fewer_and_no_ask_fail():
    machine = Machine()
    async with house({"a": script(), "b": script()}, available=machine.available, **QUICK) as h:
        await asyncio.gather(h.ask(student("a")), h.ask(student("b")))
        machine.thief_mib = 50
        await eventually(lambda: len(h.fleet.residency.resident()) == 1)
        answers = await asyncio.gather(*(h.ask(student(name)) for name in "abab"))
        assert answers == ["hi there"] * 4
        assert h.engine.occupied_bytes <= 50 * MIB
        assert "more memory is in use" in h.fleet.moves_since(0)[-1].reason or len(loaded(h)) > 2


async def test_an_ask_waits_for_memory_a_thief_holds_and_goes_on_when_it_is_free():
    machine = Machine(thief_mib=80)
    async with house({"a": script()}, available=machine.available, **QUICK) as h:
        asking = asyncio.create_task(h.ask(student("a"), timeout_s=30))
        await eventually(lambda: len(h.fleet.residency._house.waiting) == 1)
        await eventually(lambda: h.fleet.residency.not_ours_bytes() == {"memory": 80 * MIB})
        assert not loaded(h)
        machine.thief_mib = 20
        assert await asking == "hi there"
        assert machine.most_bytes <= 100 * MIB


async def test_who_waits_in_vain_is_told_what_others_hold():
    machine = Machine(thief_mib=80)
    async with house({"a": script()}, available=machine.available, **QUICK) as h:
        with pytest.raises(EngineTimeout, match="it needs 40 MiB; other programs hold 80 MiB of the 100 MiB"):
            await h.ask(student("a"), timeout_s=0.3)


async def test_a_model_in_use_is_not_taken_away_for_a_thief():
    machine = Machine()
    async with house({"a": script()}, available=machine.available, **QUICK) as h:
        async with h.fleet.seat(student("a"), timeout_s=5):
            machine.thief_mib = 90
            await eventually(lambda: h.fleet.residency.not_ours_bytes()["memory"] == 90 * MIB)
            assert h.fleet.residency.resident() == ["a"]
        await eventually(lambda: h.fleet.residency.resident() == [])


async def test_a_real_thief_takes_a_third_of_the_budget_and_nothing_fails():
    """The thief is a process, and its memory measured; only the machine is declared to be small."""
    with thief(40) as held:

        def available(engine: ScriptedEngine) -> Mapping[str, int]:
            return {"memory": 120 * MIB - engine.occupied_bytes - held()}

        async with house(
            {name: script() for name in "abc"}, budget_mib=120, available=available, **QUICK
        ) as h:
            answers = await asyncio.gather(*(h.ask(student(name)) for name in "abcabc"))
            assert answers == ["hi there"] * 6
            assert h.most_occupied_mib <= 80
            assert h.fleet.residency.not_ours_bytes()["memory"] >= 40 * MIB


@contextmanager
def thief(megabytes: int) -> Iterator[Callable[[], int]]:
    """Run a process that fills memory; yield what measures its private memory in bytes."""
    code = f"held = bytearray(b'x' * ({megabytes} << 20)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        running = psutil.Process(process.pid)
        yield lambda: running.memory_info().rss - running.memory_info().shared
        process.communicate(b"\n", timeout=10)


# --- engines that lie ------------------------------------------------------------------------------


async def test_memory_an_engine_keeps_against_its_word_is_given_to_nobody():
    models = {"a": script(60, fault=Fault(FaultKind.KEEPS_MEMORY)), "b": script(60)}
    async with house(models, **QUICK) as h:
        await h.ask(student("a"))
        with pytest.raises(EngineTimeout, match="a's engine still holds 60 MiB that it said it gave back"):
            await h.ask(student("b"), timeout_s=1.0)
        assert h.most_occupied_mib <= 100
        unload = h.fleet.moves_since(0)[-1]
        assert unload.kind is MoveKind.UNLOAD and "still holds" in unload.reason
        assert await h.ask(student("a")) == "hi there"  # it finds itself loaded: nothing more is needed
        assert h.most_occupied_mib <= 100


async def test_memory_given_back_late_is_waited_for_and_then_used():
    late = Fault(FaultKind.GIVES_BACK_LATE, seconds=0.4)
    async with house({"a": script(60, fault=late), "b": script(60)}, **QUICK) as h:
        await h.ask(student("a"))
        assert await h.ask(student("b"), timeout_s=10) == "hi there"
        assert [event.what for event in h.engine.events if event.what in ("gave back", "load")] == [
            "load",
            "gave back",
            "load",
        ]
        assert h.most_occupied_mib <= 100
        assert h.fleet.residency.not_ours_bytes() == {"memory": 0}


async def test_memory_an_engine_hides_is_missed_on_the_machine():
    machine = Machine()
    models = {"a": script(60, fault=Fault(FaultKind.HIDES_MEMORY)), "b": script(60)}
    async with house(models, available=machine.available, **QUICK) as h:
        await h.ask(student("a"))
        with pytest.raises(EngineTimeout, match="other programs hold 60 MiB"):
            await h.ask(student("b"), timeout_s=1.0)
        assert h.most_occupied_mib <= 100


async def test_memory_an_engine_keeps_is_not_counted_a_second_time_as_somebody_elses():
    machine = Machine()
    models = {"a": script(40, fault=Fault(FaultKind.KEEPS_MEMORY)), "b": script(60)}
    async with house(models, available=machine.available, **QUICK) as h:
        await h.ask(student("a"))
        assert await h.fleet.unload(student("a").model)
        assert await h.ask(student("b")) == "hi there"
        assert h.fleet.residency.not_ours_bytes() == {"memory": 40 * MIB}
        assert machine.most_bytes <= 100 * MIB


async def test_a_model_larger_than_promised_counts_as_it_is_and_others_make_room():
    models = {"a": script(80, promised_bytes=30 * MIB), "b": script(40)}
    async with house(models, **QUICK) as h:
        await h.ask(student("b"))
        await h.ask(student("a"))
        await eventually(lambda: h.fleet.residency.resident() == ["a"])
        assert h.fleet.residency.reserved_bytes() == 80 * MIB
        assert await h.ask(student("b")) == "hi there"
        assert await h.fleet.need_bytes(student("a").model) >= 80 * MIB  # the second time it is known


# --- out of memory at load ---------------------------------------------------------------------------


def short_of_memory(times: int, **more: object) -> ModelScript:
    return script(60, fault=Fault(FaultKind.OUT_OF_MEMORY, times=times), **more)


async def test_a_load_that_runs_out_of_memory_is_tried_with_fewer_slots_and_says_so():
    async with house({"a": short_of_memory(1)}) as h:
        who = student("a", slots=4)
        assert await h.ask(who) == "hi there"
        (load,) = h.fleet.moves_since(0)
        assert "stepped down to 2 of 4 slots, since it ran out of memory" in load.reason
        assert await h.fleet.need_bytes(ModelSpec("a", "scripted", "a", slots=2)) < 65 * MIB
        asked_again = await asyncio.gather(*(h.ask(who) for _ in range(4)))
        assert asked_again == ["hi there"] * 4
        assert len(loaded(h)) == 1


async def test_the_shape_that_ran_out_of_memory_is_forecast_larger_from_then_on():
    async with house({"a": short_of_memory(1)}) as h:
        who = student("a", slots=4)
        assert await h.fleet.need_bytes(who.model) == 60 * MIB
        await h.ask(who)
        assert h.fleet.profiles.memory_bytes(who.model) == 75 * MIB


async def test_failing_again_and_again_never_prices_a_model_out_of_every_budget():
    async with house({"a": short_of_memory(99)}, budget_mib=1000) as h:
        who = student("a")
        for _ in range(12):
            with pytest.raises(DoesNotFit, match="ran out of memory"):
                await h.ask(who)
        assert await h.fleet.need_bytes(who.model) == 120 * MIB


async def test_a_model_that_never_ran_is_tried_though_others_held_more_than_their_files_said():
    greedy = {name: script(60, promised_bytes=15 * MIB) for name in "xyz"}
    async with house({**greedy, "a": script(70)}) as h:
        for name in "xyz":
            await h.ask(student(name))
        assert await h.ask(student("a")) == "hi there"


async def test_context_is_halved_only_where_the_asks_that_wait_can_do_with_it():
    async with house({"a": short_of_memory(1)}) as h:
        one = Student("a", ModelSpec("a", "scripted", "a", context_tokens=1000))
        assert await h.ask(one, least_context_tokens=400) == "hi there"
        assert "500 of 1,000 tokens of context" in h.fleet.moves_since(0)[0].reason
        await h.fleet.unload(one.model)
    async with house({"a": short_of_memory(1)}) as h:
        with pytest.raises(DoesNotFit, match="ran out of memory while it loaded"):
            await h.ask(one, least_context_tokens=600)
        assert not loaded(h)


async def test_an_ask_too_long_for_the_smaller_shape_hears_of_the_memory_not_of_its_prompt():
    async with house({"a": short_of_memory(1)}) as h:
        who = Student("a", ModelSpec("a", "scripted", "a", context_tokens=64))
        await h.ask(who, least_context_tokens=8)
        long = Ask(messages=(Message("user", "word " * 40),))
        with pytest.raises(DoesNotFit, match="32 of 64 tokens of context since its load ran out of memory"):
            await h.ask(who, ask=long)


async def test_running_out_of_memory_twice_is_a_refusal_with_its_reasons_and_others_go_on():
    async with house({"a": short_of_memory(9), "b": script(30)}) as h:
        await h.ask(student("b"))
        with pytest.raises(DoesNotFit) as refused:
            await h.ask(student("a", slots=4))
        assert "ran out of memory while it loaded, with 60 MiB set aside, also with 2 of 4 slots" in str(
            refused.value
        )
        assert "b holds 30 MiB and is idle" in refused.value.expected
        assert await h.ask(student("b")) == "hi there"
        assert h.fleet.residency.reserved_bytes() == 30 * MIB


async def test_a_shortage_others_caused_teaches_nothing_about_the_model():
    machine = Machine()
    failing = short_of_memory(9, load_s=0.05)
    async with house({"a": failing}, available=machine.available, **QUICK) as h:
        asking = asyncio.create_task(h.ask(student("a"), timeout_s=5))
        await eventually(lambda: h.fleet.residency.reserved_bytes() > 0)
        machine.thief_mib = 70  # between the measurement and the load's end
        with pytest.raises(DoesNotFit):
            await asking
        assert await h.fleet.need_bytes(student("a").model) == 60 * MIB


# --- refusals -------------------------------------------------------------------------------------------


async def test_a_time_out_names_who_is_in_the_way_and_who_uses_it():
    async with house({"a": script(60), "b": script(60)}) as h, h.fleet.seat(student("a"), timeout_s=5):
        with pytest.raises(EngineTimeout, match="it needs 60 MiB; a holds 60 MiB and is in use by 1 ask"):
            await h.ask(student("b"), timeout_s=0.2)


async def test_what_never_fits_is_told_what_would():
    async with house({"a": script(200), "b": script(40)}) as h:
        await h.ask(student("b"))
        with pytest.raises(DoesNotFit, match="needs 200 MiB, the whole budget is 100 MiB") as refused:
            await h.ask(student("a"))
        assert "models that fit: b (40 MiB)" in refused.value.expected
        assert "--memory-budget 200MiB" in refused.value.try_next
