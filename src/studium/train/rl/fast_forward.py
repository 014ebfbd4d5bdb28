"""A forward pass for drawing replies from a Llama: joined projections, a reserved cache, no more than one token needs.

For `draws.sampler: fast`. Queries, keys and values are one product and so are gate and up; a low-rank adapter is added
to the weights first. It agrees with transformers' forward to rounding (tests/train/rl/test_fast_forward.py), not bit
for bit, so a seed draws other replies than with `own`.

Axes: B rows, T positions, S cache slots, W width, H heads, D a head's width, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from studium.errors import ConfigurationError


class _Layer(NamedTuple):
    norm_W: Tensor
    joined: Tensor
    output: Tensor
    second_norm_W: Tensor
    gate_up: Tensor
    down: Tensor


class LlamaForward:
    """A Llama's weights, joined, and a cache of `slots` tokens a row. Raises ConfigurationError for other models."""

    def __init__(self, model: Any, slots: int) -> None:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = inner.config
        if config.model_type != "llama" or config.attention_bias or config.mlp_bias:
            raise ConfigurationError(
                f"the sampler fast does not know a {config.model_type} like this",
                expected="a Llama without biases",
                try_next="draws.sampler: own",
            )
        body = inner.model
        self._slots, self._eps = slots, config.rms_norm_eps
        self._key_heads = config.num_key_value_heads
        self._heads = config.num_attention_heads
        self._embedding = body.embed_tokens.weight
        self._norm_W, self._top = body.norm.weight, inner.lm_head.weight
        self._layers = [_layer(one) for one in body.layers]
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._filled = 0
        places = torch.arange(slots, device=self._embedding.device)[None]
        cos_BSD, sin_BSD = body.rotary_emb(self._embedding, places)
        half = cos_BSD.shape[-1] // 2
        self._cos_SD, self._sin_SD = cos_BSD[0, :, :half], sin_BSD[0, :, :half]

    def logits(self, ids_BT: Tensor, positions_BT: Tensor, start: int, hidden_BS: Tensor) -> Tensor:
        """Return the logits behind the last of the tokens, (B, V), and keep their keys and values."""
        rows, width = ids_BT.shape
        mask = _mask(hidden_BS, start, width)
        cos, sin = self._cos_SD[positions_BT][:, :, None], self._sin_SD[positions_BT][:, :, None]
        state_BTW = functional.embedding(ids_BT, self._embedding)
        self._filled = start + width
        for number, layer in enumerate(self._layers):
            normed = self._normed(state_BTW, layer.norm_W)
            heads_BTHD = functional.linear(normed, layer.joined).view(
                rows, width, self._heads + 2 * self._key_heads, -1
            )
            turned = _turned(heads_BTHD[:, :, : -self._key_heads], cos, sin)
            queries, keys = turned[:, :, : self._heads], turned[:, :, self._heads :]
            keys, values = self._kept(number, start, keys, heads_BTHD[:, :, -self._key_heads :])
            seen = functional.scaled_dot_product_attention(
                queries.transpose(1, 2),
                keys,
                values,
                attn_mask=mask,
                enable_gqa=self._heads != self._key_heads,
            )
            state_BTW = state_BTW + functional.linear(seen.transpose(1, 2).flatten(2), layer.output)
            normed = self._normed(state_BTW, layer.second_norm_W)
            gate, up = functional.linear(normed, layer.gate_up).chunk(2, -1)
            state_BTW = state_BTW + functional.linear(functional.silu(gate) * up, layer.down)
        return functional.linear(self._normed(state_BTW[:, -1], self._norm_W), self._top).float()

    def keep_rows(self, rows: Tensor) -> None:
        """Keep the cache of these rows, in this order; a row may come several times."""
        for held in (self._keys, self._values):
            for number, one in enumerate(held):
                chosen = one.new_empty((len(rows), *one.shape[1:]))
                chosen[:, :, : self._filled] = one[rows, :, : self._filled]
                held[number] = chosen

    def _normed(self, state: Tensor, weight_W: Tensor) -> Tensor:
        return functional.rms_norm(state, (state.shape[-1],), weight_W, self._eps)

    def _kept(self, number: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put new keys and values behind those of a layer; return all of them, (B, H, S, D)."""
        rows, width, _, size = keys.shape
        if number == len(self._keys):
            self._keys.append(keys.new_empty((rows, self._key_heads, self._slots, size)))
            self._values.append(values.new_empty((rows, self._key_heads, self._slots, size)))
        end = start + width
        self._keys[number][:, :, start:end] = keys.transpose(1, 2)
        self._values[number][:, :, start:end] = values.transpose(1, 2)
        return self._keys[number][:, :, :end], self._values[number][:, :, :end]


def drawn(chances_BV: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a token per row: one random number each, where `multinomial` takes one per entry of the vocabulary."""
    sums_BV = chances_BV.cumsum(-1)
    at_B1 = torch.rand(len(sums_BV), 1, generator=generator, device=sums_BV.device) * sums_BV[:, -1:]
    return torch.searchsorted(sums_BV, at_B1, right=True)[:, 0].clamp(max=sums_BV.shape[-1] - 1)


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        layer.input_layernorm.weight,
        torch.cat([_weight(attention.q_proj), _weight(attention.k_proj), _weight(attention.v_proj)]),
        _weight(attention.o_proj),
        layer.post_attention_layernorm.weight,
        torch.cat([_weight(mlp.gate_proj), _weight(mlp.up_proj)]),
        _weight(mlp.down_proj),
    )


def _weight(linear: Any) -> Tensor:
    """Return a projection's weight, with what a low-rank adapter adds to it."""
    if not hasattr(linear, "get_delta_weight"):
        return linear.weight
    weight: Tensor = linear.base_layer.weight
    for name in linear.active_adapters:
        weight = weight + linear.get_delta_weight(name)
    return weight


def _turned(heads_BTHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate by position as transformers does: the first half of a head against the second."""
    one, other = heads_BTHD.chunk(2, -1)
    return torch.cat([one * cos - other * sin, other * cos + one * sin], -1)


def _mask(hidden_BS: Tensor, start: int, width: int) -> Tensor | None:
    """Return which slots each position may see, (B, 1, T, S); None where it is all of them."""
    hidden_BS = hidden_BS[:, : start + width]
    if width == 1:
        return ~hidden_BS[:, None, None] if bool(hidden_BS.any()) else None
    earlier_TS = torch.ones(width, start + width, dtype=torch.bool, device=hidden_BS.device).tril(start)
    seen = earlier_TS & ~hidden_BS[:, None]
    # Padding sees itself, so that nothing in the cache is "not a number".
    own_TS = torch.zeros_like(earlier_TS)
    own_TS.diagonal(start).fill_(True)
    return (seen | own_TS)[:, None]
