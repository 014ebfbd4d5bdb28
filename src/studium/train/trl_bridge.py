"""TRL's losses without its loop: a trainer of TRL is made for its collator and `compute_loss`, and `course` drives.

Why not `train()`: a step must be refusable before it changes weights, every row's loss is recorded by id, the share of
old rows is exact, and one state file resumes every stage (docs/decisions/0019-trl.md). tests/train holds losses and
weights to plain TRL. What a row cost is read off the log-probabilities that TRL's forward returns, by a hook, which
also puts rows' weights on them.

Axes: B rows, T targets (tokens but the first).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated, Any

from studium.config.kinds import YesNo
from studium.errors import ConfigurationError
from studium.train.config import Recipe
from studium.train.learner import Learner
from studium.train.row_stage import Told
from studium.train.rows import IGNORED, Encoded

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Compute:
    """How it is computed; what is computed is the same, up to rounding with `bf16`.

    `packing` lays the rows of a batch end to end instead of padding them (attention stays within a row): faster where
    attention kernels know of it, slower on a processor.
    `gradient_checkpointing` computes forward twice and keeps less in memory. `liger` needs its kernels and a GPU.
    """

    packing: Annotated[bool, YesNo()] = False
    bf16: Annotated[bool, YesNo()] = False
    gradient_checkpointing: Annotated[bool, YesNo()] = False
    liger: Annotated[bool, YesNo()] = False


@dataclass(frozen=True, slots=True)
class GivenRecipe(Recipe):
    """A recipe of a stage that learns from given rows. `thinks`: validation goes step by step, thoughts left out."""

    compute: Compute = field(default_factory=Compute)
    thinks: Annotated[bool, YesNo()] = False


class Heard:
    """What a model's forward said last: log-probabilities of the targets, (B, T), 0 where nothing is trained.

    `live_BT` are those with their graph. `weights_BT` are put on them before TRL sees them.
    """

    def __init__(self, model: Any) -> None:
        self.live_BT: Any = None
        self.weights_BT: Any = None
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        base.register_forward_hook(self._hear)

    @property
    def logprobs_BT(self) -> Any:
        return self.live_BT.detach()

    def _hear(self, module: Any, given: Any, out: Any) -> None:
        logprobs_BT = getattr(out, "log_probs", None)
        if logprobs_BT is None or not logprobs_BT.requires_grad:
            return  # an answer being drawn, or a reference
        self.live_BT = logprobs_BT
        if self.weights_BT is not None:
            out.log_probs = logprobs_BT * self.weights_BT


class OldRows:
    """The mean cross entropy of rows: of old ones beside another loss, of those kept from training as a measure."""

    def __init__(self, learner: Learner, recipe: GivenRecipe) -> None:
        self._model, self._compute, self._batch = learner.model, recipe.compute, recipe.batch
        self._pad = int(learner.loaded.tokenizer.pad_token_id or 0)  # pyright: ignore[reportArgumentType]

    def parts(self, rows: Sequence[Encoded], told: Told) -> "Iterator[torch.Tensor]":
        targets = sum(len(row.ids) - row.num_prompt for row in rows)
        for first in range(0, len(rows), self._batch):
            part = rows[first : first + self._batch]
            loss = self._loss(part) / targets
            told.add(old_loss=float(loss.detach()) * targets / sum(len(r.ids) - r.num_prompt for r in part))
            yield loss

    def mean(self, rows: Sequence[Encoded]) -> float:
        """Return the mean cross entropy of rows, nothing learned, dropout off."""
        import torch

        training = self._model.training
        self._model.eval()
        with torch.no_grad():
            parts = [rows[at : at + self._batch] for at in range(0, len(rows), self._batch)]
            total = sum(float(self._loss(part)) for part in parts)
        self._model.train(training)
        return total / sum(len(row.ids) - row.num_prompt for row in rows)

    def _loss(self, rows: Sequence[Encoded]) -> "torch.Tensor":
        """Return the sum of the cross entropy over the trained tokens of rows."""
        import torch

        most = max(len(row.ids) for row in rows)
        device = self._model.device
        ids_BS = torch.tensor(
            [[*row.ids, *[self._pad] * (most - len(row.ids))] for row in rows], device=device
        )
        labels_BS = torch.tensor(
            [[*row.labels, *[IGNORED] * (most - len(row.ids))] for row in rows], device=device
        )
        seen_BS = torch.tensor(
            [[1] * len(row.ids) + [0] * (most - len(row.ids)) for row in rows], device=device
        )
        with precision(self._model, self._compute):
            logits_BTV = self._model(input_ids=ids_BS, attention_mask=seen_BS, use_cache=False).logits[:, :-1]
            return torch.nn.functional.cross_entropy(
                logits_BTV.float().flatten(0, 1), labels_BS[:, 1:].flatten(), reduction="sum"
            )


def common_settings(recipe: GivenRecipe) -> dict[str, Any]:
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


def checkpointing_setting() -> str:
    """Return what transformers calls gradient checkpointing: it was renamed in 5.18; Unsloth needs an older one."""
    from transformers import TrainingArguments

    known = "activation_checkpointing" in TrainingArguments.__dataclass_fields__
    return "activation_checkpointing" if known else "gradient_checkpointing"


def prepare(model: Any, compute: Compute) -> None:
    """Set a model up for how it is computed. Raises ConfigurationError where a library is not there."""
    if compute.gradient_checkpointing:
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


def precision(model: Any, compute: Compute) -> "AbstractContextManager[Any]":
    """Return the context a forward pass runs in."""
    import torch

    return torch.autocast(model.device.type, torch.bfloat16) if compute.bf16 else nullcontext()


def on_device(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.to(model.device) if hasattr(one, "to") else one for name, one in inputs.items()}


def dataset_of(examples: Sequence[Mapping[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([dict(example) for example in examples])


def drop_reference_adapter(model: Any) -> None:
    """Take out the second adapter TRL adds: the reference is the base, which an untrained adapter does not change."""
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")
