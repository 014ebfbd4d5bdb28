"""The forward pass for drawing is transformers' to rounding, adapters too; the reserved cache bit for bit."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from studium.errors import ConfigurationError
from studium.train.config import Lora
from studium.train.learner import with_lora
from studium.train.rl.fast_forward import LlamaForward, drawn
from studium.train.rl.reserved_cache import reserved_cache

IDS = torch.tensor([[0, 0, 5, 6, 7], [3, 4, 5, 6, 7], [0, 9, 8, 7, 6]])
HIDDEN = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
SIZES: Any = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def by_steps(forward: Any, tokens: int) -> list[torch.Tensor]:
    """Logits behind the prompt and behind each of some further tokens, rows mixed and dropped on the way."""
    hidden = torch.cat([HIDDEN, torch.zeros(3, tokens, dtype=torch.bool)], 1)
    positions = ((~HIDDEN).cumsum(1) - 1).clamp(min=0)
    found = [forward.logits(IDS, positions, 0, hidden)]
    rows = torch.tensor([2, 0, 0, 1])
    forward.keep_rows(rows)
    hidden, place = hidden[rows], (~HIDDEN).sum(1)[rows]
    for at in range(tokens):
        found.append(forward.logits(torch.tensor([[11 + at]] * len(place)), place[:, None], 5 + at, hidden))
        place = place + 1
        if at == 1:
            stay = torch.tensor([0, 3])
            forward.keep_rows(stay)
            hidden, place = hidden[stay], place[stay]
    return found


class Plain:
    """transformers' forward with a cache of its own or ours."""

    def __init__(self, model: Any, cache: Any) -> None:
        self.model, self.cache = model, cache

    def logits(self, ids: Any, positions: Any, start: int, hidden: Any) -> torch.Tensor:
        seen = (~hidden[:, : start + ids.shape[1]]).long()
        out = self.model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        return out.logits[:, -1]

    def keep_rows(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)


@pytest.mark.parametrize("adapted", [False, True])
def test_logits_are_those_of_transformers(adapted: bool):
    model = llama()
    if adapted:
        model = with_lora(model, Lora(rank=3))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        model.eval()
    with torch.inference_mode():
        expected = by_steps(Plain(model, DynamicCache(config=model.config)), 4)
        found = by_steps(LlamaForward(model, 9), 4)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max()) < 1e-5


def test_a_reserved_cache_changes_no_bit():
    model = llama()
    with torch.inference_mode():
        expected = by_steps(Plain(model, DynamicCache(config=model.config)), 4)
        found = by_steps(Plain(model, reserved_cache(model.config, 9)), 4)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_model_it_does_not_know_is_refused():
    with pytest.raises(ConfigurationError, match=r"qwen2.*own"):
        LlamaForward(Qwen2ForCausalLM(Qwen2Config(**SIZES)), 9)


def test_tokens_are_drawn_as_often_as_they_are_likely_and_never_where_they_cannot_be():
    chances = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    tokens = drawn(chances.repeat(20_000, 1), torch.Generator().manual_seed(3))
    counts = torch.bincount(tokens, minlength=6)
    assert counts[[0, 2, 5]].tolist() == [0, 0, 0]
    assert (counts / 20_000).tolist() == pytest.approx(chances.tolist(), abs=0.012)
