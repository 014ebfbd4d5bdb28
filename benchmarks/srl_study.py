"""The study of SRL against SFT on the same traces, one factor at a time, and RLVR from both (docs/decisions/0021).

`python -m benchmarks.srl_study` takes hours on two cores; stopped, it goes on where it was. `--quick` is one seed of
the centre, tiny, to see that it runs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from random import Random
from statistics import fmean
from typing import Any

from benchmarks.proving_cells import OLD_LEVELS, REPLY_TOKENS, STEP_TOKENS, Ground, Size
from benchmarks.proving_ground import QUICK, folder_of, quiet
from benchmarks.report import Aim, Report, emit, say
from studium.domains.catalogue import domain as domain_named
from studium.domains.protocol import Split
from studium.evals.intervals import bootstrap_mean
from studium.train.config import Source
from studium.train.data import problems_of, rows_of
from studium.train.models import load
from studium.train.rl.options import Draws
from studium.train.rl.rewards import StepVerified
from studium.train.rl.running import policy_run
from studium.train.rl.samplers import ModelSampler
from studium.train.rows import Row, with_completion
from studium.train.run_folder import RunFolder
from studium.train.solving import Solver
from studium.train.stages import srl

SEEDS = (1, 2, 3, 4, 5)
HARD_LEVEL = 5
WRONG_STEPS = 0.1
FULL = Size(srl_steps=240, rlvr_steps=80, sft_steps=420, problems=300, prompts=2000)
GROUPS, MOST_ROUNDS = 16, 2
THINKING_STEPS = 900
RATE, RLVR_RATE = 1e-3, 2e-4
HOT = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """One cell of the study: a setting of the factors."""

    traces: int = 256
    kind: str = "clean"
    thinks: bool = False
    unit: str = "characters"
    variant: str = "as published"

    @property
    def data(self) -> str:
        return f"{self.traces}-{self.kind}{'-thoughts' * self.thinks}"

    @property
    def start(self) -> str:
        """The base it begins with."""
        return "thinking" if self.thinks else "base"

    @property
    def name(self) -> str:
        return "-".join((self.data, self.unit, self.variant)).replace(" ", "-")


CENTRE = Choice()
CHOICES = (
    CENTRE,
    replace(CENTRE, traces=64),
    replace(CENTRE, traces=512),
    replace(CENTRE, kind="noisy"),
    replace(CENTRE, unit="words"),
    replace(CENTRE, variant="exact bonus"),
    replace(CENTRE, variant="injection"),
    replace(CENTRE, thinks=True),
    # Not part of the study as it was written down: added when its first seed showed that groups had no spread.
    replace(CENTRE, variant="hotter draws"),
)


class Study(Ground):
    """The cells of one seed. Every method makes one and returns its name."""

    def thinking_base(self) -> str:
        """Teach the base to think before each step, on what it knows."""
        self.base()
        old = Source(
            domain=self.domain,
            levels=OLD_LEVELS,
            rows=self.size.old_rows,
            seed=self.seed + 70,
            teach="steps",
            thoughts=True,
        )
        self._stage(
            "thinking",
            "sft",
            "base",
            data=(old,),
            batch=48,
            steps=THINKING_STEPS if self.size == FULL else self.size.sft_steps,
            rate=RATE,
            thinks=True,
        )
        return "thinking"

    def sft_on(self, choice: Choice) -> str:
        """Imitate the traces: whole ones, or step by step where a thought stands before each step."""
        name = f"sft-{choice.data}"
        path = self.folder / f"{choice.data}.jsonl"
        if not path.exists():
            rows = self._rows(choice)
            rows = rows if choice.thinks else _whole(rows)
            path.write_text("".join(json.dumps(_line(row)) + "\n" for row in rows))
        self._stage(
            name,
            "sft",
            choice.start,
            data=(Source(file=str(path), rows=0),),
            batch=48,
            steps=self.size.sft_steps,
            rate=RATE,
            validate_every=0,
            thinks=choice.thinks,
        )
        return name

    def srl_on(self, choice: Choice) -> str:
        """Learn the traces by likeness, as the choice says."""
        name = f"srl-{choice.name}"
        settings = srl.Srl(
            unit=choice.unit,
            exact_bonus=0.5 * (choice.variant == "exact bonus"),
            inject=choice.variant == "injection",
        )
        recipe = self._recipe(
            "srl",
            choice.start,
            steps=self.size.srl_steps,
            rate=RATE,
            validate_every=0,
            batch=GROUPS,
            thinks=choice.thinks,
            srl=settings,
            draws=draws(STEP_TOKENS, HOT if choice.variant == "hotter draws" else 1.0),
            data=(self._source(rows=choice.traces, teach="steps", seed=self.seed),),
        )

        def carry_out() -> None:
            made = policy_run(
                "srl",
                recipe,
                RunFolder(self.folder / name),
                lambda line: None,
                reward=srl.reward_of(recipe),
                at_line=True,
                choose=lambda rows: self._rows(choice),
                repair=srl.Injection(choice.thinks) if settings.inject else None,
            )
            assert made.folder is not None, made.ended

        self._once(name, carry_out)
        return name

    def rlvr_by_answer(self) -> str:
        """Reward the base for the answer alone, whatever the steps."""
        return self._rewarded("rlvr-by-answer", "base", "prompts", "outcome", REPLY_TOKENS, thinks=False)

    def rlvr_from(self, start: str, thinks: bool, temperature: float = 1.0) -> str:
        """Go on with every step verified."""
        name = f"{start}-rlvr{'-hotter' * (temperature > 1)}"
        return self._rewarded(
            name, start, "step-prompts", "steps", STEP_TOKENS, thinks=thinks, temperature=temperature
        )

    def _rewarded(
        self,
        name: str,
        start: str,
        teach: str,
        reward: str,
        most_tokens: int,
        *,
        thinks: bool,
        temperature: float = 1.0,
    ) -> str:
        fresh_prompts = self._source(rows=self.size.prompts, teach=teach, seed=self.seed + 100)
        self._stage(
            name,
            "rlvr",
            start,
            data=(fresh_prompts,),
            batch=GROUPS,
            steps=self.size.rlvr_steps,
            rate=RLVR_RATE,
            validate_every=0,
            thinks=thinks,
            reward=reward,
            draws=draws(most_tokens, temperature),
        )
        return name

    def measured(self, name: str, thinks: bool) -> Mapping[str, Any]:
        path = self.folder / f"{name}.study.json"
        if not path.exists():
            path.write_text(json.dumps(self._measure(name, thinks)))
        return json.loads(path.read_text()) | {"seconds": self._seconds(name)}

    def _rows(self, choice: Choice) -> list[Row]:
        """Return the traces, step by step, spoiled where the choice says so."""
        source = self._source(rows=choice.traces, teach="steps", seed=self.seed)
        rows = rows_of([replace(source, thoughts=choice.thinks)])
        return (
            [_spoiled(row, Random(f"{self.seed}/{row.id}")) for row in rows]
            if choice.kind == "noisy"
            else rows
        )

    def _measure(self, name: str, thinks: bool) -> Mapping[str, float]:
        loaded = load(str(self._checkpoint(name)))
        sampler = ModelSampler(loaded.model, loaded.tokenizer, fast=True)
        solver = Solver(sampler, loaded.tokenizer, STEP_TOKENS if thinks else REPLY_TOKENS, thinks)
        shares: dict[str, float] = {}
        for what, levels in (("hard", (self.hard_level,)), ("old", (3, 4))):
            source = Source(domain=self.domain, levels=levels, rows=self.size.problems, seed=9)
            replies = [one for (one,) in solver.solve(problems_of(source, side=Split.FRESH))]
            right = [one.reply.strip() == domain_named(self.domain).solution(one.problem) for one in replies]
            shares[what] = fmean(right)
        few = problems_of(self._source(rows=self.size.problems // 4, seed=9), side=Split.FRESH)
        eights = solver.solve(few, each=8, temperature=1.0, seed=1)
        solution = domain_named(self.domain).solution
        shares["pass_at_8"] = fmean(
            any(one.reply.strip() == solution(one.problem) for one in eight) for eight in eights
        )
        prompts = rows_of(
            [self._source(rows=self.size.problems // 4, teach="step-prompts", seed=9)], side=Split.FRESH
        )
        return shares | {"next_step": _next_step(sampler, loaded.tokenizer, prompts, thinks)}


def draws(most_tokens: int, temperature: float = 1.0) -> Draws:
    """Return how replies are drawn: eight each, refilled once."""
    return Draws(
        sampler="fast", each=8, most_tokens=most_tokens, most_rounds=MOST_ROUNDS, temperature=temperature
    )


def _next_step(sampler: ModelSampler, tokenizer: Any, prompts: Sequence[Row], thinks: bool) -> float:
    from studium.train.rl.rollouts import line_ends, text_of
    from studium.train.rows import prompt_ids

    drawn = sampler.draw(
        [prompt_ids(tokenizer, row) for row in prompts],
        most_tokens=STEP_TOKENS,
        temperature=0.0,
        stops=line_ends(tokenizer),
    )
    reward = StepVerified(thinks)
    pairs = zip(prompts, drawn, strict=True)
    return fmean(reward(row, text_of(tokenizer, draw), draw.ended) or 0.0 for row, (draw,) in pairs)


def _whole(steps: Sequence[Row]) -> list[Row]:
    """Return a row per trace. A spoiled step stands in its own row alone, so every step is taken from its own."""
    found: dict[str, list[Row]] = {}
    for step in steps:
        found.setdefault(step.messages[0].content, []).append(step)
    return [
        replace(rows[-1], prefix="", completion="".join(row.completion for row in rows))
        for rows in found.values()
    ]


def _spoiled(row: Row, rng: Random) -> Row:
    """Return a row whose result is wrong, one time in ten; the answer's line stays."""
    if row.ends or rng.random() >= WRONG_STEPS:
        return row
    body = row.completion.rstrip("\n")
    wrong = rng.choice([digit for digit in "0123456789" if digit != body[-1]])
    return with_completion(row, body[:-1] + wrong + "\n")


