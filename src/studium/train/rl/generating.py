"""A sampler that lets transformers draw: its `generate`, batch by batch, prompts padded on the left.

Slower than `samplers.ModelSampler`, which it checks; for models whose cache ours cannot handle.

Axes: B rows, T positions, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studium.train.rl.samplers import Draw, cut

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class GeneratingSampler:
    """Draws with `model.generate`; at most `rows` replies at a time. Seeds the process's random numbers meanwhile."""

    def __init__(self, model: Any, tokenizer: "PreTrainedTokenizerBase", *, rows: int = 256) -> None:
        self._model = model
        self._rows = rows
        assert isinstance(tokenizer.eos_token_id, int) and isinstance(tokenizer.pad_token_id, int)
        self._end, self._pad = tokenizer.eos_token_id, tokenizer.pad_token_id

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        most_tokens: int,
        each: int = 1,
        temperature: float = 1.0,
        stops: frozenset[int] = frozenset(),
        seed: int = 0,
    ) -> list[list[Draw]]:
        import torch

        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        at_once = max(1, self._rows // each)
        found: dict[int, list[Draw]] = {}
        ends = sorted(stops | {self._end})
        training = self._model.training
        self._model.eval()
        # `generate` takes no generator: its numbers are the process's, which are put back.
        with torch.random.fork_rng(devices=_cards(self._model)):
            torch.manual_seed(seed)
            for first in range(0, len(order), at_once):
                chosen = order[first : first + at_once]
                drawn = self._batch([prompts[at] for at in chosen], each, most_tokens, temperature, ends)
                found.update((at, drawn[row * each : (row + 1) * each]) for row, at in enumerate(chosen))
        self._model.train(training)
        return [found[at] for at in range(len(prompts))]

    def _batch(
        self,
        prompts: Sequence[Sequence[int]],
        each: int,
        most_tokens: int,
        temperature: float,
        ends: Sequence[int],
    ) -> list[Draw]:
        import torch

        longest = max(map(len, prompts))
        gaps = [longest - len(one) for one in prompts]
        rows = zip(gaps, prompts, strict=True)
        ids_BT = torch.tensor([[self._pad] * gap + list(one) for gap, one in rows])
        seen_BT = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps])
        drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        with torch.inference_mode():
            out = self._model.generate(
                ids_BT.to(self._model.device),
                attention_mask=seen_BT.to(self._model.device),
                max_new_tokens=most_tokens,
                eos_token_id=list(ends),
                pad_token_id=self._pad,
                num_return_sequences=each,
                return_dict_in_generate=True,
                output_logits=True,
                **(drawing if temperature else {"do_sample": False}),
            )
        said_BT = out.sequences[:, longest:].cpu()
        logprobs_BT = _logprobs(out.logits, said_BT, temperature or 1.0)
        rows = zip(said_BT.tolist(), logprobs_BT.tolist(), strict=True)
        return [cut(said, logprobs, frozenset(ends)) for said, logprobs in rows]


def _logprobs(
    logits_TBV: "Sequence[torch.Tensor]", said_BT: "torch.Tensor", temperature: float
) -> "torch.Tensor":
    import torch

    columns = [
        (logits_BV.float().cpu() / temperature).log_softmax(-1).gather(1, said_BT[:, at, None])[:, 0]
        for at, logits_BV in enumerate(logits_TBV)
    ]
    return torch.stack(columns, 1)


def _cards(model: Any) -> list[Any]:
    return [model.device] if model.device.type == "cuda" else []
