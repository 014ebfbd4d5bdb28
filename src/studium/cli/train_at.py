"""`studium train STAGE --at URL`: a recipe carried out by another Studium, watched from here, its run brought home.

No training tool is imported. Given again, the same command takes up where the last one ended: rows that are there are
not sent again, the job is watched, what was fetched is kept.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studium.cli.failures import EXIT_INTERRUPTED
from studium.cli.output import note, write_json
from studium.cli.pulls import duration
from studium.config.running import told_error
from studium.errors import ConfigurationError, OperatorError
from studium.manage.box import Box, Lost
from studium.manage.homecoming import TRAINED_AT, bring_home
from studium.manage.recipes import RUNS
from studium.manage.sending import check_same_model, send
from studium.train.recipe_file import Told
from studium.train.run_folder import RunFolder
from studium.train.stage_rows import stage_rows

LOOK_S, TELL_S = 1.0, 10.0
LONGEST_WATCH_S = 14 * 86_400.0
EXIT_WATCHER = 8
_OVER = ("done", "failed", "stopped", "halted")


def train_there(told: Told, box: Box, workspace: Path, *, dry_run: bool, json: bool) -> int:
    """Have a recipe carried out at `box` and its run brought home; return the exit status. Blocks until then.

    Raises what the recipe, its rows or the box refuse with.
    """
    run = RunFolder(workspace / RUNS / told.recipe.name)
    name = run.path.name
    if _is_home(run, box.url):
        note(f"the run {name} is home already; --name NAME makes another")
        return 0
    begun = False
    try:
        stage_rows(told.stage, told.recipe)
        request = {"stage": told.stage, "recipe": send(box, told, workspace), "name": name}
        seen = box.post("/api/train", request | {"dry_run": True})
        check_same_model(told, workspace, str(seen.get("base_sha256", "")))
        if dry_run or not json:
            _tell_forecast(seen["forecast"], box.url, json=dry_run and json)
        if dry_run:
            return 0
        job = box.post("/api/train", request | {"wait_s": 0})["job"]
        begun = True
        if job["state"] in ("stopped", "halted"):
            job = box.post(f"/api/jobs/{job['id']}/resume", {})
        job = watch(job, lambda: box.get(f"/api/jobs/{job['id']}"), f"{name} at {box.url}")
        if job["state"] != "done":
            return _ended(job, box.url)
        note(f"{name}: fetching the run from {box.url}")
        bring_home(box, name, workspace)
        return 0
    except KeyboardInterrupt:
        note(_goes_on(name, box.url) if begun else "nothing was begun there")
        return EXIT_INTERRUPTED
    except Lost as error:
        more = _goes_on(name, box.url) if begun else error.try_next
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
        if line != told and (
            is_over or job["state"] != told.partition(",")[0] or clock() - told_at >= TELL_S
        ):
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
    parts = [str(job["state"])]
    if job.get("steps"):
        parts.append(f"step {job['step']} of {job['steps']}")
    if left is not None and job["state"] == "running":
        parts.append(f"about {duration(left)} left")
    if not job.get("steps") and job.get("message"):
        parts.append(str(job["message"]))
    return ", ".join(parts)


def _is_home(run: RunFolder, url: str) -> bool:
    """Say whether a run was brought home from there. Raises ConfigurationError where another has its name."""
    if not run.path.exists():
        return False
    if run.told().get(TRAINED_AT) == url:
        return True
    raise ConfigurationError(
        f"there is a run {run.path.name} in this workspace already",
        expected="a name that is free here, for the run to come home to",
        try_next=f"--name NAME, or remove {run.path}",
    )


def _ended(job: Mapping[str, Any], url: str) -> int:
    """Say how a job ended without a result; return the exit status. Raises its error."""
    if job["state"] == "failed":
        error = job.get("error") or {}
        raise told_error({"code": "operator", "happened": job["message"] or "it failed there"} | dict(error))
    note(f"{job['message'] or job['state']}; the same command goes on with it at {url}")
    return EXIT_WATCHER if job["state"] == "halted" else EXIT_INTERRUPTED


def _goes_on(name: str, url: str) -> str:
    return (
        f"it goes on at {url}: give the same command again to watch on and fetch it, "
        f"or: studium train stop {name} --at {url}"
    )


def _tell_forecast(forecast: Mapping[str, Any], url: str, *, json: bool) -> None:
    if json:
        write_json(forecast)
        return
    memory, seconds = forecast["memory_bytes"], forecast["seconds"]
    size = "unknown" if memory is None else f"about {memory / 2**20:,.0f} MiB"
    pace = "unknown" if seconds is None else f"about {duration(seconds)}"
    note(f"{forecast['stage']} of {forecast['model']} at {url}: memory {size}, time {pace}")


def stop_there(name: str, box: Box) -> Mapping[str, Any]:
    """Have a run there stop after its step. Raises what the box refuses with."""
    RunFolder(Path(name))  # a name that is one
    return box.post(f"/api/jobs/train-{name}/stop", {})
