"""One side of `training_speed` in a process of its own: Studium's stage or plain TRL, the same work, measured.

`python -m benchmarks.training_sides '{"side": "ours", "task": "sft", ...}'` prints one line of JSON: seconds of every
step after the first, seconds of its rollouts, tokens, and the peak memory of it and its worker. Seconds are those of
the processor, workers' included, on one thread: on a busy machine the clock on the wall measures the others. A reward
is made of a reply's text, so that every group has a spread and no side draws again.
"""

import json
import os
import resource
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from studium.train.surroundings import quiet

LEVELS, RATE = (2, 3), 1e-4
SAMPLERS = {"ours": "own", "ours, fast": "fast", "ours, llama.cpp": "llamacpp"}


@dataclass(frozen=True, slots=True)
class Work:
    """What both sides do: `steps` steps of `batch` rows, or of `batch` groups of `each` replies of `most_tokens`."""

    side: str
    task: str
    model: str
    folder: str
    steps: int = 6
    batch: int = 8
    each: int = 8
    most_tokens: int = 64
    bf16: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of each step but the first, of the draws within, tokens trained on or drawn in them, peak bytes."""

    step_s: Sequence[float]
    draw_s: Sequence[float]
    tokens: Sequence[int]
    peak_bytes: int
    gpu_peak_bytes: int = 0


class Clock:
    """Remembers when steps ended, what was drawn in between and how long that took."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.draws: list[float] = []
        self.tokens: list[int] = []
        self._draw_s, self._tokens = 0.0, 0
        self._worker_peak = 0

    def drew(self, seconds: float, tokens: int) -> None:
        self._draw_s += seconds
        self._tokens += tokens

    def step(self) -> None:
        self.ends.append(seconds())
        held = sum(one.memory_info().rss for one in psutil.Process().children())
        self._worker_peak = max(self._worker_peak, held)
        self.draws.append(self._draw_s)
        self.tokens.append(self._tokens)
        self._draw_s, self._tokens = 0.0, 0

    def measured(self) -> Measured:
        steps = [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Measured(steps, self.draws[1:], self.tokens[1:], peak + self._worker_peak, _gpu_peak())


def seconds() -> float:
    """Return the processor seconds of this process and its workers; the wall's where a GPU does the work."""
    if _on_gpu():
        return time.perf_counter()
    workers = 0.0
    for one in psutil.Process().children():
        spent = one.cpu_times()
        workers += spent.user + spent.system
    return time.process_time() + workers


def main() -> None:
    quiet()
    work = Work(**json.loads(sys.argv[1]))
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    clock = Clock()
    {"sft": _sft, "grpo": _grpo}[work.task](work, clock)
    print(json.dumps(asdict(clock.measured())))


def reward_of(text: str) -> float:
    """Return a number between 0 and 1 that depends on nothing but the text."""
    return zlib.crc32(text.encode()) % 1000 / 999


def _sft(work: Work, clock: Clock) -> None:
    _our_sft(work, clock) if work.side in SAMPLERS else _trl_sft(work, clock)


def _grpo(work: Work, clock: Clock) -> None:
    _our_grpo(work, clock) if work.side in SAMPLERS else _trl_grpo(work, clock)


def _common(work: Work) -> dict[str, Any]:
    from studium.train.config import Optimiser, Source, Validation, Watch

    teach = "solutions" if work.task == "sft" else "prompts"
    return {
        "model": work.model,
        "data": (Source(domain="chains", levels=LEVELS, rows=256, teach=teach),),
        "batch": work.batch,
        "steps": work.steps,
        "optimiser": Optimiser(rate=RATE, schedule="constant", warmup_steps=0),
        "validation": Validation(every_steps=0),
        "watch": Watch(act="advise"),
        "save_every_s": 3600.0,
    }


def _our_sft(work: Work, clock: Clock) -> None:
    from studium.train.run_folder import RunFolder
    from studium.train.stages import sft
    from studium.train.trl_bridge import Compute

    options = sft.Options(**_common(work), compute=Compute(bf16=work.bf16))
    plain = sft.SftLoss.parts

    def parts(self: Any, fresh: Any, old: Any, told: Any) -> Any:
        clock.drew(0.0, sum(len(row.ids) for row in [*fresh, *old]))
        return plain(self, fresh, old, told)

    sft.SftLoss.parts = parts
    _watched(clock)
    sft.run(options, RunFolder(Path(work.folder) / "ours"), lambda line: None)


def _our_grpo(work: Work, clock: Clock) -> None:
    from studium.train.rl.options import Draws, RlRecipe, Server
    from studium.train.rl.rollouts import Roller
    from studium.train.rl.running import policy_run
    from studium.train.run_folder import RunFolder

    draws = Draws(
        each=work.each,
        most_tokens=work.most_tokens,
        most_rounds=1,
        least_spread=0.0,
        sampler=SAMPLERS[work.side],
        server=Server(at_once=32),
    )
    options = RlRecipe(**_common(work), draws=draws)
    plain = Roller.draw

    def draw(self: Any, *arguments: Any, **options: Any) -> Any:
        started = seconds()
        groups = plain(self, *arguments, **options)
        tokens = sum(len(one.tokens) for group in groups for one in group.draws)
        clock.drew(seconds() - started, tokens)
        return groups

    Roller.draw = draw
    _watched(clock)
    folder = RunFolder(Path(work.folder) / "ours")
    reward: Any = lambda row, text, ended: reward_of(text)  # noqa: E731
    policy_run("rlvr", options, folder, lambda line: None, reward=reward, at_line=False)


def _watched(clock: Clock) -> None:
    """Note the end of every step of ours, all that is written down included."""
    from studium.train.course import Course

    plain = Course.record

    def record(self: Any, done: Any) -> None:
        plain(self, done)
        clock.step()

    Course.record = record


def _trl_settings(work: Work) -> dict[str, Any]:
    import torch

    return {
        "output_dir": str(Path(work.folder) / "trl"),
        "max_steps": work.steps,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "bf16": work.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _rows(work: Work) -> list[Any]:
    from studium.train.data import rows_of

    return list(rows_of(_common(work)["data"]))


def _trl_sft(work: Work, clock: Clock) -> None:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from studium.train.models import load

    loaded = load(work.model)
    examples = [{"prompt": _asked(row), "completion": _said(row)} for row in _rows(work)]
    trainer: Any = SFTTrainer(
        loaded.model,
        args=SFTConfig(per_device_train_batch_size=work.batch, max_length=512, **_trl_settings(work)),
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
        callbacks=[_ticking(clock)],
    )
    collate = trainer.data_collator

    def counted(rows: Any) -> Any:
        made = collate(rows)
        # Batches are made one ahead: a step's count is off by a row's length at most.
        clock.drew(0.0, int(made["attention_mask"].sum()))
        return made

    trainer.data_collator = counted
    trainer.train()


def _trl_grpo(work: Work, clock: Clock) -> None:
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from studium.train.models import load

    loaded = load(work.model)
    config = GRPOConfig(
        per_device_train_batch_size=work.batch * work.each,
        num_generations=work.each,
        max_completion_length=work.most_tokens,
        temperature=1.0,
        beta=0.0,
        loss_type="grpo",
        **_trl_settings(work),
    )
    trainer: Any = GRPOTrainer(
        loaded.model,
        reward_funcs=lambda completions, **_: [reward_of(one[0]["content"]) for one in completions],
        args=config,
        train_dataset=Dataset.from_list([{"prompt": _asked(row)} for row in _rows(work)]),
        processing_class=loaded.tokenizer,
        callbacks=[_ticking(clock)],
    )
    generate = trainer._generate

    def timed(prompts: Any) -> Any:
        started = seconds()
        made = generate(prompts)
        clock.drew(seconds() - started, sum(len(one) for one in made[1]))
        return made

    trainer._generate = timed
    trainer.train()


def _ticking(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Ticking(TrainerCallback):
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            clock.step()

    return Ticking()


def _asked(row: Any) -> list[Mapping[str, str]]:
    return [{"role": one.role, "content": one.content} for one in row.messages]


def _said(row: Any) -> list[Mapping[str, str]]:
    return [{"role": "assistant", "content": row.completion}]


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpu_peak() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if _on_gpu() else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
