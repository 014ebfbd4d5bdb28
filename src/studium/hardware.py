"""What this machine has and what of it is free, read when asked.

Memory is the smaller of what the machine and what the control group (a container's limit) leave. GPUs
come from NVML, which is imported only here and whose absence is an ordinary answer: no GPU.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from studium.records.hardware import DeviceBudget, DeviceKind, Gpu, HardwareSnapshot

MAIN_MEMORY = "memory"
# What an ask is taken to need longer on the processor than on a GPU, until both were measured.
CPU_SLOWDOWN = 8.0
CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP_OF_THIS_PROCESS = Path("/proc/self/cgroup")


class Memory(NamedTuple):
    """Bytes of memory: all there is, and what could still be taken without swapping."""

    total: int
    available: int


def snapshot() -> HardwareSnapshot:
    """Read memory, processor load since the last call (0 at the first) and GPUs. Takes milliseconds."""
    ram = read_memory()
    return HardwareSnapshot(
        at=time.time(),
        ram_total_bytes=ram.total,
        ram_available_bytes=ram.available,
        ram_used_bytes=ram.total - ram.available,
        cpu_percent=psutil.cpu_percent(interval=None),
        gpus=read_gpus(),
    )


def detect_devices(margin_bytes: int, now: HardwareSnapshot) -> tuple[DeviceBudget, ...]:
    """Return every GPU, the roomiest first, then main memory, each with what is free less `margin_bytes`.

    Beside a GPU main memory takes models that find no place there, and is CPU_SLOWDOWN times as slow.
    """
    gpus = [
        DeviceBudget(
            f"gpu{number}",
            DeviceKind.GPU,
            max(0, gpu.vram_free_bytes - margin_bytes),
            f"free memory of {gpu.name}, less the margin",
            margin_bytes,
            gpu=number,
        )
        for number, gpu in enumerate(now.gpus)
    ]
    gpus.sort(key=lambda device: -device.bytes)
    memory = DeviceBudget(
        MAIN_MEMORY,
        DeviceKind.CPU,
        max(0, now.ram_available_bytes - margin_bytes),
        "free main memory, less the margin",
        margin_bytes,
        slowdown=CPU_SLOWDOWN if gpus else 1.0,
        offload=bool(gpus),
    )
    return (*gpus, memory)


def available_bytes(devices: Sequence[DeviceBudget]) -> dict[str, int]:
    """Return what is free on each device now, main memory's for all that share it. Takes milliseconds."""
    gpus = read_gpus() if any(device.kind is DeviceKind.GPU for device in devices) else ()
    free: dict[str, int] = {}
    for device in devices:
        if device.kind is DeviceKind.CPU:
            free[device.name] = read_memory().available
        elif device.gpu is not None and device.gpu < len(gpus):
            free[device.name] = gpus[device.gpu].vram_free_bytes
    return free


def read_memory(root: Path = CGROUP_ROOT, membership: Path = CGROUP_OF_THIS_PROCESS) -> Memory:
    """Return the memory this process can count on, control groups included."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in _memory_groups(root, membership):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        if limit is None or limit >= machine.total:
            continue
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
        total = min(total, limit)
        available = min(available, max(0, limit - used + _reclaimable(group)))
    return Memory(total, min(available, total))


def read_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs NVML knows, in its order; empty where there is no driver or no GPU."""
    if sys.platform == "darwin":
        return ()
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(_gpu(pynvml, handle) for handle in handles)
    except pynvml.NVMLError:
        return ()
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name),
        vram_total_bytes=int(memory.total),
        vram_used_bytes=int(memory.used),
        vram_free_bytes=int(memory.free),
    )


def _memory_groups(root: Path, membership: Path) -> list[Path]:
    """Return this process's control group and all above it: the tightest limit holds."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    groups: list[Path] = []
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers not in {"", "memory"}:
            continue
        base = root / "memory" if controllers else root
        parts = [part for part in path.split("/") if part not in {"", ".."}]
        groups += [base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return groups


def _number(path: Path) -> int | None:
    """Return the number in a control file; None for "max" or where it cannot be read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(group: Path) -> int:
    """Return the file cache, which counts as used and is there for the taking, as in the kernel's MemAvailable.

    Models that are mapped from their files are part of it.
    """
    try:
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return sum(
            int(fields.get(name) or fields.get(f"total_{name}") or 0)
            for name in ("inactive_file", "active_file")
        )
    except (OSError, ValueError):
        return 0
