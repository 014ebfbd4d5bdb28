"""What a check looks at and what it says. A check is a function of `Inputs`; it changes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studium.domains.protocol import Problem
from studium.train.config import Recipe
from studium.train.forecast import Free, Shape
from studium.train.recipe_file import Told
from studium.train.rl.rewards import Reward
from studium.train.rows import Row
from studium.train.run_folder import RunFolder
from studium.train.stages.catalogue import Run
from studium.train.stages.catalogue import stage as stage_named

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DRAWING = ("srl", "rlvr")
"""Stages that draw replies from the model itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `ok` None: it was not tried, `says` tells why. `row_id` is the row that offends."""

    name: str
    ok: bool | None
    says: str
    row_id: str = ""
    try_next: str = ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a run is about to use. `evaluation` are the problems it is scored on, `held_out` rows kept for that.

    `old` are the rows replayed, `end_ids` the tokens at which the served model ends (empty: not told), `num_embeddings`
    how many tokens the model knows, `context` how many it can read. `model` is None where it is too large to be loaded
    twice. `run` is the stage, None for the one of the recipe.
    """

    told: Told
    rows: Sequence[Row]
    tokenizer: "PreTrainedTokenizerBase"
    free: Free
    old: Sequence[Row] = ()
    evaluation: Sequence[Problem] = ()
    held_out: Sequence[Row] = ()
    end_ids: frozenset[int] = frozenset()
    num_embeddings: int | None = None
    context: int | None = None
    model_licence: str = ""
    reward: Reward | None = None
    model: Any = None
    shape: Shape | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    run: Run | None = None

    def train(self, recipe: Recipe, folder: RunFolder) -> None:
        """Run the stage itself with another recipe, silently."""
        (self.run or stage_named(self.told.stage).run)(recipe, folder, lambda line: None)

    @property
    def prompts_only(self) -> bool:
        """Whether the data are prompts, replies to which are still to be drawn."""
        return self.told.stage in DRAWING or bool(self.teacher)

    @property
    def teacher(self) -> str:
        """The teacher whose replies are drawn, "" where there is none."""
        return str(getattr(self.told.recipe, "teacher", ""))

    @property
    def learned(self) -> Iterator[Row]:
        """Rows whose completions are trained on."""
        if not self.prompts_only:
            yield from self.rows
        yield from self.old

    @property
    def every(self) -> Iterator[Row]:
        yield from self.rows
        yield from self.old


Check = Callable[[Inputs], Finding]


def good(name: str, says: str) -> Finding:
    return Finding(name, ok=True, says=says)


def bad(name: str, says: str, row: Row | None = None, *, try_next: str) -> Finding:
    return Finding(name, ok=False, says=says, row_id=row.id if row else "", try_next=try_next)


def not_tried(name: str, why: str) -> Finding:
    return Finding(name, ok=None, says=why)
