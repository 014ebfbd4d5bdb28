"""Training here against plain TRL at the same settings: tokens/s, rollouts/s, step time and peak memory, side by side.

Random-weight Llamas of about 1 and 5 million parameters, in fp32 on one thread, and the embedded student sprout, whose
replies end by themselves. SFT takes batches of 16 rows; GRPO 8 groups of 8 replies of at most 64 tokens, temperature 1.
Each side runs in a process of its own, by turns, several times; a ratio is taken per turn. Seconds are the processor's
(`benchmarks.training_sides`). "ours" is the default sampler, the others are named as `draws.sampler` names them.
`--gpu` takes a model of 0.5 billion parameters in bf16 where there is a GPU, and gives the share of the card's matrix
rate as it is measured there; without one it shows that the path runs, at small size.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.report import REPOSITORY, Aim, Report, emit, say
from benchmarks.training_sides import Measured, Work

SEED = 12
MIB = 2**20
SIDE_S = 400
OURS, FAST, LLAMA_CPP, TRL = "ours", "ours, fast", "ours, llama.cpp", "TRL"


class Size(NamedTuple):
    """The shape of a random-weight Llama."""

    name: str
    width: int
    layers: int
    heads: int
    feed_forward: int
    kv_heads: int = 0


SIZES = (Size("1 M", 128, 5, 4, 320), Size("5 M", 256, 7, 8, 640))
SPROUT = Size("sprout (ends by itself)", 0, 0, 0, 0)
GPU_SIZE = Size("0.5 B", 1024, 28, 16, 3072, 8)


class Sides(NamedTuple):
    """What the sides measured, turn by turn."""

    work: str
    size: str
    turns: Mapping[str, Sequence[Measured]]


def write_random_llama(size: Size, folder: Path) -> str:
    """Write a random-weight Llama with the students' tokenizer to a folder, and return what it is loaded by."""
    if not size.width:
        return "sprout"
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from studium.train.models import Loaded, save, wrapped
    from studium.train.tokenizer import END, PAD, student_tokenizer, token_id

    tokenizer = student_tokenizer()
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads or size.heads,
        intermediate_size=size.feed_forward,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=pad,
    )
    save(Loaded(LlamaForCausalLM(config).eval(), wrapped(tokenizer), "random"), folder)
    return str(folder)


def turns(works: Sequence[Work], number: int, folder: Path) -> dict[str, list[Measured]]:
    """Run the sides by turns, first one then another first; return what each measured."""
    found: dict[str, list[Measured]] = {one.side: [] for one in works}
    for turn in range(number):
        order = works if turn % 2 == 0 else list(reversed(works))
        for work in order:
            found[work.side].append(
                _side(work, folder / f"{len(found)}-{list(found).index(work.side)}-{turn}")
            )
    return found


def _side(work: Work, folder: Path) -> Measured:
    told = json.dumps({**asdict(work), "folder": str(folder)})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_sides", told],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=SIDE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{work.side}, {work.task}: {done.stderr[-2000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _tokens_s(one: Measured) -> float:
    return sum(one.tokens) / sum(one.step_s)


def _rollouts_s(one: Measured, replies: int) -> float:
    return replies * len(one.draw_s) / sum(one.draw_s)


def _row(sides: Sides, side: str, replies: int) -> dict[str, Any]:
    measured = sides.turns[side]
    row = {
        "work": sides.work,
        "model": sides.size,
        "side": side,
        "step, processor ms": 1000 * median(median(one.step_s) for one in measured),
        "tokens/s": median(map(_tokens_s, measured)),
        "peak, MiB": median(one.peak_bytes for one in measured) / MIB,
    }
    if replies:
        row["rollouts/s"] = median(_rollouts_s(one, replies) for one in measured)
        row["drawn tokens/s"] = median(sum(one.tokens) / sum(one.draw_s) for one in measured)
    return row


def _ratios(sides: Sides, replies: int) -> list[Aim]:
    """Return how many times as fast (or as large) as TRL the others are, turn by turn."""
    aims: list[Aim] = []
    theirs = sides.turns[TRL]
    for side in sides.turns:
        if side == TRL:
            continue
        pairs = list(zip(sides.turns[side], theirs, strict=True))
        what = f"{sides.work}, {sides.size}, {side}"
        speed = [_tokens_s(a) / _tokens_s(b) for a, b in pairs]
        if sides.work == "SFT":
            aims.append(_aim(f"{what}: tokens/s over TRL's", speed, 1.0))
        else:
            steps = [median(b.step_s) / median(a.step_s) for a, b in pairs]
            drawn = [_rollouts_s(a, replies) / _rollouts_s(b, replies) for a, b in pairs]
            judged = side != LLAMA_CPP
            aims.append(_aim(f"{what}: rollouts/s over TRL's", drawn, 2.0 if judged else None))
            aims.append(_aim(f"{what}: steps/s over TRL's", steps, 1.0 if judged else None))
        memory = [a.peak_bytes / b.peak_bytes for a, b in pairs]
        aims.append(_aim(f"{what}: peak memory over TRL's", memory, None))
    return aims


