"""Supervised fine-tuning on TRL: a reply's tokens are made likelier, its prompt's are not trained on.

Rows are rendered by `rows.encode`, as the model is served. `replay` keeps old skills: a fixed share of every batch is
theirs (without it they are forgotten within a few hundred steps). With `lora.rank` above 0 an adapter is trained, kept
in `adapter/` beside the checkpoint, and merged into it; `lora.four_bit` trains it on a base in 4 bits (QLoRA, arXiv
2305.14314), which needs bitsandbytes.

Axes: B rows, T targets (tokens but the first).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studium.train.course import Checkpoint, RowLoss
from studium.train.data import rows_of
from studium.train.given import Outset, carry_out_given
from studium.train.learner import Learner
from studium.train.row_stage import Told, encoded_rows, needs_rows, share_within, steps_of
from studium.train.rows import Encoded
from studium.train.run_folder import RunFolder
from studium.train.trl_bridge import GivenRecipe, TokenCosts, prepare

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Options(GivenRecipe):
    """A recipe for SFT. Its data are `teach: solutions` or `steps` of a domain, or a file of completions."""


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train on completions; blocks."""
    rows, old_rows = rows_of(options.data), rows_of(options.replay.data)
    needs_rows("sft", rows)
    share = share_within(options, len(old_rows))
    outset = Outset(options, steps_of(options, len(rows), share))
    loss = SftLoss(outset.learner, options)
    fresh = encoded_rows(outset.loaded.tokenizer, rows, options.max_tokens)
    return carry_out_given("sft", outset, loss, fresh, share, rows, old_rows, folder, say)


class SftLoss:
    """The mean cross entropy of a step's trained tokens, old rows among them; `Row.weight` multiplies a row's part."""

    def __init__(self, learner: Learner, recipe: GivenRecipe) -> None:
        prepare(learner.model, recipe.compute)
        self._costs = TokenCosts(learner, recipe.compute)
        self._packing, self._batch = recipe.compute.packing, recipe.batch

    def parts(self, fresh: Sequence[Encoded], old: Sequence[Encoded], told: Told) -> "Iterator[torch.Tensor]":
        import torch

        rows = [*fresh, *old]
        targets = sum(len(row.ids) - row.num_prompt for row in rows)
        told.add(tokens=float(sum(len(row.ids) for row in rows)), trained_tokens=float(targets))
        for first in range(0, len(rows), self._batch):
            part = rows[first : first + self._batch]
            logprobs_BT = self._costs.logprobs_BT(part)
            places = self._places(part)
            cost_B = torch.stack([-logprobs_BT[place].sum() for place in places])
            weights_B = torch.tensor([row.weight for row in part], device=cost_B.device)
            yield (weights_B * cost_B).sum() / targets
            told.rows += [
                RowLoss(row.row_id, cost / (len(row.ids) - row.num_prompt))
                for row, cost in zip(part, cost_B.tolist(), strict=True)
            ]

    def _places(self, rows: Sequence[Encoded]) -> list[Any]:
        """Return where each row's targets stand: in a line of its own, or end to end in the only line."""
        if not self._packing:
            return [(at, slice(0, len(row.ids) - 1)) for at, row in enumerate(rows)]
        places: list[Any] = []
        start = 0
        for row in rows:
            places.append((0, slice(start, start + len(row.ids) - 1)))
            start += len(row.ids)
        return places
