"""PPO on the engine: a value head instead of groups, and several passes over what was drawn.

Schulman et al. 2017 (arXiv 1707.06347): clipped surrogate, clipped value loss, entropy. The reward comes with the last
token; advantages are generalised estimates, brought to mean 0 and spread 1 over the batch. We differ in two things: the
KL to the model the run began with is in the loss (k3), not in the rewards, and the head is one linear layer on the
policy's own last states, so that one forward pass serves both.

Axes: B rows, T targets, W the model's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from studium.config.kinds import Number
from studium.train.config import Share
from studium.train.rl.advantages import generalised
from studium.train.rl.batch import Batch
from studium.train.rl.engine import PolicyStage
from studium.train.rl.losses import Policy, policy_of, value_loss
from studium.train.rl.means import Means
from studium.train.rl.options import Coefficient
from studium.train.rl.rollouts import Group
from studium.train.rows import Row

if TYPE_CHECKING:
    import torch

HEAD = "value_head"


@dataclass(frozen=True, slots=True)
class Ppo:
    """What PPO is told besides. `trace` is the lambda of its advantages, `value` the value loss's coefficient."""

    value: Coefficient = 0.5
    value_clip: Annotated[float, Number(0.001, 1e6)] = 0.2
    gamma: Share = 1.0
    trace: Share = 0.95


def add_head(model: Any) -> None:
    """Give a model a value head, which begins at 0; before its learner is made, which has to train it beside."""
    import torch

    head = torch.nn.Linear(model.config.hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    setattr(model, HEAD, head)


def drop_head(model: Any) -> None:
    """Take the value head away again: what serves has none."""
    delattr(model, HEAD)


class PpoStage(PolicyStage):
    """Proximal policy optimisation. Groups of one are enough; every reply that can be graded teaches."""

    def __init__(self, ppo: Ppo, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ppo = ppo

    def batch(self, groups: Sequence[Group], given: Sequence[Row]) -> Batch:
        """Return the batch with advantages estimated by the value head as it is now."""
        import torch

        plain = super().batch(groups, given)
        drawn_BT = plain.trained_BT & plain.drawn_B[:, None]
        with torch.no_grad():
            values_BT = self._values(self.policy(plain))
        rewards_BT = torch.zeros_like(values_BT)
        for at, reward in enumerate(plain.rewards):
            rewards_BT[at, int(plain.trained_BT[at].nonzero()[-1])] = reward
        found = generalised(rewards_BT, values_BT, drawn_BT, gamma=self._ppo.gamma, trace=self._ppo.trace)
        known = found.advantages_BT[drawn_BT]
        even_BT = (
            (found.advantages_BT - known.mean()) / (known.std(correction=0) + 1e-6) if known.numel() else 0.0
        )
        even_BT = torch.where(drawn_BT, even_BT, plain.advantages_BT)
        return plain._replace(advantages_BT=even_BT, values_BT=values_BT, returns_BT=found.returns_BT)

    def policy(self, part: Batch) -> Policy:
        temperature = self._recipe.draws.temperature
        return policy_of(self.learner.model, part.ids_BS, part.seen_BS, temperature=temperature, hidden=True)

    def beside(self, part: Batch, policy: Policy, told: Means) -> "torch.Tensor | float":
        """Return the value loss per token, times its coefficient."""
        assert part.values_BT is not None and part.returns_BT is not None
        loss_BT = value_loss(self._values(policy), part.values_BT, part.returns_BT, clip=self._ppo.value_clip)
        drawn_BT = part.trained_BT & part.drawn_B[:, None]
        told.add("value_loss", loss_BT[drawn_BT])
        return self._ppo.value * loss_BT * drawn_BT

    def _values(self, policy: Policy) -> "torch.Tensor":
        assert policy.hidden_BTW is not None
        return getattr(_inner(self.learner.model), HEAD)(policy.hidden_BTW)[..., 0]


def _inner(model: Any) -> Any:
    """Return the model that holds the head: an adapter's view wraps it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
