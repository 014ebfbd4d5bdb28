"""A job: work that outlives the process that asked for it, as a row that whoever comes next takes up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """How a job stands. Those before DONE are open: some process has to bring them on.

    A halted one was stopped by a watcher, a stopped one because somebody wanted that: both can go on.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    HALTED = "halted"
    FAILED = "failed"

    @property
    def open(self) -> bool:
        return self in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `request` is all it was told; `kind` says who carries it out.

    `token` grows each time a process is begun for it: what an earlier one writes is refused. `process` is that of now,
    0 for none, with its start in seconds since the epoch, which tells it from a later one of its number. `halt` says
    that it is to stop. `starts` counts the processes there have been. `error` holds code, happened, expected and
    try_next once it failed. Times are seconds since the epoch.
    """

    id: str
    kind: str
    name: str
    request: Mapping[str, Any]
    state: JobState = JobState.QUEUED
    halt: bool = False
    token: int = 0
    process: int = 0
    process_started: float = 0.0
    starts: int = 0
    message: str = ""
    error: Mapping[str, str] = field(default_factory=dict[str, str])
    created_at: float = 0.0
    changed_at: float = 0.0
