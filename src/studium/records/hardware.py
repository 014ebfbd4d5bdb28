"""What the machine has and how much of it is in use, at one moment."""

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """How many bytes of memory models may occupy together, and where the figure comes from."""

    bytes: int
    source: str
