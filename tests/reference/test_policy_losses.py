"""The engine's mathematics against slow, obvious code, and its GRPO gradient against TRL's on the same rollouts."""

import math
from random import Random
from statistics import fmean, pstdev

import pytest
import torch

from studium.train.models import load
from studium.train.rl.advantages import generalised, group_relative
from studium.train.rl.batch import batch_of
from studium.train.rl.losses import (
    Normalise,
    clipped_surrogate,
    kl_estimate,
    policy_of,
    token_weights,
    value_loss,
)
from studium.train.rl.rollouts import Group
from studium.train.rl.samplers import Draw
from studium.train.rows import Encoded, Row, asked

ROWS, TARGETS = 4, 6


def numbers(seed: int, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    rng = Random(seed)
    return torch.tensor([[rng.uniform(low, high) for _ in range(TARGETS)] for _ in range(ROWS)])


def trained() -> torch.Tensor:
    """One stretch per row: in the middle, at the start, a single token, none at all."""
    spans = [(1, 5), (0, 3), (5, 6), (0, 0)]
    return torch.tensor([[low <= at < high for at in range(TARGETS)] for low, high in spans])


def test_the_clipped_surrogate_takes_the_worse_of_two():
    new, old, good = numbers(1, -3, 0), numbers(2, -3, 0), numbers(3)
    found = clipped_surrogate(new, old, good, clip_low=0.2, clip_high=0.3)
    for row in range(ROWS):
        for at in range(TARGETS):
            ratio = math.exp(new[row, at] - old[row, at])
            clipped = min(max(ratio, 0.8), 1.3)
            worse = min(ratio * float(good[row, at]), clipped * float(good[row, at]))
            assert found[row, at] == pytest.approx(-worse, abs=1e-5)


def test_the_kl_estimate_is_k3_and_never_negative():
    new, reference = numbers(4), numbers(5)
    found = kl_estimate(new, reference)
    for row in range(ROWS):
        for at in range(TARGETS):
            d = float(reference[row, at] - new[row, at])
            assert found[row, at] == pytest.approx(math.exp(d) - d - 1, abs=1e-5)
    assert (found >= 0).all()
    assert kl_estimate(new, new).abs().max() == 0


@pytest.mark.parametrize("how", ["sequence", "token", "constant"])
def test_token_weights_are_what_the_normalisations_say(how: Normalise):
    mask, loss = trained(), numbers(6)
    found = float((token_weights(mask, how, constant=5.0) * loss).sum())
    rows = [[float(loss[row, at]) for at in range(TARGETS) if mask[row, at]] for row in range(ROWS)]
    if how == "sequence":
        expected = fmean(fmean(row) if row else 0.0 for row in rows)
    elif how == "token":
        expected = fmean(one for row in rows for one in row)
    else:
        expected = sum(one for row in rows for one in row) / (ROWS * 5.0)
    assert found == pytest.approx(expected, abs=1e-6)


def test_generalised_advantages_follow_their_sum():
    """Equation 16 of arXiv 1506.02438, written out as the sum it is."""
    rewards, values, mask = numbers(7), numbers(8), trained()
    rewards = rewards * mask
    gamma, trace = 0.9, 0.8
    found = generalised(rewards, values, mask, gamma=gamma, trace=trace)
    for row in range(ROWS):
        places = [at for at in range(TARGETS) if mask[row, at]]
        errors = [
            float(rewards[row, at])
            + gamma * (float(values[row, at + 1]) if at + 1 in places else 0.0)
            - float(values[row, at])
            for at in places
        ]
        for number, at in enumerate(places):
            expected = sum((gamma * trace) ** far * error for far, error in enumerate(errors[number:]))
            assert found.advantages_BT[row, at] == pytest.approx(expected, abs=1e-5)
            assert found.returns_BT[row, at] == pytest.approx(expected + float(values[row, at]), abs=1e-5)
    assert float(found.advantages_BT[~mask].abs().sum()) == 0
    assert float(found.returns_BT[~mask].abs().sum()) == 0


def test_the_value_loss_takes_the_worse_of_two():
    new, old, returns = numbers(9), numbers(10), numbers(11)
    found = value_loss(new, old, returns, clip=0.2)
    for row in range(ROWS):
        for at in range(TARGETS):
            v, o, r = float(new[row, at]), float(old[row, at]), float(returns[row, at])
            clipped = min(max(v, o - 0.2), o + 0.2)
            assert found[row, at] == pytest.approx(max((v - r) ** 2, (clipped - r) ** 2) / 2, abs=1e-5)


def test_advantages_within_a_group_have_mean_0_and_spread_1_unless_all_rewards_are_equal():
    found = group_relative([0.0, 1.0, 1.0, 0.5])
    assert fmean(found) == pytest.approx(0) and pstdev(found) == pytest.approx(1)
    assert group_relative([0.3, 0.3, 0.3]) == [0.0, 0.0, 0.0]
    assert group_relative([0.0, 1.0], spread="none") == [-0.5, 0.5]


@pytest.fixture(scope="module")
def rollouts() -> list[Group]:
    """Two groups of three replies of different lengths, made of arbitrary tokens."""
    rng = Random(5)
    groups: list[Group] = []
    for number, rewards in enumerate(([0.0, 1.0, 0.25], [1.0, 1.0, 0.0])):
        prompt = [1, *(rng.randrange(10, 300) for _ in range(5 + number)), 2]
        draws = [Draw([rng.randrange(10, 300) for _ in range(3 + at)] + [3], (), True) for at in range(3)]
        groups.append(Group(Row(str(number), asked("")), prompt, draws, [""] * 3, rewards))
    return groups


def test_a_batch_padded_gives_each_row_the_log_probabilities_it_has_alone(rollouts: list[Group]):
    model = load("sprout").model
    batch = batch_of(
        rollouts,
        [[0.0] * 3] * 2,
        [Encoded("given", [1, 50, 60, 2, 70, 3], 4)],
        pad=0,
        normalise="sequence",
        constant=1.0,
        given_share=0.25,
    )
    whole = policy_of(model, batch.ids_BS, batch.seen_BS)
    for row, ids in enumerate(batch.ids_BS):
        length = int(batch.seen_BS[row].sum())
        alone = policy_of(model, ids[None, :length], torch.ones(1, length, dtype=torch.bool))
        difference = (whole.logprobs_BT[row, : length - 1] - alone.logprobs_BT[0]).abs().max().detach()
        assert float(difference) < 1e-5
    assert float(batch.weights_BT[:-1].sum()) == pytest.approx(0.75)
    assert float(batch.weights_BT[-1].sum()) == pytest.approx(0.25)
    assert batch.trained_BT.sum(1).tolist() == [4, 5, 6, 4, 5, 6, 2]


@pytest.mark.parametrize("kl", [0.0, 0.04])
def test_the_gradient_of_grpo_is_that_of_trl_on_the_same_rollouts(
    rollouts: list[Group], kl: float, tmp_path_factory: pytest.TempPathFactory
):
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from studium.train.rl.losses import Policy

    loaded = load("sprout")
    config = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        loss_type="grpo",
        beta=0.0,
        use_bias_correction_kl=False,  # k3 as published
        epsilon=0.2,
        bf16=False,
        use_cpu=True,
        report_to=[],
        num_generations=3,
        per_device_train_batch_size=6,
    )
    trainer = GRPOTrainer(
        loaded.model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=loaded.tokenizer,
    )
    trainer.beta = kl
    advantages = [group_relative(group.rewards) for group in rollouts]
    batch = batch_of(rollouts, advantages, [], pad=0, normalise="sequence", constant=1.0, given_share=0.0)
    old_BT, reference_BT = _shifted(batch.trained_BT, 0.1), _shifted(batch.trained_BT, 0.3)

    def ours() -> torch.Tensor:
        policy: Policy = policy_of(loaded.model, batch.ids_BS, batch.seen_BS)
        base = policy.logprobs_BT.detach()
        loss = clipped_surrogate(
            policy.logprobs_BT, base + old_BT, batch.advantages_BT, clip_low=0.2, clip_high=0.2
        )
        loss = loss + kl * kl_estimate(policy.logprobs_BT, base + reference_BT)
        return (batch.weights_BT * loss).sum()

    def theirs() -> torch.Tensor:
        inputs, base = _as_trl(rollouts, loaded.model)
        inputs["advantages"] = torch.tensor([one for group in advantages for one in group])
        spots = inputs["completion_mask"].bool()
        for name, shift in (("old_per_token_logps", old_BT), ("ref_per_token_logps", reference_BT)):
            moved = torch.zeros_like(base)
            moved[spots] = shift[batch.trained_BT]
            inputs[name] = base + moved
        return trainer._compute_loss(loaded.model, inputs)

    mine, other = _gradient(loaded.model, ours()), _gradient(loaded.model, theirs())
    assert float(other.abs().max()) > 1e-3
    assert float((mine - other).abs().max()) < 1e-5


