"""Direct preference optimisation on TRL (arXiv 2305.18290): the chosen of two replies likelier than the rejected one.

`sft` adds the chosen reply's own likelihood to the loss: without it both replies may become less likely while the
margin grows (trl#800), so the chosen reply's log-probability is reported at every step, as a change against the
reference. The reference is the model the run began with. Old rows (`replay`) count `replay.share` of the loss. Pairs
with gross faults are refused before the first step (`preferences.lint`).

Axes: B pairs, T targets (tokens but the first).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from studium.config.kinds import Number
from studium.config.schema import Plain
from studium.train.course import Checkpoint, RowLoss
from studium.train.data import rows_of
from studium.train.given import Outset, carry_out_given
from studium.train.learner import Learner
from studium.train.preference_loss import PreferenceLoss
from studium.train.preferences.lint import lint_pairs, refuse_gross
from studium.train.preferences.pairs import Pair, read_pairs
from studium.train.row_stage import Told, check_length, needs_rows, share_beside, steps_of
from studium.train.rows import completion_ids, prompt_ids
from studium.train.run_folder import RunFolder
from studium.train.trl_bridge import GivenRecipe, precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Options(GivenRecipe):
    """A recipe for DPO. Its data are files of pairs; `allow` names gross faults that are meant."""

    beta: Annotated[float, Number(0, 100)] = 0.1
    sft: Annotated[float, Number(0, 100)] = 0.0
    allow: tuple[Plain, ...] = ()


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train on pairs; blocks."""
    pairs, old_rows = read_pairs(options.data), rows_of(options.replay.data)
    needs_rows("dpo", pairs)
    report = lint_pairs(pairs)
    for fault in report.faults:
        say(f"pairs: {fault.kind}: {fault.says}")
    refuse_gross(report, options.allow)
    share = share_beside(options, len(old_rows))
    outset = Outset(options, steps_of(options, len(pairs), share))
    tokenizer = outset.loaded.tokenizer
    encoded = [encoded_pair(tokenizer, pair, options.max_tokens) for pair in pairs]
    loss = DpoLoss(outset.learner, options, encoded)
    rows = [row for pair in pairs for row in pair.rows]
    return carry_out_given("dpo", outset, loss, loss.pairs, share, rows, old_rows, folder, say)


class EncodedPair(NamedTuple):
    """A preference as tokens, and the reference's log-probabilities of chosen and rejected."""

    row_id: str
    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]
    reference: tuple[float, float] = (0.0, 0.0)


class DpoLoss(PreferenceLoss[EncodedPair]):
    """Direct preference optimisation (arXiv 2305.18290, eq. 7) by TRL; `sft` times the chosen's NLL is added.

    The reference is the model the run began with; its log-probabilities are computed once, before the first step, so
    no second model is kept; `pairs` has them.
    """

    def __init__(self, learner: Learner, options: Options, pairs: Sequence[EncodedPair]) -> None:
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        nothing = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
        settings = {"beta": options.beta, "precompute_ref_log_probs": True}
        super().__init__(learner, options, DPOTrainer, DPOConfig, nothing, settings)
        self._beta, self._sft = options.beta, options.sft
        self.pairs = list(self._with_reference(pairs))

    def _beside(self, part: Sequence[EncodedPair], fresh: Sequence[EncodedPair]) -> Any:
        # TRL's own "sft" term is a mean over each part's tokens: it would depend on how rows are accumulated.
        return -self._sft * self._heard_BT[: len(part)].sum() / sum(len(pair.chosen) for pair in fresh)

    def _tell(self, part: Sequence[EncodedPair], said_B: "torch.Tensor", told: Told) -> None:
        """Note what TRL does not show: the chosen reply's own log-probability, which margins hide (trl#800)."""
        import torch

        chosen_B, rejected_B = said_B.chunk(2)
        reference_B2 = torch.tensor([pair.reference for pair in part])
        gain_B, loss_B = chosen_B - reference_B2[:, 0], rejected_B - reference_B2[:, 1]
        told.add(
            chosen_logprob=float(chosen_B.mean()),
            chosen_logprob_change=float(gain_B.mean()),
            rejected_logprob_change=float(loss_B.mean()),
            preferred=float((gain_B > loss_B).float().mean()),
        )
        cost_B = -torch.nn.functional.logsigmoid(self._beta * (gain_B - loss_B))
        told.rows += [RowLoss(pair.row_id, float(one)) for pair, one in zip(part, cost_B, strict=True)]

    def _example(self, row: EncodedPair) -> dict[str, Any]:
        known = zip(("ref_chosen_logps", "ref_rejected_logps"), row.reference, strict=True)
        return {
            "prompt_ids": list(row.prompt),
            "chosen_ids": list(row.chosen),
            "rejected_ids": list(row.rejected),
            **dict(known),
        }

    def _with_reference(self, pairs: Sequence[EncodedPair]) -> "Iterator[EncodedPair]":
        training = self._model.training
        self._model.eval()
        for first in range(0, len(pairs), self._batch):
            part = pairs[first : first + self._batch]
            with precision(self._model, self._compute):
                inputs = self._collated([self._example(pair) for pair in part])
                known = self._trainer.compute_ref_log_probs(self._model, inputs)
            for pair, chosen, rejected in zip(part, *(one.tolist() for one in known), strict=True):
                yield pair._replace(reference=(chosen, rejected))
        self._model.train(training)


def encoded_pair(tokenizer: "PreTrainedTokenizerBase", pair: Pair, max_tokens: int) -> EncodedPair:
    """Return a pair as tokens. Raises ConfigurationError where it is too long."""
    prompt = prompt_ids(tokenizer, pair.row)
    chosen = completion_ids(tokenizer, pair.chosen, ends=pair.row.ends)
    rejected = completion_ids(tokenizer, pair.rejected, ends=pair.rejected_ends)
    check_length(pair.row.id, len(prompt) + max(len(chosen), len(rejected)), max_tokens)
    return EncodedPair(pair.row.id, prompt, chosen, rejected)
