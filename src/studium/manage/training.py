"""A stage of training from recipe to end, as `studium train` does it, and gone on with when its process is killed.

The run's folder is the truth: whatever ends a process, the next one goes on from what it last saved, bit for bit on a
processor.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from studium.errors import BadRequest, ConfigurationError, EngineDied
from studium.fleet.leased_command import INTERRUPTED, run_leased
from studium.train.forecast import Forecast, foresee
from studium.train.recipe_file import Told, is_told, write_told
from studium.train.run_folder import RunFolder, State, Status

RUNS = "runs"
# A process that was killed so often without a step in between would be killed again.
MOST_DEATHS = 3
# What a step and saving may take, once a process was told to end.
LEAVE_S, LOOK_S = 300.0, 0.2
Tell = Callable[[str], None]


class Trained(NamedTuple):
    """How a run ended: the exit status of its process (see `studium train`), and what its folder says."""

    exit_status: int
    status: Status
    folder: RunFolder


def folder_for(told: Told, workspace: Path) -> RunFolder:
    """Return the folder of a recipe's run, told what it is to do; nothing is written where it has begun.

    Raises ConfigurationError where it holds a run of another recipe that has begun.
    """
    folder = RunFolder(workspace / RUNS / told.recipe.name)
    if folder.told() and not is_told(told, folder.path):
        raise ConfigurationError(
            f"there is a run {folder.path.name} of another recipe",
            expected="a new name for a new run, or the same recipe to go on",
            try_next=f"give it another name, or remove {folder.path}",
        )
    if not folder.told():
        write_told(told, folder.path)
    return folder


def forecast_of(told: Told, workspace: Path) -> Forecast:
    """Return what memory and time a recipe will take, from its model's header and the runs there have been."""
    runs = sorted((workspace / RUNS).glob("*/recipe.yaml"))
    return foresee(told, [RunFolder(one.parent) for one in runs], told.recipe.model)


def train(told: Told, workspace: Path, *, tell: Tell) -> Trained:
    """Run a recipe's stage in a process of its own under a lease, until it ends by itself or is told to stop.

    Blocks; call it from the main thread. A process that is killed is begun again. Raises what `run_leased` raises,
    EngineDied where it is killed again and again without coming on, ConfigurationError for another run's folder.
    """
    folder = folder_for(told, workspace)
    if folder.status().state is State.DONE and folder.checkpoint.exists():
        return Trained(0, folder.status(), folder)
    forecast = forecast_of(told, workspace)
    command = [sys.executable, "-m", "studium.train", told.stage, str(folder.path)]
    deaths = 0
    while True:
        _until_left(folder, tell)
        before = folder.status().step
        ended = run_leased(
            workspace,
            f"train-{folder.path.name}",
            command,
            forecast.memory_bytes,
            tell=tell,
            on_gpu=forecast.on_gpu,
            or_main_memory=True,
        )
        if ended <= 128 or ended == INTERRUPTED:
            return Trained(ended, folder.status(), folder)
        deaths = deaths + 1 if folder.status().step <= before else 1
        tell(
            f"the training process was killed by signal {ended - 128}, at step {folder.status().step}; it goes on"
        )
        if deaths >= MOST_DEATHS:
            raise EngineDied(
                f"the training process was killed {deaths} times by signal {ended - 128} without a step in between",
                expected="a process that is left alive; SIGKILL comes from the kernel when memory runs out",
                try_next="a smaller batch or model, or more memory",
            )


def _until_left(folder: RunFolder, tell: Tell) -> None:
    """Wait until a process that is ending, because whoever began it was killed, has saved what it has."""
    end, told = time.monotonic() + LEAVE_S, False
    while folder.status().at_work and time.monotonic() < end:
        if not told:
            tell(
                f"process {folder.status().process} is still at work in {folder.path.name}; its end is waited for"
            )
        told = True
        time.sleep(LOOK_S)


def error_of(trained: Trained) -> dict[str, str]:
    """Return why a run failed, as its process noted it."""
    noted = trained.folder.failure()
    return noted or {"code": "internal", "happened": trained.status.message or "it ended without a word"}


def check_told(told: Told, workspace: Path, *, at_work: bool = False) -> Forecast:
    """Return the forecast of a recipe that may begin; `at_work`: or has begun, told the same.

    Raises ConfigurationError for another run's folder, BadRequest for a run at work.
    """
    folder = RunFolder(workspace / RUNS / told.recipe.name)
    if folder.status().at_work and not at_work:
        raise BadRequest(
            f"the run {folder.path.name} is at work in process {folder.status().process}",
            expected="a run that nobody is at, or another name",
            try_next=f"studium train watch {folder.path.name}",
        )
    if folder.told() and not is_told(told, folder.path):
        folder_for(told, workspace)
    return forecast_of(told, workspace)