def _aim(name: str, ratios: Sequence[float], least: float | None) -> Aim:
    value = median(ratios)
    target = f">= {least:g}" if least is not None else "for information"
    met = None if least is None else value >= least
    return Aim(name, value, min(ratios), max(ratios), target, met)


def _measure(quick: bool) -> Report:
    rows: list[dict[str, Any]] = []
    aims: list[Aim] = []
    number, steps = (1, 4) if quick else (3, 6)
    batch, each = 8, 8
    sizes = SIZES[:1] if quick else SIZES
    with tempfile.TemporaryDirectory(prefix="studium-speed-") as folder:
        for size in (*sizes, *(() if quick else (SPROUT,))):
            model = write_random_llama(size, Path(folder) / size.name.replace(" ", ""))
            tasks = [
                ("SFT", [OURS, TRL]),
                ("GRPO", [OURS, FAST, TRL] if quick else [OURS, FAST, LLAMA_CPP, TRL]),
            ]
            for task, names in tasks:
                if size is SPROUT and task == "SFT":
                    continue
                say(f"{task}, {size.name}: {number} turns of {len(names)} sides")
                works = [
                    Work(
                        side,
                        task.lower(),
                        model,
                        "",
                        steps=steps,
                        batch=16 if task == "SFT" else batch,
                        each=each,
                    )
                    for side in names
                ]
                sides = Sides(task, size.name, turns(works, number, Path(folder) / f"{task}-{size.name}"))
                replies = batch * each if task == "GRPO" else 0
                rows += [_row(sides, side, replies) for side in names]
                aims += _ratios(sides, replies)
    note = "value, low and high: the median, least and greatest ratio of the turns; a peak counts what is imported"
    return Report(
        rows, aims, [note, "GRPO: 8 prompts of 8 replies of at most 64 tokens a step; SFT: 16 rows"]
    )


def _measure_gpu(quick: bool) -> Report:
    """Measure SFT and GRPO in bf16 on a GPU; at small size on a processor where there is none."""
    import torch

    there = torch.cuda.is_available()
    size = GPU_SIZE if there and not quick else SIZES[0]
    number, steps = (3, 12) if there and not quick else (1, 3)
    rows: list[dict[str, Any]] = []
    aims: list[Aim] = []
    rate = matrix_rate(4096 if there else 512)
    with tempfile.TemporaryDirectory(prefix="studium-speed-") as folder:
        model = write_random_llama(size, Path(folder) / "model")
        weights = _parameters(size)
        for task in ("SFT", "GRPO"):
            batch = (64 if there else 8) if task == "SFT" else 8
            works = [
                Work(side, task.lower(), model, "", steps=steps, batch=batch, bf16=task == "SFT")
                for side in (OURS, TRL)
            ]
            say(f"{task}, {size.name}: {number} turns of 2 sides")
            sides = Sides(task, size.name, turns(works, number, Path(folder) / task))
            replies = 64 if task == "GRPO" else 0
            for side in (OURS, TRL):
                row = _row(sides, side, replies)
                row["GPU peak, MiB"] = median(one.gpu_peak_bytes for one in sides.turns[side]) / MIB
                if task == "SFT":
                    # Six operations per weight and token: forward, and twice that backward.
                    row["share of matrix rate"] = 6 * weights * row["tokens/s"] / rate
                rows.append(row)
            aims += _ratios(sides, replies)
    where = (
        torch.cuda.get_device_name()
        if there
        else "no GPU here: a small model on a processor, to show that it runs"
    )
    return Report(rows, aims, [where, f"matrix rate in bf16, measured: {rate / 1e12:.3g} TFLOP/s"])


def matrix_rate(width: int) -> float:
    """Return the operations per second of a product of two square bf16 matrices, the best of five."""
    import time

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    one = torch.randn(width, width, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product = one @ one
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * width**3 / best


def _parameters(size: Size) -> int:
    kv_width = size.width // size.heads * (size.kv_heads or size.heads)
    layer = 2 * size.width**2 + 2 * size.width * kv_width + 3 * size.width * size.feed_forward
    return size.layers * layer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute; the figures are rough")
    parser.add_argument("--gpu", action="store_true", help="bf16 on a GPU, or its path at small size")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    told = "".join(f" --{name}" for name in ("quick", "gpu") if getattr(options, name))
    report = (_measure_gpu if options.gpu else _measure)(options.quick)
    emit("training_speed", report, command=f"python -m benchmarks.training_speed{told}", as_json=options.json)


if __name__ == "__main__":
    main()
