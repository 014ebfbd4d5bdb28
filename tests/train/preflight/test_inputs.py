"""What the preflight reads of a model, and which memory it holds a run against."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.records.hardware import Gpu
from studium.train import forecast
from studium.train.models import load, save
from studium.train.preflight import compute_checks
from studium.train.preflight.checking import inputs_of
from studium.train.recipe_file import read_told

RECIPE = """
model: {model}
data: [{{domain: sorting, levels: [1], rows: 8{teach}}}]
steps: 2
batch: 2
validation: {{every_steps: 0}}
{more}
"""

FULL = Gpu("full", 2**34, 2**34, 0)


def told(folder: Path, stage: str, *, model: str = "sprout", teach: str = "", more: str = ""):
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(model=model, teach=teach, more=more))
    return read_told(file, stage)


def test_what_is_trained_in_four_bits_is_checked_without_its_weights(tmp_path: Path) -> None:
    """A model of 7 B weights would take 30 GB of main memory before its first step."""
    loaded = load("sprout")
    save(loaded, tmp_path / "base")
    base = str(tmp_path / "base")
    whole = inputs_of(told(tmp_path, "sft", model=base))
    light = inputs_of(told(tmp_path, "sft", model=base, more="lora: {rank: 4, four_bit: yes}"))
    assert whole.model is not None and light.model is None
    for name in ("num_embeddings", "context", "end_ids", "shape"):
        assert getattr(light, name) == getattr(whole, name)
    assert light.num_embeddings == 768 and light.end_ids
    assert [one.id for one in light.rows] == [one.id for one in whole.rows]


@pytest.mark.parametrize(
    ("stage", "teach", "fits"),
    [("sft", "", False), ("rlvr", ", teach: prompts", True), ("srl", ", teach: step-prompts", True)],
)
def test_a_stage_is_held_against_the_memory_it_trains_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, teach: str, fits: bool
) -> None:
    """Reinforcement learning trains on the processor also beside a GPU, a full one here."""
    monkeypatch.setattr(forecast, "read_gpus", lambda: [FULL])
    run = told(tmp_path, stage, teach=teach)
    assert forecast.foresee(run, [], "sprout").on_gpu is not fits
    finding = compute_checks.fits(inputs_of(run))
    assert finding.ok is fits
    assert ("main memory" in finding.says) is fits
