"""Batches that could not be filled: what a group that teaches weighs there, and that none teaches nothing."""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.training_speed import Size, write_random_llama

from studium.train.config import Optimiser, Replay, Source, Validation
from studium.train.rl.options import Draws, RlRecipe
from studium.train.rl.running import policy_run
from studium.train.run_folder import RunFolder

Reward = Callable[[Any, str, bool], float]
OLD = Replay(0.5, (Source(domain="chains", levels=(1,), rows=8),))


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights: no two of its replies are alike."""
    return write_random_llama(Size("tiny", 32, 2, 2, 48), tmp_path_factory.mktemp("model") / "babbler")


def by_chance(row: Any, text: str, ended: bool) -> float:
    return zlib.crc32(text.encode()) % 1000 / 999


def run(
    model: str, path: Path, reward: Reward, replay: Replay, *, batch: int = 4, steps: int = 1
) -> list[Mapping[str, Any]]:
    recipe = RlRecipe(
        model=model,
        data=(Source(domain="chains", levels=(2,), rows=16, teach="prompts"),),
        batch=batch,
        steps=steps,
        max_tokens=128,
        optimiser=Optimiser(rate=1e-3, schedule="constant", warmup_steps=0),
        validation=Validation(every_steps=0),
        replay=replay,
        draws=Draws(each=4, most_tokens=24, most_rounds=1),
    )
    torch.set_num_threads(1)
    made = policy_run("rlvr", recipe, RunFolder(path), lambda line: None, reward=reward, at_line=False)
    assert made.folder is not None
    return list(RunFolder(path).lines("metrics.jsonl"))


def test_a_group_counts_the_same_whether_the_others_teach_or_not(babbler: str, tmp_path: Path):
    """One of four groups teaches: its part of the gradient is a quarter of what it is where one was asked for."""
    norms: dict[int, float] = {}
    for batch in (1, 4):
        first: list[str] = []

        def reward(row: Any, text: str, ended: bool, first: list[str] = first) -> float:
            first[:] = first or [row.id]
            return by_chance(row, text, ended) if row.id == first[0] else 0.0

        (told,) = run(babbler, tmp_path / str(batch), reward, Replay(), batch=batch)
        assert told["groups"] == 1
        norms[batch] = told["gradient_norm"]
    # Replies differ, since they are drawn beside others: the size is about the same.
    assert norms[4] == pytest.approx(norms[1] / 4, rel=0.5)


def test_where_no_group_teaches_the_weights_stay_as_they_are_old_skills_or_not(babbler: str, tmp_path: Path):
    told = run(babbler, tmp_path / "run", lambda row, text, ended: 1.0, OLD, steps=3)
    assert [one["updated"] for one in told] == [0.0, 0.0, 0.0]
    saved = (tmp_path / "run/checkpoint/model.safetensors").read_bytes()
    assert saved == (Path(babbler) / "model.safetensors").read_bytes()
