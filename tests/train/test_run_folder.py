"""The folder of a training run: what a try left behind that ended before it saved anything."""

from pathlib import Path

from studium.train.config import Recipe
from studium.train.run_folder import RunFolder


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
