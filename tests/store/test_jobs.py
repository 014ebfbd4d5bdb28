"""Jobs as rows: one process at a time, steps once, and nothing from a process that was replaced."""

import threading

import pytest

from studium.records.jobs import Job, JobState
from studium.store import open_store
from studium.store.jobs import JobLog


@pytest.fixture
def jobs(tmp_path):
    store = open_store(tmp_path / "state.db")
    yield store.jobs
    store.close()


def job(name: str = "sums") -> Job:
    return Job(f"train-{name}", "train", name, {"stage": "sft", "recipe": {"model": "sprout"}})


def test_a_job_is_kept_as_it_was_told_and_only_once(jobs: JobLog) -> None:
    assert jobs.add(job()) and not jobs.add(job())
    kept = jobs.job("train-sums")
    assert kept is not None and kept.state is JobState.QUEUED and kept.request == job().request
    assert jobs.job("train-other") is None and [one.id for one in jobs.jobs(only_open=True)] == ["train-sums"]


def test_of_many_that_would_begin_a_job_one_does(jobs: JobLog) -> None:
    jobs.add(job())
    seen = jobs.job("train-sums")
    assert seen is not None
    won: list[int | None] = []
    threads = [threading.Thread(target=lambda: won.append(jobs.claim(seen))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert sorted(won, key=str) == [1] + [None] * 7


def test_a_process_that_was_replaced_changes_nothing(jobs: JobLog) -> None:
    jobs.add(job())
    first = jobs.claim(jobs.job("train-sums"))
    second = jobs.claim(jobs.job("train-sums"))
    assert (first, second) == (1, 2)
    assert not jobs.change("train-sums", 1, state=JobState.DONE)
    assert not jobs.finish("train-sums", 1, "train", {"step": 3})
    assert jobs.change("train-sums", 2, process=17, message="at work")
    assert jobs.finish("train-sums", 2, "train", {"step": 4})
    assert jobs.finish("train-sums", 2, "train", {"step": 5})
    assert jobs.done("train-sums", "train") == {"step": 4}, "a step is done once"
    assert jobs.change("train-sums", 2, state=JobState.DONE, process=0)
    assert not jobs.change("train-sums", 2, state=JobState.FAILED), "what is over stays as it ended"
    assert jobs.claim(jobs.job("train-sums")) is None


def test_a_job_is_stopped_at_once_where_none_began_it_and_goes_on_when_queued_again(jobs: JobLog) -> None:
    jobs.add(job())
    assert jobs.halt("train-sums") and not jobs.halt("train-none")
    stopped = jobs.job("train-sums")
    assert stopped is not None and stopped.state is JobState.STOPPED
    assert jobs.claim(stopped) is None
    jobs.finish("train-sums", 0, "recipe", {})
    assert jobs.queue("train-sums", {"stage": "sft"}) and not jobs.queue("train-sums")
    assert jobs.steps("train-sums") == {}, "told otherwise, it begins anew"
    again = jobs.job("train-sums")
    assert again is not None and not again.halt and again.request == {"stage": "sft"}
    assert jobs.claim(again) == 1
    assert jobs.halt("train-sums")
    running = jobs.job("train-sums")
    assert running is not None and running.halt and running.state is JobState.RUNNING
