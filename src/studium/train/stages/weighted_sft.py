"""Weighted imitation of expert steps: the likelihood of each step, times how well the policy does at it now.

The other algorithm that goes by the name of SRL: no reply of the policy's own is learned from. A step's reward is
brought to mean 0 and spread 1 over the batch (z-score), shifted by 1 and cut at 0 and 3; that is its weight. The reward
is the data's (`weigh: data`, each row's "weight"), or, because an expert's steps are mostly all right, how unlike the
expert the policy's own drawn actions still are (`weigh: difficulty`): what is not known yet is learned most. The KL to
the model the run began with keeps the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from studium.config.kinds import Choice
from studium.train.course import Checkpoint
from studium.train.rl.options import Objective, RlRecipe
from studium.train.rl.rewards import StepLikeness, Unit
from studium.train.rl.running import imitation_run
from studium.train.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Options(RlRecipe):
    """A recipe for weighted imitation. Its data are `teach: steps` of a domain."""

    weigh: Annotated[str, Choice(("difficulty", "data"))] = "difficulty"
    unit: Annotated[str, Choice(("characters", "words"))] = "characters"
    objective: Objective = field(default_factory=lambda: Objective(kl=0.1))


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train on expert steps; blocks."""
    unit: Unit = "words" if options.unit == "words" else "characters"
    reward = StepLikeness(unit, options.thinks)
    return imitation_run("weighted_sft", options, folder, say, reward=reward, by_data=options.weigh == "data")
