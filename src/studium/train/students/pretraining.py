"""Supervised training of a small Llama from nothing: one loop, read downwards.

Matrices are trained with Muon (Jordan et al. 2024, in PyTorch), embeddings and norms with AdamW, both
with a linear warm-up and a cosine to a tenth of the peak, in fp32 (bf16 is slower at this size on a
processor), gradient norm clipped at 1. Most conversations are short, because a step is then cheaper
and learns as much; every eighth step has rows several times as long. A run writes checkpoints and goes
on from the last one; interrupted and resumed it gives the same weights, bit for bit, as a run in one
piece (tests/train/students/test_pretraining.py).
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.errors import ConfigurationError
from studium.train.students.stream import Rows, Stream

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

_LONG_EVERY = 8
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
    """How long and how fast a run learns. A step sees `rows` x `length` tokens; long rows are so many times as long.

    `matrix_rate` is Muon's peak rate, `other_rate` AdamW's. Measured with 0.4 M parameters: on lists
    of numbers the loss after 45 processor seconds was 0.59 with AdamW alone at 4e-3, 0.44 with Muon
    at 1.2e-2, 0.63 at 3e-2; on arithmetic, 290 seconds with 12 rows ended at 55 % on the highest
    level, 270 with 24 rows at 95 %.
    """

    steps: int
    rows: int = 22
    length: int = 176
    long_factor: int = 6
    matrix_rate: float = 1e-2
    other_rate: float = 4e-3
    warmup_steps: int = 50
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
        # At these widths the usual 0.02 starts attention so flat that lookups form late: on lists of
        # numbers the loss after 360 steps was 0.64 with 0.02, 0.51 with this, 0.68 with twice this.
        initializer_range=shape.width**-0.5,
        # For contexts of a thousand tokens; 10,000 gave 0.51 there and this 0.47.
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    return LlamaForCausalLM(config)


def rate(schedule: Schedule, step: int) -> float:
    """Return the fraction of the peak rates for a step, counted from 0."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return 0.1 + 0.45 * (1 + cos(pi * progress))


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
    optimizers = _optimizers(model, schedule)
    done = _resume(model, optimizers, schedule, checkpoint)
    step, tokens, seconds_before, loss = done.steps, done.tokens, done.seconds, done.loss
    started = time.process_time()
    reported = saved = time.monotonic()
    first_step = step
    model.train()
    try:
        while step < schedule.steps:
            number, length = _size_of_step(schedule, step)
            rows = stream.batch(step, rows=number, length=length)
            loss = _step(model, optimizers, rows, rate(schedule, step))
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
                _save(model, optimizers, schedule, so_far, checkpoint)
                saved = now
    finally:
        so_far = Trained(step, tokens, seconds_before + time.process_time() - started, loss)
        if checkpoint and first_step < step:
            _save(model, optimizers, schedule, so_far, checkpoint)
    model.eval()
    return so_far


def replies_of_step(stream: Stream, schedule: Schedule, step: int) -> set[str]:
    """Return every reply that a step of this schedule teaches."""
    rows, length = _size_of_step(schedule, step)
    return stream.replies(step, rows=rows, length=length)


def loss_of(model: "LlamaForCausalLM", rows: Rows) -> "torch.Tensor":
    """Return the mean loss over the trained tokens of a batch. Only their logits are computed."""
    import torch

    ids_RT = torch.tensor(rows.input_ids)
    labels_RT = torch.tensor(rows.labels)[:, 1:]
    hidden_RTW = model.model(input_ids=ids_RT, use_cache=False).last_hidden_state[:, :-1]
    trained_RT = labels_RT >= 0
    logits_NV = model.lm_head(hidden_RTW[trained_RT])
    return torch.nn.functional.cross_entropy(logits_NV, labels_RT[trained_RT])


def _optimizers(model: "LlamaForCausalLM", schedule: Schedule) -> Sequence["torch.optim.Optimizer"]:
    import torch

    named = [
        (name, weight, weight.ndim == 2 and "embed" not in name) for name, weight in model.named_parameters()
    ]
    matrices = [weight for _, weight, is_matrix in named if is_matrix]
    others = [weight for _, weight, is_matrix in named if not is_matrix]
    decay = schedule.weight_decay
    optimizers = (
        torch.optim.Muon(matrices, schedule.matrix_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, schedule.other_rate, betas=(0.9, 0.98), weight_decay=decay),
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _size_of_step(schedule: Schedule, step: int) -> tuple[int, int]:
    """Return how many rows a step has, and how long they are."""
    if step % _LONG_EVERY == _LONG_EVERY - 1:
        return max(1, schedule.rows // schedule.long_factor), schedule.length * schedule.long_factor
    return schedule.rows, schedule.length


def _step(
    model: "LlamaForCausalLM",
    optimizers: Sequence["torch.optim.Optimizer"],
    rows: Rows,
    fraction_of_peak: float,
) -> float:
    import torch

    loss = loss_of(model, rows)
    model.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * fraction_of_peak
        optimizer.step()
    return float(loss.detach())


def _save(
    model: "LlamaForCausalLM",
    optimizers: Sequence[Any],
    schedule: Schedule,
    so_far: Trained,
    checkpoint: Path,
) -> None:
    import torch

    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    part = checkpoint.with_suffix(".part")
    state = {"model": model.state_dict(), "optimizers": [each.state_dict() for each in optimizers]}
    torch.save({**state, "schedule": _identity(schedule), "so_far": tuple(so_far)}, part)
    part.replace(checkpoint)


def _resume(
    model: "LlamaForCausalLM", optimizers: Sequence[Any], schedule: Schedule, checkpoint: Path | None
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
    for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return Trained(*kept["so_far"])


def _identity(schedule: Schedule) -> str:
    return json.dumps(asdict(schedule), sort_keys=True)
