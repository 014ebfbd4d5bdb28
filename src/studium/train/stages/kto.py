"""Kahneman-Tversky optimisation on TRL (arXiv 2402.01306): from replies that were liked or not, which come unpaired.

Thumbs are what people give. A file of pairs is taken too, each as one up and one down. The reference is the model the
run began with; without an adapter a second copy of it is kept in memory. Old rows count `replay.share` of the loss.

Axes: B thumbs, T targets (tokens but the first).
"""

from collections.abc import Callable, Mapping, Sequence
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
from studium.train.preference_loss import PreferenceLoss
from studium.train.preferences.lint import lint_thumbs, refuse_gross
from studium.train.preferences.pairs import Thumb, read_thumbs
from studium.train.row_stage import Told, check_length, needs_rows, share_beside, steps_of
from studium.train.rows import completion_ids, prompt_ids
from studium.train.run_folder import RunFolder
from studium.train.trl_bridge import GivenRecipe

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
    fresh = [encoded_thumb(tokenizer, thumb, options.max_tokens) for thumb in thumbs]
    loss = KtoLoss(outset.learner, options)
    rows = [one.row for one in thumbs]
    return carry_out_given("kto", outset, loss, fresh, share, rows, old_rows, folder, say)


class EncodedThumb(NamedTuple):
    """A reply with a thumb up or down, as tokens."""

    row_id: str
    prompt: Sequence[int]
    reply: Sequence[int]
    good: bool


class KtoLoss(PreferenceLoss[EncodedThumb]):
    """Kahneman-Tversky optimisation (arXiv 2402.01306, eq. 7) as TRL computes it, from thumbs that come unpaired.

    The KL term is estimated on replies moved on by one prompt within a batch, as TRL does.
    """

    def __init__(self, learner: Learner, options: Options) -> None:
        from trl.trainer.kto_config import KTOConfig
        from trl.trainer.kto_trainer import KTOTrainer

        nothing = [
            {"prompt": "a", "completion": "b", "label": True},
            {"prompt": "a", "completion": "c", "label": False},
        ]
        settings = {
            "beta": options.beta,
            "desirable_weight": options.good_weight,
            "undesirable_weight": options.bad_weight,
        }
        reference = None if options.lora.rank else load(options.model).model
        super().__init__(learner, options, KTOTrainer, KTOConfig, nothing, settings, reference)

    def _tell(self, part: Sequence[EncodedThumb], said_B: "torch.Tensor", told: Told) -> None:
        for good, name in ((True, "good_logprob"), (False, "bad_logprob")):
            chosen = [float(one) for one, thumb in zip(said_B, part, strict=True) if thumb.good is good]
            if chosen:
                told.add(**{name: sum(chosen) / len(chosen)})
        told.rows += [
            RowLoss(thumb.row_id, -float(one) / len(thumb.reply))
            for thumb, one in zip(part, said_B, strict=True)
        ]

    def _example(self, row: EncodedThumb) -> dict[str, Any]:
        return {"prompt_ids": list(row.prompt), "completion_ids": list(row.reply), "label": row.good}

    def _collated(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        moved = [examples[-1], *examples[:-1]]
        pairs = zip(examples, moved, strict=True)
        return super()._collated(
            [{**one, "KL_completion_ids": other["completion_ids"]} for one, other in pairs]
        )


def encoded_thumb(tokenizer: "PreTrainedTokenizerBase", thumb: Thumb, max_tokens: int) -> EncodedThumb:
    """Return a thumb as tokens. Raises ConfigurationError where it is too long."""
    prompt = prompt_ids(tokenizer, thumb.row)
    reply = completion_ids(tokenizer, thumb.row.completion, ends=thumb.row.ends)
    check_length(thumb.row.id, len(prompt) + len(reply), max_tokens)
    return EncodedThumb(thumb.row.id, prompt, reply, thumb.good)
