"""Training over HTTP with a real server and a real student: refused, begun, stopped, and disturbed by kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from tests.cli.roster import studium

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
pytestmark = pytest.mark.slow

RECIPE = {
    "model": "sprout",
    "data": [{"domain": "arithmetic", "levels": [1], "rows": 64}],
    "steps": 400,
    "batch": 4,
    "max_tokens": 64,
    "save_every": 0.05,
    "optimiser": {"rate": 0.001, "warmup_steps": 2, "schedule": "constant"},
    "validation": {"every_steps": 0},
    "watch": {"act": "advise"},
}
BOUND_S = 300.0


@contextmanager
def server(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Run `studium up` in a process of its own; yield it and its URL. It is killed at the end if it lives still."""
    command = [sys.executable, "-m", "studium.cli.main", "up", "--port", "0", "--workspace", "state"]
    announced = folder / "state" / "server.json"
    announced.unlink(missing_ok=True)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "up.log").open("ab"),
    )
    try:
        until(announced.exists)
        yield psutil.Process(process.pid), json.loads(announced.read_text())["url"]
    finally:
        process.kill()
        process.wait()


def until(done: Callable[[], Any], limit_s: float = BOUND_S) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def call(url: str, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(
            Request(url + path, data, {"Content-Type": "application/json"}), timeout=BOUND_S
        ) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def train(url: str, name: str, **other: object) -> tuple[int, Any]:
    return call(url, "/api/train", {"stage": "sft", "name": name, "recipe": RECIPE | other})


def weights(folder: Path, name: str) -> bytes:
    return (folder / "state" / "runs" / name / "checkpoint" / "model.safetensors").read_bytes()


def steps_of(folder: Path, name: str) -> int:
    status = folder / "state" / "runs" / name / "status.json"
    return json.loads(status.read_text())["step"] if status.exists() else 0


def trainers(folder: Path, name: str) -> list[psutil.Process]:
    """Return the processes at work in a run's folder."""
    run = str(folder / "state" / "runs" / name)
    found: list[psutil.Process] = []
    for one in psutil.process_iter(["cmdline", "status"]):
        if run in (one.info["cmdline"] or ()) and one.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(one)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the same recipe, trained at the command line without an accident."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    command = [sys.executable, "-m", "studium.cli.main", "train", "sft", "--config", "recipe.json"]
    done = subprocess.run(
        [*command, "--name", "calm", "--workspace", "state"], cwd=folder, check=False, timeout=BOUND_S
    )
    assert done.returncode == 0
    return weights(folder, "calm")


def test_what_cannot_be_trained_is_told_as_at_the_command_line(tmp_path: Path) -> None:
    with server(tmp_path) as (_, url):
        status, told = call(
            url, "/api/train", {"stage": "sft", "name": "dry", "recipe": RECIPE, "dry_run": True}
        )
        assert (
            status == 200
            and told["forecast"]["memory_bytes"] > 0
            and call(url, "/api/jobs")[1] == {"jobs": []}
        )
        status, told = train(url, "short", max_tokens=16)
        assert status == 400 and "preflight, length" in told["error"] and "raise max_tokens" in told["error"]
        assert call(url, "/api/jobs/train-short")[1]["state"] == "failed"
        status, told = train(url, "away", data=[{"file": "/etc/passwd"}])
        assert status == 400 and "nothing that this workspace has" in told["error"]
        assert call(url, "/api/train", {"stage": "sft", "recipe": 3})[0] == 400
        assert call(url, "/api/train", {"stage": "sft", "recipe": RECIPE, "more": 1})[0] == 400
        assert call(url, "/api/train", {"stage": "sft", "recipe": "a" * (9 << 20)})[0] == 413
        assert call(url, "/api/jobs/train-none")[0] == call(url, "/api/jobs/train-none/stop", {})[0] == 404
        # Corrected, the same name begins.
        status, told = train(url, "short", steps=6)
        assert status in (200, 202) and told["job"]["state"] in ("running", "done")


@pytest.mark.timeout(900)
def test_a_job_that_everybody_kills_ends_as_if_undisturbed(tmp_path: Path, undisturbed: bytes) -> None:
    """The server, the training process and the job's own process by SIGKILL, then a stop and a resume: one run."""

    def shown() -> Any:
        return call(url, "/api/jobs/train-calm")[1]

    def goes_on() -> None:
        reached = steps_of(tmp_path, "calm")
        until(lambda: steps_of(tmp_path, "calm") > reached)

    with server(tmp_path) as (process, url):
        status, told = train(url, "calm")
        assert (status, told["job"]["state"]) == (202, "running")
        process.send_signal(signal.SIGKILL)
        process.wait()
        goes_on()
    with server(tmp_path) as (_, url):
        [trainer] = trainers(tmp_path, "calm")
        assert shown()["starts"] == 1, "it was found at work"
        trainer.kill()
        until(lambda: any(one.pid != trainer.pid for one in trainers(tmp_path, "calm")))
        goes_on()
        [second] = trainers(tmp_path, "calm")
        parent = second.parent()
        assert parent is not None and "studium.manage.job_process" in parent.cmdline()
        parent.kill()
        until(lambda: shown()["starts"] == 2)
        goes_on()
        [third] = trainers(tmp_path, "calm")
        third.suspend()  # Else a busy machine could be told of the stop after the last step.
        assert call(url, "/api/jobs/train-calm/stop", {})[1]["state"] in ("stopping", "stopped")
        third.resume()
        until(lambda: shown()["state"] == "stopped")
        assert train(url, "calm")[1]["job"]["state"] == "stopped", "the same again is the same job"
        assert steps_of(tmp_path, "calm") < RECIPE["steps"]
    # Without a server the command begins the process itself.
    resumed = studium("jobs", "resume", "train-calm", "--workspace", "state", "--json", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    until((tmp_path / "state" / "runs" / "calm" / "checkpoint").exists)
    until(lambda: not trainers(tmp_path, "calm"))
    job = studium("jobs", "show", "train-calm", "--workspace", "state", "--json", folder=tmp_path)
    assert set(json.loads(job.stdout)["steps_done"]) == {"recipe", "train"}
    assert weights(tmp_path, "calm") == undisturbed
