"""How much memory models may use now, on one device or several."""

from dataclasses import replace

from tests.serve.sessions.house import roomy

from studium.records.hardware import DeviceBudget, DeviceKind, Gpu
from studium.serve.sessions.room import measure_room

GB = 10**9
CARD = DeviceBudget("card", DeviceKind.GPU, 11 * GB, "free memory of card", margin_bytes=GB, gpu=0)
MEMORY = DeviceBudget("memory", DeviceKind.CPU, 4 * GB, "declared", margin_bytes=0)


def with_gpus(*free: int):
    return replace(roomy(), gpus=tuple(Gpu("g", 12 * GB, 12 * GB - one, one) for one in free))


def test_a_budget_that_is_there_is_used_whole_and_no_margin_is_taken_from_it():
    assert measure_room(with_gpus(12 * GB), [CARD], {}).bytes == 11 * GB


def test_what_others_took_is_missing_and_the_margin_stays_free():
    room = measure_room(with_gpus(6 * GB), [CARD], {})
    assert room.bytes == 5 * GB
    assert "other programs hold part of it" in room.source


def test_what_our_own_models_hold_is_room():
    assert measure_room(with_gpus(2 * GB), [CARD], {"card": 10 * GB}).bytes == 11 * GB


def test_of_several_devices_one_model_fits_the_largest():
    cards = [CARD, replace(CARD, name="second", gpu=1)]
    room = measure_room(with_gpus(12 * GB, 4 * GB), [*cards, MEMORY], {})
    assert (room.bytes, room.largest_bytes) == (11 * GB + 3 * GB + 4 * GB, 11 * GB)


def test_a_gpu_that_cannot_be_read_is_taken_at_its_word():
    assert measure_room(roomy(), [CARD], {}).bytes == 11 * GB
