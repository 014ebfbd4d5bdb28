"""Jobs of a workspace: begun in processes of their own that outlive whoever began them, and taken up when they die.

A job's process takes the job's next token before it exists; what is decided here holds for any number of servers and
commands that look at one workspace. A server tends its workspace's jobs every second: those whose process is gone are
begun again, and go on from what they have done; those at work are left alone. Where no server runs, the process of a
job tends once when its job is over, so that the next one need not wait for anybody.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from studium.errors import BadRequest, OperatorError
from studium.records.jobs import Job, JobState
from studium.store.jobs import JobLog

FOLDER = "jobs"
# Two trainings on one machine end later than one after the other.
MOST_AT_ONCE = 1
MOST_WAITING = 100
# A process begun so often has died for a reason that the next one will meet as well.
MOST_STARTS = 20
# How long a process may take from its token to its number.
BEGIN_S = 20.0
Begin = Callable[[Job, int], "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is to be done about open jobs: begin some, close others for good with a state and a reason."""

    begin: tuple[Job, ...] = ()
    close: tuple[tuple[Job, JobState, str], ...] = ()


def decide(jobs: list[Job], lives: Callable[[Job], bool], now: float) -> Standing:
    """Decide about open jobs, the oldest first. Pure."""
    begin: list[Job] = []
    close: list[tuple[Job, JobState, str]] = []
    busy = at_work(jobs, lives, now)
    for job in jobs:
        if job in busy:
            continue
        if job.halt:
            close.append((job, JobState.STOPPED, "stopped while no process was at it"))
        elif job.starts >= MOST_STARTS:
            close.append(
                (job, JobState.FAILED, f"its process has ended {job.starts} times before the job did")
            )
        elif len(busy) + len(begin) < MOST_AT_ONCE:
            begin.append(job)
    return Standing(tuple(begin), tuple(close))


def at_work(jobs: list[Job], lives: Callable[[Job], bool], now: float) -> list[Job]:
    """Return the open jobs that a process is at, or may be about to be. Pure."""

    def begins(job: Job) -> bool:
        return job.state is JobState.RUNNING and not job.process and now - job.changed_at < BEGIN_S

    return [job for job in jobs if begins(job) or lives(job)]


