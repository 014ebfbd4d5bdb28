"""The first phase of a cycle: what the machine has, and how much of it models may use now."""

from dataclasses import dataclass

from studium.records.hardware import HardwareSnapshot, MemoryBudget


@dataclass(frozen=True, slots=True)
class Room:
    """What a cycle finds: the machine, the bytes its models may occupy together, and where that figure comes from."""

    hardware: HardwareSnapshot
    bytes: int
    source: str


def measure_room(
    hardware: HardwareSnapshot, held_bytes: int, budget: MemoryBudget, margin_bytes: int, *, declared: bool
) -> Room:
    """Return the room for models: the budget, or less where other programs took some of it meanwhile.

    `held_bytes` is what our own models occupy: they can be asked to leave. A declared budget is used whole; from
    what was detected the margin stays free.
    """
    free = max((gpu.vram_free_bytes for gpu in hardware.gpus), default=hardware.ram_available_bytes)
    there = free + held_bytes - (0 if declared else margin_bytes)
    if there >= budget.bytes:
        return Room(hardware, budget.bytes, budget.source)
    return Room(hardware, max(0, there), "what other programs leave free of it now")
