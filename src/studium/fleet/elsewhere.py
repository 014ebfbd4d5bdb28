"""What other programs hold of the memory that models may use, from what is free and what models hold.

    taken = budget + margin - free - ours

on each device; devices of main memory share what is free there, and what is taken is divided among them
as their budgets are. A model that is coming or going holds some amount between nothing and what was set aside
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
        for pool in _pools(self._devices):
            if pool[0].name not in available:
                continue
            names = {device.name for device in pool}
            budget = sum(device.bytes for device in pool)
            margin = max(device.margin_bytes for device in pool)
            missing = budget + margin - available[pool[0].name]
            here = [one for one in holdings if one.device in names]
            least, most = (missing - sum(one.most for one in here), missing - sum(one.least for one in here))
            taken = min(max(self._taken.get(pool[0].name, 0), least, 0), max(most, 0))
            self._taken[pool[0].name] = taken
            shown = min(taken, budget) if taken > margin * UNNOTICED_MARGIN_SHARE else 0
            noticed |= {device.name: shown * device.bytes // max(budget, 1) for device in pool}
        return noticed


def _pools(devices: Sequence[DeviceBudget]) -> list[list[DeviceBudget]]:
    """Return the devices that share their memory together: all of main memory, each GPU alone."""
    main = [device for device in devices if device.kind is DeviceKind.CPU]
    return [[device] for device in devices if device.kind is DeviceKind.GPU] + ([main] if main else [])


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


def peak_bytes(residence: Residence) -> int | None:
    """Return the most a model held where its weights are: on the GPU if any of it is there, else as resident."""
    return residence.vram_bytes or residence.peak_bytes