class Jobs:
    """The jobs of one workspace. Every call blocks; any thread. Raises StoreUnavailable where the disk refuses."""

    def __init__(self, log: JobLog, workspace: Path, database: Path, begin: Begin | None = None) -> None:
        self._log = log
        self._workspace = workspace
        self._database = database
        self._begin = begin or self._begin_process
        self._children: list[subprocess.Popen[bytes]] = []

    def submit(self, kind: str, name: str, request: Mapping[str, Any], *, again: bool = True) -> Job:
        """Keep a job, to be begun as soon as there is room; the same again returns the one there is.

        With `again` one that failed or was stopped before is queued again with the new request; else whatever there is
        of its name stays as it is. Raises BadRequest where one of its
        name is told otherwise and is open or done, OperatorError where too many wait.
        """
        waiting = sum(one.state is JobState.QUEUED for one in self._log.jobs(only_open=True))
        if waiting >= MOST_WAITING:
            raise OperatorError(
                f"{waiting} jobs wait already",
                expected=f"at most {MOST_WAITING}",
                try_next="studium jobs list",
            )
        job = Job(f"{kind}-{name}", kind, name, request)
        if self._log.add(job):
            return self.job(job.id)
        known = self.job(job.id)
        if not again:
            return known
        if known.request == request or known.state in (JobState.FAILED, JobState.STOPPED):
            if known.state is JobState.FAILED or known.request != request:
                self._log.queue(job.id, request)
            return self.job(job.id)
        raise BadRequest(
            f"there is a job {job.id} that was told otherwise, and it is {known.state}",
            expected="a name of its own for another job",
            try_next="choose another name",
        )

    def job(self, job_id: str) -> Job:
        """Return a job. Raises BadRequest naming the nearest."""
        found = self._log.job(job_id)
        if found is not None:
            return found
        from difflib import get_close_matches

        known = [one.id for one in self._log.jobs()]
        near = get_close_matches(job_id, known, n=1)
        raise BadRequest(
            f"there is no job {job_id[:80]!r}",
            expected=f"one of {', '.join(known[-10:])}" if known else "a job that was begun",
            try_next=f"did you mean {near[0]!r}?" if near else "POST /api/train begins one",
        )

    def jobs(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        return self._log.jobs()

    def steps(self, job_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what a job has done."""
        return self._log.steps(job_id)

    def tend(self) -> Standing:
        """Begin what waits and what has died, as far as there is room; return what was done."""
        self._children = [child for child in self._children if child.poll() is None]
        standing = decide(self._log.jobs(only_open=True), lives, time.time())
        for job, state, why in standing.close:
            self._log.change(job.id, job.token, state=state, process=0, message=why)
        for job in standing.begin:
            self._start(job)
        return standing

    def stop(self, job_id: str) -> Job:
        """Have a job stop after the step at work, at once where its process died; it can go on.

        Raises BadRequest where it is over.
        """
        job = self.job(job_id)
        if not self._log.halt(job_id):
            raise BadRequest(
                f"the job {job_id} is {job.state} already",
                expected="a job that is open",
                try_next="studium jobs list",
            )
        if lives(job):
            os.kill(job.process, signal.SIGTERM)
        elif job.state is JobState.RUNNING:
            self._close(job)
        return self.job(job_id)

    def resume(self, job_id: str) -> Job:
        """Have a job go on that was stopped, halted or failed, or whose process died, told to stop or not.

        Raises BadRequest where it waits, is at work, or is done.
        """
        job = self.job(job_id)
        if job.state is JobState.RUNNING and not lives(job):
            self._close(job)
        if job.state is JobState.DONE or not self._log.queue(job_id):
            raise BadRequest(
                f"the job {job_id} is {job.state}",
                expected="a job that was stopped, halted, or failed",
                try_next=f"studium jobs show {job_id}",
            )
        return self.job(job_id)

    def waits_for(self, job_id: str) -> Job | None:
        """Return the job that is at work, or begun, before this one; None where it has its turn, or is over."""
        jobs, now = self._log.jobs(only_open=True), time.time()
        first = at_work(jobs, lives, now) or decide(jobs, lives, now).begin
        waits = job_id in {one.id for one in jobs} - {one.id for one in first}
        return first[0] if waits and first else None

    def _close(self, job: Job) -> None:
        """Call a job stopped that no process is at; one that is just beginning, begun before, will write nothing."""
        token = self._log.claim(job)
        if token is not None:
            self._log.change(job.id, token, state=JobState.STOPPED, process=0)

    def _start(self, job: Job) -> None:
        token = self._log.claim(job)
        if token is None:
            return  # somebody else was quicker
        child = self._begin(job, token)
        self._children.append(child)
        try:
            started = psutil.Process(child.pid).create_time()
        except psutil.Error:
            return
        self._log.change(job.id, token, process=child.pid, process_started=started)

    def _begin_process(self, job: Job, token: int) -> "subprocess.Popen[bytes]":
        """Begin a process that outlives this one and hears none of its signals."""
        command = [
            sys.executable,
            "-m",
            "studium.manage.job_process",
            str(self._workspace),
            str(self._database),
        ]
        with self.log_file(job.id).open("ab") as log:
            return begin_detached([*command, job.id, str(token)], log)

    def log_file(self, job_id: str) -> Path:
        """Return the file where a job's process says how it goes; its folder is made."""
        folder = self._workspace / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{job_id}.log"


def begin_detached(command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own, everything it says in a file."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
    )


def lives(job: Job) -> bool:
    """Say whether the process that was begun for a job is still there; one that nobody has reaped is not."""
    if not job.process:
        return False
    try:
        process = psutil.Process(job.process)
        same = abs(process.create_time() - job.process_started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
