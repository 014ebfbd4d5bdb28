"""The engine: draw replies, give every token an advantage, take a step along one loss. It does not know algorithms.

A stage hands in where prompts come from, what a reply is worth and, for PPO, a value head; SRL, GRPO, PPO, weighted
imitation and distillation differ in nothing else. Rows that are given rather than drawn (old skills to replay, expert
steps to imitate) are in the same batch as tokens of advantage 1.

Axes: B rows, T targets (tokens but the first), S tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING, Any

from studium.domains.protocol import Problem
from studium.errors import OperatorError
from studium.train.course import RowLoss, StepDone
from studium.train.learner import Learner
from studium.train.passes import Passes
from studium.train.rl.advantages import Spread, group_relative
from studium.train.rl.batch import Batch, batch_of
from studium.train.rl.losses import Normalise, Policy, clipped_surrogate, correction, kl_estimate, policy_of
from studium.train.rl.means import Means
from studium.train.rl.options import RlRecipe
from studium.train.rl.rollouts import Group, Repair, Roller, Rollouts
from studium.train.rl.samplers import Elsewhere, ModelSampler
from studium.train.rl.signs import Verifier, every_step_right, signs_of
from studium.train.rows import Row, encode
from studium.train.solving import Solver

if TYPE_CHECKING:
    import torch

# Rows of one backward pass: more need memory, fewer are slower.
_ROWS_AT_ONCE = 64


class PolicyStage:
    """A stage of the engine. `given` are rows imitated besides, `share` of the loss; `repair` may mend a dull group.

    `elsewhere` is the roller's sampler where that has weights of its own; `second` scores validations beside.
    """

    def __init__(
        self,
        recipe: RlRecipe,
        learner: Learner,
        roller: Roller,
        prompts: Sequence[Row],
        *,
        steps: int,
        validation: Sequence[Problem] = (),
        given: Sequence[Row] = (),
        share: float = 0.0,
        repair: Repair = lambda group: None,
        elsewhere: Elsewhere | None = None,
        second: Verifier | None = None,
    ) -> None:
        self.steps = steps
        self.learner = learner
        self._recipe = recipe
        self._roller = roller
        self._prompts = Passes(prompts, recipe.seed)
        self._given = Passes(given, recipe.seed + 1)
        self._share = share if given else 0.0
        self._repair = repair
        self._elsewhere = elsewhere
        self._second = second
        self._validation = validation
        tokenizer = learner.loaded.tokenizer
        self._tokenizer = tokenizer
        assert isinstance(tokenizer.pad_token_id, int)
        self._pad = tokenizer.pad_token_id
        sampler = ModelSampler(learner.model, tokenizer)
        most = recipe.draws.most_tokens
        self._solver = Solver(sampler, tokenizer, most if recipe.thinks else recipe.max_tokens, recipe.thinks)
        anchored = recipe.objective.kl > 0
        self._reference: Any = deepcopy(learner.model).eval() if anchored else None

    def step(self, number: int, allow: Callable[[Mapping[str, float]], bool]) -> StepDone:
        """Draw, and learn from what was drawn."""
        recipe = self._recipe
        self.follow(number)
        rollouts = self._roller.fill(
            self._prompts.take, recipe.batch, seed=recipe.seed * 1_000_003 + number, repair=self._repair
        )
        told = {**_told(rollouts), **signs_of(rollouts.drawn, thinks=recipe.thinks)}
        if not rollouts.groups:
            # Nothing to learn: said as it is, and no step is taken. Steps of replay alone would bring the optimiser's
            # second moments to nought, and the next group that teaches would be taken for thirty.
            return StepDone({"loss": 0.0, **told, "updated": 0.0})
        batch = self.batch(rollouts.groups, self._given.take(self._num_given()))
        metrics = self._learn(number, batch, allow)
        rows = zip(batch.row_ids, batch.rewards, strict=False)
        # The reward is what people look for first: the surrogate's loss is 0 on the first pass, whatever is learned.
        shown = {"loss": metrics["loss"], "reward": told["reward"]}
        losses = [RowLoss(one, -reward) for one, reward in rows]
        return StepDone({**shown, **metrics, **told, "updated": 1.0}, losses)

    def follow(self, number: int) -> None:
        """Let a sampler elsewhere have the weights that step `number` begins with, where that is due."""
        if self._elsewhere is not None:
            self._elsewhere.follow(number)

    def _num_given(self) -> int:
        """Return how many given rows a step has: their share of the prompts, since their weight is set apart."""
        share, batch = self._share, self._recipe.batch
        return batch if share == 1 else min(4 * batch, ceil(batch * share / (1 - share)))

    def batch(self, groups: Sequence[Group], given: Sequence[Row]) -> Batch:
        """Return drawn groups with their advantages, and given rows, as one batch.

        Groups that the batch lacks count as groups of advantage 0: one that teaches is not taken for all.
        """
        objective = self._recipe.objective
        spread: Spread = "std" if objective.spread == "std" else "none"
        how: Normalise = {"sequence": "sequence", "token": "token"}.get(objective.normalise, "constant")  # pyright: ignore[reportAssignmentType]
        return batch_of(
            groups,
            [group_relative(group.rewards, spread=spread) for group in groups],
            [encode(self._tokenizer, row) for row in given],
            pad=self._pad,
            normalise=how,
            constant=float(self._recipe.draws.most_tokens),
            given_share=self._share,
            full=len(groups) / self._recipe.batch,
            elsewhere=self._elsewhere is not None,
        )

    def losses(self, batch: Batch, told: Means) -> "Iterator[torch.Tensor]":
        """Yield the loss of a batch in parts whose sum it is, each with a graph of its own.

        What is told is of drawn tokens: a part may have few of them, or none.
        """
        objective = self._recipe.objective
        for first in range(0, len(batch.ids_BS), _ROWS_AT_ONCE):
            part = batch.part(slice(first, first + _ROWS_AT_ONCE))
            policy = self.policy(part)
            before_BT = policy.logprobs_BT.detach() if part.old_BT is None else part.old_BT
            loss_BT = clipped_surrogate(
                policy.logprobs_BT,
                before_BT,
                part.advantages_BT,
                clip_low=objective.clip_low,
                clip_high=objective.clip_high,
            )
            free_BT = part.trained_BT & part.drawn_B[:, None]
            if part.sampler_BT is not None:
                loss_BT = loss_BT * self._corrected(before_BT, part.sampler_BT, told)
            if self._reference is not None:
                kl_BT = kl_estimate(policy.logprobs_BT, self._reference_of(part)) * free_BT
                loss_BT = loss_BT + objective.kl * kl_BT
                told.add("kl", kl_BT[free_BT])
            if objective.entropy:
                loss_BT = loss_BT - objective.entropy * policy.entropy_BT * free_BT
            ratios = (policy.logprobs_BT.detach() - before_BT)[free_BT].exp()
            told.add("entropy", policy.entropy_BT[free_BT])
            told.add("clipped", (ratios < 1 - objective.clip_low) | (ratios > 1 + objective.clip_high))
            yield (part.weights_BT * (loss_BT + self.beside(part, policy, told))).sum()

    def policy(self, part: Batch) -> Policy:
        return policy_of(
            self.learner.model, part.ids_BS, part.seen_BS, temperature=self._recipe.draws.temperature
        )

    def beside(self, part: Batch, policy: Policy, told: Means) -> "torch.Tensor | float":
        """Return what an algorithm adds to the loss per token; nothing here."""
        return 0.0

    def validate(self) -> Mapping[str, float]:
        if not self._validation:
            return {}
        solved = [one for (one,) in self._solver.solve(self._validation)]
        known = [one.score for one in solved if one.score is not None]
        if not known:
            return {}
        graders = {"steps_right": every_step_right, "second_verifier": self._second}
        beside = {
            name: [score for one in solved if (score := grade(one.problem, one.reply)) is not None]
            for name, grade in graders.items()
            if grade
        }
        means = {name: fmean(scores) for name, scores in beside.items() if scores}
        return {"score": fmean(known), "scored": float(len(known)), **means}

    def lower_rate(self, factor: float) -> None:
        self.learner.lower_rate(factor)

    def state(self) -> dict[str, Any]:
        return {"learner": self.learner.state(), "prompts": self._prompts.place, "given": self._given.place}

    def restore(self, state: dict[str, Any]) -> None:
        self.learner.restore(state["learner"])
        self._prompts.place, self._given.place = state["prompts"], state["given"]

    def keep(self) -> Any:
        return self.learner.keep()

    def use(self, kept: Any) -> None:
        self.learner.use(kept)

    def _learn(
        self, number: int, batch: Batch, allow: Callable[[Mapping[str, float]], bool]
    ) -> dict[str, float]:
        objective = self._recipe.objective
        told = Means("kl", "entropy", "clipped")
        if objective.passes * objective.parts > 1:
            batch = batch._replace(old_BT=self._old(batch))
        metrics: dict[str, float] = {}
        near = self._near(told)
        for _ in range(objective.passes):
            for part in batch.parts(objective.parts):
                losses = self.losses(part, told)
                metrics = self.learner.update(number, losses, lambda seen: near() and allow(seen))
        return metrics | told.all()

    def _corrected(
        self, before_BT: "torch.Tensor", sampler_BT: "torch.Tensor", told: Means
    ) -> "torch.Tensor | float":
        """Return what tokens drawn elsewhere count, and note how far the two distributions are apart."""
        import torch

        known_BT = ~sampler_BT.isnan()
        if not known_BT.any():
            return 1.0
        apart = (before_BT - sampler_BT)[known_BT]
        most = self._recipe.draws.correct_most
        told.add("drift", apart.abs())
        told.add("cut_ratios", apart.exp() > (most or float("inf")))
        return correction(before_BT, sampler_BT, most) if most else torch.ones_like(before_BT)

    def _near(self, told: Means) -> Callable[[], bool]:
        """Return what says whether the sampler's distribution is near enough to learn from what it drew.

        Where it is not, its weights are renewed before the next draw; raises OperatorError where that cannot help.
        """

        def near() -> bool:
            drift, most = told.of("drift") or 0.0, self._recipe.draws.most_drift
            if self._elsewhere is None or drift <= most:
                return True
            if not self._elsewhere.distrust():
                raise OperatorError(
                    f"the sampler {self._recipe.draws.sampler} is not the policy: their log-probabilities are "
                    f"{drift:.3g} apart on average",
                    expected=f"at most draws.most_drift = {most:g}",
                    try_next="give it the policy's weights (draws.server.adapter, or the checkpoint), then resume",
                )
            return False

        return near

    def _old(self, batch: Batch) -> "torch.Tensor":
        import torch

        starts = range(0, len(batch.ids_BS), _ROWS_AT_ONCE)
        whole_BT = torch.zeros_like(batch.weights_BT)
        with torch.no_grad():
            for first in starts:
                rows = slice(first, first + _ROWS_AT_ONCE)
                part_BT = self.policy(batch.part(rows)).logprobs_BT
                whole_BT[rows, : part_BT.shape[1]] = part_BT
        return whole_BT

    def _reference_of(self, part: Batch) -> "torch.Tensor":
        import torch

        with torch.no_grad():
            temperature = self._recipe.draws.temperature
            return policy_of(self._reference, part.ids_BS, part.seen_BS, temperature=temperature).logprobs_BT


def _told(rollouts: Rollouts) -> dict[str, float]:
    """Return what people want to know of a step's draws."""
    return {
        "reward": rollouts.reward,
        "groups": float(len(rollouts.groups)),
        "groups_drawn": float(rollouts.seen),
        "groups_solved": float(rollouts.solved),
        "groups_failed": float(rollouts.failed),
        "groups_unscored": float(rollouts.unscored),
        "tokens_drawn": float(rollouts.tokens),
    }
