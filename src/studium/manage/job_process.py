"""The process of one job: `python -m studium.manage.job_process WORKSPACE DATABASE JOB TOKEN`.

It does nothing unless its token is the job's newest, and holds the job's lock while it lives, so that one that was
replaced and one that replaces it never work at the same time. Told to end (SIGTERM) without the job being halted, it
leaves the job open: whoever tends the workspace next begins it again.
"""

import fcntl
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from studium.errors import OperatorError, StudiumError
from studium.fleet.leased_command import INTERRUPTED
from studium.manage.jobs import FOLDER
from studium.manage.training import error_of, folder_for, train
from studium.records.jobs import Job, JobState
from studium.store import Store, open_store
from studium.train.recipe_file import Told, read_told

EXIT_WATCHER = 8
LOCK_S = 60.0
LOOK_S = 0.1


class Ended(NamedTuple):
    """How a job's process ends. `state` None: interrupted, and to be begun again."""

    state: JobState | None
    message: str = ""
    error: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class AtWork:
    """A job being carried out: what it was told, and its steps, each done once."""

    job: Job
    token: int
    workspace: Path
    store: Store

    def once(self, step: str, do: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Do a step and keep what came of it, or return that where it was done. Raises OperatorError if replaced."""
        known = self.store.jobs.done(self.job.id, step)
        if known is not None:
            return known
        result = do()
        if not self.store.jobs.finish(self.job.id, self.token, step, result):
            raise OperatorError(f"the job {self.job.id} is another process's by now")
        return result

    def tell(self, line: str) -> None:
        """Say how it goes, in the job's log and in its row."""
        print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)
        self.store.jobs.change(self.job.id, self.token, message=line[:500])

    @property
    def halted(self) -> bool:
        """Whether somebody wants it to stop."""
        now = self.store.jobs.job(self.job.id)
        return now is not None and now.halt


def train_job(work: AtWork) -> Ended:
    """Carry out a recipe's run."""
    told = _told(work)
    work.once("recipe", lambda: {"folder": str(folder_for(told, work.workspace).path)})
    trained = train(told, work.workspace, tell=work.tell)
    if trained.exit_status == 0:
        work.once("train", lambda: {"step": trained.status.step, "seconds": trained.status.seconds})
        return Ended(JobState.DONE, f"done after {trained.status.step} steps")
    if trained.exit_status == INTERRUPTED:
        # Asked through the job, or through the run's own folder (studium train stop).
        wanted = work.halted or trained.folder.asked_to_stop
        return Ended(JobState.STOPPED if wanted else None, trained.status.message)
    if trained.exit_status == EXIT_WATCHER:
        return Ended(JobState.HALTED, trained.status.message)
    return Ended(JobState.FAILED, trained.status.message, error_of(trained))


KINDS: Mapping[str, Callable[[AtWork], Ended]] = {"train": train_job}
"""Who carries out which kind of job."""


def main(workspace: Path, database: Path, job_id: str, token: int) -> int:
    """Carry a job out; return the process's exit status."""
    store = open_store(database)
    try:
        me = psutil.Process()
        with _alone(workspace / FOLDER / f"{job_id}.lock"):
            if not store.jobs.change(job_id, token, process=me.pid, process_started=me.create_time()):
                return 0
            job = store.jobs.job(job_id)
            assert job is not None
            ended = _carried_out(AtWork(job, token, workspace, store))
            state = {} if ended.state is None else {"state": ended.state}
            message = ended.message or (
                "" if ended.state else "interrupted; it goes on when it is begun again"
            )
            store.jobs.change(job_id, token, process=0, message=message, error=dict(ended.error), **state)
            return 0 if ended.state is JobState.DONE else 1
    finally:
        store.close()


def _carried_out(work: AtWork) -> Ended:
    try:
        return Ended(JobState.STOPPED) if work.halted else KINDS[work.job.kind](work)
    except StudiumError as error:
        work.tell(f"failed: {error}")
        return Ended(JobState.FAILED, error.happened, error_parts(error))
    except KeyboardInterrupt:
        return Ended(None)
    except Exception as error:
        traceback.print_exc()
        what = f"unexpected {type(error).__name__}: {error}"[:300]
        return Ended(JobState.FAILED, what, {"code": "internal", "happened": what})


def error_parts(error: StudiumError) -> dict[str, str]:
    """Return an error as it is kept: its code and the three parts of its message."""
    parts = {"happened": error.happened, "expected": error.expected, "try_next": error.try_next}
    return {"code": error.code} | parts


def _told(work: AtWork) -> Told:
    """Read the recipe the job was told, which the request holds as text with absolute paths."""
    path = work.workspace / FOLDER / f"{work.job.id}.yaml"
    path.write_text(str(work.job.request["recipe"]), encoding="utf-8")
    return read_told(path, str(work.job.request["stage"]))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a job's lock, which ends with the process. Raises OperatorError where it is not free within a minute."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + LOCK_S
    with lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise OperatorError(f"another process holds {lock}", expected="one at a time") from None
                time.sleep(LOOK_S)
        yield


if __name__ == "__main__":
    from studium.train.surroundings import quiet

    quiet()
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
