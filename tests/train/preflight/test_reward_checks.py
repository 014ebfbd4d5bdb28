"""What a policy may try instead of solving is put to a reward before it does."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from benchmarks.preflight_cases import RLVR, told_of

from studium.train.preflight.checking import inputs_of
from studium.train.preflight.findings import Inputs
from studium.train.preflight.reward_checks import probes
from studium.train.rl.rewards import Outcome
from studium.train.rows import Row

RIGHT = Outcome()


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return inputs_of(told_of("rlvr", RLVR))


@pytest.mark.parametrize(
    ("hole", "probe"),
    [
        (lambda text, ended: not ended, "cut off"),
        (lambda text, ended: "cannot" in text, "declined"),
        (lambda text, ended: "correct" in text, "the word correct"),
    ],
    ids=["cut off", "declined", "sentinel"],
)
def test_a_hole_in_a_sound_verifier_is_found(
    inputs: Inputs, hole: Callable[[str, bool], bool], probe: str
) -> None:
    def reward(row: Row, text: str, ended: bool) -> float | None:
        return 1.0 if hole(text, ended) else RIGHT(row, text, ended)

    found = probes(replace(inputs, reward=reward))
    assert found.ok is False and f"'{probe}'" in found.says


def test_the_verifier_itself_has_none(inputs: Inputs) -> None:
    assert probes(replace(inputs, reward=RIGHT)).ok
