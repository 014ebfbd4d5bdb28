"""Training beside questions in one memory: the holder gives way, gets its memory back, and is never killed."""

import asyncio
import logging

import pytest
from tests.fleet.house import MIB, House, eventually, house, script, student

from studium.errors import BadRequest, DoesNotFit, EngineTimeout
from studium.fleet.lease import Lease, Leases, lease_model
from studium.fleet.tenancy import Grant
from studium.records.answers import MoveKind
from studium.records.models import ModelSpec
from studium.records.scheduling import Priority


class Training:
    """A run that works in small steps, and gives way between them when it is asked to."""

    def __init__(self) -> None:
        self.steps = 0
        self.pauses = 0
        self.working = asyncio.Event()
        self.enough = asyncio.Event()

    async def run(self, h: House, mebibytes: int = 80) -> None:
        async with h.fleet.lease("sft", mebibytes * MIB) as lease:
            while not self.enough.is_set():
                self.working.set()
                if lease.asked_to_leave.is_set():
                    self.pauses += 1
                    self.working.clear()
                    await lease.pause()
                self.steps += 1
                await asyncio.sleep(0.001)


async def test_a_training_run_gives_way_to_a_question_and_goes_on_afterwards():
    async with house({"a": script(60)}, quiet_s=0.05) as h:
        training = Training()
        running = asyncio.create_task(training.run(h))
        await training.working.wait()
        assert h.fleet.residency.reserved_bytes() == 80 * MIB
        assert await h.ask(student("a")) == "hi there"
        assert training.pauses == 1
        steps = training.steps
        await eventually(lambda: training.steps > steps)
        training.enough.set()
        await running
        assert h.most_occupied_mib == 60


async def test_memory_is_never_promised_twice_while_a_run_makes_room():
    async with house({"a": script(60)}, quiet_s=0.05) as h:
        async with h.fleet.lease("sft", 80 * MIB) as lease:
            asking = asyncio.create_task(h.ask(student("a"), timeout_s=10))
            await lease.asked_to_leave.wait()
            await asyncio.sleep(0.05)
            assert h.engine.occupied_bytes == 0 and not asking.done()
            back = asyncio.create_task(lease.pause())
            assert await asking == "hi there"
            await back
            assert lease.held and not lease.asked_to_leave.is_set()
            assert h.engine.occupied_bytes == 0


async def test_a_run_takes_its_memory_back_only_when_no_question_came_for_a_while():
    async with house({"a": script(60)}, quiet_s=0.5) as h, h.fleet.lease("sft", 80 * MIB) as lease:
        asking = asyncio.create_task(h.ask(student("a"), timeout_s=10))
        await lease.asked_to_leave.wait()
        back = asyncio.create_task(lease.pause())
        await asking
        for _ in range(5):
            await h.ask(student("a"))
        assert [move.kind for move in h.fleet.moves_since(0)] == [MoveKind.LOAD]
        await back
        assert h.fleet.residency.quiet_s(Priority.TRAINING) >= 0.5


async def test_a_lease_and_models_share_memory_that_is_enough_for_both():
    async with house({"a": script(40)}) as h, h.fleet.lease("sft", 50 * MIB) as lease:
        assert await h.ask(student("a")) == "hi there"
        assert not lease.asked_to_leave.is_set()


async def test_a_lease_ends_with_its_block_also_when_that_fails():
    async with house({"a": script(90)}) as h:
        with pytest.raises(ZeroDivisionError):
            async with h.fleet.lease("sft", 80 * MIB):
                raise ZeroDivisionError
        assert h.fleet.residency.reserved_bytes() == 0
        assert await h.ask(student("a")) == "hi there"
        assert not [row for row in h.runs if "lease" in row.model]