def _shifted(trained_BT: torch.Tensor, size: float) -> torch.Tensor:
    torch.manual_seed(int(size * 10))
    return size * torch.randn(trained_BT.shape)


def _gradient(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([one.grad.flatten().clone() for one in model.parameters() if one.grad is not None])


def _as_trl(groups: list[Group], model: torch.nn.Module) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The rollouts as TRL holds them: prompts padded on the left, completions on the right, apart."""
    rows = [(list(group.prompt), list(draw.tokens)) for group in groups for draw in group.draws]
    left, right = max(len(one) for one, _ in rows), max(len(one) for _, one in rows)
    inputs = {
        "prompt_ids": torch.tensor([[0] * (left - len(one)) + one for one, _ in rows]),
        "prompt_mask": torch.tensor([[0] * (left - len(one)) + [1] * len(one) for one, _ in rows]),
        "completion_ids": torch.tensor([one + [0] * (right - len(one)) for _, one in rows]),
        "completion_mask": torch.tensor([[1] * len(one) + [0] * (right - len(one)) for _, one in rows]),
    }
    base = torch.zeros(len(rows), right)
    with torch.no_grad():
        for row, (prompt, completion) in enumerate(rows):
            ids = torch.tensor([prompt + completion])
            alone = policy_of(model, ids, torch.ones_like(ids, dtype=torch.bool)).logprobs_BT[0]
            base[row, : len(completion)] = alone[len(prompt) - 1 :]
    return inputs, base
