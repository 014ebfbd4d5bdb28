"""The proving ground: base -> SFT -> RLVR -> DPO on a drill, several seeds, against each stage alone and controls.

`make proving-ground` runs all of it (stopped, it goes on where it was). Hard is four steps of an operation the base has
never seen, shown by somebody who gets some of it wrong; old is what the base knew. A problem counts as solved only if
every step is right. All problems measured on are on the fresh side of the split: nothing was trained on them or chosen
by them.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from hashlib import sha256
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.proving_cells import LADDER, RUNGS, Ground, Size
from benchmarks.report import BUILD, Aim, Report, emit, say
from studium.evals.charts import Bar, bar_chart
from studium.evals.intervals import Interval, bootstrap_mean, wilson

DOMAINS = ("chains", "registers", "stacks")
SEEDS = (1, 2, 3, 4, 5)
# What the ladder is compared with, on fewer seeds.
OTHERS = tuple(name for name in RUNGS if name not in LADDER)
OTHER_SEEDS = 2
QUICK = Size(
    base_steps=60,
    sft_steps=10,
    rlvr_steps=2,
    dpo_steps=2,
    srl_steps=2,
    problems=40,
    prompts=200,
    old_rows=200,
    pairs_prompts=100,
)
HIGHEST_MINUTES = 10.0


class Cell(NamedTuple):
    domain: str
    seed: int
    rung: str
    measured: Mapping[str, Any]

    def share(self, what: str) -> Interval:
        asked = self.measured["pass_asked" if what == "pass_at_8" else "asked"]
        return wilson(self.measured[what], asked)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proving_ground", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny version of one domain, to see that it runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--domains", nargs="*", default=DOMAINS, choices=DOMAINS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument(
        "--rungs", nargs="*", choices=list(RUNGS), help="default: the ladder, and the others on two seeds"
    )
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    if options.quick:
        options.domains, options.seeds, options.processes = ["chains"], [1], 1
        options.rungs = options.rungs or list(LADDER)
    size = QUICK if options.quick else Size()
    cells = run_all(options.domains, options.seeds, options.rungs, size, options.processes)
    report = Report(rows(cells), aims(cells), notes())
    emit(
        "proving_ground",
        report,
        command=" ".join(["python -m benchmarks.proving_ground", *sys.argv[1:]]),
        as_json=options.json,
    )
    plot = folder_of(size) / "proving_ground.svg"
    plot.write_text(chart(cells))
    say(f"plot: {plot}")
    return 0


def folder_of(size: Size) -> Path:
    """Return where cells of this size are kept, so that what is done is not done again."""
    return BUILD / "proving" / sha256(json.dumps(asdict(size)).encode()).hexdigest()[:8]


def run_all(
    domains: Sequence[str], seeds: Sequence[int], rungs: Sequence[str] | None, size: Size, processes: int
) -> list[Cell]:
    """Run what is not done yet, a ground per process, and return every cell."""
    jobs = [
        (domain, seed, list(rungs or (*LADDER, *(OTHERS if place < OTHER_SEEDS else ()))))
        for place, seed in enumerate(seeds)
        for domain in domains
    ]
    found: list[Cell] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=quiet) as pool:
        running = [pool.submit(_run, domain, seed, names, size) for domain, seed, names in jobs]
        for number, done in enumerate(as_completed(running), start=1):
            found += done.result()
            say(f"{number} of {len(jobs)} grounds done")
    return sorted(found, key=lambda cell: (cell.domain, list(RUNGS).index(cell.rung), cell.seed))


def quiet() -> None:
    """One thread that sleeps when idle, and no library's progress bars."""
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _run(domain: str, seed: int, names: Sequence[str], size: Size) -> list[Cell]:
    ground = Ground(domain, seed, folder_of(size) / f"{domain}-{seed}", size)
    ground.folder.mkdir(parents=True, exist_ok=True)
    cells: list[Cell] = []
    for name in names:
        RUNGS[name].make(ground)
        measured = ground.result(RUNGS[name].folder)
        cells.append(Cell(domain, seed, name, measured))
        hard, old = cells[-1].share("hard").value, cells[-1].share("old").value
        say(
            f"{domain} seed {seed} {name}: hard {hard:.3f}, old {old:.3f}, {measured['seconds']:.0f} processor s"
        )
    return cells


