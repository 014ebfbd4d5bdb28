"""`studium jobs resume` without a running server: what is begun, what waits, and what is said of it.

The jobs fail as soon as they are begun, as they were told nothing.
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.cli import main
from studium.manage.jobs import FOLDER
from studium.records.jobs import Job, JobState
from studium.store import Store, open_store

GONE = {"process": 1, "process_started": 1.0}
"""A process of another time that had the number of one that lives."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studium.yaml").write_text("workspace: state\n")
    store = open_store(tmp_path / "state" / "state.db")
    yield store
    store.close()


def add(store: Store, name: str) -> str:
    job = Job(f"train-{name}", "train", name, {})
    assert store.jobs.add(job)
    return job.id


def begun_and_died(store: Store, name: str) -> str:
    job = store.jobs.job(add(store, name))
    assert job is not None
    token = store.jobs.claim(job)
    assert token is not None and store.jobs.change(job.id, token, **GONE)
    return job.id


@contextmanager
def held_up(job_id: str) -> Iterator[None]:
    """Have a job's process wait before it does anything."""
    lock = Path("state", FOLDER, f"{job_id}.lock")
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def failed(store: Store) -> list[str]:
    return [one.name for one in store.jobs.jobs() if one.state is JobState.FAILED]


def until(done: Callable[[], bool], limit_s: float = 90.0) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_job_that_waits_is_said_to_wait_and_goes_on_when_the_one_before_is_over(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older job was begun instead, this one "goes on" was said, and nobody ever began it."""
    begun_and_died(store, "older")
    assert store.jobs.halt(add(store, "stopped"))
    with held_up("train-older"):
        assert main.run(["jobs", "resume", "train-stopped"]) == 0
    said = capsys.readouterr().err
    assert "train-stopped waits: train-older is running" in said and "goes on when" in said
    until(lambda: failed(store) == ["older", "stopped"])


def test_a_job_whose_process_died_while_it_was_to_stop_is_begun_again(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was closed as stopped, and "goes on" was said."""
    begun_and_died(store, "died")
    assert main.run(["jobs", "stop", "train-died"]) == 0
    assert main.run(["jobs", "resume", "train-died"]) == 0
    assert "train-died goes on" in capsys.readouterr().err
    until(lambda: failed(store) == ["died"])


def test_a_job_that_only_lacks_who_begins_it_is_begun(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    job = add(store, "waiting")
    with held_up(job):
        assert main.run(["jobs", "resume", job, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "running"
    until(lambda: failed(store) == ["waiting"])
