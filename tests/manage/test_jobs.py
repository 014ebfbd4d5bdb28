"""Which jobs are begun and which are left alone, and that a job's process is one, whoever dies."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from studium.config import SERVER_FILE
from studium.errors import BadRequest, OperatorError
from studium.manage import job_process
from studium.manage.jobs import (
    BEGIN_S,
    MOST_STARTS,
    MOST_WAITING,
    Jobs,
    begin_detached,
    decide,
    lives,
)
from studium.records.jobs import Job, JobState
from studium.store import open_store

NOW = 1_000.0


def job(name: str, **other: object) -> Job:
    return replace(Job(f"train-{name}", "train", name, {"stage": "sft"}), **other)


def running(name: str, **other: object) -> Job:
    return job(name, state=JobState.RUNNING, process=7, token=1, starts=1, changed_at=NOW, **other)


def test_one_job_is_begun_and_the_others_wait() -> None:
    assert decide([job("a"), job("b")], lambda one: False, NOW).begin == (job("a"),)
    assert decide([running("a"), job("b")], lambda one: one.name == "a", NOW).begin == ()


def test_a_job_whose_process_is_gone_is_begun_again_and_one_that_is_beginning_is_left() -> None:
    assert decide([running("a")], lambda one: False, NOW).begin == (running("a"),)
    beginning = replace(running("a"), process=0)
    assert decide([beginning, job("b")], lambda one: False, NOW + BEGIN_S / 2).begin == ()
    assert decide([beginning], lambda one: False, NOW + BEGIN_S).begin == (beginning,)


def test_a_halted_job_without_a_process_is_stopped_and_one_that_always_dies_has_failed() -> None:
    halted, hopeless = running("a", halt=True), replace(running("b"), starts=MOST_STARTS)
    closed = decide([halted, hopeless], lambda one: False, NOW).close
    assert [(one.name, state) for one, state, _ in closed] == [
        ("a", JobState.STOPPED),
        ("b", JobState.FAILED),
    ]
    assert decide([halted], lambda one: True, NOW).close == ()


@pytest.fixture
def begun() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def jobs(tmp_path, begun):
    store = open_store(tmp_path / "state.db")

    def begin(job: Job, token: int) -> "subprocess.Popen[bytes]":
        begun.append((job.id, token))
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    jobs = Jobs(store.jobs, tmp_path, tmp_path / "state.db", begin)
    yield jobs
    for one in jobs.jobs():
        if lives(one):
            psutil.Process(one.process).kill()
    store.close()


def until(done, limit_s: float = 90.0) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_second_server_finds_a_living_process_and_begins_none(
    jobs: Jobs, begun: list[tuple[str, int]]
) -> None:
    jobs.submit("train", "a", {"stage": "sft"})
    jobs.tend()
    jobs.tend()
    assert begun == [("train-a", 1)] and lives(jobs.job("train-a"))


def test_a_killed_process_is_followed_by_one_with_the_next_token(
    jobs: Jobs, begun: list[tuple[str, int]]
) -> None:
    jobs.submit("train", "a", {"stage": "sft"})
    jobs.tend()
    first = jobs.job("train-a").process
    psutil.Process(first).kill()
    until(lambda: not lives(jobs.job("train-a")))
    jobs.tend()
    assert begun == [("train-a", 1), ("train-a", 2)]
    assert jobs.job("train-a").process != first and jobs.job("train-a").starts == 2


def test_a_job_is_stopped_and_goes_on_when_it_is_resumed(jobs: Jobs) -> None:
    jobs.submit("train", "a", {"stage": "sft"})
    with pytest.raises(BadRequest, match="queued"):
        jobs.resume("train-a")
    jobs.tend()
    jobs.stop("train-a")
    until(lambda: not lives(jobs.job("train-a")))
    jobs.tend()
    assert jobs.job("train-a").state is JobState.STOPPED
    with pytest.raises(BadRequest, match="stopped already"):
        jobs.stop("train-a")
    assert jobs.resume("train-a").state is JobState.QUEUED


def kill(jobs: Jobs, job_id: str) -> None:
    psutil.Process(jobs.job(job_id).process).kill()
    until(lambda: not lives(jobs.job(job_id)))


def test_a_job_that_was_to_stop_when_its_process_died_goes_on_when_it_is_resumed(
    jobs: Jobs, begun: list[tuple[str, int]]
) -> None:
    """The wish to stop outlived the process, so whoever tended next closed what had just been resumed."""
    jobs.submit("train", "a", {"stage": "sft"})
    jobs.tend()
    with pytest.raises(BadRequest, match="is running"):
        jobs.resume("train-a")
    kill(jobs, "train-a")
    assert jobs.stop("train-a").state is JobState.STOPPED
    resumed = jobs.resume("train-a")
    assert (resumed.state, resumed.halt, resumed.starts) == (JobState.QUEUED, False, 0)
    jobs.tend()
    assert jobs.job("train-a").state is JobState.RUNNING and lives(jobs.job("train-a"))
    first, second = (token for _, token in begun)
    assert second > first + 1, "what was begun for it before writes nothing any more"


def test_a_job_waits_for_the_one_at_work_or_for_the_one_that_is_begun_first(jobs: Jobs) -> None:
    for name in ("a", "b", "c"):
        jobs.submit("train", name, {})
    assert jobs.waits_for("train-a") is None
    assert [one and one.name for one in map(jobs.waits_for, ("train-b", "train-c"))] == ["a", "a"]
    jobs.stop("train-a")
    assert jobs.waits_for("train-a") is None and jobs.waits_for("train-b") is None
    jobs.tend()
    jobs.resume("train-a")
    assert [one and one.name for one in map(jobs.waits_for, ("train-a", "train-b", "train-c"))] == [
        "b",
        None,
        "b",
    ], "who is at work stays at it, older or not"


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Jobs]:
    """Jobs with processes of their own; each fails at once, as it was told nothing."""
    store = open_store(tmp_path / "state.db")
    yield Jobs(store.jobs, tmp_path, tmp_path / "state.db")
    store.close()


def over(jobs: Jobs) -> list[str]:
    return [one.name for one in jobs.jobs() if one.state is JobState.FAILED and one.starts == 1]


def test_where_no_server_tends_the_process_of_a_job_that_is_over_begins_the_next(real: Jobs) -> None:
    """The next one waited until somebody looked after the workspace again."""
    for name in ("a", "b", "c"):
        real.submit("train", name, {})
    real.tend()
    until(lambda: over(real) == ["a", "b", "c"])


def test_where_a_server_tends_the_process_of_a_job_that_is_over_begins_nothing(
    real: Jobs, tmp_path: Path
) -> None:
    with healthy() as url:
        (tmp_path / SERVER_FILE).write_text(json.dumps({"url": url, "pid": os.getpid()}))
        for name in ("a", "b"):
            real.submit("train", name, {})
        child = begun_by_hand(real, tmp_path)
        assert child.wait(90) == 1
    assert over(real) == ["a"] and real.job("train-b").state is JobState.QUEUED


def test_a_process_that_was_told_to_end_begins_nothing(
    real: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may be shutting down."""

    def interrupted(_work: object) -> None:
        raise KeyboardInterrupt

    for name in ("a", "b"):
        real.submit("train", name, {})
    monkeypatch.setattr(job_process, "KINDS", {"train": interrupted})
    begun: list[object] = []
    monkeypatch.setattr(job_process, "_begin_next", lambda *told: begun.append(told))
    store = open_store(tmp_path / "state.db")
    token = store.jobs.claim(real.job("train-a"))
    store.close()
    assert token == 1 and job_process.main(tmp_path, tmp_path / "state.db", "train-a", token) == 1
    assert not begun
    assert (real.job("train-a").state, real.job("train-b").state) == (JobState.RUNNING, JobState.QUEUED)


