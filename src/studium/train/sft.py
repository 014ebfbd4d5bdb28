"""Supervised training of a small Llama from nothing: one loop, read downwards.

AdamW with a linear warm-up and a cosine to a tenth of the peak, fp32 (bf16 is slower at this size on
a processor), gradient norm clipped at 1. The first part of a run has one question per row: finding
the numbers of the question is learnt several times sooner where no others are about. Conversations
follow, every tenth four times longer in a quarter of the rows. A run writes checkpoints and
goes on from the last one; interrupted and resumed it gives the same weights, bit for bit, as a run
in one piece (tests/train/test_sft.py).
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.errors import ConfigurationError
from studium.train.stream import Rows, Stream

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

_LONG_EVERY = 10
_LONG_FACTOR = 4
_REPORT_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a Llama with tied embeddings: width, layers, heads, and the inner width of its MLP."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    context_tokens: int = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a run learns.

    A step sees `single_rows` single questions in the first `single_share` of the steps, 0 to 1, and
    `rows` x `length` tokens of conversation afterwards.
    """

    steps: int
    single_share: float = 0.7
    single_rows: int = 24
    rows: int = 8
    length: int = 256
    peak_rate: float = 4e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_every_s: float = 60.0


class Trained(NamedTuple):
    """What a run cost and where it ended. `seconds` is processor time, resumed parts included."""

    steps: int
    tokens: int
    seconds: float
    loss: float


def new_model(shape: Shape, *, seed: int) -> "LlamaForCausalLM":
    """Return an untrained model; equal seeds give equal weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=shape.context_tokens,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def rate(schedule: Schedule, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    if step < schedule.warmup_steps:
        return schedule.peak_rate * (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.peak_rate * (0.1 + 0.45 * (1 + cos(pi * progress)))


def train(
    model: "LlamaForCausalLM",
    stream: Stream,
    schedule: Schedule,
    *,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Trained:
    """Train `model` in place to the end of its schedule, going on from `checkpoint` where there is one.

    Blocks; Ctrl-C writes the checkpoint and raises KeyboardInterrupt. Raises ConfigurationError where
    the checkpoint belongs to another schedule.
    """
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.peak_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    done = _resume(model, optimizer, schedule, checkpoint)
    step, tokens, seconds_before, loss = done.steps, done.tokens, done.seconds, done.loss
    started = time.process_time()
    reported = saved = time.monotonic()
    first_step = step
    model.train()
    try:
        while step < schedule.steps:
            rows = _rows_of_step(stream, schedule, step)
            loss = _step(model, optimizer, rows, rate(schedule, step))
            step += 1
            tokens += len(rows.input_ids) * len(rows.input_ids[0])
            now = time.monotonic()
            if now - reported >= _REPORT_EVERY_S or step == schedule.steps:
                spent = time.process_time() - started
                left = spent / (step - first_step) * (schedule.steps - step)
                say(f"step {step}/{schedule.steps}  loss {loss:.4f}  {spent:.0f} s, about {left:.0f} s left")
                reported = now
            if checkpoint and now - saved >= schedule.checkpoint_every_s:
                so_far = Trained(step, tokens, seconds_before + time.process_time() - started, loss)
                _save(model, optimizer, schedule, so_far, checkpoint)
                saved = now
    finally:
        so_far = Trained(step, tokens, seconds_before + time.process_time() - started, loss)
        if checkpoint and first_step < step:
            _save(model, optimizer, schedule, so_far, checkpoint)
    model.eval()
    return so_far


def loss_of(model: "LlamaForCausalLM", rows: Rows) -> "torch.Tensor":
    """Return the mean loss over the trained tokens of a batch. Only their logits are computed."""
    import torch

    ids_RT = torch.tensor(rows.input_ids)
    labels_RT = torch.tensor(rows.labels)[:, 1:]
    hidden_RTW = model.model(input_ids=ids_RT, use_cache=False).last_hidden_state[:, :-1]
    trained_RT = labels_RT >= 0
    logits_NV = model.lm_head(hidden_RTW[trained_RT])
    return torch.nn.functional.cross_entropy(logits_NV, labels_RT[trained_RT])


def _rows_of_step(stream: Stream, schedule: Schedule, step: int) -> Rows:
    if step < schedule.single_share * schedule.steps:
        return stream.singles(step, rows=schedule.single_rows)
    if step % _LONG_EVERY == _LONG_EVERY - 1:
        rows = max(1, schedule.rows // _LONG_FACTOR)
        return stream.batch(step, rows=rows, length=schedule.length * _LONG_FACTOR)
    return stream.batch(step, rows=schedule.rows, length=schedule.length)


def _step(
    model: "LlamaForCausalLM", optimizer: "torch.optim.Optimizer", rows: Rows, learning_rate: float
) -> float:
    import torch

    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    loss = loss_of(model, rows)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _save(
    model: "LlamaForCausalLM", optimizer: Any, schedule: Schedule, so_far: Trained, checkpoint: Path
) -> None:
    import torch

    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    part = checkpoint.with_suffix(".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "schedule": _identity(schedule), "so_far": tuple(so_far)}, part)
    part.replace(checkpoint)


def _resume(
    model: "LlamaForCausalLM", optimizer: Any, schedule: Schedule, checkpoint: Path | None
) -> Trained:
    import torch

    if checkpoint is None or not checkpoint.exists():
        return Trained(0, 0, 0.0, float("nan"))
    kept = torch.load(checkpoint, weights_only=True)
    if kept["schedule"] != _identity(schedule):
        raise ConfigurationError(
            f"the checkpoint {checkpoint.name} belongs to another schedule: {kept['schedule']}",
            expected=_identity(schedule),
            try_next="train into another folder, or remove the checkpoint to begin anew",
        )
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    return Trained(*kept["so_far"])


def _identity(schedule: Schedule) -> str:
    return json.dumps(asdict(schedule), sort_keys=True)
