"""Several devices: where models may live, in what shape, and that no device holds more than it has."""

import asyncio
from dataclasses import replace

import pytest
from tests.fleet.house import MIB, House, house, script, student

from studium.errors import DoesNotFit
from studium.fleet.limits import homes_of, placed, stepped_down
from studium.fleet.profiles import profile_key
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.models import Capabilities, ModelSpec, Residence
from studium.records.runs import StudentRun

CARD = DeviceBudget("card", DeviceKind.GPU, 8 * MIB, "for a test", gpu=1)
SECOND = DeviceBudget("second", DeviceKind.GPU, 8 * MIB, "for a test", gpu=0)
RAM = DeviceBudget("ram", DeviceKind.CPU, 8 * MIB, "for a test", slowdown=8.0, offload=True)
OBEYS = Capabilities(manages_memory=True, places_models=True)
LAYERED = ModelSpec("a", "llamacpp", "a.gguf", gpu_layers=99)
PLAIN = ModelSpec("b", "llamacpp", "b.gguf")


def names(model: ModelSpec, *devices: DeviceBudget, capabilities: Capabilities = OBEYS) -> list[str]:
    return [home.name for home in homes_of(model, capabilities, devices)]


def test_layers_for_the_gpu_prefer_every_gpu_and_may_go_to_main_memory():
    assert names(LAYERED, CARD, SECOND, RAM) == ["card", "second", "ram"]


def test_a_model_without_layers_for_the_gpu_stays_in_main_memory_while_there_is_any():
    assert names(PLAIN, CARD, SECOND, RAM) == ["ram"]
    assert names(PLAIN, CARD, SECOND) == ["card", "second"]


def test_an_engine_that_decides_by_itself_is_counted_on_the_first_device():
    assert names(LAYERED, CARD, RAM, capabilities=Capabilities(manages_memory=True)) == ["card"]


def test_a_model_is_started_on_the_chosen_gpu_or_without_its_layers():
    assert placed(LAYERED, CARD).gpu == 1
    offloaded = placed(LAYERED, RAM)
    assert (offloaded.gpu, offloaded.gpu_layers) == (None, 0)
    assert profile_key(placed(LAYERED, CARD), "card") != profile_key(placed(LAYERED, SECOND), "second")


def test_stepping_down_halves_slots_then_context_and_stops_at_what_is_needed():
    four = replace(PLAIN, slots=4, context_tokens=1024)
    assert stepped_down(four, None) == replace(four, slots=2)
    one = replace(four, slots=1)
    assert stepped_down(one, 512) == replace(one, context_tokens=512)
    assert stepped_down(one, 513) is None
    assert stepped_down(one, None) is None


def two_devices(first_mib: int, second_mib: int) -> dict[str, object]:
    return {
        "devices": (
            DeviceBudget("near", DeviceKind.CPU, first_mib * MIB, "for a test"),
            DeviceBudget("far", DeviceKind.CPU, second_mib * MIB, "for a test"),
        )
    }


def held(h: House, device: str, size_mib: int) -> int:
    return size_mib * sum(where == device for where in h.fleet.residency.whereabouts().values())


async def test_models_spread_over_devices_and_none_holds_more_than_it_has():
    async with house({name: script(40) for name in "abcd"}, **two_devices(50, 90)) as h:
        most = {"near": 0, "far": 0}

        def note(_: object) -> None:
            for device, so_far in most.items():
                most[device] = max(so_far, held(h, device, 40))

        h.fleet.residency.listeners.append(note)
        answers = await asyncio.gather(*(h.ask(student(name)) for name in "abcdabcd"))
        assert answers == ["hi there"] * 8
        assert most == {"near": 40, "far": 80}
        assert len(h.fleet.residency.resident()) == 3


async def test_a_model_goes_where_it_fits_and_is_refused_where_it_fits_nowhere():
    async with house({"a": script(80), "b": script(95)}, **two_devices(50, 90)) as h:
        await h.ask(student("a"))
        assert h.fleet.residency.whereabouts() == {"a": "far"}
        with pytest.raises(DoesNotFit, match="needs 95 MiB, the largest device's budget is 90 MiB"):
            await h.ask(student("b"))


async def test_what_is_learned_belongs_to_the_device():
    async with house({"a": script(40)}, **two_devices(50, 90)) as h:
        await h.ask(student("a"))
        model = student("a").model
        assert h.fleet.profiles.of(model, "near").runs == 1
        assert h.fleet.profiles.of(model, "far").runs == 0
        assert h.runs[0].model == profile_key(model, "near")


async def test_how_slow_a_device_is_is_learned_and_replaces_what_was_declared():
    """Told that the second is as fast, the fleet learns better from runs there."""
    async with house({"a": script(40), "b": script(40)}, **two_devices(50, 90)) as h:
        model, quick, slow = student("a").model, 0.5, 2.0
        for device, seconds in (("near", quick), ("far", slow)):
            run = StudentRun("a", "key", 0.0, seconds, True, memory_bytes=40 * MIB, completion_tokens=10)
            for _ in range(3):
                h.fleet.profiles.ran(model, run, generate_seconds=seconds, device=device)
        near, far = h.fleet.residency.places(model)
        assert (near.device, near.slowdown) == ("near", 1.0)
        assert far.slowdown == pytest.approx(slow / quick, rel=0.2)
        assert h.fleet.run_seconds(student("a")) == pytest.approx(quick, rel=0.2)


async def test_a_model_whose_engine_places_it_is_counted_where_it_is():
    devices = (
        DeviceBudget("card", DeviceKind.GPU, 50 * MIB, "for a test", gpu=0),
        DeviceBudget("ram", DeviceKind.CPU, 100 * MIB, "for a test", offload=True),
    )
    async with house({"a": script(40), "b": script(40)}, devices=devices) as h:
        h.engine.capabilities = Capabilities(manages_memory=True)  # as Ollama, which chooses by itself
        load = h.engine.load

        async def chosen(model: ModelSpec, *, timeout_s: float) -> Residence:
            residence = await load(model, timeout_s=timeout_s)
            return replace(residence, vram_bytes=residence.resident_bytes if model.name == "b" else 0)

        h.engine.load = chosen  # type: ignore[method-assign]
        for _ in range(2):
            await h.ask(student("a"))
            await h.ask(student("b"))
            assert h.fleet.residency.whereabouts() == {"a": "ram", "b": "card"}
            await h.fleet.unload(student("a").model)
        assert [one.reserved_bytes for one in h.fleet.devices()] == [40 * MIB, 0]