def rows(cells: Sequence[Cell]) -> list[Mapping[str, Any]]:
    """Return a line per domain and rung: means over the seeds, with a bootstrap interval over seeds."""
    table: list[Mapping[str, Any]] = []
    for domain, rung in dict.fromkeys((cell.domain, cell.rung) for cell in cells):
        group = [cell for cell in cells if (cell.domain, cell.rung) == (domain, rung)]
        line: dict[str, Any] = {"domain": domain, "rung": rung, "seeds": len(group)}
        for what in ("hard", "hard_sampled", "pass_at_8", "hard_answer", "old", "old_sampled"):
            line[what] = _with_spread([cell.share(what).value for cell in group])
        line["halted"] = sum(cell.measured["halted"] for cell in group)
        line["processor_s"] = round(fmean(cell.measured["seconds"] for cell in group))
        table.append(line)
    return table


def _with_spread(values: Sequence[float]) -> str:
    mean, low, high = bootstrap_mean(values)
    return f"{mean:.3f} ({low:.3f}-{high:.3f})"


def aims(cells: Sequence[Cell]) -> list[Aim]:
    """Return the aims of the ladder, domain by domain, seed by seed where the aim is about seeds."""
    found: list[Aim] = []
    for domain in dict.fromkeys(cell.domain for cell in cells):
        ladders = _ladders([cell for cell in cells if cell.domain == domain])
        if not ladders:
            continue
        tops = bootstrap_mean([one[-1].share("hard").value for one in ladders])
        rising = sum(_rises(one) for one in ladders)
        kept = bootstrap_mean([min(cell.share("old").value for cell in one[1:]) for one in ladders])
        minutes = [sum(cell.measured["seconds"] for cell in one) / 60 for one in ladders]
        hardest = sum(cell.measured["pass_at_8"] == 0 for cell in (one[0] for one in ladders))
        seeds = f"{len(ladders)} of {len(ladders)} seeds"
        found += [
            Aim(f"{domain}: hard set solved at the top of the ladder", *tops, ">= 0.95", tops.value >= 0.95),
            Aim(
                f"{domain}: every rung above the last, intervals apart",
                rising,
                rising,
                rising,
                seeds,
                rising == len(ladders),
            ),
            Aim(f"{domain}: old skill, lowest rung", *kept, ">= 0.99", kept.value >= 0.99),
            Aim(
                f"{domain}: minutes a seed",
                max(minutes),
                min(minutes),
                max(minutes),
                "<= 10",
                max(minutes) <= HIGHEST_MINUTES,
            ),
            Aim(
                f"{domain}: base solves none of the hard set in 8 tries",
                hardest,
                hardest,
                hardest,
                seeds,
                hardest == len(ladders),
            ),
        ]
    return found


def _ladders(cells: Sequence[Cell]) -> list[list[Cell]]:
    by_seed = [
        [cell for rung in LADDER for cell in cells if (cell.seed, cell.rung) == (seed, rung)]
        for seed in dict.fromkeys(cell.seed for cell in cells)
    ]
    return [one for one in by_seed if len(one) == len(LADDER)]


def _rises(ladder: Sequence[Cell]) -> bool:
    shares = [cell.share("hard") for cell in ladder]
    return all(above.low > below.high for below, above in pairwise(shares))


def notes() -> list[str]:
    return [
        "hard: four steps of an operation the base never saw, every step right",
        "old: three and four steps of what it knew, every step right; sampled at temperature 1",
        "pass_at_8: at least one of eight sampled replies all right; hard_answer: only the last line right",
        "halted: seeds on which a watcher ended the rung, so that nothing came of it and its start is measured again",
        "means over seeds with a bootstrap interval over seeds; rungs rise where 95 % Wilson intervals do not touch",
    ]


def chart(cells: Sequence[Cell]) -> str:
    """Return a chart of the ladder, domain after domain."""
    bars: list[Bar] = []
    for domain, rung in dict.fromkeys((cell.domain, cell.rung) for cell in cells if cell.rung in LADDER):
        group = [cell.share("hard").value for cell in cells if (cell.domain, cell.rung) == (domain, rung)]
        bars.append(Bar(f"{domain} {rung}", 100 * fmean(group)))
    return bar_chart(bars, "% of the hard set solved")


if __name__ == "__main__":
    sys.exit(main())
