"""Training over HTTP: jobs of the workspace, which go on without this server and are taken up by the next.

`POST /api/train` {stage, recipe (an object, or YAML text), name, dry_run, wait_s} begins one. The answer comes when it
has begun to learn, was refused by its preflight, or after `wait_s` seconds (0 to 300, 30 unless told); `dry_run` only
says what memory and time it will take, and its model's hash. A recipe's paths stay within the workspace
(`manage.recipes`). `GET /api/jobs` lists, `GET /api/jobs/JOB` shows one, `POST /api/jobs/JOB/stop` and `/resume` do as
they say. `datasets_api` takes rows that are sent ahead, `runs_api` sends what came of them.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from aiohttp import web

from studium.config.running import KEY_VARIABLE
from studium.errors import ConfigurationError, DoesNotFit, OperatorError, StudiumError
from studium.records.jobs import Job, JobState
from studium.web import fields
from studium.web.access import own_key
from studium.web.bodies import json_body, json_response
from studium.web.failures import BadField, Refused
from studium.web.reception import RECEPTION

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.manage.jobs import Jobs
    from studium.train.forecast import Forecast

log = logging.getLogger(__name__)

TEND_S = 1.0
LOOK_S = 0.1
WAIT_S, MOST_WAIT_S = 30.0, 300.0
_TOOLS = ("torch", "transformers", "peft", "trl", "tokenizers", "gguf")
_KNOWN = {"stage", "recipe", "name", "dry_run", "wait_s"}
routes = web.RouteTableDef()


@asynccontextmanager
async def tending(studium: "Studium") -> AsyncIterator[None]:
    """Look after the workspace's jobs while the block runs; at its end they go on alone."""
    if key := own_key(studium.config.server):
        os.environ[KEY_VARIABLE] = key  # with which the jobs' processes ask this server for memory
    task = asyncio.create_task(_tend(jobs_of(studium)), name="tending jobs")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tend(jobs: "Jobs") -> None:
    trouble = ""
    while True:
        try:
            standing = await asyncio.to_thread(jobs.tend)
            trouble = ""
            for job in standing.begin:
                log.info("the job %s %s", job.id, "is taken up again" if job.starts else "begins")
        except (StudiumError, OSError) as error:
            if str(error) != trouble:
                trouble = str(error)
                log.warning("jobs cannot be looked after: %s", error)
        await asyncio.sleep(TEND_S)


def jobs_of(studium: "Studium") -> "Jobs":
    """Return the jobs of a running Studium's workspace."""
    from studium.app import STORE_FILE
    from studium.manage.jobs import Jobs

    workspace = studium.config.workspace
    return Jobs(studium.store.jobs, workspace, workspace / STORE_FILE)


@routes.post("/api/train")
async def begin(request: web.Request) -> web.StreamResponse:
    studium, body = request.app[RECEPTION].studium, await json_body(request, _KNOWN)
    _need_tools()
    stage, name = fields.text(body, "stage"), fields.text(body, "name")
    wait_s = fields.number(body, "wait_s", 0.0, MOST_WAIT_S)
    recipe = body.get("recipe")
    if not isinstance(recipe, str | dict):
        raise fields.wrong("recipe", recipe, "an object with a recipe's keys, or its YAML text")
    forecast, kept = await asyncio.to_thread(_looked_at, studium, stage, recipe, name)
    _must_fit(studium, forecast)
    if fields.flag(body, "dry_run"):
        base = await asyncio.to_thread(_base_sha256, forecast.model)
        return json_response({"forecast": forecast.data(), "base_sha256": base})
    job = await asyncio.to_thread(_submitted, studium, kept)
    job = await _settled(studium, job, WAIT_S if wait_s is None else wait_s)
    if job.state is JobState.FAILED:
        raise _told(job)
    answer = await asyncio.to_thread(_shown, studium, job.id)
    told = {"job": answer, "forecast": forecast.data()}
    return json_response(told, 200 if job.state is JobState.DONE else 202)


@routes.get("/api/jobs")
async def listing(request: web.Request) -> web.StreamResponse:
    studium = request.app[RECEPTION].studium
    return json_response({"jobs": await asyncio.to_thread(_listed, studium)})


@routes.get("/api/jobs/{job}")
async def show(request: web.Request) -> web.StreamResponse:
    studium = request.app[RECEPTION].studium
    return json_response(await asyncio.to_thread(_shown, studium, request.match_info["job"]))


