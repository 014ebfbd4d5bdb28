"""How much better than expected what was said turned out to be: within a group of replies, or by a value head.

Group-relative: DeepSeekMath (arXiv 2402.03300), section 4.1.2, with the population's standard deviation as in SRL
(arXiv 2510.25992); `spread="none"` leaves the division out, as Dr. GRPO (arXiv 2503.20783). Generalised advantage
estimation: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.
"""

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

Spread = Literal["std", "none"]
_TINY = 1e-6


def group_relative(rewards: Sequence[float], *, spread: Spread = "std") -> list[float]:
    """Return each reward less the group's mean, in units of its standard deviation where that is asked for.

    A group whose rewards are all equal teaches nothing: its advantages are 0.
    """
    mean = fmean(rewards)
    unit = pstdev(rewards) if spread == "std" else 1.0
    return [(one - mean) / unit if unit > _TINY else 0.0 for one in rewards]


class Estimated(NamedTuple):
    """Advantages and the returns a value head is to learn, both (B, T), 0 where nothing is trained."""

    advantages_BT: "torch.Tensor"
    returns_BT: "torch.Tensor"


def generalised(
    rewards_BT: "torch.Tensor",
    values_BT: "torch.Tensor",
    trained_BT: "torch.Tensor",
    *,
    gamma: float,
    trace: float,
) -> Estimated:
    """Return GAE over the trained tokens of each row, which are one stretch; what follows them is worth 0.

    `trace` is the paper's lambda.
    """
    import torch

    advantages_BT = torch.zeros_like(rewards_BT)
    running_B = torch.zeros_like(rewards_BT[:, 0])
    next_value_B = torch.zeros_like(running_B)
    for at in reversed(range(rewards_BT.shape[1])):
        trained_B = trained_BT[:, at]
        error_B = rewards_BT[:, at] + gamma * next_value_B - values_BT[:, at]
        running_B = torch.where(trained_B, error_B + gamma * trace * running_B, torch.zeros_like(running_B))
        next_value_B = torch.where(trained_B, values_BT[:, at], torch.zeros_like(running_B))
        advantages_BT[:, at] = running_B
    return Estimated(advantages_BT, (advantages_BT + values_BT) * trained_BT)
