"""Which night is due, that it is done once whoever looks, and one night with real students and servers that die."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.servers import studium_up

from studium.config import load_config
from studium.errors import ConfigurationError
from studium.manage.jobs import Jobs
from studium.manage.night import sets
from studium.manage.nightly import (
    Nightly,
    begin_now,
    due,
    latest,
    look,
    name_of,
    nightly,
    nightly_of,
    nights_of,
)
from studium.records.jobs import Job, JobState
from studium.registry import Registry
from studium.store import open_store
from studium.train.recipe_file import read_told

NIGHT = datetime(2026, 11, 21, 2, 30)
LONG_AGO = NIGHT - timedelta(days=30)
RECIPE = {
    "model": "sprout",
    "teacher": "abacus",
    "data": [{"domain": "arithmetic", "levels": [1], "rows": 24, "teach": "prompts"}],
    "steps": 3,
    "batch": 8,
    "max_tokens": 96,
    "validation": {"every_steps": 0},
}
LIMIT_S = 300.0


def night(day: date, state: JobState = JobState.DONE) -> Job:
    return Job(f"nightly-{name_of(day)}", "nightly", name_of(day), {}, state)


def days_before(days: float) -> datetime:
    return NIGHT - timedelta(days=days)


def write(folder: Path, recipe: dict[str, Any], **distil: Any) -> Path:
    """Write a recipe and a configuration that has it done every night; return the latter."""
    (folder / "distil.yaml").write_text(yaml.safe_dump(recipe))
    told = {"workspace": "state", "nightly": {"distil": {"recipe": "distil.yaml"} | distil}}
    (folder / "studium.yaml").write_text(yaml.safe_dump(told))
    return folder / "studium.yaml"


def test_the_hour_of_today_counts_once_it_has_come_and_until_then_that_of_yesterday():
    assert latest(NIGHT, "02:30") == NIGHT
    assert latest(NIGHT - timedelta(seconds=1), "02:30") == days_before(1)
    assert latest(datetime(2026, 3, 1, 0, 10), "23:50") == datetime(2026, 2, 28, 23, 50)


def test_a_night_is_due_from_its_hour_on_and_once():
    assert due(NIGHT, "02:30", LONG_AGO, [night(days_before(1))]) == NIGHT.date()
    assert due(NIGHT + timedelta(hours=9), "02:30", LONG_AGO, [night(NIGHT)]) is None
    assert due(NIGHT - timedelta(seconds=1), "02:30", LONG_AGO, [night(days_before(1))]) is None


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.STOPPED, JobState.HALTED])
def test_a_night_that_went_wrong_is_not_done_again(state: JobState):
    assert due(NIGHT, "02:30", LONG_AGO, [night(NIGHT, state)]) is None


def test_of_nights_that_were_missed_the_last_is_made_up_for():
    now, done = NIGHT + timedelta(hours=9), [night(days_before(6))]
    assert due(now, "02:30", LONG_AGO, done) == NIGHT.date()
    assert due(now, "02:30", LONG_AGO, [*done, night(NIGHT)]) is None


def test_nothing_was_missed_before_nights_were_switched_on():
    assert due(NIGHT + timedelta(hours=9), "02:30", NIGHT + timedelta(hours=8), []) is None
    assert due(NIGHT + timedelta(hours=24), "02:30", NIGHT + timedelta(hours=8), []) is not None


def test_no_night_begins_while_another_is_at_work():
    assert due(NIGHT, "02:30", LONG_AGO, [night(days_before(1), JobState.RUNNING)]) is None


@pytest.fixture
def store(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


PLAN = Nightly("02:30", {"stage": "distil", "recipe_file": "/nowhere/distil.yaml"})


def test_all_who_look_at_one_store_begin_a_night_once(tmp_path: Path, store):
    own = [Jobs(store.jobs, tmp_path, tmp_path / "state.db") for _ in range(8)]
    plans = [
        replace(PLAN, request={"problems": number}) for number in range(8)
    ]  # as two configurations would
    with ThreadPoolExecutor(8) as looking:
        list(looking.map(lambda one: look(one[0], one[1], LONG_AGO, NIGHT), zip(plans, own, strict=True)))
    kept = nights_of(own[0])
    assert [one.id for one in kept] == ["nightly-distil-2026-11-21"]
    assert store.jobs.change(kept[0].id, store.jobs.claim(kept[0]), state=JobState.FAILED)
    assert look(PLAN, own[1], LONG_AGO, NIGHT) is None and nights_of(own[0])[0].state is JobState.FAILED
    # Who had looked just before the first one's job was there adds it late: it stays as it is.
    assert own[1].submit("nightly", name_of(NIGHT), PLAN.request, again=False).state is JobState.FAILED


def test_at_once_is_beside_the_night(tmp_path: Path, store):
    jobs = Jobs(store.jobs, tmp_path, tmp_path / "state.db")
    assert begin_now(PLAN, jobs, NIGHT + timedelta(hours=1)).name == "distil-2026-11-21-at-0330"
    assert (
        due(NIGHT, "02:30", LONG_AGO, [replace(one, state=JobState.DONE) for one in nights_of(jobs)])
        == NIGHT.date()
    )


def test_a_running_studium_begins_the_night_when_its_hour_comes(tmp_path: Path, store, monkeypatch):
    config = load_config(write(tmp_path, RECIPE), environment={})
    jobs = Jobs(store.jobs, tmp_path, tmp_path / "state.db")
    times = iter([NIGHT - timedelta(minutes=3), NIGHT - timedelta(minutes=2)])
    monkeypatch.setattr("studium.manage.nightly.LOOK_S", 0.01)

    async def serve() -> list[Job]:
        async with nightly(config, jobs, lambda: next(times, NIGHT)):
            for _ in range(500):
                if nights_of(jobs):
                    break
                await asyncio.sleep(0.01)
            begun = nights_of(jobs)
            await asyncio.sleep(0.05)  # it looks again
            return begun

    begun = asyncio.run(serve())
    assert [one.name for one in begun] == [one.name for one in nights_of(jobs)] == ["distil-2026-11-21"]
    assert begun[0].request["roles"] == ["sprout"] and begun[0].request["recipe_file"] == str(
        tmp_path / "distil.yaml"
    )


def test_nothing_is_done_at_night_where_no_recipe_is_named(tmp_path: Path):
    assert nightly_of(load_config(None, environment={}, overrides={"workspace": tmp_path})) is None


@pytest.mark.parametrize(
    ("recipe", "distil", "words"),
    [
        (RECIPE | {"model": "/models/some.gguf"}, {}, "nightly.distil.role"),
        (RECIPE, {"role": "nobody"}, "'nobody'"),
        (RECIPE | {"teachr": "abacus"}, {}, "did you mean 'teacher'"),
        (RECIPE, {"at": "2 am"}, "a time of day such as 02:30"),
    ],
)
def test_a_mistake_is_told_when_studium_starts(tmp_path: Path, recipe, distil, words: str):
    with pytest.raises(ConfigurationError) as told:
        nightly_of(load_config(write(tmp_path, recipe, **distil), environment={}))
    assert words in str(told.value) + told.value.try_next + told.value.expected


def test_a_recipe_that_is_not_there_is_told(tmp_path: Path):
    config = write(tmp_path, RECIPE)
    (tmp_path / "distil.yaml").unlink()
    with pytest.raises(ConfigurationError, match=f"there is no file {tmp_path}/distil.yaml"):
        nightly_of(load_config(config, environment={}))


def test_every_night_draws_its_own_and_the_same_night_the_same(tmp_path: Path):
    write(tmp_path, RECIPE | {"then": ["tinker", "clerk"]})
    told = read_told(tmp_path / "distil.yaml", "distil")
    recipes: list[Any] = [
        read_told(tmp_path / "distil.yaml", "distil", sets(told, name, "/w/model.gguf")).recipe
        for name in ("distil-2026-11-21", "distil-2026-11-21", "distil-2026-11-22")
    ]
    one, again, other = recipes
    assert one == again and one.seed != other.seed and one.data[0].seed != other.data[0].seed
    assert (one.name, one.model, one.then) == ("distil-2026-11-21", "sprout", ("tinker", "/w/model.gguf"))


def studium(folder: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "studium", *words, "--config", "studium.yaml", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_missed_night_is_made_up_for_by_whoever_lives_and_what_it_makes_does_not_serve(tmp_path: Path):
    pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
    recipe = RECIPE | {"then": ["tinker"], "lora": {"rank": 4, "alpha": 8}}
    config = write(tmp_path, recipe, at="00:00", problems=10)
    workspace = tmp_path / "state"
    (workspace / "jobs").mkdir(parents=True)
    (workspace / "jobs" / "nightly-since").write_text("2026-11-01T00:00:00")
    store = open_store(workspace / "state.db")
    jobs = Jobs(store.jobs, workspace, workspace / "state.db")

    def until(done: Callable[[Job], Any]) -> None:
        end = time.monotonic() + LIMIT_S
        while not any(done(one) for one in nights_of(jobs)):
            assert time.monotonic() < end, nights_of(jobs)
            time.sleep(0.1)

    try:
        with studium_up(tmp_path, "--config", str(config)):
            until(lambda night: (workspace / "runs" / night.name / "student-1" / "metrics.jsonl").exists())
            # The server dies, and so does what it began.
            os.kill(nights_of(jobs)[0].process, signal.SIGKILL)
        with studium_up(tmp_path, "--config", str(config)):
            until(lambda night: not night.state.open)
        told = studium(tmp_path, "nightly", "status")["last"]
        assert told["state"] == "done", told
        assert all(f"registered as {role}/{told['name']}" in told["message"] for role in ("sprout", "tinker"))
        assert told["message"].count("the gate says") == 2
        registry = Registry(store, workspace)
        assert {(one.role, one.base, one.kind) for one in registry.adapters()} == {
            ("sprout", "sprout", "adapter"),
            ("tinker", "tinker", "adapter"),
        }
        assert {route.champion for route in registry.routes().values()} == {""}
        assert [one.starts >= 2 for one in jobs.jobs()] == [True]
    finally:
        store.close()
