"""TRL's losses without its loop: its collator and its head that gives log-probabilities (pairs: `preference_loss`).

Why not `train()`: a step must be refusable before it changes weights, every row's loss is recorded by id, the share of
old rows is exact, and one state file resumes every stage (docs/decisions/0019-trl.md). tests/train holds losses and
weights to plain TRL. What a row cost is read off the log-probabilities that TRL's forward returns.

Axes: B rows, T targets (tokens but the first).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any

from studium.config.kinds import YesNo
from studium.errors import ConfigurationError
from studium.train.config import Recipe
from studium.train.learner import Learner
from studium.train.row_stage import Told
from studium.train.rows import Encoded

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Compute:
    """How it is computed; what is computed is the same, up to rounding with `bf16`.

    `packing` lays the rows of a batch end to end instead of padding them (attention stays within a row): faster where
    attention kernels know of it, slower on a processor.
    `gradient_checkpointing` computes forward twice and keeps less in memory. `liger` needs its kernels and a GPU,
    `unsloth` an environment of its own (`unsloth_bridge`), where weights are held in 16 bits with `bf16`.
    """

    packing: Annotated[bool, YesNo()] = False
    bf16: Annotated[bool, YesNo()] = False
    gradient_checkpointing: Annotated[bool, YesNo()] = False
    liger: Annotated[bool, YesNo()] = False
    unsloth: Annotated[bool, YesNo()] = False


@dataclass(frozen=True, slots=True)
class GivenRecipe(Recipe):
    """A recipe of a stage that learns from given rows. `thinks`: validation goes step by step, thoughts left out."""

    compute: Compute = field(default_factory=Compute)
    thinks: Annotated[bool, YesNo()] = False


class TokenCosts:
    """What rows cost a model: the log-probabilities of their targets, (B, T), by TRL's collator and head.

    The head makes logits in pieces and never whole. Rows are padded on the right, or laid end to end with `packing`.
    """

    def __init__(self, learner: Learner, compute: Compute) -> None:
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
        from trl.trainer.utils import add_fused_lm_head

        self._model, self._compute = learner.model, compute
        pad = int(learner.loaded.tokenizer.pad_token_id or 0)  # pyright: ignore[reportArgumentType]
        self._collate: Any = DataCollatorForLanguageModeling(pad, padding_free=compute.packing)
        base = without_adapter(learner.model)
        if "fused_lm_head" not in signature(base.forward, follow_wrapped=False).parameters:
            add_fused_lm_head(base)

    def logprobs_BT(self, rows: Sequence[Encoded]) -> "torch.Tensor":
        """Return them with their graph, 0 where nothing is trained."""
        collated = self._collate([{"input_ids": list(row.ids), "labels": list(row.labels)} for row in rows])
        inputs = on_device(self._model, collated)
        with precision(self._model, self._compute):
            return self._model(**inputs, use_cache=False, fused_lm_head=True).log_probs


class OldRows:
    """The mean cross entropy of rows: of old ones beside another loss, of those kept from training as a measure."""

    def __init__(self, learner: Learner, recipe: GivenRecipe) -> None:
        self._model, self._batch = learner.model, recipe.batch
        self._costs = TokenCosts(learner, replace(recipe.compute, packing=False))

    def parts(self, rows: Sequence[Encoded], told: Told) -> "Iterator[torch.Tensor]":
        targets = sum(len(row.ids) - row.num_prompt for row in rows)
        for first in range(0, len(rows), self._batch):
            part = rows[first : first + self._batch]
            loss = self._cost(part) / targets
            told.add(old_loss=float(loss.detach()) * targets / sum(len(r.ids) - r.num_prompt for r in part))
            yield loss

    def mean(self, rows: Sequence[Encoded]) -> float:
        """Return the mean cross entropy of rows, nothing learned, dropout off."""
        import torch

        training = self._model.training
        self._model.eval()
        with torch.no_grad():
            parts = [rows[at : at + self._batch] for at in range(0, len(rows), self._batch)]
            total = sum(float(self._cost(part)) for part in parts)
        self._model.train(training)
        return total / sum(len(row.ids) - row.num_prompt for row in rows)

    def _cost(self, rows: Sequence[Encoded]) -> "torch.Tensor":
        """Return the sum of the cross entropy over the trained tokens of rows."""
        return -self._costs.logprobs_BT(rows).sum()


def checkpointing_setting() -> str:
    """Return what transformers calls gradient checkpointing: it was renamed in 5.18; Unsloth needs an older one."""
    from transformers import TrainingArguments

    known = "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    return "activation_checkpointing" if known else "gradient_checkpointing"


def prepare(model: Any, compute: Compute) -> None:
    """Put a model where it trains, set up for how it is computed. Raises ConfigurationError for a missing library."""
    import torch

    if torch.cuda.is_available() and not getattr(model, "is_loaded_in_4bit", False):
        model.to("cuda")
    if compute.gradient_checkpointing and not compute.unsloth:
        getattr(model, f"{checkpointing_setting()}_enable")()
    if compute.liger:
        try:
            from liger_kernel.transformers import (  # pyright: ignore[reportMissingImports]
                _apply_liger_kernel_to_instance,  # pyright: ignore[reportUnknownVariableType]
            )
        except ImportError as error:
            raise ConfigurationError(
                "compute.liger needs liger-kernel, which is not installed",
                expected="liger-kernel 0.8 or newer, and a GPU",
                try_next="pip install liger-kernel, or leave compute.liger out",
            ) from error
        _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False)


def on_device(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.to(model.device) if hasattr(one, "to") else one for name, one in inputs.items()}


def without_adapter(model: Any) -> Any:
    """Return the model itself, under an adapter's view of it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def precision(model: Any, compute: Compute) -> "AbstractContextManager[Any]":
    """Return the context a forward pass runs in."""
    import torch

    return torch.autocast(model.device.type, torch.bfloat16) if compute.bf16 else nullcontext()
