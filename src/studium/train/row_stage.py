"""A stage that learns from given rows: SFT, DPO, KTO, distillation. What a step's rows cost is a plug, `Loss`.

Each step takes `fresh` rows of the data and `old` ones of what is to be kept, in an order that the seed alone decides;
`course.drive` does the rest. So every step's rows are known by id, the share of old skills is exact, and a run taken up
again is the same run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from studium.domains.protocol import Problem
from studium.errors import ConfigurationError
from studium.train.config import Recipe
from studium.train.course import RowLoss, StepDone
from studium.train.learner import Learner
from studium.train.passes import Passes
from studium.train.rl.samplers import ModelSampler
from studium.train.rows import Encoded, Row, encode
from studium.train.solving import Solver

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Fresh = TypeVar("Fresh")
Fresh_contra = TypeVar("Fresh_contra", contravariant=True)


@dataclass
class Told:
    """What a loss measured on the way: numbers of the step's parts by name, and what each row cost."""

    numbers: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    rows: list[RowLoss] = field(default_factory=list[RowLoss])

    def add(self, **numbers: float) -> None:
        for name, value in numbers.items():
            self.numbers.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: fmean(values) for name, values in self.numbers.items()}


class Loss(Protocol[Fresh_contra]):
    def parts(
        self, fresh: Sequence[Fresh_contra], old: Sequence[Encoded], told: Told
    ) -> "Iterator[torch.Tensor]":
        """Yield the loss of a step in parts whose sum it is, each with a graph of its own."""
        ...


class Share(NamedTuple):
    """How many rows of a step are fresh and how many old."""

    fresh: int
    old: int


class RowStage(Generic[Fresh]):
    """A stage of given rows (see `course.Stage`). Problems of `validation` are answered greedily.

    `held_out_loss` measures rows kept from training; where there are no problems, the lower it is the better.
    """

    def __init__(
        self,
        recipe: Recipe,
        learner: Learner,
        loss: Loss[Fresh],
        fresh: Sequence[Fresh],
        old: Sequence[Encoded],
        share: Share,
        *,
        steps: int,
        validation: Sequence[Problem] = (),
        thinks: bool = False,
        held_out_loss: Callable[[], float] | None = None,
    ) -> None:
        self.steps = steps
        self._held_out_loss = held_out_loss
        self.learner = learner
        self._loss = loss
        self._share = share
        self._fresh = Passes(fresh, recipe.seed)
        self._old = Passes(old, recipe.seed + 1)
        self._validation = validation
        tokenizer = learner.loaded.tokenizer
        unsloth = learner.loaded.unsloth
        sampler = (unsloth.sampler if unsloth else ModelSampler)(learner.model, tokenizer)
        self._solver = Solver(sampler, tokenizer, recipe.max_tokens, thinks)

    def step(self, number: int, allow: Callable[[Mapping[str, float]], bool]) -> StepDone:
        told = Told()
        fresh, old = self._fresh.take(self._share.fresh), self._old.take(self._share.old)
        metrics = self.learner.update(number, self._loss.parts(fresh, old, told), allow)
        return StepDone({**metrics, **told.means()}, told.rows)

    def validate(self) -> Mapping[str, float]:
        loss = self._held_out_loss() if self._held_out_loss else None
        held_out = {} if loss is None else {"held_out_loss": loss}
        solved = self._solver.solve(self._validation) if self._validation else []
        known = [one.score for (one,) in solved if one.score is not None]
        if known:
            return {"score": fmean(known), "scored": float(len(known)), **held_out}
        return {} if loss is None else {"score": -loss, **held_out}

    def lower_rate(self, factor: float) -> None:
        self.learner.lower_rate(factor)

    def state(self) -> dict[str, Any]:
        return {"learner": self.learner.state(), "fresh": self._fresh.place, "old": self._old.place}

    def restore(self, state: dict[str, Any]) -> None:
        self.learner.restore(state["learner"])
        self._fresh.place, self._old.place = state["fresh"], state["old"]

    def keep(self) -> Any:
        return self.learner.keep()

    def use(self, kept: Any) -> None:
        self.learner.use(kept)


def needs_rows(stage: str, rows: Sequence[Any]) -> None:
    """Raise ConfigurationError where there is nothing to learn from."""
    if not rows:
        raise ConfigurationError(
            f"{stage} has no rows", expected="'data' in the recipe", try_next=f"see recipes/{stage}.yaml"
        )


def share_within(recipe: Recipe, num_old: int) -> Share:
    """Return a step's rows where old rows are part of the batch: exactly `replay.share` of it, rounded."""
    rows = recipe.batch * recipe.accumulate
    old = round(rows * recipe.replay.share) if num_old else 0
    if old == rows:
        raise ConfigurationError(
            f"replay.share {recipe.replay.share} leaves no room for new rows in a batch of {rows}",
            expected="at least one new row in a batch",
            try_next="lower replay.share, or raise batch",
        )
    return Share(rows - old, old)


def share_beside(recipe: Recipe, num_old: int) -> Share:
    """Return a step's rows where old rows come beside the batch, because they are of another kind."""
    rows = recipe.batch * recipe.accumulate
    share = min(recipe.replay.share, 0.9) if num_old else 0.0
    return Share(rows, round(rows * share / (1 - share)))


def steps_of(recipe: Recipe, num_fresh: int, share: Share) -> int:
    """Return how many steps a recipe takes: `epochs` passes over its fresh rows, where `steps` does not say."""
    return recipe.steps or max(1, ceil(recipe.epochs * num_fresh / share.fresh))


def encoded_rows(tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row], max_tokens: int) -> list[Encoded]:
    """Return rows as tokens. Raises ConfigurationError for a row without a completion, or too long: none is cut."""
    found = [encode(tokenizer, row) for row in rows]
    for row, one in zip(rows, found, strict=True):
        if not row.completion:
            raise ConfigurationError(
                f"the row {row.id} has nothing to learn",
                expected="a completion in every row",
                try_next="'teach: solutions' or 'teach: steps', or complete the file",
            )
        check_length(row.id, len(one.ids), max_tokens)
    return found


def check_length(row_id: str, num_tokens: int, max_tokens: int) -> None:
    """Raise ConfigurationError for a row that is too long: cutting would train without its end."""
    if num_tokens > max_tokens:
        raise ConfigurationError(
            f"the row {row_id} has {num_tokens} tokens",
            expected=f"at most max_tokens, {max_tokens}",
            try_next="raise max_tokens, or leave the row out",
        )
