"""What the machine has and how much of it is in use, at one moment."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as NVML reports it."""

    name: str
    vram_total_bytes: int
    vram_used_bytes: int
    vram_free_bytes: int


@dataclass(frozen=True, slots=True)
class HardwareSnapshot:
    """Memory and load at `at` (seconds since the epoch). `gpus` is empty where NVML finds none."""

    at: float
    ram_total_bytes: int
    ram_available_bytes: int
    ram_used_bytes: int
    cpu_percent: float
    gpus: tuple[Gpu, ...] = ()


class DeviceKind(StrEnum):
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class DeviceBudget:
    """What models may occupy of one device, and where the figure comes from.

    `margin_bytes` of what is free there stay free, whoever takes memory meanwhile. `slowdown` multiplies
    the seconds of an ask: 1 where the model's forecasts hold. `gpu` is its number by NVML. `offload` says
    that it takes models meant for a GPU.
    """

    name: str
    kind: DeviceKind
    bytes: int
    source: str
    margin_bytes: int = 0
    slowdown: float = 1.0
    gpu: int | None = None
    offload: bool = False


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What of a device's budget is set aside for models and leases now, and what others hold of it, in bytes."""

    name: str
    kind: DeviceKind
    budget_bytes: int
    source: str
    reserved_bytes: int
    taken_elsewhere_bytes: int
