"""`studium train STAGE --at URL`: a recipe carried out by another Studium, watched from here, its run brought home.

No training tool is imported. Given again, the same command takes up where the last one ended: rows that are there are
not sent again, the job is watched, what was fetched is kept.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from studium.cli.failures import EXIT_INTERRUPTED
from studium.cli.output import note, write_json
from studium.cli.pulls import duration, size
from studium.config.running import told_error
from studium.errors import ConfigurationError, OperatorError
from studium.manage.box import Box, Lost
from studium.manage.homecoming import bring_home
from studium.manage.recipes import RUNS
from studium.manage.sending import check_same_model, send
from studium.train.recipe_file import Told
from studium.train.run_folder import TRAINED_AT, RunFolder
from studium.train.stage_rows import stage_rows

LOOK_S, TELL_S = 1.0, 10.0
LONGEST_WATCH_S = 14 * 86_400.0
EXIT_WATCHER = 8
_OVER = ("done", "failed", "stopped", "halted")


def train_there(told: Told, box: Box, workspace: Path, *, dry_run: bool, json: bool) -> int:
    """Have a recipe carried out at `box` and its run brought home; return the exit status. Blocks until then.

    Raises what the recipe, its rows or the box refuse with.
    """
    name = told.recipe.name
    if _is_home(RunFolder(workspace / RUNS / name), box.url):
        note(f"the run {name} is home already; --name NAME makes another")
        return 0
    goes_on = f"the same command watches on and fetches it; studium train stop {name} --at {box.url} stops it"
    begun = False
    try:
        stage_rows(told.stage, told.recipe)
        request = {"stage": told.stage, "recipe": send(box, told, workspace), "name": name}
        seen = box.post("/api/train", request | {"dry_run": True})
        check_same_model(told, workspace, str(seen.get("base_sha256", "")))
        if dry_run:
            _tell_forecast(seen["forecast"], json=json)
            return 0
        begun = True
        job = box.post("/api/train", request | {"wait_s": 0})["job"]
        look, who = partial(box.get, f"/api/jobs/{job['id']}"), f"{name} at {box.url}"
        if job["state"] == "stopping":
            job = watch(job, look, who)
        if job["state"] in ("stopped", "halted"):
            job = box.post(f"/api/jobs/{job['id']}/resume", {})
        job = watch(job, look, who)
        if job["state"] != "done":
            return _ended(job)
        note(f"{name}: fetching the run")
        bring_home(box, name, workspace)
        return 0
    except KeyboardInterrupt:
        note(f"{name} goes on at {box.url}: {goes_on}" if begun else "nothing was begun there")
        return EXIT_INTERRUPTED
    except Lost as error:
        more = goes_on if begun else error.try_next
        raise OperatorError(error.happened, expected=error.expected, try_next=more) from error


def watch(
    job: Mapping[str, Any],
    look: Callable[[], Mapping[str, Any]],
    who: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Mapping[str, Any]:
    """Look at a job until it is over, say how it goes, and return it. Raises OperatorError after two weeks."""
    end, told_at, told = clock() + LONGEST_WATCH_S, float("-inf"), ""
    while True:
        line, is_over = progress(job), job["state"] in _OVER
        is_news = is_over or job["state"] != told.partition(",")[0] or clock() - told_at >= TELL_S
        if line != told and is_news:
            note(f"{who}: {line}")
            told, told_at = line, clock()
        if is_over:
            return job
        if clock() > end:
            raise OperatorError(f"{who} is not done after two weeks", try_next="the same command watches on")
        sleep(LOOK_S)
        job = look()


def progress(job: Mapping[str, Any]) -> str:
    """Return how a job stands, for people. Pure."""
    left = job.get("eta_s")
    steps = f", step {job['step']} of {job['steps']}" if job.get("steps") else ""
    eta = f", about {duration(left)} left" if left is not None and job["state"] == "running" else ""
    return f"{job['state']}{steps}{eta}"


def _is_home(run: RunFolder, url: str) -> bool:
    """Say whether a run was brought home from there. Raises ConfigurationError where another has its name."""
    if not run.path.exists() or run.told().get(TRAINED_AT) == url:
        return run.path.exists()
    raise ConfigurationError(
        f"there is a run {run.path.name} in this workspace already",
        expected="a name that is free here, for the run to come home to",
        try_next=f"--name NAME, or remove {run.path}",
    )


def _ended(job: Mapping[str, Any]) -> int:
    """Say how a job ended without a result; return the exit status. Raises its error where it failed."""
    if job["state"] == "failed":
        raise told_error({"code": "operator", "happened": job["message"]} | dict(job["error"]))
    note(f"{job['message'] or job['state']}; the same command goes on with it")
    return EXIT_WATCHER if job["state"] == "halted" else EXIT_INTERRUPTED


def _tell_forecast(forecast: Mapping[str, Any], *, json: bool) -> None:
    if json:
        write_json(forecast)
        return
    memory, seconds = forecast["memory_bytes"], forecast["seconds"]
    note(f"memory: {'unknown' if memory is None else f'about {size(memory)}'}")
    note(f"time: {'unknown' if seconds is None else f'about {duration(seconds)}'}")
