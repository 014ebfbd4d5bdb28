"""What a job's process works with: the job it carries out, its steps, how it ends, and the training of a recipe."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from studium.errors import OperatorError
from studium.fleet.leased_command import INTERRUPTED
from studium.manage.jobs import FOLDER
from studium.manage.training import error_of, folder_for, train
from studium.records.jobs import Job, JobState
from studium.store import Store
from studium.train.recipe_file import Told, read_told

EXIT_WATCHER = 8


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

    def told(self, recipe: str) -> Told:
        """Read the job's recipe, given as text with absolute paths."""
        path = self.workspace / FOLDER / f"{self.job.id}.yaml"
        path.write_text(recipe, encoding="utf-8")
        return read_told(path, str(self.job.request["stage"]))

    @property
    def halted(self) -> bool:
        """Whether somebody wants it to stop."""
        now = self.store.jobs.job(self.job.id)
        return now is not None and now.halt


def train_told(work: AtWork, told: Told) -> Ended:
    """Carry out a recipe's run."""
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
