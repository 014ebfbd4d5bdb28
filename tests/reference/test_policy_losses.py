"""The engine's mathematics against slow, obvious code, and its GRPO gradient against TRL's on the same rollouts.

What is compared is in `benchmarks.parity_mathematics` and `parity_trainers`, which `training_parity` prints as a table.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from benchmarks import parity_mathematics as mathematics
from benchmarks.parity_trainers import grpo_and_trl

from studium.train.rows import Encoded

CASES: dict[str, Callable[[], float]] = {
    "the clipped surrogate takes the worse of two": mathematics.surrogate,
    "the KL estimate is k3 and never negative": mathematics.k3,
    "a loss by sequence": partial(mathematics.weights, "sequence"),
    "a loss by token": partial(mathematics.weights, "token"),
    "a loss by a constant": partial(mathematics.weights, "constant"),
    "generalised advantages follow their sum": mathematics.estimated_advantages,
    "the value loss takes the worse of two": mathematics.value_losses,
    "advantages within a group have mean 0 and spread 1 unless all rewards are equal": (
        mathematics.advantages_within_groups
    ),
    "what another policy drew counts by a ratio that is cut off": mathematics.truncated_correction,
    "a padded batch gives each row the log-probabilities it has alone": mathematics.padded_rows,
    "three backward passes have the gradient of one": mathematics.gradients_in_parts,
}


@pytest.mark.parametrize("name", CASES)
def test_the_mathematics_is_that_of_slow_code(name: str):
    assert CASES[name]() < 1e-5


def test_drawn_and_given_rows_share_the_loss_as_told():
    given = Encoded("given", [1, 50, 60, 2, 70, 3], 4)
    batch = mathematics.batch(mathematics.rollouts(), [given], 0.25)
    assert float(batch.weights_BT[:-1].sum()) == pytest.approx(0.75)
    assert float(batch.weights_BT[-1].sum()) == pytest.approx(0.25)
    assert batch.trained_BT.sum(1).tolist() == [4, 5, 6, 4, 5, 6, 2]


@pytest.mark.parametrize("kl", [0.0, 0.04])
def test_the_gradient_of_grpo_is_that_of_trl_on_the_same_rollouts(kl: float, tmp_path: Path):
    apart = grpo_and_trl(tmp_path, kl)
    assert apart.losses < 1e-5 and apart.weights < 1e-5