def _line(row: Row) -> Mapping[str, Any]:
    return {
        "id": row.id,
        "prompt": row.messages[0].content,
        "prefix": row.prefix,
        "completion": row.completion,
        "ends": row.ends,
        "licence": row.licence,
    }


def cells(study: Study, choices: Sequence[Choice]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Make and yield every cell of a seed: (choice, way, measured)."""
    study.base()
    yield "-", "base", study.measured("base", False)
    yield "-", "rlvr by the answer", study.measured(study.rlvr_by_answer(), False)
    yield "base", "rlvr", study.measured(study.rlvr_from("base", False), False)
    yield "base", "rlvr, hotter draws", study.measured(study.rlvr_from("base", False, HOT), False)
    for choice in choices:
        if choice.thinks:
            start = study.thinking_base()
            yield "-", "thinking base", study.measured(start, True)
            yield start, "rlvr", study.measured(study.rlvr_from(start, True), True)
        ways: tuple[tuple[str, Callable[[Choice], str]], ...] = (("sft", study.sft_on), ("srl", study.srl_on))
        for way, make in ways:
            name = make(choice)
            yield choice.name, way, study.measured(name, choice.thinks)
            rewarded = study.rlvr_from(name, choice.thinks)
            yield choice.name, f"{way}, rlvr", study.measured(rewarded, choice.thinks)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.srl_study", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed of the centre, tiny")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--centre", action="store_true", help="the centre alone")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    size, seeds, choices = (
        (QUICK, (1,), (CENTRE,))
        if options.quick
        else (FULL, tuple(options.seeds), (CENTRE,) if options.centre else CHOICES)
    )
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn"), initializer=quiet) as pool:
        running = [pool.submit(_run, seed, size, choices) for seed in seeds]
        for done in as_completed(running):
            for choice, way, measured in done.result():
                found.setdefault((choice, way), []).append(measured)
    command = " ".join(["python -m benchmarks.srl_study", *sys.argv[1:]])
    emit("srl_study", Report(_table(found), _aims(found, choices), ()), command=command, as_json=options.json)
    return 0


def _run(seed: int, size: Size, choices: Sequence[Choice]) -> list[tuple[str, str, Mapping[str, Any]]]:
    study = Study("chains", seed, folder_of(size) / f"study-{seed}", size, HARD_LEVEL)
    study.folder.mkdir(parents=True, exist_ok=True)
    made: list[tuple[str, str, Mapping[str, Any]]] = []
    for cell in cells(study, choices):
        say(
            f"seed {seed} {cell[0]} {cell[1]}: hard {cell[2]['hard']:.3f}, next step {cell[2]['next_step']:.3f}"
        )
        made.append(cell)
    return made


Found = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]


def _table(found: Found) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for (choice, way), seeds in found.items():
        line: dict[str, Any] = {"cell": choice, "way": way, "seeds": len(seeds)}
        for what in ("hard", "pass_at_8", "next_step", "old"):
            mean, low, high = bootstrap_mean([one[what] for one in seeds])
            line[what] = f"{mean:.3f} ({low:.3f}-{high:.3f})"
        rows.append(line | {"processor_s": round(fmean(one["seconds"] for one in seeds))})
    return rows


def _aims(found: Found, choices: Sequence[Choice]) -> list[Aim]:
    """Return paired differences over seeds: what the claim says is above 0."""
    aims: list[Aim] = []
    for choice in choices:
        for one, other in (("srl", "sft"), ("srl, rlvr", "sft, rlvr")):
            aims.append(
                _difference(
                    f"{choice.name}: {one} over {other}", found, (choice.name, one), (choice.name, other)
                )
            )
        aims.append(
            _difference(
                f"{choice.name}: srl, rlvr over rlvr alone",
                found,
                (choice.name, "srl, rlvr"),
                (choice.start, "rlvr"),
            )
        )
    return aims


def _difference(name: str, found: Found, one: tuple[str, str], other: tuple[str, str]) -> Aim:
    pairs = zip(found[one], found[other], strict=True)
    mean, low, high = bootstrap_mean([100 * (a["hard"] - b["hard"]) for a, b in pairs])
    return Aim(f"{name}, points", mean, low, high, "> 0", low > 0)


if __name__ == "__main__":
    sys.exit(main())
