"""`studium train` about runs that broke and runs that are starting, from files alone: nothing is trained here."""

import json
from pathlib import Path
from typing import Any

import pytest

from studium.cli.main import run
from studium.errors import BadRequest
from studium.train.config import Recipe
from studium.train.run_folder import RunFolder, State, Status

RECIPE = "model: sprout\nname: sums\ndata: [{domain: arithmetic, levels: [1], rows: 8}]\n"
NAN = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "state" / "runs" / "sums")
    found.path.mkdir(parents=True)
    (found.path / "recipe.yaml").write_text(RECIPE)
    return found


def broken(folder: RunFolder) -> None:
    """Leave what a run leaves whose third step is not finite."""
    folder.begin("sft", Recipe(model="sprout", name="sums"), "data")
    for step, loss in ((1, 1.0), (2, 1.1), (3, NAN)):
        folder.append("metrics.jsonl", {"step": step, "seconds": 1.0, "loss": loss, "gradient_norm": loss})
        folder.append("rows.jsonl", {"step": step, "rows": [["a", loss], ["b", 1.0]]})
    folder.append("metrics.jsonl", {"step": 3, "validation": {"score": NAN, "held_out_loss": NAN}})
    folder.say(Status(State.HALTED, 3, 9, 1.0, message="loss is nan"))


def said(folder: RunFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["train", *arguments, "--workspace", str(folder.path.parents[1])]) == 0
    return capsys.readouterr().out


def told(folder: RunFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(said(folder, capsys, *arguments, "--json"), parse_constant=refuse)


def test_a_step_that_is_not_finite_is_watched_and_explained(folder: RunFolder, capsys) -> None:
    """Both commands crashed on the null that such a step is kept as, just where they were needed."""
    broken(folder)
    watched = said(folder, capsys, "watch", "sums", "--once")
    assert "loss not finite  gradient_norm not finite" in watched
    assert "score at step  3: not finite" in watched
    why = said(folder, capsys, "why", "sums")
    assert "* step 3: loss not finite, usually 1.05" in why
    first, second = [line for line in why.splitlines() if "usually" in line and "step" not in line]
    assert first.split() == ["not", "finite", "a", "(usually", "1.05)"]
    assert second.split()[:2] == ["1", "b"]


def test_a_step_that_is_not_finite_is_null_to_programs(folder: RunFolder, capsys) -> None:
    broken(folder)
    assert told(folder, capsys, "watch", "sums", "--once")["metrics"] == {"loss": None, "gradient_norm": None}
    why = told(folder, capsys, "why", "sums")
    assert why["step"] == 3
    assert [(one["step"], one["value"]) for one in why["spikes"]] == [(3, None)]
    assert [(one["row"], one["loss"]) for one in why["rows"]] == [("a", None), ("b", 1.0)]


def test_a_run_without_a_finite_score_is_listed(folder: RunFolder, capsys) -> None:
    broken(folder)
    assert "halted" in said(folder, capsys, "list")
    folder.append("metrics.jsonl", {"step": 3, "validation": {"score": 0.25}})
    assert "0.250" in said(folder, capsys, "list")


def test_a_run_that_prepares_can_be_watched_and_stopped(folder: RunFolder, capsys) -> None:
    """It was called stopped: `train stop` was refused, and `watch` said "stopped, step 0/0"."""
    folder.say(Status(State.PREPARING))
    assert "preparing, 0 s" in said(folder, capsys, "watch", "sums", "--once")
    assert told(folder, capsys, "list")[0]["state"] == "preparing"
    said(folder, capsys, "stop", "sums")
    assert folder.asked_to_stop


def test_a_run_at_work_is_not_begun_again(folder: RunFolder, tmp_path: Path, capsys) -> None:
    """A second process waited for the first, failed, and wrote that into the first one's folder."""
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("rows: 8", "rows: 9"))
    workspace = ["--workspace", str(tmp_path / "state")]
    for state in (State.PREPARING, State.RUNNING):
        folder.say(Status(state))
        for arguments in (["sft", "--config", str(tmp_path / "recipe.yaml")], ["resume", "sums"]):
            assert run(["train", *arguments, *workspace]) == BadRequest.exit_code
            assert "is at work in process" in capsys.readouterr().err
    assert (folder.path / "recipe.yaml").read_text() == RECIPE
