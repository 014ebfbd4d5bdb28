"""The engine's mathematics against slow, obvious code: each function returns the largest difference it found.

tests/reference/test_policy_losses.py holds every one of them to its bound; `training_parity` prints them.

Axes: B rows, T targets.
"""

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean, pstdev

import torch

from studium.train.models import load
from studium.train.rl.advantages import generalised, group_relative
from studium.train.rl.batch import Batch, batch_of
from studium.train.rl.losses import (
    Normalise,
    clipped_surrogate,
    correction,
    kl_estimate,
    policy_of,
    token_weights,
    value_loss,
)
from studium.train.rl.rollouts import Group
from studium.train.rl.samplers import UNKNOWN, Draw
from studium.train.rows import Encoded, Row, asked

ROWS, TARGETS = 4, 6
PLACES = [(row, at) for row in range(ROWS) for at in range(TARGETS)]


def numbers(seed: int, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    rng = Random(seed)
    return torch.tensor([[rng.uniform(low, high) for _ in range(TARGETS)] for _ in range(ROWS)])


def trained() -> torch.Tensor:
    """One stretch per row: in the middle, at the start, a single token, none at all."""
    spans = [(1, 5), (0, 3), (5, 6), (0, 0)]
    return torch.tensor([[low <= at < high for at in range(TARGETS)] for low, high in spans])


def surrogate() -> float:
    """PPO's clip: the worse of the plain and the clipped ratio times the advantage."""
    new, old, good = numbers(1, -3, 0), numbers(2, -3, 0), numbers(3)
    found = clipped_surrogate(new, old, good, clip_low=0.2, clip_high=0.3)

    def slow(row: int, at: int) -> float:
        ratio, advantage = math.exp(new[row, at] - old[row, at]), float(good[row, at])
        return -min(ratio * advantage, min(max(ratio, 0.8), 1.3) * advantage)

    return max(abs(float(found[place]) - slow(*place)) for place in PLACES)


def k3() -> float:
    """The KL estimate; infinity where it is negative, or not 0 for equal policies."""
    new, reference = numbers(4), numbers(5)
    found = kl_estimate(new, reference)
    if (found < 0).any() or kl_estimate(new, new).abs().max() > 0:
        return math.inf
    gaps = [(place, float(reference[place] - new[place])) for place in PLACES]
    return max(abs(float(found[place]) - (math.exp(gap) - gap - 1)) for place, gap in gaps)


def weights(how: Normalise) -> float:
    """What a loss comes to with each way of counting tokens."""
    mask, loss = trained(), numbers(6)
    found = float((token_weights(mask, how, constant=5.0) * loss).sum())
    rows = [[float(loss[row, at]) for at in range(TARGETS) if mask[row, at]] for row in range(ROWS)]
    if how == "sequence":
        return abs(found - fmean(fmean(row) if row else 0.0 for row in rows))
    every = [one for row in rows for one in row]
    return abs(found - (fmean(every) if how == "token" else sum(every) / (ROWS * 5.0)))


def estimated_advantages() -> float:
    """Equation 16 of arXiv 1506.02438, written out as the sum it is; advantages, returns, and 0 elsewhere."""
    values, mask = numbers(8), trained()
    rewards = numbers(7) * mask
    gamma, trace = 0.9, 0.8
    found = generalised(rewards, values, mask, gamma=gamma, trace=trace)
    worst = float(found.advantages_BT[~mask].abs().sum() + found.returns_BT[~mask].abs().sum())
    for row in range(ROWS):
        places = [at for at in range(TARGETS) if mask[row, at]]
        after = [float(values[row, at + 1]) if at + 1 in places else 0.0 for at in places]
        errors = [
            float(rewards[row, at]) + gamma * next_value - float(values[row, at])
            for at, next_value in zip(places, after, strict=True)
        ]
        for number, at in enumerate(places):
            expected = sum((gamma * trace) ** far * error for far, error in enumerate(errors[number:]))
            worst = max(worst, abs(float(found.advantages_BT[row, at]) - expected))
            worst = max(worst, abs(float(found.returns_BT[row, at]) - expected - float(values[row, at])))
    return worst


def value_losses() -> float:
    """Half the worse of the plain and the clipped squared error."""
    new, old, returns = numbers(9), numbers(10), numbers(11)
    found = value_loss(new, old, returns, clip=0.2)

    def slow(v: float, o: float, r: float) -> float:
        return max((v - r) ** 2, (min(max(v, o - 0.2), o + 0.2) - r) ** 2) / 2

    return max(abs(float(found[p]) - slow(float(new[p]), float(old[p]), float(returns[p]))) for p in PLACES)


def advantages_within_groups() -> float:
    """Mean 0 and spread 1 within a group; 0 for equal rewards; the plain difference without a spread."""
    rewards = [0.0, 1.0, 1.0, 0.5]
    found = group_relative(rewards)
    expected = [(one - fmean(rewards)) / pstdev(rewards) for one in rewards]
    expected += [0.0, 0.0, 0.0, -0.5, 0.5]
    found = [*found, *group_relative([0.3] * 3), *group_relative([0.0, 1.0], spread="none")]
    return max(abs(one - other) for one, other in zip(found, expected, strict=True))


def truncated_correction() -> float:
    """The ratio of two policies' probabilities, at most 2, and 1 where the sampler's is not known."""
    policy, sampler = numbers(12), numbers(13)
    sampler[0, 0] = UNKNOWN
    found = correction(policy, sampler, 2.0)

    def slow(place: tuple[int, int]) -> float:
        drawn_with = float(sampler[place])
        return 1.0 if math.isnan(drawn_with) else min(math.exp(float(policy[place]) - drawn_with), 2.0)

    return max(abs(float(found[place]) - slow(place)) for place in PLACES)


def rollouts() -> list[Group]:
    """Two groups of three replies of different lengths, made of arbitrary tokens."""
    rng = Random(5)
    groups: list[Group] = []
    for number, rewards in enumerate(([0.0, 1.0, 0.25], [1.0, 1.0, 0.0])):
        prompt = [1, *(rng.randrange(10, 300) for _ in range(5 + number)), 2]
        draws = [Draw([rng.randrange(10, 300) for _ in range(3 + at)] + [3], (), True) for at in range(3)]
        groups.append(Group(Row(str(number), asked("")), prompt, draws, [""] * 3, rewards))
    return groups


def batch(groups: Sequence[Group], given: Sequence[Encoded] = (), share: float = 0.0) -> Batch:
    advantages = [group_relative(group.rewards) for group in groups]
    return batch_of(groups, advantages, given, pad=0, normalise="sequence", constant=1.0, given_share=share)


def padded_rows() -> float:
    """Every row's log-probabilities in a padded batch against the row alone."""
    model = load("sprout").model
    whole_batch = batch(rollouts(), [Encoded("given", [1, 50, 60, 2, 70, 3], 4)], 0.25)
    whole = policy_of(model, whole_batch.ids_BS, whole_batch.seen_BS)
    worst = 0.0
    for row, ids in enumerate(whole_batch.ids_BS):
        length = int(whole_batch.seen_BS[row].sum())
        alone = policy_of(model, ids[None, :length], torch.ones(1, length, dtype=torch.bool))
        gaps = whole.logprobs_BT[row, : length - 1] - alone.logprobs_BT[0]
        worst = max(worst, float(gaps.detach().abs().max()))
    return worst


def gradients_in_parts() -> float:
    """GRPO's gradient of a batch in three backward passes against one."""
    model = load("sprout").model
    whole = batch(rollouts())

    def gradient(parts: Sequence[Batch]) -> torch.Tensor:
        model.zero_grad()
        for part in parts:
            policy = policy_of(model, part.ids_BS, part.seen_BS)
            before = policy.logprobs_BT.detach()
            loss = clipped_surrogate(
                policy.logprobs_BT, before, part.advantages_BT, clip_low=0.2, clip_high=0.2
            )
            (part.weights_BT * loss).sum().backward()
        return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])

    pieces = [whole.part(slice(at, at + 2)) for at in range(0, 6, 2)]
    return float((gradient([whole]) - gradient(pieces)).abs().max())
