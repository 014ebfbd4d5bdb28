"""Kahneman-Tversky optimisation on TRL (arXiv 2402.01306): from replies that were liked or not, which come unpaired.

Thumbs are what people give. A file of pairs is taken too, each as one up and one down. The reference is the model the
run began with; without an adapter a second copy of it is kept in memory. Old rows count `replay.share` of the loss.

Axes: B thumbs, T targets (tokens but the first).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from studium.config.kinds import Number
from studium.config.schema import Plain
from studium.errors import ConfigurationError
from studium.train.course import Checkpoint, RowLoss
from studium.train.data import rows_of
from studium.train.given import Outset, carry_out_given
from studium.train.learner import Learner
from studium.train.models import load
from studium.train.preferences.lint import lint_thumbs, refuse_gross
from studium.train.preferences.pairs import Thumb, read_thumbs
from studium.train.row_stage import (
    RowStage,
    Told,
    check_length,
    encoded_rows,
    needs_rows,
    share_beside,
    steps_of,
)
from studium.train.rows import Encoded, completion_ids, prompt_ids
from studium.train.run_folder import RunFolder
from studium.train.trl_bridge import (
    GivenRecipe,
    Heard,
    OldRows,
    common_settings,
    dataset_of,
    drop_reference_adapter,
    on_device,
    precision,
    prepare,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Options(GivenRecipe):
    """A recipe for KTO. Its data are files of thumbs, or of pairs; `allow` names gross faults that are meant."""

    beta: Annotated[float, Number(0, 100)] = 0.1
    good_weight: Annotated[float, Number(0, 1000)] = 1.0
    bad_weight: Annotated[float, Number(0, 1000)] = 1.0
    allow: tuple[Plain, ...] = ()


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train on thumbs; blocks."""
    if options.batch < 2:
        raise ConfigurationError(
            "kto with a batch of 1 has no other reply to estimate its KL term on",
            expected="batch of 2 or more",
            try_next="raise batch, lower accumulate",
        )
    thumbs, old_rows = read_thumbs(options.data), rows_of(options.replay.data)
    needs_rows("kto", thumbs)
    report = lint_thumbs(thumbs)
    for fault in report.faults:
        say(f"thumbs: {fault.kind}: {fault.says}")
    refuse_gross(report, options.allow)
    share = share_beside(options, len(old_rows))
    outset = Outset(options, steps_of(options, len(thumbs), share))
    tokenizer = outset.loaded.tokenizer
    loss = KtoLoss(
        outset.learner,
        options,
        reference=None if options.lora.rank else load(options.model).model,
        beta=options.beta,
        good_weight=options.good_weight,
        bad_weight=options.bad_weight,
        share=options.replay.share,
    )
    stage = RowStage(
        options,
        outset.learner,
        loss,
        [encoded_thumb(tokenizer, thumb, options.max_tokens) for thumb in thumbs],
        encoded_rows(tokenizer, old_rows, options.max_tokens),
        share,
        steps=outset.steps,
        validation=outset.validation,
        thinks=options.thinks,
        held_out_loss=outset.held_out_loss,
    )
    return carry_out_given("kto", outset, stage, [*(one.row for one in thumbs), *old_rows], folder, say)


class EncodedThumb(NamedTuple):
    """A reply with a thumb up or down, as tokens."""

    row_id: str
    prompt: Sequence[int]
    reply: Sequence[int]
    good: bool


class KtoLoss:
    """Kahneman-Tversky optimisation (arXiv 2402.01306, eq. 7) as TRL computes it, from thumbs that come unpaired.

    The KL term is estimated on replies moved on by one prompt within a batch, as TRL does.
    """

    def __init__(
        self,
        learner: Learner,
        recipe: GivenRecipe,
        *,
        reference: Any,
        beta: float,
        good_weight: float,
        bad_weight: float,
        share: float,
    ) -> None:
        from trl.trainer.kto_config import KTOConfig
        from trl.trainer.kto_trainer import KTOTrainer

        prepare(learner.model, recipe.compute)
        self._compute, self._batch, self._model = recipe.compute, recipe.batch, learner.model
        self._share = share
        settings = KTOConfig(
            beta=beta,
            desirable_weight=good_weight,
            undesirable_weight=bad_weight,
            max_length=None,
            **common_settings(recipe),
        )
        nothing = dataset_of(
            [
                {"prompt": "a", "completion": "b", "label": True},
                {"prompt": "a", "completion": "c", "label": False},
            ]
        )
        self._trainer: Any = KTOTrainer(
            learner.model,
            ref_model=reference,
            args=settings,
            train_dataset=nothing,
            processing_class=learner.loaded.tokenizer,
        )
        drop_reference_adapter(learner.model)
        self._heard = Heard(learner.model)
        self._old = OldRows(learner, recipe)

    def parts(
        self, fresh: Sequence[EncodedThumb], old: Sequence[Encoded], told: Told
    ) -> "Iterator[torch.Tensor]":
        own = 1 - self._share if old else 1.0
        for first in range(0, len(fresh), self._batch):
            part = fresh[first : first + self._batch]
            with precision(self._model, self._compute):
                loss = self._trainer.compute_loss(self._model, self._inputs(part))
            self._tell(part, told)
            yield own * loss * len(part) / len(fresh)
        for loss in self._old.parts(old, told):
            yield self._share * loss

    def _tell(self, thumbs: Sequence[EncodedThumb], told: Told) -> None:
        said_B = self._heard.logprobs_BT.sum(1).cpu()
        for good, name in ((True, "good_logprob"), (False, "bad_logprob")):
            chosen = [float(one) for one, thumb in zip(said_B, thumbs, strict=True) if thumb.good is good]
            if chosen:
                told.add(**{name: sum(chosen) / len(chosen)})
        told.rows += [
            RowLoss(thumb.row_id, -float(one) / len(thumb.reply))
            for thumb, one in zip(thumbs, said_B, strict=True)
        ]

    def _inputs(self, thumbs: Sequence[EncodedThumb]) -> Any:
        moved = [thumbs[-1], *thumbs[:-1]]
        examples = [
            {
                "prompt_ids": list(thumb.prompt),
                "completion_ids": list(thumb.reply),
                "KL_completion_ids": list(other.reply),
                "label": thumb.good,
            }
            for thumb, other in zip(thumbs, moved, strict=True)
        ]
        return on_device(self._model, self._trainer.data_collator(examples))


def encoded_thumb(tokenizer: "PreTrainedTokenizerBase", thumb: Thumb, max_tokens: int) -> EncodedThumb:
    """Return a thumb as tokens. Raises ConfigurationError where it is too long."""
    prompt = prompt_ids(tokenizer, thumb.row)
    reply = completion_ids(tokenizer, thumb.row.completion, ends=thumb.row.ends)
    check_length(thumb.row.id, len(prompt) + len(reply), max_tokens)
    return EncodedThumb(thumb.row.id, prompt, reply, thumb.good)
