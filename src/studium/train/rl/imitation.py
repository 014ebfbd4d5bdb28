"""Weighted imitation on the engine: given rows, each with a weight made from rewards; nothing drawn is learned from."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev

from studium.train.course import RowLoss, StepDone
from studium.train.rl.batch import batch_of
from studium.train.rl.engine import PolicyStage
from studium.train.rows import encode

_HIGHEST_WEIGHT = 3.0


class ImitationStage(PolicyStage):
    """A step takes `batch` expert rows, weighed by their own rewards or by how unlike the policy still is to them."""

    by_data = False

    def step(self, number: int, allow: Callable[[Mapping[str, float]], bool]) -> StepDone:
        recipe = self._recipe
        rows = self._prompts.take(recipe.batch)
        told: dict[str, float] = {}
        if self.by_data:
            rewards = [row.weight for row in rows]
        else:
            self.follow(number)
            groups = self._roller.draw(rows, seed=recipe.seed * 1_000_003 + number)
            likenesses = [fmean(group.rewards) if group.rewards else 0.0 for group in groups]
            rewards = [-one for one in likenesses]
            told = {"reward": fmean(likenesses)}
        weights = weights_of(rewards)
        encoded = [
            encode(self._tokenizer, row)._replace(weight=weight)
            for row, weight in zip(rows, weights, strict=True)
        ]
        replayed = self._given.take(self._num_given())
        batch = batch_of(
            [],
            [],
            [*encoded, *(encode(self._tokenizer, row) for row in replayed)],
            pad=self._pad,
            normalise="token",
            constant=1.0,
            given_share=1.0,
        )
        # The anchor holds for what is imitated, since nothing else is in the batch.
        batch = batch._replace(drawn_B=batch.trained_BT.any(1))
        metrics = self._learn(number, batch, allow)
        named = zip(rows, weights, strict=True)
        return StepDone({**metrics, **told}, [RowLoss(row.id, -weight) for row, weight in named])


def weights_of(rewards: Sequence[float]) -> list[float]:
    """Return z-scored rewards, shifted to mean 1 and cut at 0 and 3; equal rewards weigh 1 each."""
    mean, spread = fmean(rewards), pstdev(rewards)
    if spread < 1e-9:
        return [1.0] * len(rewards)
    return [min(_HIGHEST_WEIGHT, max(0.0, 1.0 + (one - mean) / spread)) for one in rewards]
