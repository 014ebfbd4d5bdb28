"""Trains the embedded students: `python -m studium.train.students [NAME...] [--quick] [--out DIR]`.

For each: train, write NAME.gguf, score on fresh problems, write NAME.json and NAME.md. Interrupted
with Ctrl-C it goes on where it stopped. `--generalist` trains instead one model on all skills with
the students' parameters and processor seconds together, for comparison; it is not shipped.

Each is trained in a process of its own under a lease of memory, shared with the Studium that serves the
workspace: when a question needs the memory that process saves its state between two steps and ends, which gives
back all of it, and goes on from there later, bit for bit as if nothing had been.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studium.errors import CallerError, StudiumError
from studium.fleet.leased_command import INTERRUPTED, run_leased
from studium.train.students.card import card, write
from studium.train.students.pretraining import replies_of_step
from studium.train.students.recipes import STUDENTS, Recipe, generalist, mixture_of, quick, recipe
from studium.train.students.stream import Rows, Stream

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    from studium.train.students.score import Proposals

EMBEDDED = Path(__file__).resolve().parents[2] / "embedded"
_SCORED_PER_LEVEL = 500
_SCORING_SEED = 20261120
_PRECISION = "F16"
_TIMED_STEPS = 11
_STEPS_FILE = "generalist.steps"
# PyTorch and what it needs, and per token of a step, layer and unit of width. Measured: 495 MiB for sprout (64 x 3),
# 672 for tinker (160 x 3), 1,049 for the generalist (240 x 5); this gives 521, 699 and 1,153.
_BASE_BYTES = 400 * 2**20
_BYTES_PER_UNIT = 170


@dataclass(frozen=True, slots=True)
class Place:
    """Where results go, where checkpoints wait, and how many fresh problems per level are scored."""

    out: Path
    work: Path
    scored_per_level: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        place = _place(options)
        if options.here:
            _one_thread()
            for chosen in _recipes(options, place):
                make(quick(chosen) if options.quick else chosen, place)
            return 0
        return _each_in_its_own_process(options)
    except StudiumError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from here")
        return INTERRUPTED


def memory_bytes(recipe: Recipe) -> int:
    """Return about how much memory a training run takes, a little more rather than less."""
    shape, schedule = recipe.shape, recipe.schedule
    units = schedule.rows * schedule.length * shape.width * shape.layers
    return _BASE_BYTES + _BYTES_PER_UNIT * units


def _each_in_its_own_process(options: argparse.Namespace) -> int:
    """Train under leases, one student after the other; return the first exit status that is not 0."""
    from studium.config import load_config

    workspace = load_config(options.config, environment=os.environ).workspace
    command = [sys.executable, "-m", "studium.train.students", "--here"]
    command += ["--quick"] if options.quick else []
    command += ["--out", str(options.out)] if options.out else []
    if options.generalist:
        runs = [(generalist(_TIMED_STEPS), "--generalist")]
    else:
        runs = [(one, one.name) for one in [recipe(name) for name in options.names] or STUDENTS]
    for chosen, argument in runs:
        status = run_leased(
            workspace, f"train-{chosen.name}", [*command, argument], memory_bytes(chosen), tell=_say
        )
        if status:
            return status
    return 0


def make(recipe: Recipe, place: Place) -> None:
    """Train one student and write its file and cards. Takes minutes on one core."""
    from studium.train.export import write_model
    from studium.train.students.pretraining import new_model, train
    from studium.train.students.score import score

    tokenizer = _tokenizer()
    model = new_model(recipe.shape, seed=recipe.schedule.seed)
    parameters = sum(weight.numel() for weight in model.parameters())
    _say(f"{recipe.name}: {parameters:,} parameters, {recipe.schedule.steps} steps")
    checkpoint = place.work / f"{recipe.name}.pt"
    stream = Interruptible(mixture_of(recipe), tokenizer, seed=recipe.schedule.seed)
    with stream.heeding_signals():
        trained = train(model, stream, recipe.schedule, checkpoint=checkpoint, say=_say)
    place.out.mkdir(parents=True, exist_ok=True)
    gguf = place.out / f"{recipe.name}.gguf"
    write_model(model, tokenizer, gguf, name=recipe.name, precision=_PRECISION)
    _say(f"{recipe.name}: scoring {place.scored_per_level} fresh problems per skill and level")
    cells = score(model, tokenizer, per_level=place.scored_per_level, seed=_SCORING_SEED)
    proposals = _proposals(recipe, model, tokenizer, cycles=place.scored_per_level // 10)
    made = card(
        recipe, trained, cells, gguf, parameters=parameters, precision=_PRECISION, proposals=proposals
    )
    write(made, place.out)
    checkpoint.unlink(missing_ok=True)
    (place.work / _STEPS_FILE).unlink(missing_ok=True)
    for cell in cells:
        declined = cell.declined / cell.asked
        _say(f"  {cell.skill:<11}{cell.level or '':<3}right {cell.accuracy:6.1%}  declined {declined:6.1%}")


def _proposals(
    recipe: Recipe, model: "LlamaForCausalLM", tokenizer: "Tokenizer", *, cycles: int
) -> "Proposals | None":
    """Measure what a student of a topic proposes; None for one of no topic."""
    from studium.domains.topic_catalogue import topic
    from studium.train.students.score import score_topic

    if not recipe.topic:
        return None
    stream = Stream(mixture_of(recipe), tokenizer, seed=recipe.schedule.seed)
    taught = {
        reply
        for step in range(recipe.schedule.steps)
        for reply in replies_of_step(stream, recipe.schedule, step)
    }
    made = score_topic(
        model,
        tokenizer,
        topic(recipe.topic),
        cycles=cycles,
        temperature=recipe.temperature,
        taught=taught,
        seed=_SCORING_SEED,
    )
    _say(f"  {made.topic}: {made.useful} of {made.asked} useful, {made.false} false, {made.taught} as taught")
    return made


class Interruptible(Stream):
    """A stream that ends a run between two steps, where its checkpoint is whole, once a signal has come."""

    _leaving = False

    def batch(self, step: int, *, rows: int, length: int) -> Rows:
        if self._leaving:
            raise KeyboardInterrupt
        return super().batch(step, rows=rows, length=length)

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """End the run after the step at work on SIGINT or SIGTERM; a second one ends it at once."""

        def leave(*_: object) -> None:
            if self._leaving:
                raise KeyboardInterrupt
            self._leaving = True

        before = {one: signal.signal(one, leave) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _recipes(options: argparse.Namespace, place: Place) -> Sequence[Recipe]:
    if options.generalist:
        return [generalist(_generalist_steps(options.out or EMBEDDED, place.work / _STEPS_FILE))]
    return [recipe(name) for name in options.names] or STUDENTS


def _generalist_steps(students: Path, kept: Path) -> int:
    """Return the steps that take as many processor seconds as all students in `students` that answer questions.

    Timed once and kept in a file, so that a run that goes on has the schedule it began with.
    """
    from studium.train.students.pretraining import new_model, train

    if kept.exists():
        return int(kept.read_text())
    cards = [json.loads(path.read_text()) for path in sorted(students.glob("*.json"))]
    cards = [card for card in cards if card["answers"]]
    budget_s = sum(card["training"]["processor_seconds"] for card in cards)
    if not cards:
        raise CallerError(
            f"there is no card of a student in {students.name}/",
            expected="the students' cards, whose training time the generalist is given",
            try_next="python -m studium.train.students",
        )
    trial = generalist(_TIMED_STEPS)
    stream = Stream(mixture_of(trial), _tokenizer(), seed=0)
    model = new_model(trial.shape, seed=0)
    spent = train(model, stream, trial.schedule, say=_say).seconds
    steps = round(budget_s / (spent / _TIMED_STEPS))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(str(steps))
    return steps


def _tokenizer() -> "Tokenizer":
    from studium.train.tokenizer import student_tokenizer

    return student_tokenizer()


def _place(options: argparse.Namespace) -> Place:
    build = Path("build")
    scored = 20 if options.quick else _SCORED_PER_LEVEL
    if options.generalist:
        return Place(build / "generalist", build / "generalist", scored)
    if options.quick:
        return Place(options.out or build / "students-quick", build / "students-quick", scored)
    return Place(options.out or EMBEDDED, build / "students", scored)


def _one_thread() -> None:
    """Bind PyTorch to one thread that sleeps when idle: more are slower at this size."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    torch.set_num_threads(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studium.train.students", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="students to train; all when left out")
    parser.add_argument("--quick", action="store_true", help="a few steps only, into build/students-quick")
    parser.add_argument("--out", type=Path, help="folder for GGUF files and cards (default: the package's)")
    parser.add_argument(
        "--generalist", action="store_true", help="one model on all skills, into build/generalist"
    )
    parser.add_argument("--config", type=Path, help="the configuration that names the workspace")
    parser.add_argument(
        "--here", action="store_true", help="train in this process, without asking anybody for memory"
    )
    return parser


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
