"""Answers, greedy or drawn, from a model in memory, many at a time, with a key-value cache.

Prompts are padded on the left; finished rows are dropped from the batch as they end. The engines
serve the same weights from GGUF: tests/reference/test_export_parity.py holds the two together.

Axes: B rows still generating, T positions, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from studium.train.tokenizer import END, PAD, token_id

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM


class Sampled(NamedTuple):
    """A generated reply, its token ids without the end token, and the mean log-probability per token.

    `ended` is False where the limit cut it off.
    """

    text: str
    tokens: Sequence[int]
    mean_logprob: float
    ended: bool


def sample_answers(
    model: "LlamaForCausalLM",
    tokenizer: "Tokenizer",
    prompts: Sequence[str],
    *,
    max_tokens: int = 200,
    batch_size: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
) -> Sequence[Sampled]:
    """Return a reply to each prompt (text as `prompt_text` writes it), in order.

    Each token is the most likely one, or above temperature 0 drawn; equal seeds draw the same.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def choose(logits_BV: "torch.Tensor") -> "torch.Tensor":
        if temperature == 0.0:
            return logits_BV.argmax(-1)
        return torch.multinomial((logits_BV / temperature).softmax(-1), 1, generator=generator)[:, 0]

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, Sampled] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        replies = _generate(model, tokenizer, [prompts[i] for i in chosen], max_tokens, choose)
        answers.update(zip(chosen, replies, strict=True))
    return [answers[i] for i in range(len(prompts))]


def _generate(
    model: "LlamaForCausalLM",
    tokenizer: "Tokenizer",
    prompts: Sequence[str],
    max_tokens: int,
    choose: "Callable[[torch.Tensor], torch.Tensor]",
) -> Sequence[Sampled]:
    import torch

    end = token_id(tokenizer, END)
    ids_BT, mask_BT = _left_padded(tokenizer, prompts)
    tokens: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    cache = None
    inputs_BT = ids_BT
    with torch.inference_mode():
        for _ in range(max_tokens):
            positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)[:, -inputs_BT.shape[1] :]
            step = model(
                input_ids=inputs_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = step.past_key_values
            logits_BV = step.logits[:, -1]
            chosen_B = choose(logits_BV)
            logprobs_B = logits_BV.log_softmax(-1).gather(1, chosen_B[:, None])[:, 0]
            for row, (token, logprob) in enumerate(zip(chosen_B.tolist(), logprobs_B.tolist(), strict=True)):
                if not ended[row]:
                    logprobs[row].append(logprob)
                    ended[row] = token == end
                    tokens[row] += [] if ended[row] else [token]
            if all(ended):
                break
            inputs_BT = chosen_B[:, None]
            mask_BT = torch.cat([mask_BT, torch.ones_like(inputs_BT)], 1)
    return [
        Sampled(tokenizer.decode(ids), ids, sum(values) / len(values), done)
        for ids, values, done in zip(tokens, logprobs, ended, strict=True)
    ]


def _left_padded(tokenizer: "Tokenizer", prompts: Sequence[str]) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    pad = token_id(tokenizer, PAD)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    longest = max(map(len, encoded))
    ids = [[pad] * (longest - len(row)) + row for row in encoded]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in encoded]
    return torch.tensor(ids), torch.tensor(mask)