@routes.post("/api/jobs/{job}/stop")
async def stop(request: web.Request) -> web.StreamResponse:
    studium, name = request.app[RECEPTION].studium, request.match_info["job"]
    await asyncio.to_thread(_shown, studium, name)
    await asyncio.to_thread(jobs_of(studium).stop, name)
    return json_response(await asyncio.to_thread(_shown, studium, name))


@routes.post("/api/jobs/{job}/resume")
async def resume(request: web.Request) -> web.StreamResponse:
    _need_tools()
    studium, name = request.app[RECEPTION].studium, request.match_info["job"]
    await asyncio.to_thread(_shown, studium, name)
    await asyncio.to_thread(jobs_of(studium).resume, name)
    return json_response(await asyncio.to_thread(_shown, studium, name))


def _looked_at(
    studium: "Studium", stage: str, recipe: str | dict[str, Any], name: str
) -> "tuple[Forecast, tuple[str, dict[str, str]]]":
    """Read a recipe and foresee its run: the forecast, and the job's name with its request."""
    from studium.manage.recipes import told_from
    from studium.manage.training import check_told
    from studium.train.recipe_file import text_of

    workspace = studium.config.workspace
    try:
        told = told_from(stage, recipe, workspace, name)
        known = studium.store.jobs.job(f"train-{told.recipe.name}")
        request = {"stage": stage, "recipe": text_of(told)}
        again = known is not None and known.request == request
        forecast = check_told(told, workspace, at_work=again)
    except ConfigurationError as error:
        raise BadField("recipe", error.happened, expected=error.expected, try_next=error.try_next) from error
    return forecast, (told.recipe.name, request)


def _base_sha256(model: str) -> str:
    from studium.train.bases import base_sha256

    return base_sha256(model)


def _submitted(studium: "Studium", kept: tuple[str, dict[str, str]]) -> Job:
    jobs = jobs_of(studium)
    job = jobs.submit("train", *kept)
    jobs.tend()
    return jobs.job(job.id)


async def _settled(studium: "Studium", job: Job, wait_s: float) -> Job:
    """Wait until a job learns, is over, or waits for another, at most so long."""
    from studium.manage.job_view import learns

    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        job = await asyncio.to_thread(jobs_of(studium).job, job.id)
        if not job.state.open or await asyncio.to_thread(learns, job, studium.config.workspace):
            break
        await asyncio.sleep(LOOK_S)
    return job


def _must_fit(studium: "Studium", forecast: "Forecast") -> None:
    budgets = [one.budget_bytes for one in studium.fleet.devices()]
    if forecast.memory is not None and budgets and forecast.memory_bytes > max(budgets):
        raise DoesNotFit(
            f"the run needs about {forecast.memory_bytes / 2**20:,.0f} MiB, all models may occupy "
            f"{max(budgets) / 2**20:,.0f} MiB",
            expected="a run that fits into fleet.memory_budget once every model has made room",
            try_next="a smaller batch, max_tokens or model, or a larger fleet.memory_budget",
        )


def _told(job: Job) -> StudiumError:
    """Return the error that ended a job, as the command line would tell it: a recipe's mistakes are the caller's."""
    parts = {part: job.error.get(part, "") for part in ("expected", "try_next")}
    happened = job.error.get("happened") or job.message
    if job.error.get("code") in ("bad_configuration", "bad_request"):
        return BadField("recipe", happened, **parts)
    return OperatorError(happened, **parts)


def _shown(studium: "Studium", job_id: str) -> dict[str, Any]:
    from studium.manage.job_view import detail

    jobs = jobs_of(studium)
    try:
        job = jobs.job(job_id)
    except StudiumError as error:
        raise Refused(
            404, "unknown_job", error.happened, expected=error.expected, try_next=error.try_next
        ) from error
    return detail(job, jobs.steps(job_id), studium.config.workspace)


def _listed(studium: "Studium") -> list[dict[str, Any]]:
    from studium.manage.job_view import glance

    return [glance(one, studium.config.workspace) for one in jobs_of(studium).jobs()]


def _need_tools() -> None:
    if lacking := [name for name in _TOOLS if find_spec(name) is None]:
        raise OperatorError(
            f"training needs {', '.join(lacking)}, which this server does not have",
            expected="an environment with the training tools",
            try_next="pip install 'studium[train]'",
        )
