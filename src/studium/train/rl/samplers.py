"""Where replies are drawn from: a plug. The learner sees tokens and log-probabilities, not whose they are.

Other samplers: `generating` (transformers' own `generate`), `llamacpp_sampler` (a worker of llama.cpp), `http_sampler`
(any OpenAI-shaped server); `choosing` takes the one a recipe names. `ModelSampler` draws from the model under training,
many replies at a time with a key-value cache; the prompts' part is computed once per prompt, and rows that have ended
leave the batch. Log-probabilities are those of the distribution drawn from, that is, of logits divided by the
temperature.

Axes: B rows, T positions, S cache slots, V vocabulary.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

UNKNOWN = float("nan")
# Fewer live rows than this share, and the finished ones are dropped from the caches.
_COMPACT_BELOW = 0.7


class Draw(NamedTuple):
    """One reply: its tokens, the one that ended it last, their log-probabilities, and whether it ended by itself.

    A log-probability is NaN where the sampler did not tell it; there may be none at all.
    """

    tokens: Sequence[int]
    logprobs: Sequence[float]
    ended: bool


class Sampler(Protocol):
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
        """Return `each` replies to every prompt; equal seeds draw the same. Temperature 0 takes the likeliest token.

        A reply ends with the end token or one of `stops`, which it holds, or is cut off after `most_tokens`.
        """
        ...


def cut(tokens: Sequence[int], logprobs: Sequence[float], ends: frozenset[int]) -> Draw:
    """Return a reply cut off behind the first token that ends it; log-probabilities not told are NaN."""
    over = next((at for at, token in enumerate(tokens) if token in ends), None)
    length = len(tokens) if over is None else over + 1
    known = logprobs[:length]
    return Draw(tokens[:length], [*known, *[UNKNOWN] * (length - len(known))], over is not None)


class Elsewhere(Sampler, Protocol):
    """A sampler with weights of its own: they lag behind the policy's, and its arithmetic differs a little.

    What it draws is learned from with the policy's own log-probabilities and a correction (`engine`).
    """

    def follow(self, step: int) -> None:
        """Bring its weights up to date where that is due before `step`; may start a process, blocks."""
        ...

    def distrust(self) -> bool:
        """Have its weights brought up to date before the next draw; False where that cannot help."""
        ...

    def close(self) -> None:
        """End what it started."""
        ...


class ModelSampler:
    """Draws from a model in memory; at most `rows` replies at a time.

    `fast` takes `fast_forward` in place of the model's own forward pass: a Llama only, and other replies for a seed.
    """

    def __init__(
        self, model: Any, tokenizer: "PreTrainedTokenizerBase", *, rows: int = 256, fast: bool = False
    ) -> None:
        self._model = model
        self._rows = rows
        self._fast = fast
        assert isinstance(tokenizer.eos_token_id, int)
        self._end = tokenizer.eos_token_id

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

        device = self._model.device
        generator = torch.Generator(device=device).manual_seed(seed)
        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        at_once = max(1, self._rows // each)
        found: dict[int, list[Draw]] = {}
        training = self._model.training
        self._model.eval()
        # The mode looks at every operation, which on a processor would only cost.
        elsewhere = torch.device(device) if device.type != "cpu" else nullcontext()
        with torch.inference_mode(), elsewhere:
            for first in range(0, len(order), at_once):
                chosen = order[first : first + at_once]
                chosen_prompts = [prompts[at] for at in chosen]
                batch = _Batch(chosen_prompts, each, most_tokens, temperature, generator, fast=self._fast)
                drawn = batch.run(self._forward(batch.slots), stops | {self._end})
                found.update((at, drawn[row * each : (row + 1) * each]) for row, at in enumerate(chosen))
        self._model.train(training)
        return [found[at] for at in range(len(prompts))]

    def _forward(self, slots: int) -> Any:
        if not self._fast:
            return _Forward(self._model, slots)
        from studium.train.rl.fast_forward import LlamaForward

        return LlamaForward(self._model, slots)


class _Batch:
    """Prompts padded on the left, and the replies that grow behind them."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        each: int,
        most_tokens: int,
        temperature: float,
        generator: "torch.Generator",
        *,
        fast: bool,
    ) -> None:
        self.fast = fast
        self.prompts, self.each, self.most_tokens = prompts, each, most_tokens
        self.temperature, self.generator = temperature, generator
        self.longest = max(map(len, prompts))
        self.slots = self.longest + most_tokens

    def run(self, forward: Any, stops: frozenset[int]) -> list[Draw]:
        import torch

        hidden_BS, ids_BT, positions_BT = self._padded()
        logits_BV = forward.logits(ids_BT, positions_BT, 0, hidden_BS)
        number = len(self.prompts) * self.each
        spread = torch.arange(len(self.prompts)).repeat_interleave(self.each)
        forward.keep_rows(spread)
        logits_BV, hidden_BS = logits_BV[spread], hidden_BS[spread]
        next_position_B = torch.tensor([len(one) for one in self.prompts])[spread]
        tokens_BT = torch.zeros(number, self.most_tokens, dtype=torch.long)
        logprobs_BT = torch.zeros(number, self.most_tokens)
        lengths_B = torch.full((number,), self.most_tokens)
        ended_B = torch.zeros(number, dtype=torch.bool)
        stop_ids = torch.tensor(sorted(stops))
        live = torch.arange(number)
        for at in range(self.most_tokens):
            chosen_B, logprob_B = self._choose(logits_BV)
            over_B = ended_B[live]
            going = live[~over_B]
            tokens_BT[going, at], logprobs_BT[going, at] = chosen_B[~over_B], logprob_B[~over_B]
            stopped = going[torch.isin(chosen_B[~over_B], stop_ids)]
            ended_B[stopped], lengths_B[stopped] = True, at + 1
            over_B = ended_B[live]
            if bool(over_B.all()) or at + 1 == self.most_tokens:
                break
            if float((~over_B).sum()) < _COMPACT_BELOW * len(live):
                stay = (~over_B).nonzero()[:, 0]
                forward.keep_rows(stay)
                live, chosen_B, hidden_BS = live[stay], chosen_B[stay], hidden_BS[stay]
                next_position_B = next_position_B[stay]
            logits_BV = forward.logits(
                chosen_B[:, None], next_position_B[:, None], self.longest + at, hidden_BS
            )
            next_position_B = next_position_B + 1
        rows = zip(
            tokens_BT.tolist(), logprobs_BT.tolist(), lengths_B.tolist(), ended_B.tolist(), strict=True
        )
        return [Draw(tokens[:n], logprobs[:n], ended) for tokens, logprobs, n, ended in rows]

    def _padded(self) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        import torch

        hidden_BS = torch.zeros(len(self.prompts), self.slots, dtype=torch.bool)
        ids = []
        for row, prompt in enumerate(self.prompts):
            gap = self.longest - len(prompt)
            hidden_BS[row, :gap] = True
            ids.append([0] * gap + list(prompt))
        positions_BT = ((~hidden_BS[:, : self.longest]).cumsum(1) - 1).clamp(min=0)
        return hidden_BS, torch.tensor(ids), positions_BT

    def _choose(self, logits_BV: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        import torch

        logprobs_BV = (logits_BV / (self.temperature or 1.0)).log_softmax(-1)
        if self.temperature == 0.0:
            chosen_B = logprobs_BV.argmax(-1)
        elif self.fast:
            from studium.train.rl.fast_forward import drawn

            chosen_B = drawn(logprobs_BV.exp(), self.generator)
        else:
            chosen_B = torch.multinomial(logprobs_BV.exp(), 1, generator=self.generator)[:, 0]
        return chosen_B, logprobs_BV.gather(1, chosen_B[:, None])[:, 0]


class _Forward:
    """A causal model of transformers with its cache, which holds `slots` tokens a row."""

    def __init__(self, model: Any, slots: int) -> None:
        from studium.train.rl.reserved_cache import reserved_cache

        self._model = model
        self._cache = reserved_cache(model.config, slots)

    def logits(
        self, ids_BT: "torch.Tensor", positions_BT: "torch.Tensor", start: int, hidden_BS: "torch.Tensor"
    ) -> "torch.Tensor":
        seen_BS = (~hidden_BS[:, : start + ids_BT.shape[1]]).long()
        out = self._model(
            input_ids=ids_BT,
            attention_mask=seen_BS,
            position_ids=positions_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def keep_rows(self, rows: "torch.Tensor") -> None:
        self._cache.batch_select_indices(rows)
