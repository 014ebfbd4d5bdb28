"""Supervised reinforcement learning, step by step, as published (arXiv 2510.25992 v3; there is no official code).

The expert's solution is split into steps. The policy sees the problem and the steps so far, thinks inside
<think>..</think> where the recipe says so, and writes the next step; the reward is the likeness 2M/T of its action to
the expert's, -1 for broken form. Groups without spread are refilled. The objective is GRPO's with KL coefficient 0.

How we depart from the paper, each a named option:
- the last step (the line with the answer) is a target too; the paper's formula leaves it out (`last_step: no`).
- likeness is of characters or of words (`unit`); the paper does not say. `autojunk` is off (see rl/rewards.py).
- `least_spread`, the paper's epsilon, has no published value: 0.0001.
- refill gives up after `most_rounds`, and says how many groups were all alike.
- `exact_bonus` adds a reward where the domain verifies the step: likeness alone is gamed (a step cut short by one
  character is 0.93 alike). `inject: yes` mends a group without spread that is not solved: one reply becomes the
  policy's own thought with the expert's action, likeness 1. Both are off, as published.
- `replay` mixes old skills into every step, as in all stages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

from studium.config.kinds import Choice, YesNo
from studium.train.course import Checkpoint
from studium.train.data import THOUGHT_END
from studium.train.rl.options import Coefficient, RlRecipe
from studium.train.rl.rewards import Reward, StepLikeness, Unit, expert_action, parted
from studium.train.rl.rollouts import Group
from studium.train.rl.running import policy_run
from studium.train.rl.samplers import Draw
from studium.train.rows import completion_ids
from studium.train.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SOLVED = 0.999


@dataclass(frozen=True, slots=True)
class Srl:
    """The choices the paper leaves open, and two ways out of its dead ends."""

    unit: Annotated[str, Choice(("characters", "words"))] = "characters"
    last_step: Annotated[bool, YesNo()] = True
    exact_bonus: Coefficient = 0.0
    inject: Annotated[bool, YesNo()] = False


@dataclass(frozen=True, slots=True)
class Options(RlRecipe):
    """A recipe for SRL. Its data are `teach: steps` or `step-prompts` of a domain."""

    srl: Srl = field(default_factory=Srl)


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train on expert trajectories step by step; blocks."""
    return policy_run(
        "srl",
        options,
        folder,
        say,
        reward=reward_of(options),
        at_line=True,
        choose=lambda rows: [row for row in rows if options.srl.last_step or not row.ends],
        repair=Injection(options.thinks) if options.srl.inject else None,
    )


def reward_of(options: Options) -> Reward:
    """Return what a step is worth, as the recipe says."""
    unit: Unit = "words" if options.srl.unit == "words" else "characters"
    return StepLikeness(unit, options.thinks, options.srl.exact_bonus)


@dataclass(frozen=True, slots=True)
class Injection:
    """Mends a group without spread that is not solved: a reply becomes its own thought, then the expert's action."""

    thinks: bool

    def __call__(self, group: Group, tokenizer: "PreTrainedTokenizerBase") -> Group | None:
        if not group.texts or fmean(group.rewards) > _SOLVED:
            return None
        expert = expert_action(group.row, thinks=self.thinks)
        thought = group.texts[0].rpartition(THOUGHT_END)
        said = (thought[0] + thought[1] if self.thinks else "") + expert + ("" if group.row.ends else "\n")
        if parted(said, thinks=self.thinks).action != expert:
            return None
        tokens = completion_ids(tokenizer, said, ends=group.row.ends)
        draws = [Draw(tokens, (), True), *group.draws[1:]]
        return group._replace(draws=draws, texts=[said, *group.texts[1:]], rewards=[1.0, *group.rewards[1:]])
