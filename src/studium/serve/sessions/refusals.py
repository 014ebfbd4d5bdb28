"""What is said when a session cannot go on, or is slow (requirement SES-10): with numbers and the next command."""

import psutil

from studium.errors import DoesNotFit, StudiumError, UnknownModel
from studium.records.hardware import HardwareSnapshot
from studium.records.models import Student

MIB = 2**20
SLOW_SECONDS = 60.0
_BUSY_CPU_PERCENT = 90.0
_LONG_ANSWER_TOKENS = 400
_LITTLE_RAM_SHARE = 0.05


def nothing_fits(needs: dict[str, int], room_bytes: int, budget_source: str, name: str) -> DoesNotFit:
    """Return the refusal where no model fits: what would, and which programs hold the memory."""
    smallest = min(needs, key=lambda student: needs[student])
    holders = ", ".join(f"{who} {size / MIB:,.0f} MiB" for who, size in largest_processes())
    return DoesNotFit(
        f"no student fits: the smallest, {smallest}, needs {needs[smallest] / MIB:,.0f} MiB, and "
        f"{room_bytes / MIB:,.0f} MiB is free for models ({budget_source})",
        expected=f"room for one model; most memory is held by {holders or 'programs that cannot be seen'}",
        try_next=(
            f"end one of those, or raise fleet.memory_budget to {-(-needs[smallest] // MIB)}MiB or more, then: "
            f"studium session resume {name}"
        ),
    )


def largest_processes(most: int = 3) -> list[tuple[str, int]]:
    """Return the programs that hold the most resident memory, as (name and process id, bytes)."""
    sizes: list[tuple[str, int]] = []
    for process in psutil.process_iter(["name", "memory_info"]):
        memory = process.info.get("memory_info")
        if memory is not None:
            sizes.append((f"{process.info.get('name') or '?'} ({process.pid})", memory.rss))
    return sorted(sizes, key=lambda pair: -pair[1])[:most]


def model_missing(student: Student, error: UnknownModel) -> UnknownModel:
    """Return the refusal of a model that is not there, with the command that creates it."""
    commands = {
        "ollama": "create it with: studium students create",
        "llamacpp": f"put a GGUF file at {student.model.source}, or correct `source` in studium.yaml",
    }
    return UnknownModel(
        f"{student.name}'s model {student.model.source!r} is not there: {error.happened}",
        expected=error.expected or "a model its engine can load",
        try_next=commands.get(student.model.engine) or error.try_next or "see: studium models",
    )


def why_slow(
    student: Student, seconds: float, load_seconds: float, tokens: int, hardware: HardwareSnapshot
) -> StudiumError:
    """Return the likely causes of a generation over a minute, those with evidence first."""
    causes: list[str] = []
    local = student.model.engine in {"llamacpp", "scripted"}
    if load_seconds > seconds:
        causes.append(
            f"its model had to be loaded first ({load_seconds:.0f} s): a larger fleet.memory_budget keeps it"
        )
    if local and hardware.gpus and student.model.gpu_layers == 0:
        causes.append("it runs on the processor although there is a GPU: set gpu_layers")
    if hardware.ram_available_bytes < _LITTLE_RAM_SHARE * hardware.ram_total_bytes:
        causes.append("main memory is nearly full, so the system may be swapping: end other programs")
    if hardware.cpu_percent > _BUSY_CPU_PERCENT:
        causes.append(
            f"the processor is {hardware.cpu_percent:.0f} % busy: end other programs, or raise threads"
        )
    if tokens > _LONG_ANSWER_TOKENS:
        causes.append(f"its answer is long ({tokens} tokens): lower sampling.max_tokens")
    causes.append("the model is large for this machine: choose a smaller one or a smaller quantisation")
    listed = "; ".join(f"{number}. {cause}" for number, cause in enumerate(causes, start=1))
    return StudiumError(
        f"{student.name} took {seconds:.0f} s to answer",
        expected=f"under {SLOW_SECONDS:.0f} s; likely causes, in order: {listed}",
        try_next="see what this machine has: studium doctor",
    )
