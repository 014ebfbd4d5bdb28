"""Answers, greedy or drawn, from a model in memory, as texts: `rl.samplers` for people.

The engines serve the same weights from GGUF: tests/reference/test_export_parity.py holds the two together.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from studium.train.models import wrapped
from studium.train.rl.samplers import ModelSampler

if TYPE_CHECKING:
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
    temperature: float = 0.0,
    seed: int = 0,
) -> Sequence[Sampled]:
    """Return a reply to each prompt (text as `prompt_text` writes it), in order.

    Each token is the most likely one, or above temperature 0 drawn; equal seeds draw the same.
    """
    sampler = ModelSampler(model, wrapped(tokenizer))
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    drawn = sampler.draw(ids, most_tokens=max_tokens, temperature=temperature, seed=seed)
    return [
        Sampled(tokenizer.decode(said), said, fmean(draw.logprobs), draw.ended)
        for (draw,) in drawn
        for said in [list(draw.tokens[:-1] if draw.ended else draw.tokens)]
    ]
