"""Which jobs are begun and which are left alone, and that a job's process is one, whoever dies."""

import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from studium.errors import BadRequest, OperatorError
from studium.manage.jobs import BEGIN_S, MOST_STARTS, MOST_WAITING, Jobs, decide, lives
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
