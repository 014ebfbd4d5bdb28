"""The process of one job: `python -m studium.manage.job_process WORKSPACE DATABASE JOB TOKEN`.

It does nothing unless its token is the job's newest, and holds the job's lock while it lives, so that one that was
replaced and one that replaces it never work at the same time. Told to end (SIGTERM) without the job being halted, it
leaves the job open: whoever tends the workspace next begins it again. Once its job is over it tends by itself where no
server does (`manage.jobs`).
"""

import fcntl
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from studium.config.running import running_server
from studium.errors import OperatorError, StudiumError
from studium.manage import night, nightly
from studium.manage.job_work import AtWork, Ended, train_told
from studium.manage.jobs import FOLDER, Jobs
from studium.records.jobs import JobState
from studium.store import open_store

LOCK_S = 60.0
LOOK_S = 0.1


def train_job(work: AtWork) -> Ended:
    """Carry out a recipe's run."""
    return train_told(work, work.told(str(work.job.request["recipe"])))


KINDS: Mapping[str, Callable[[AtWork], Ended]] = {"train": train_job, nightly.KIND: night.carry_out}
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
            kept = store.jobs.change(
                job_id, token, process=0, message=message, error=dict(ended.error), **state
            )
        # After the lock, which a job that is begun again would wait for. Not by a process that was told to end:
        # the machine may be shutting down.
        if kept and ended.state is not None:
            _begin_next(Jobs(store.jobs, workspace, database), workspace)
        return 0 if ended.state is JobState.DONE else 1
    finally:
        store.close()


def _begin_next(jobs: Jobs, workspace: Path) -> None:
    """Tend the workspace's jobs once, unless a running server does; what goes wrong is said in the log."""
    try:
        if running_server(workspace) is None:
            jobs.tend()
    except (StudiumError, OSError) as error:
        print(f"the next job cannot be begun: {error}", flush=True)


def _carried_out(work: AtWork) -> Ended:
    try:
        return Ended(JobState.STOPPED) if work.halted else KINDS[work.job.kind](work)
    except StudiumError as error:
        work.tell(f"failed: {error}")
        return Ended(JobState.FAILED, error.happened, error_parts(error))
    except KeyboardInterrupt:
        return Ended(JobState.STOPPED if work.halted else None)
    except Exception as error:
        traceback.print_exc()
        what = f"unexpected {type(error).__name__}: {error}"[:300]
        return Ended(JobState.FAILED, what, {"code": "internal", "happened": what})


def error_parts(error: StudiumError) -> dict[str, str]:
    """Return an error as it is kept: its code and the three parts of its message."""
    parts = {"happened": error.happened, "expected": error.expected, "try_next": error.try_next}
    return {"code": error.code} | parts


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
    # What a job has begun is ended with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
