"""Reinforcement learning from verifiable rewards: a domain's `verify` scores whole replies, or every step.

GRPO (DeepSeekMath, arXiv 2402.03300) by default, PPO (arXiv 1707.06347, `rl/ppo.py`) with `algorithm: ppo`, both
anchored to the model the run began with where `objective.kl` is above 0. Rewards come from the domain alone; `control:
random` is the control that shows what any reward does.

- `reward: outcome`: prompts are problems (`teach: prompts`), the verdict on the whole reply is the reward.
- `reward: steps`: prompts are problems with the steps so far (`teach: step-prompts`), the verdict on the next step is
  the reward. A guessable answer (one in ten) rewards wrong steps; verified steps do not.

Every step tells what a hacked reward shows (`rl/signs.py`). A validation scores whole replies and, where the domain
verifies steps, the share with every step right, which is never rewarded as such; `second_verifier` names a domain that
scores the same replies again, such as a stricter one of your own. From the sixth validation on, a reward that rises
while one of these does not stops the run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from studium.config.kinds import Choice
from studium.config.schema import Plain
from studium.train.course import Checkpoint
from studium.train.rl.options import RlRecipe
from studium.train.rl.ppo import Ppo
from studium.train.rl.rewards import Outcome, RandomReward, Reward, StepVerified
from studium.train.rl.running import policy_run
from studium.train.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Options(RlRecipe):
    """A recipe for RLVR."""

    algorithm: Annotated[str, Choice(("grpo", "ppo"))] = "grpo"
    reward: Annotated[str, Choice(("outcome", "steps"))] = "outcome"
    control: Annotated[str, Choice(("none", "random"))] = "none"
    second_verifier: Plain = ""
    ppo: Ppo = field(default_factory=Ppo)


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train on what the domain verifies; blocks."""
    by_steps = options.reward == "steps"
    return policy_run(
        "rlvr",
        options,
        folder,
        say,
        reward=reward_of(options),
        at_line=by_steps,
        ppo=options.ppo if options.algorithm == "ppo" else None,
        second=options.second_verifier,
    )


def reward_of(options: Options) -> Reward:
    """Return what a reply is worth, as the recipe says."""
    if options.control == "random":
        return RandomReward(options.seed)
    return StepVerified(options.thinks) if options.reward == "steps" else Outcome()
