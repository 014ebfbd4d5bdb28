"""`studium weakness` on what real students said: clusters, their examples, and a recipe that training takes."""

import json
from pathlib import Path

import pytest
import yaml

from studium.cli.main import run
from studium.evals.folder import EvalFolder
from studium.evals.grading import Said, grade
from studium.evals.items import fresh_items
from studium.train.recipe_file import read_told

EVALUATE = ("eval", "run", "--model", "sprout", "--domain", "arithmetic", "--problems", "45", "--json")


@pytest.mark.slow
def test_what_a_student_gets_wrong_becomes_a_recipe_that_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workspace = ("--workspace", str(tmp_path))
    assert run([*EVALUATE, *workspace]) == 0
    capsys.readouterr()
    assert run(["weakness", "--model", "sprout", "--json", *workspace]) == 0
    told = json.loads(capsys.readouterr().out)
    worst = told["weaknesses"][0]
    assert (worst["model"], worst["domain"]) == ("sprout", "arithmetic")
    assert worst["kind"] in ("add", "subtract", "times")
    assert worst["share"]["low"] > 0.5
    assert worst["examples"][0]["reply"] != worst["examples"][0]["expected"]

    assert run(["weakness", "--model", "sprout", "--recipe", *workspace]) == 0
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(capsys.readouterr().out)
    assert read_told(recipe, "sft", ()).recipe.data[0].domain == "arithmetic"
    assert yaml.safe_load(recipe.read_text())["data"] == told["data"]

    assert run(["weakness", *workspace]) == 0
    assert "data: [{domain: arithmetic, levels: [" in capsys.readouterr().out


@pytest.mark.slow
def test_answers_count_as_somebody_rated_them_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    workspace = ("--workspace", str(tmp_path))
    assert run(["ask", "What's 18*3?", "--json", *workspace]) == 0
    answer = json.loads(capsys.readouterr().out)
    weakness = ["weakness", "--model", answer["chosen_model"], "--least", "1", "--json", *workspace]
    assert run(weakness) == 0
    assert json.loads(capsys.readouterr().out)["weaknesses"] == []  # its domain found it right

    assert run(["feedback", answer["request_id"], "bad", *workspace]) == 0
    capsys.readouterr()
    assert run(weakness) == 0
    (weak,) = json.loads(capsys.readouterr().out)["weaknesses"]
    assert (weak["domain"], weak["kind"], weak["level"]) == ("arithmetic", "times", None)
    assert weak["now"] == {"asked": 1, "wrong": 1}
    assert "Answer: 54" in weak["examples"][0]["reply"]


def test_a_role_is_its_student_and_its_adapters_taken_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    items = fresh_items(["sorting"], 8, 1)
    for number, model in enumerate(("sprout", "sprout/sorter", "clerk")):
        folder = EvalFolder(tmp_path / "runs", f"run-{number}")
        folder.begin({"model": model})
        for item in items:
            folder.append(grade(item, 0, Said("Answer: none", 0.1)))
    arguments = ("--least", "1", "--json", "--workspace", str(tmp_path))
    assert run(["weakness", "--role", "sprout", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["replies"] == 16
    assert {one["model"] for one in told["weaknesses"]} == {"sprout"}
    assert sum(one["now"]["asked"] for one in told["weaknesses"]) == 8
    assert run(["weakness", "--model", "sprout", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["replies"] == 8


def test_nothing_graded_is_said_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["weakness", "--model", "sprout", "--workspace", str(tmp_path)]) == 4
    assert "nothing graded of sprout" in capsys.readouterr().err
