"""A job as people and programs see it: its row, and how far its run's folder says it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studium.manage.jobs import FOLDER, lives
from studium.manage.training import RUNS
from studium.records.jobs import Job, JobState
from studium.train.run_folder import RunFolder, State

_LAST_LINES, _LAST_BYTES = 12, 8192


def glance(job: Job, workspace: Path) -> dict[str, Any]:
    """Return a job at a glance. A state that says running without a process is told as it is: interrupted."""
    run = RunFolder(workspace / RUNS / job.name)
    status = run.status()
    interrupted = job.state is JobState.RUNNING and not lives(job)
    state = "interrupted" if interrupted else "stopping" if job.state.open and job.halt else job.state.value
    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "stage": str(job.request.get("stage", "")),
        "state": state,
        "step": status.step,
        "steps": status.steps,
        "seconds": round(status.seconds, 1),
        "eta_s": status.eta_s if job.state is JobState.RUNNING and not interrupted else None,
        "message": job.message,
        "created_at": job.created_at,
        "changed_at": job.changed_at,
    }


def detail(job: Job, steps: Mapping[str, Mapping[str, Any]], workspace: Path) -> dict[str, Any]:
    """Return all there is to know of a job."""
    run = RunFolder(workspace / RUNS / job.name)
    scores = [
        line["validation"] | {"step": line["step"]}
        for line in run.lines("metrics.jsonl")
        if "validation" in line
    ]
    done = job.state is JobState.DONE
    return glance(job, workspace) | {
        "folder": str(run.path),
        "checkpoint": str(run.checkpoint) if done and run.checkpoint.exists() else None,
        "starts": job.starts,
        "steps_done": dict(steps),
        "error": dict(job.error),
        "validations": scores,
        "log": _tail(workspace / FOLDER / f"{job.id}.log"),
    }


def learns(job: Job, workspace: Path) -> bool:
    """Say whether a job's run is past its preflight and takes steps."""
    return RunFolder(workspace / RUNS / job.name).status().state is State.RUNNING


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LAST_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []
