"""Stages of ours and plain TRL on the same rows: each function returns the largest differences it found.

The tests of the stages hold them to their bounds; `training_parity` prints them.

Axes: B rows, T targets.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import torch

from benchmarks.parity_mathematics import batch, rollouts
from studium.train.config import Optimiser, Source, Validation
from studium.train.data import rows_of
from studium.train.models import load
from studium.train.preferences.pairs import Pair, read_pairs, write_pairs
from studium.train.preflight.compute_checks import Stopping
from studium.train.rl.advantages import group_relative
from studium.train.rl.losses import clipped_surrogate, kl_estimate, policy_of
from studium.train.rl.rollouts import Group
from studium.train.run_folder import RunFolder
from studium.train.stages import dpo, rlvr, sft
from studium.train.trl_bridge import checkpointing_setting

NEW = Source(domain="sorting", rows=24, levels=(1,), seed=3)


class Apart(NamedTuple):
    """The largest difference of losses, of weights in the end (or gradients), and of DPO's chosen log-probabilities."""

    losses: float
    weights: float
    chosen: float = 0.0


def steps(path: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (path / name).read_bytes().splitlines()]


def weights(folder: Path | None) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    assert folder is not None
    return load_file(folder / "model.safetensors")


def largest(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((value - other[name]).abs().max()) for name, value in one.items())


def recipe(stage: Any, **changed: Any) -> Any:
    common = {
        "model": "sprout",
        "data": (NEW,),
        "batch": 8,
        "steps": 6,
        "optimiser": Optimiser(rate=1e-3, schedule="constant", warmup_steps=0),
        "validation": Validation(every_steps=0),
    }
    return stage.Options(**{**common, **changed})


def train(stage: Any, options: Any, path: Path) -> Path | None:
    return stage.run(options, RunFolder(path), lambda line: None).folder


def plain_settings(path: Path, number: int, rate: float) -> dict[str, Any]:
    return {
        "output_dir": str(path),
        "max_steps": number,
        "per_device_train_batch_size": 8,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "max_length": 512,
        "bf16": False,
        "use_cpu": True,
        checkpointing_setting(): False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
    }


def sft_and_trl(folder: Path) -> Apart:
    """Six steps of SFT, each row in the order ours took it."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    ours = train(sft, recipe(sft), folder / "ours")
    rows = {row.id: row for row in rows_of((NEW,))}
    order = [rows[row_id] for line in steps(folder / "ours", "rows.jsonl") for row_id, _ in line["rows"]]
    examples = [{"prompt": _asked(row), "completion": _said(row.completion)} for row in order]
    loaded = load("sprout")
    plain = SFTTrainer(
        loaded.model,
        args=SFTConfig(**plain_settings(folder / "plain", 6, 1e-3)),
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
    )
    return _trained(plain, loaded, ours, folder)


def dpo_and_trl(folder: Path, sft_share: float = 0.0) -> Apart:
    """Three steps of DPO on right solutions over ones whose answer is wrong by one."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    file = Source(file=str(write_wrong_by_one(folder)))
    options = recipe(
        dpo,
        data=(file,),
        steps=3,
        sft=sft_share,
        optimiser=Optimiser(rate=3e-4, schedule="constant", warmup_steps=0),
    )
    ours = train(dpo, options, folder / "ours")
    pairs = {pair.row.id: pair for pair in read_pairs((file,))}
    order = [pairs[row_id] for line in steps(folder / "ours", "rows.jsonl") for row_id, _ in line["rows"]]
    examples = [
        {"prompt": _asked(one.row), "chosen": _said(one.chosen), "rejected": _said(one.rejected)}
        for one in order
    ]
    loaded = load("sprout")
    terms: dict[str, Any] = (
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, sft_share]} if sft_share else {}
    )
    plain = DPOTrainer(
        loaded.model,
        ref_model=load("sprout").model,
        args=DPOConfig(beta=0.1, **plain_settings(folder / "plain", 3, 3e-4), **terms),
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
    )
    return _trained(plain, loaded, ours, folder)


def write_wrong_by_one(folder: Path) -> Path:
    """Write 24 pairs, and return the file."""
    made: list[Pair] = []
    for row in rows_of((Source(domain="arithmetic", rows=24, levels=(1,), seed=5),)):
        assert row.problem is not None
        wrong = f"Answer: {int(row.problem.expected) + 1}"
        made.append(Pair(row, row.completion.rpartition("\n")[0] + "\n" + wrong, margin=1.0))
    write_pairs(made, folder / "pairs.jsonl")
    return folder / "pairs.jsonl"


def grpo_and_trl(folder: Path, kl: float) -> Apart:
    """Loss and gradient of GRPO on the same fixed rollouts, off the policy that drew them; as losses and weights."""
    loaded = load("sprout")
    groups = rollouts()
    trainer = _grpo_trainer(folder, loaded)
    trainer.beta = kl
    advantages = [group_relative(group.rewards) for group in groups]
    fixed = batch(groups)
    old_BT, reference_BT = _shifted(fixed.trained_BT, 0.1), _shifted(fixed.trained_BT, 0.3)

    def ours() -> torch.Tensor:
        policy = policy_of(loaded.model, fixed.ids_BS, fixed.seen_BS)
        base = policy.logprobs_BT.detach()
        loss = clipped_surrogate(
            policy.logprobs_BT, base + old_BT, fixed.advantages_BT, clip_low=0.2, clip_high=0.2
        )
        loss = loss + kl * kl_estimate(policy.logprobs_BT, base + reference_BT)
        return (fixed.weights_BT * loss).sum()

    def theirs() -> torch.Tensor:
        inputs, base = _as_trl(groups, loaded.model)
        inputs["advantages"] = torch.tensor([one for group in advantages for one in group])
        spots = inputs["completion_mask"].bool()
        for name, shift in (("old_per_token_logps", old_BT), ("ref_per_token_logps", reference_BT)):
            moved = torch.zeros_like(base)
            moved[spots] = shift[fixed.trained_BT]
            inputs[name] = base + moved
        return trainer._compute_loss(loaded.model, inputs)

    one, other = ours(), theirs()
    mine, trl = _gradient(loaded.model, one), _gradient(loaded.model, other)
    assert float(trl.abs().max()) > 1e-3
    return Apart(abs(float(one.detach() - other.detach())), float((mine - trl).abs().max()))


def accumulated(folder: Path) -> Apart:
    """Six steps of SFT of eight rows at once, and eight times one."""
    whole = train(sft, recipe(sft), folder / "whole")
    parts = train(sft, recipe(sft, batch=1, accumulate=8), folder / "parts")
    return _same_steps(folder / "whole", folder / "parts", whole, parts)


def packed(folder: Path) -> Apart:
    """Six steps of SFT padded, and laid end to end."""
    from studium.train.trl_bridge import Compute

    padded = train(sft, recipe(sft), folder / "padded")
    made = train(sft, recipe(sft, compute=Compute(packing=True)), folder / "packed")
    return _same_steps(folder / "padded", folder / "packed", padded, made)


def resumed(folder: Path, stage: Any) -> Apart:
    """Four steps at once, and two, a stop and two more."""
    changed: dict[str, Any] = {"steps": 4, "save_every_s": 0.0}
    if stage is rlvr:
        changed |= {"data": (Source(domain="sorting", rows=24, levels=(2,), teach="prompts"),), "batch": 4}
        changed |= {"max_tokens": 128}
    if stage is dpo:
        changed |= {"data": (Source(file=str(write_wrong_by_one(folder))),)}
    whole = train(stage, recipe(stage, **changed), folder / "whole")
    assert (
        stage.run(recipe(stage, **changed), Stopping(folder / "parts", 2), lambda line: None).folder is None
    )
    parts = train(stage, recipe(stage, **changed), folder / "parts")
    return _same_steps(folder / "whole", folder / "parts", whole, parts)


def _same_steps(one: Path, other: Path, first: Path | None, second: Path | None) -> Apart:
    pairs = zip(steps(one), steps(other), strict=True)
    return Apart(max(abs(a["loss"] - b["loss"]) for a, b in pairs), largest(weights(first), weights(second)))


def _trained(plain: Any, loaded: Any, ours: Path | None, folder: Path) -> Apart:
    plain.train()
    told = [line for line in plain.state.log_history if "loss" in line]
    loaded.model.save_pretrained(folder / "theirs")
    pairs = list(zip(steps(folder / "ours"), told, strict=True))
    losses = max(abs(line["loss"] - other["loss"]) for line, other in pairs)
    chosen = max(
        abs(line.get("chosen_logprob", 0.0) - other.get("logps/chosen", 0.0)) for line, other in pairs
    )
    return Apart(losses, largest(weights(ours), weights(folder / "theirs")), chosen)


def _grpo_trainer(folder: Path, loaded: Any) -> Any:
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        loss_type="grpo",
        beta=0.0,
        use_bias_correction_kl=False,  # k3 as published
        epsilon=0.2,
        bf16=False,
        use_cpu=True,
        report_to=[],
        num_generations=3,
        per_device_train_batch_size=6,
    )
    return GRPOTrainer(
        loaded.model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=loaded.tokenizer,
    )


def _shifted(trained_BT: torch.Tensor, size: float) -> torch.Tensor:
    torch.manual_seed(int(size * 10))
    return size * torch.randn(trained_BT.shape)


def _gradient(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([one.grad.flatten().clone() for one in model.parameters() if one.grad is not None])


def _as_trl(groups: Sequence[Group], model: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The rollouts as TRL holds them: prompts padded on the left, completions on the right, apart."""
    rows = [(list(group.prompt), list(draw.tokens)) for group in groups for draw in group.draws]
    left, right = max(len(one) for one, _ in rows), max(len(one) for _, one in rows)
    inputs = {
        "prompt_ids": torch.tensor([[0] * (left - len(one)) + one for one, _ in rows]),
        "prompt_mask": torch.tensor([[0] * (left - len(one)) + [1] * len(one) for one, _ in rows]),
        "completion_ids": torch.tensor([one + [0] * (right - len(one)) for _, one in rows]),
        "completion_mask": torch.tensor([[1] * len(one) + [0] * (right - len(one)) for _, one in rows]),
    }
    base = torch.zeros(len(rows), right)
    with torch.no_grad():
        for row, (prompt, completion) in enumerate(rows):
            ids = torch.tensor([prompt + completion])
            alone = policy_of(model, ids, torch.ones_like(ids, dtype=torch.bool)).logprobs_BT[0]
            base[row, : len(completion)] = alone[len(prompt) - 1 :]
    return inputs, base


def _asked(row: Any) -> list[dict[str, str]]:
    return [{"role": one.role, "content": one.content} for one in row.messages]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
