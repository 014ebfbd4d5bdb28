"""A loss of preferences by TRL: a trainer of TRL is made for its collator and `compute_loss`, and `course` drives.

What a row cost is read off the log-probabilities that TRL's forward returns, by a hook. Old rows (`replay`) count a
share of the loss, by their mean cross entropy.

Axes: B rows, T targets (tokens but the first).
"""

from collections.abc import Iterator, Mapping, Sequence
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from studium.train.learner import Learner
from studium.train.row_stage import Told
from studium.train.rows import Encoded
from studium.train.trl_bridge import (
    GivenRecipe,
    OldRows,
    checkpointing_setting,
    on_device,
    precision,
    prepare,
    without_adapter,
)

if TYPE_CHECKING:
    import torch

Fresh = TypeVar("Fresh")


class PreferenceLoss(Generic[Fresh]):
    """A loss as `trainer`, a class of TRL, computes it, made with `config` and `settings`.

    `nothing` are rows of text of the kind it takes: it wants a data set, of which nothing is used.
    """

    def __init__(
        self,
        learner: Learner,
        recipe: GivenRecipe,
        trainer: Any,
        config: Any,
        nothing: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        reference: Any = None,
    ) -> None:
        from datasets import Dataset

        prepare(learner.model, recipe.compute)
        self._compute, self._batch, self._model = recipe.compute, recipe.batch, learner.model
        self._share = recipe.replay.share
        self._trainer: Any = trainer(
            learner.model,
            ref_model=reference,
            args=config(max_length=None, **_settings(recipe), **settings),
            train_dataset=Dataset.from_list([dict(one) for one in nothing]),
            processing_class=learner.loaded.tokenizer,
        )
        if "ref" in getattr(learner.model, "peft_config", {}):
            # TRL's second adapter: the reference is the base, which an untrained adapter does not change.
            learner.model.delete_adapter("ref")
        if learner.loaded.unsloth:
            learner.loaded.unsloth.train(learner.model)
        self._heard_BT: Any = None
        without_adapter(learner.model).register_forward_hook(self._hear)
        self._old = OldRows(learner, recipe)

    def parts(self, fresh: Sequence[Fresh], old: Sequence[Encoded], told: Told) -> "Iterator[torch.Tensor]":
        own = 1 - self._share if old else 1.0
        for first in range(0, len(fresh), self._batch):
            part = fresh[first : first + self._batch]
            with precision(self._model, self._compute):
                loss = self._trainer.compute_loss(
                    self._model, self._collated([self._example(one) for one in part])
                )
            self._tell(part, self._heard_BT.detach().sum(1).cpu(), told)
            yield own * (loss * len(part) / len(fresh) + self._beside(part, fresh))
        for loss in self._old.parts(old, told):
            yield self._share * loss

    def _example(self, row: Fresh) -> dict[str, Any]:
        """Return a row as TRL's collator takes it."""
        raise NotImplementedError

    def _tell(self, part: Sequence[Fresh], said_B: "torch.Tensor", told: Told) -> None:
        """Note what rows cost; `said_B` are replies' log-probabilities, in the order of TRL's forward."""
        raise NotImplementedError

    def _beside(self, part: Sequence[Fresh], fresh: Sequence[Fresh]) -> Any:
        """Return what is added to the loss of a part."""
        return 0.0

    def _collated(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return on_device(self._model, self._trainer.data_collator(examples))

    def _hear(self, module: Any, given: Any, out: Any) -> None:
        logprobs_BT = getattr(out, "log_probs", None)
        if (
            logprobs_BT is not None and logprobs_BT.requires_grad
        ):  # else an answer being drawn, or a reference
            self._heard_BT = logprobs_BT


def _settings(recipe: GivenRecipe) -> dict[str, Any]:
    """Return the settings every trainer of TRL is made with. Its defaults are for large models on GPUs."""
    import torch

    return {
        "output_dir": gettempdir(),
        "bf16": False,
        checkpointing_setting(): recipe.compute.gradient_checkpointing,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": recipe.seed,
        "use_cpu": not torch.cuda.is_available(),
    }