def begun_by_hand(jobs: Jobs, workspace: Path) -> "subprocess.Popen[bytes]":
    """Begin the first job as a server does; return its process."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(job: Job, token: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "studium.manage.job_process", str(workspace)]
        with jobs.log_file(job.id).open("ab") as log:
            children.append(begin_detached([*command, str(workspace / "state.db"), job.id, str(token)], log))
        return children[-1]

    store = open_store(workspace / "state.db")
    Jobs(store.jobs, workspace, workspace / "state.db", begin).tend()
    store.close()
    return children[0]


@contextmanager
def healthy() -> Iterator[str]:
    """Answer as a living server does when it is asked whether it is; yield its URL."""

    class Well(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_told: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Well)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_same_again_is_the_same_job_and_another_needs_another_name(jobs: Jobs) -> None:
    first = jobs.submit("train", "a", {"stage": "sft"})
    assert jobs.submit("train", "a", {"stage": "sft"}) == first
    with pytest.raises(BadRequest, match="told otherwise"):
        jobs.submit("train", "a", {"stage": "dpo"})
    with pytest.raises(BadRequest, match="did you mean 'train-a'"):
        jobs.job("train-b")


def test_so_many_may_wait_and_no_more(jobs: Jobs) -> None:
    for number in range(MOST_WAITING):
        jobs.submit("train", f"job{number}", {})
    with pytest.raises(OperatorError, match=f"{MOST_WAITING} jobs wait"):
        jobs.submit("train", "more", {})
