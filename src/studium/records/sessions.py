"""Facts of a research session: what was asked for, what a cycle decided, and what each run came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from studium.records.runs import StudentRun


class SessionState(StrEnum):
    """Where a session stands. RUNNING without a living owner means that it was interrupted."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What the user asked for. `duration_s` counts only time that ran.

    `token_budget` bounds the generated tokens of the whole session; None: no bound. `learn` False keeps to
    declared figures and roster order for ever (for comparisons).
    """

    name: str
    topic: str
    students: tuple[str, ...]
    duration_s: float
    max_cycles: int | None = None
    token_budget: int | None = None
    seed: int = 0
    learn: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """One student's place in a cycle: how much it may say, for how long, and why it stands where it does.

    `expected_s` is what the run is expected to take, its load included; None where nothing is known.
    """

    student: str
    max_tokens: int
    timeout_s: float
    reason: str
    expected_s: float | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A student that does not run in a cycle, and why."""

    student: str
    reason: str


@dataclass(frozen=True, slots=True)
class CyclePlan:
    """Who runs in a cycle, in this order, and who does not."""

    cycle: int
    turns: tuple[Turn, ...]
    skips: tuple[Skip, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionRun:
    """One run of one student in one cycle, with what it proposed and what that was judged to be worth.

    `asked_at` is in seconds since the epoch. `queue_seconds` is the wait for a place, loads excluded;
    `run.load_seconds` the wait for its own load; `run_seconds` the generation alone. `score` None and
    `useful` False where nothing was judged. `max_tokens` is what it was allowed to say.
    """

    run: StudentRun
    asked_at: float
    priority: str
    queue_seconds: float
    run_seconds: float
    max_tokens: int
    subject: str
    prompt: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    finish: str = ""
    reply: str = ""
    error: str = ""
    score: float | None = None
    useful: bool = False
    keys: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CycleSummary:
    """What a cycle yielded. `seconds` counts time that ran; `ended` is False while it is under way."""

    cycle: int
    seconds: float
    ended: bool
    runs: int
    failed: int
    useful: int
    tokens: int
    plan: CyclePlan

    @property
    def useful_per_hour(self) -> float | None:
        """Useful proposals per hour, or None before any time has run."""
        return 3600 * self.useful / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session at a glance. `owner_pid` is the process that runs it now, None where none does."""

    plan: SessionPlan
    state: SessionState
    reason: str
    prefix: str
    title: str
    created_at: float
    active_seconds: float
    cycles: int
    runs: int
    failed: int
    useful: int
    tokens: int
    owner_pid: int | None = None

    @property
    def interrupted(self) -> bool:
        """Whether it counts as running although no process runs it."""
        return self.state is SessionState.RUNNING and self.owner_pid is None
