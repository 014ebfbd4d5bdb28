"""Every recipe that ships is read and forecast; those for a processor train a few steps from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studium.train.recipe_file import read_told
from studium.train.stages.catalogue import STAGES

RECIPES = Path(__file__).parents[2] / "recipes"
SHAPE = RECIPES / "shapes" / "qwen2.5-7b.json"
REFERENCE = sorted(RECIPES.glob("reference-*.yaml"))
SMALL = sorted(set(RECIPES.glob("*.yaml")) - set(REFERENCE))


def studium(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "studium.cli.main", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_every_stage_has_a_recipe() -> None:
    assert {one.stem for one in SMALL} == {stage for stage in STAGES if (RECIPES / f"{stage}.yaml").exists()}
    assert len(SMALL) >= 6


def test_the_folder_of_a_run_stands_for_the_model_it_made(tmp_path: Path) -> None:
    checkpoint = tmp_path / "runs" / "first" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    for told in (checkpoint.parent, checkpoint):
        assert read_told(RECIPES / "sft.yaml", "sft", [f"model={told}"]).recipe.model == str(checkpoint)
    assert read_told(RECIPES / "sft.yaml", "sft", [f"model={tmp_path}"]).recipe.model == str(tmp_path)


@pytest.mark.parametrize("recipe", SMALL, ids=lambda one: one.stem)
def test_a_recipe_is_forecast_and_trains_a_few_steps(recipe: Path, tmp_path: Path) -> None:
    forecast = studium("train", recipe.stem, "--config", recipe, "--dry-run", "--json", cwd=tmp_path)
    assert forecast.returncode == 0, forecast.stderr
    told = json.loads(forecast.stdout)
    assert told["memory_bytes"] > 400 * 2**20
    assert told["seconds"] is None
    short = ("steps=2", "optimiser.warmup_steps=0", "batch=4")
    sets = [part for one in short for part in ("--set", one)]
    ran = studium(
        "train", recipe.stem, "--config", recipe, *sets, "--workspace", tmp_path, "--json", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    outcome = json.loads(ran.stdout)
    assert (outcome["state"], outcome["step"]) == ("done", 2)
    folder = Path(outcome["folder"])
    assert (folder / "checkpoint" / "model.gguf").exists()
    assert (folder / "report.md").read_text().startswith(f"# {folder.name}: {recipe.stem}")
    assert all(
        one["ok"] is not False for one in json.loads((folder / "preflight.json").read_text())["findings"]
    )
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    peak = next(one["peak_bytes"] for one in events if one["kind"] == "memory")
    assert peak < told["memory_bytes"] * 1.1, "a forecast may be too high, hardly too low"
    noise = [line for line in ran.stderr.splitlines() if "warn" in line.lower() or "it/s" in line]
    assert not noise


@pytest.mark.parametrize("recipe", REFERENCE, ids=lambda one: one.stem)
def test_a_reference_recipe_fits_a_card_of_16_gb_with_a_7_b_model(recipe: Path, tmp_path: Path) -> None:
    forecast = studium(
        "train", "sft", "--config", recipe, "--shape", SHAPE, "--dry-run", "--json", cwd=tmp_path
    )
    assert forecast.returncode == 0, forecast.stderr
    told = json.loads(forecast.stdout)
    assert abs(told["parameters"] / 7.6156e9 - 1) < 0.001
    assert 8e9 < told["memory_bytes"] < 16e9


def test_the_reference_recipes_are_those_of_the_requirement() -> None:
    r16 = read_told(RECIPES / "reference-r16.yaml", "sft").recipe
    assert (r16.lora.rank, r16.lora.alpha, r16.max_tokens, r16.lora.four_bit) == (16, 16, 4096, True)
    r64 = read_told(RECIPES / "reference-r64.yaml", "sft").recipe
    assert (r64.lora.rank, r64.lora.alpha, r64.batch, r64.accumulate) == (64, 128, 4, 4)
    assert (r64.optimiser.rate, r64.epochs) == (2e-4, 3)
