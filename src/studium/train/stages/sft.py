"""Supervised fine-tuning on TRL: a reply's tokens are made likelier, its prompt's are not trained on.

Rows are rendered by `rows.encode`, as the model is served. `replay` keeps old skills: a fixed share of every batch is
theirs (without it they are forgotten within a few hundred steps). With `lora.rank` above 0 an adapter is trained, kept
in `adapter/` beside the checkpoint, and merged into it; `lora.four_bit` trains it on a base in 4 bits (QLoRA, arXiv
2305.14314), which needs bitsandbytes.

Axes: B rows, T targets (tokens but the first).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studium.train.course import Checkpoint, RowLoss
from studium.train.data import rows_of
from studium.train.given import Outset, carry_out_given
from studium.train.learner import Learner
from studium.train.row_stage import RowStage, Told, encoded_rows, needs_rows, share_within, steps_of
from studium.train.rows import Encoded
from studium.train.run_folder import RunFolder
from studium.train.trl_bridge import (
    GivenRecipe,
    Heard,
    common_settings,
    dataset_of,
    on_device,
    precision,
    prepare,
)

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
    tokenizer = outset.loaded.tokenizer
    fresh = encoded_rows(tokenizer, rows, options.max_tokens)
    old = encoded_rows(tokenizer, old_rows, options.max_tokens)
    stage = RowStage(
        options,
        outset.learner,
        SftLoss(outset.learner, options, fresh[0]),
        fresh,
        old,
        share,
        steps=outset.steps,
        validation=outset.validation,
        thinks=options.thinks,
        held_out_loss=outset.held_out_loss,
    )
    return carry_out_given("sft", outset, stage, [*rows, *old_rows], folder, say)


class SftLoss:
    """The mean cross entropy of a step's trained tokens, old rows among them; `Row.weight` multiplies a row's part."""

    def __init__(self, learner: Learner, recipe: GivenRecipe, example: Encoded) -> None:
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        prepare(learner.model, recipe.compute)
        self._compute = recipe.compute
        self._batch = recipe.batch
        self._model = learner.model
        settings = SFTConfig(
            padding_free=recipe.compute.packing,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            **common_settings(recipe),
        )
        self._trainer: Any = SFTTrainer(
            learner.model,
            args=settings,
            train_dataset=dataset_of([_example(example)]),
            processing_class=learner.loaded.tokenizer,
        )
        self._heard = Heard(learner.model)

    def parts(self, fresh: Sequence[Encoded], old: Sequence[Encoded], told: Told) -> "Iterator[torch.Tensor]":
        rows = [*fresh, *old]
        targets = sum(len(row.ids) - row.num_prompt for row in rows)
        told.add(tokens=float(sum(len(row.ids) for row in rows)), trained_tokens=float(targets))
        for first in range(0, len(rows), self._batch):
            part = rows[first : first + self._batch]
            yield self._loss(part, targets)
            told.rows += self._row_losses(part)

    def _loss(self, rows: Sequence[Encoded], targets: int) -> "torch.Tensor":
        import torch

        inputs = on_device(self._model, self._trainer.data_collator([_example(row) for row in rows]))
        self._heard.weights_BT = self._weights(rows, inputs)
        with precision(self._model, self._compute):
            return self._trainer.compute_loss(self._model, inputs, num_items_in_batch=torch.tensor(targets))

    def _weights(self, rows: Sequence[Encoded], inputs: Mapping[str, Any]) -> Any:
        import torch

        if all(row.weight == 1.0 for row in rows):
            return None
        weights_BT = torch.zeros_like(inputs["labels"][:, 1:], dtype=torch.float32)
        for row, place in zip(rows, self._places(rows), strict=True):
            weights_BT[place] = row.weight
        return weights_BT

    def _row_losses(self, rows: Sequence[Encoded]) -> list[RowLoss]:
        logprobs_BT = self._heard.logprobs_BT
        return [
            RowLoss(row.row_id, -float(logprobs_BT[place].sum()) / (len(row.ids) - row.num_prompt))
            for row, place in zip(rows, self._places(rows), strict=True)
        ]

    def _places(self, rows: Sequence[Encoded]) -> list[Any]:
        """Return where each row's targets stand: in a line of its own, or end to end in the only line."""
        if not self._compute.packing:
            return [(at, slice(0, len(row.ids) - 1)) for at, row in enumerate(rows)]
        places: list[Any] = []
        start = 0
        for row in rows:
            places.append((0, slice(start, start + len(row.ids) - 1)))
            start += len(row.ids)
        return places


def _example(row: Encoded) -> dict[str, Any]:
    return {"input_ids": list(row.ids), "labels": list(row.labels)}
