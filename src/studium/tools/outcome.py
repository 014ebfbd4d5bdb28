"""What a program in the sandbox may take, and what became of it."""

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """How a program ended. As its process tells it: a program may pretend to have failed or to lack memory."""

    DONE = "done"
    FAILED = "failed"
    TIME = "time"
    MEMORY = "memory"
    OUTPUT = "output"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may take. It cannot start processes or threads, so these hold for all it does.

    `memory_bytes` is address space, the interpreter's 40 MB among it; `output_bytes` is stdout and stderr together.
    """

    cpu_s: int = 2
    wall_s: float = 4.0
    memory_bytes: int = 256 * 1024**2
    output_bytes: int = 64 * 1024
    file_bytes: int = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program; `reason` says why it was refused, `exit_code` is negative for a signal."""

    fate: Fate
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    reason: str = ""
