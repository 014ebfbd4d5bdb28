"""What a step says of its tokens: means over all that was drawn, whatever is beside it and however it is cut."""

import zlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from benchmarks.training_speed import Size, write_random_llama

from studium.train.config import Lora, Optimiser, Source
from studium.train.data import rows_of
from studium.train.learner import Learner
from studium.train.models import load
from studium.train.rl import engine
from studium.train.rl.engine import PolicyStage
from studium.train.rl.means import Means
from studium.train.rl.options import Draws, Objective, RlRecipe
from studium.train.rl.rollouts import Roller
from studium.train.rl.samplers import ModelSampler
from studium.train.rows import Row

PROMPTS = rows_of([Source(domain="chains", levels=(2,), rows=16, teach="prompts")])
OLD = rows_of([Source(domain="chains", levels=(1,), rows=16)])


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights: no two of its replies are alike."""
    return write_random_llama(Size("tiny", 32, 2, 2, 48), tmp_path_factory.mktemp("model") / "babbler")


def told(model: str, given: list[Row]) -> Mapping[str, float]:
    """Return what a step measures with a policy some way from its reference; its weights stay as they are.

    Its rows are sixteen drawn replies, then as many given rows as there are prompts, four.
    """
    torch.set_num_threads(1)
    recipe = RlRecipe(
        model=model,
        batch=4,
        draws=Draws(each=4, most_tokens=24, most_rounds=1),
        objective=Objective(kl=0.1, passes=2),
    )
    learner = Learner(load(model), Optimiser(), Lora(), steps=1, seed=1)
    tokenizer = learner.loaded.tokenizer

    def reward(row: Row, text: str, ended: bool) -> float:
        return zlib.crc32(text.encode()) % 1000 / 999

    drawing = replace(recipe.draws.drawing(at_line=False), least_spread=-1.0)
    roller = Roller(ModelSampler(learner.model, tokenizer), tokenizer, reward, drawing)
    stage = PolicyStage(recipe, learner, roller, PROMPTS, steps=1, given=given, share=0.5)
    with torch.no_grad():
        for weight in learner.trained:
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    return stage.step(0, lambda seen: False).metrics


def test_given_rows_leave_what_is_told_of_drawn_ones_as_it_is(babbler: str, monkeypatch: pytest.MonkeyPatch):
    """A slice of given rows alone counted as a KL of 0, so that twice the limit went by unseen."""
    monkeypatch.setattr(engine, "_ROWS_AT_ONCE", 16)
    alone, beside = told(babbler, []), told(babbler, list(OLD))
    assert alone["kl"] > 0.01
    for name in ("kl", "entropy"):
        assert beside[name] == pytest.approx(alone[name], rel=1e-4)


def test_a_slice_counts_by_its_drawn_tokens(babbler: str, monkeypatch: pytest.MonkeyPatch):
    """A slice of one row weighed as much as one of fifteen."""
    found: list[Mapping[str, float]] = []
    for rows in (1000, 15, 3):
        monkeypatch.setattr(engine, "_ROWS_AT_ONCE", rows)
        found.append(told(babbler, list(OLD)))
    for name in ("kl", "entropy"):
        assert [one[name] for one in found] == pytest.approx([found[0][name]] * 3, rel=1e-4)


def test_means_are_over_all_values_and_none_is_not_nought():
    means = Means("first", "never")
    means.add("second", torch.tensor([4.0]))
    means.add("first", torch.tensor([True, False, False]))
    means.add("first", torch.tensor([1.0]))
    means.add("never", torch.tensor([]))
    assert list(means.all()) == ["first", "second"]
    assert means.all() == pytest.approx({"first": 0.5, "second": 4.0})
    assert means.of("never") is None
