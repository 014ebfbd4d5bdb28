"""The first phase of a cycle: what the machine has, and how much of it models may use now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studium.records.hardware import DeviceBudget, DeviceKind, HardwareSnapshot


@dataclass(frozen=True, slots=True)
class Room:
    """What a cycle finds: the machine, the bytes its models may occupy together, and where that figure comes from.

    `largest_bytes` is the most on any one device: no model may need more.
    """

    hardware: HardwareSnapshot
    bytes: int
    largest_bytes: int
    source: str


def measure_room(
    hardware: HardwareSnapshot, devices: Sequence[DeviceBudget], held_bytes: Mapping[str, int]
) -> Room:
    """Return the room for models: every device's budget, or less where other programs took some of it.

    `held_bytes`, by device, is what our own models occupy: they can be asked to leave. The margin stays free of
    what is measured as free; it is not taken from a budget a second time.
    """
    rooms = [_room(hardware, device, held_bytes.get(device.name, 0)) for device in devices]
    taken = any(room < device.bytes for room, device in zip(rooms, devices, strict=True))
    sources = ", ".join(dict.fromkeys(device.source for device in devices))
    return Room(
        hardware,
        sum(rooms),
        max(rooms, default=0),
        f"{sources}; other programs hold part of it" if taken else sources,
    )


def _room(hardware: HardwareSnapshot, device: DeviceBudget, held_bytes: int) -> int:
    free = hardware.ram_available_bytes
    if device.kind is DeviceKind.GPU:
        if device.gpu is None or device.gpu >= len(hardware.gpus):
            return device.bytes
        free = hardware.gpus[device.gpu].vram_free_bytes
    return max(0, min(device.bytes, free + held_bytes - device.margin_bytes))