async def test_a_run_that_does_not_leave_is_reported_and_named_to_those_who_wait(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.WARNING)
    async with house({"a": script(60)}, leave_s=0.1, quiet_s=0.05) as h:
        async with h.fleet.lease("sft", 80 * MIB) as lease:
            with pytest.raises(EngineTimeout, match="the run sft holds 80 MiB and was asked to give way"):
                await h.ask(student("a"), timeout_s=0.5)
            assert lease.held
        assert "sft was asked" in caplog.text
        assert await h.ask(student("a")) == "hi there"


async def test_a_lease_that_can_never_be_is_refused_and_its_name_free_again():
    async with house({"a": script()}) as h:
        for _ in range(2):
            with pytest.raises(DoesNotFit, match="needs 200 MiB"):
                async with h.fleet.lease("sft", 200 * MIB):
                    pass


async def test_two_leases_of_one_name_and_impossible_ones_are_refused():
    async with house({"a": script()}) as h, h.fleet.lease("sft", MIB):
        with pytest.raises(BadRequest, match="'sft' is held already"):
            async with h.fleet.lease("sft", MIB):
                pass
        for name, size in (("../x", MIB), ("", MIB), ("ok", 0)):
            with pytest.raises(BadRequest, match="lease"):
                h.fleet.lease(name, size)


async def test_equals_do_not_push_each_other_out():
    async with house({"a": script(60)}, quiet_s=0.05) as h, h.fleet.lease("sft", 80 * MIB) as lease:
        with pytest.raises(EngineTimeout):
            await h.ask(student("a"), timeout_s=0.3, priority=Priority.TRAINING)
        assert not lease.asked_to_leave.is_set()


async def test_whatever_the_moment_of_a_question_memory_is_never_held_twice():
    """Found by reasoning: a lease told to leave before its holder knew that it had it was given away under it."""
    for steps in range(30):
        async with house({"a": script(60)}, quiet_s=0.0) as h:
            leases: list[Lease] = []
            both: list[bool] = []
            h.fleet.residency.listeners.append(
                lambda move, h=h, leases=leases, both=both: both.append(
                    any(one.held for one in leases) and h.engine.occupied_bytes > 0
                )
            )

            async def train(h: House = h, leases: list[Lease] = leases) -> None:
                async with h.fleet.lease("sft", 80 * MIB, timeout_s=10) as lease:
                    leases.append(lease)
                    for _ in range(200):
                        if lease.asked_to_leave.is_set():
                            await lease.pause()
                        await asyncio.sleep(0)

            running = asyncio.create_task(train())
            for _ in range(steps):
                await asyncio.sleep(0)
            assert await h.ask(student("a"), timeout_s=10) == "hi there"
            await running
            assert not any(both)


class Hasty:
    """Residency at its quickest: it seats a lease and tells it to leave before its holder has awoken."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.unloading: asyncio.Task[None] | None = None

    async def take(self, model: ModelSpec, *, priority: Priority, timeout_s: float) -> Grant:
        await self.leases.load(model, timeout_s=timeout_s)
        self.unloading = asyncio.create_task(self.leases.unload(model))
        await asyncio.sleep(0)
        return Grant(0.0, model)

    def give_back(self, model: ModelSpec, *, died: bool = False) -> None: ...

    async def evict(self, name: str, *, timeout_s: float = 30.0) -> bool:
        return True

    def quiet_s(self, above: Priority) -> float:
        return 60.0


async def test_a_holder_told_to_leave_before_it_knew_it_was_seated_still_hears_of_it():
    leases = Leases(leave_s=5.0, quiet_s=0.0)
    residency = Hasty(leases)
    lease = Lease(leases, residency, lease_model("sft", MIB, on_gpu=False), Priority.TRAINING, 5.0)
    async with lease:
        assert lease.asked_to_leave.is_set()
        assert residency.unloading is not None and not residency.unloading.done()
    await asyncio.wait_for(residency.unloading, 60.0)


async def test_a_closing_fleet_waits_for_no_holder():
    async with house({"a": script(60)}, quiet_s=0.05) as h:
        lease: Lease = h.fleet.lease("sft", 80 * MIB)
        await lease.__aenter__()
    assert lease.held
