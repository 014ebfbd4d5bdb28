"""The folder of a training run: what a try left behind, who is at work in it, and a stop that was asked for."""

from pathlib import Path

import orjson
import psutil
import pytest

from studium.errors import ConfigurationError
from studium.train.config import Recipe
from studium.train.run_folder import RunFolder, State, Status


def test_a_try_that_saved_nothing_leaves_no_steps_behind(tmp_path: Path):
    folder, recipe = RunFolder(tmp_path / "run"), Recipe(model="sprout")
    assert not folder.begin("sft", recipe, "data")
    folder.append("metrics.jsonl", {"step": 1, "loss": 2.0})
    assert not folder.begin("sft", recipe, "data")
    assert list(folder.lines("metrics.jsonl")) == []


def test_a_try_that_saved_its_state_keeps_its_steps(tmp_path: Path):
    folder, recipe = RunFolder(tmp_path / "run"), Recipe(model="sprout")
    folder.begin("sft", recipe, "data")
    folder.append("metrics.jsonl", {"step": 1, "loss": 2.0})
    folder.state_file.write_bytes(b"saved")
    assert folder.begin("sft", recipe, "data")
    assert [line["step"] for line in folder.lines("metrics.jsonl")] == [1]


@pytest.mark.parametrize("state", [State.PREPARING, State.RUNNING])
def test_a_run_whose_process_is_gone_was_killed_whether_it_prepared_or_trained(tmp_path: Path, state: State):
    folder = RunFolder(tmp_path)
    folder.say(Status(state, 3, 9))
    assert (folder.status().state, folder.status().at_work) == (state, True)
    kept = orjson.loads((tmp_path / "status.json").read_bytes())
    (tmp_path / "status.json").write_bytes(orjson.dumps(kept | {"process_started": 1.0}))
    assert (folder.status().state, folder.status().at_work, folder.status().step) == (State.KILLED, False, 3)


def test_nobody_begins_where_another_process_prepares(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.say(Status(State.PREPARING))
    kept = orjson.loads((tmp_path / "status.json").read_bytes())
    parent = psutil.Process().parent()
    assert parent is not None
    other = {"process": parent.pid, "process_started": parent.create_time()}
    (tmp_path / "status.json").write_bytes(orjson.dumps(kept | other))
    with pytest.raises(ConfigurationError, match="is at work in process"):
        folder.begin("sft", Recipe(model="sprout"), "data")


def test_a_stop_lasts_until_the_next_process_and_is_not_lost_as_training_begins(tmp_path: Path):
    """A stop that was given while a run prepared, or between the students of a chain, was taken away by `begin`."""
    folder = RunFolder(tmp_path)
    folder.ask_to_stop()
    folder.begin("sft", Recipe(model="sprout"), "data")
    assert folder.asked_to_stop
    with folder.alone():
        assert not folder.asked_to_stop
