"""When a student should be trained again, and that a running Studium does it only where that is switched on."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from studium.config import load_config
from studium.manage import retraining
from studium.manage.improve.ending import Ending
from studium.manage.improve.folder import Improvement, Wanted, begin
from studium.manage.retraining import criteria, criteria_of, due
from studium.records.grades import Grade, GradeSource
from studium.records.runs import StudentRun
from studium.store import open_store
from studium.store.learning import Standing, Window

NOTHING = Standing(Window(0, 0.0), Window(0, 0.0), Window(0, 0.0), Window(0, 0.0), 0)
WELL = Standing(Window(200, 0.9), Window(200, 0.9), Window(200, 0.01), Window(200, 0.01), 0)


def holding(standing: Standing, past: tuple[Improvement, ...] = ()) -> set[str]:
    return {one.name for one in criteria(standing, past, min_accuracy=0.8, min_new=200) if one.holds}


def improvement(ending: Ending | None) -> Improvement:
    return Improvement(Path("sprout-1"), Wanted("sprout"), 0.0, ending=ending)


def test_where_nothing_was_measured_nothing_holds_and_that_is_said():
    found = criteria(NOTHING, (), min_accuracy=0.8, min_new=200)
    assert not due(found)
    assert [one.holds for one in found] == [None, None, None, None, False]


def test_a_student_that_does_as_well_as_before_is_left_alone():
    assert holding(WELL) == set()


@pytest.mark.parametrize(
    ("standing", "name"),
    [
        (WELL._replace(lately=Window(200, 0.85)), "performance down by 5 %"),
        (WELL._replace(lately=Window(200, 0.79), before=Window(10, 0.9)), "accuracy under the minimum"),
        (WELL._replace(failed_lately=Window(200, 0.04)), "failures up by 10 %"),
        (WELL._replace(graded_since=200), "enough new grades"),
    ],
)
def test_each_criterion_holds_by_itself_and_is_not_enough_by_itself(standing: Standing, name: str):
    assert holding(standing) == {name}
    assert not due(criteria(standing, (), min_accuracy=0.8, min_new=200))


def test_one_failure_more_is_chance():
    assert holding(WELL._replace(failed_before=Window(200, 0.0), failed_lately=Window(200, 0.005))) == set()


def test_improvements_that_paid_off_advise_another_and_stopped_ones_say_nothing():
    assert holding(WELL, (improvement(Ending.PROMOTED),)) == {"earlier improvements paid off"}
    assert holding(WELL, (improvement(Ending.HELD),)) == set()
    assert holding(WELL, (improvement(Ending.STOPPED), improvement(None))) == set()


def test_two_criteria_are_a_reason():
    worse = WELL._replace(lately=Window(200, 0.7))
    assert due(criteria(worse, (), min_accuracy=0.8, min_new=200))


def test_the_counts_come_from_the_store(tmp_path: Path):
    config = load_config(None, environment={}, overrides={"workspace": tmp_path})
    store = open_store(tmp_path / "state.db")
    grade = Grade(1.0, "r", "sprout", "arithmetic", GradeSource.VERIFIER, 1.0)
    try:
        store.grades.add([replace(grade, score=1.0)] * 200)
        store.grades.add([replace(grade, score=float(number % 2), at=time.time()) for number in range(200)])
        store.flush()
        found = {one.name: one for one in criteria_of(config, store, "sprout")}
        standing = store.standing("sprout", window=200, since=2.0)
    finally:
        store.close()
    assert (standing.lately, standing.before) == (Window(200, 0.5), Window(200, 1.0))
    assert standing.graded_since == 200
    assert found["performance down by 5 %"].holds
    assert found["failures up by 10 %"].holds is None


def test_what_was_graded_before_an_improvement_is_no_reason_for_another(tmp_path: Path):
    config = load_config(None, environment={}, overrides={"workspace": tmp_path})
    store = open_store(tmp_path / "state.db")
    grade = Grade(1.0, "r", "sprout", "arithmetic", GradeSource.VERIFIER, 1.0)
    try:
        store.grades.add(
            [replace(grade, at=time.time() - 100, score=float(right)) for right in [1] * 200 + [0] * 200]
        )
        store.flush()
        assert due(criteria_of(config, store, "sprout"))
        one = begin(tmp_path, Wanted("sprout"))
        one.ending = Ending.STOPPED
        one.keep()
        assert due(criteria_of(config, store, "sprout"))
        one.ending = Ending.HELD
        one.keep()
        assert not due(criteria_of(config, store, "sprout"))
        store.grades.add([replace(grade, at=time.time() + 1, score=0.0)] * 200)
        store.flush()
        assert due(criteria_of(config, store, "sprout"))
    finally:
        store.close()


def test_failed_runs_are_counted_against_those_before(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    run = StudentRun("sprout", "sprout", started_at=1.0, seconds=1.0, success=True)
    try:
        for number in range(80):
            store.record_run(replace(run, success=number < 60))
        store.flush()
        standing = store.standing("sprout", window=40, since=0.0)
    finally:
        store.close()
    assert (standing.failed_before, standing.failed_lately) == (Window(40, 0.0), Window(40, 0.5))


@pytest.mark.parametrize("automatic", [False, True])
def test_a_running_studium_looks_only_where_that_is_switched_on(tmp_path: Path, automatic: bool):
    config = load_config(
        None, environment={}, overrides={"workspace": tmp_path, "improve.automatic": str(automatic).lower()}
    )
    store = open_store(tmp_path / "state.db")
    looked = tmp_path / "improvements" / "criteria.jsonl"

    async def serve() -> None:
        async with retraining.retraining(config, store, ["sprout"]):
            for _ in range(100):
                await asyncio.sleep(0.02)
                if looked.exists():
                    return

    try:
        asyncio.run(serve())
    finally:
        store.close()
    lines = looked.read_bytes().splitlines() if looked.exists() else []
    assert [orjson.loads(line)["role"] for line in lines] == (["sprout"] if automatic else [])
