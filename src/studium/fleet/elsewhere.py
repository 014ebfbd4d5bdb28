"""What other programs hold of the memory that models may use, from what is free and what models hold.

    taken = budget + margin - free - ours

on each device. A model that is coming or going holds some amount between nothing and what was set aside
for it, so while one does, `taken` is only known to lie between two bounds: it stays what it was, or moves
to the nearer bound. Memory that a process shares with the page cache counts as free, as the kernel has it.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.models import Residence

# The margin is there to absorb what comes and goes: others are noticed once they hold this share of it.
UNNOTICED_MARGIN_SHARE = 0.25


class Holding(NamedTuple):
    """What one model holds of one device: between `least` and `most` bytes."""

    device: str
    least: int
    most: int


class Elsewhere:
    """Remembers what other programs hold of each device's budget, from one measurement to the next."""

    def __init__(self, devices: Sequence[DeviceBudget]) -> None:
        self._devices = devices
        self._taken: dict[str, int] = {}

    def measured(self, available: Mapping[str, int], ours: Iterable[Holding]) -> dict[str, int]:
        """Take in what is free, by device, and what models hold; return what others hold of each budget.

        Devices without a measurement are left out.
        """
        holdings = list(ours)
        noticed: dict[str, int] = {}
        for device in self._devices:
            if device.name not in available:
                continue
            missing = device.bytes + device.margin_bytes - available[device.name]
            here = [one for one in holdings if one.device == device.name]
            least, most = (missing - sum(one.most for one in here), missing - sum(one.least for one in here))
            taken = min(max(self._taken.get(device.name, 0), least, 0), max(most, 0))
            self._taken[device.name] = taken
            slack = device.margin_bytes * UNNOTICED_MARGIN_SHARE
            noticed[device.name] = min(taken, device.bytes) if taken > slack else 0
        return noticed


def held_bytes(residence: Residence, kind: DeviceKind) -> int | None:
    """Return what a model holds of a device's free memory; None where nobody can tell. Reads /proc."""
    if kind is DeviceKind.GPU:
        return residence.vram_bytes
    if residence.resident_bytes is None or residence.pid is None or sys.platform != "linux":
        return residence.resident_bytes
    import psutil

    with suppress(psutil.Error):
        memory = psutil.Process(residence.pid).memory_info()
        return max(0, memory.rss - memory.shared)
    return None
