"""The course of a run: every step is recorded, watched, shown, saved and stoppable, whatever the algorithm.

A stage of our own is driven by `drive`; one that TRL drives reports to the same `Course` through a callback. A run that
was stopped or killed goes on from its last saved state, bit for bit on a processor, and what it had recorded beyond
that state is cut off before it is done again.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from studium.train.config import Recipe
from studium.train.run_folder import RunFolder, State, Status
from studium.train.watchers import Action, Alarm, Watchers

SHOW_EVERY_S = 2.0
LOWER_BY = 0.5


class RowLoss(NamedTuple):
    """A row's part in a step: its id and its mean loss (or, where it was rewarded, minus its reward)."""

    row_id: str
    loss: float


@dataclass(frozen=True, slots=True)
class StepDone:
    """What a step measured. `metrics` are finite numbers by name; "loss" is among them."""

    metrics: Mapping[str, float]
    rows: Sequence[RowLoss] = ()


class Stage(Protocol):
    """A training algorithm, one step at a time; `course.drive` does the rest."""

    steps: int

    def step(self, number: int, allow: Callable[[Mapping[str, float]], bool]) -> StepDone:
        """Do step `number` (from 0). Weights change only if `allow`, told loss and gradient norm, says so."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Return scores on problems kept from training, "score" among them; empty where there are none."""
        ...

    def lower_rate(self, factor: float) -> None:
        """Multiply the learning rate from now on."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that decides the steps to come: weights, optimiser, random states, positions in the data."""
        ...

    def restore(self, state: dict[str, Any]) -> None: ...

    def keep(self) -> Any:
        """Return a copy of the weights, to be given to `use` when they turn out best."""
        ...

    def use(self, kept: Any) -> None: ...


class Ended(NamedTuple):
    """How a run ended, after how many steps and training seconds, and the best validation score, None without any."""

    state: State
    step: int
    seconds: float
    best: float | None


class Checkpoint(NamedTuple):
    """What a stage's `run` returns: how it ended, and the folder of the model it made, None where it was stopped."""

    ended: Ended
    folder: Path | None


@dataclass
class Course:
    """What a run has been so far. `best` is the best validation score; `stale` counts validations since."""

    folder: RunFolder
    steps: int
    watchers: Watchers
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    stale: int = 0
    first_step: int = 0
    stopping: str = ""
    halted: bool = False
    lowered: float = 1.0
    _last: float = field(default_factory=time.monotonic)
    _shown: float = 0.0
    _seconds_before: float = 0.0

    def allow(self, metrics: Mapping[str, float]) -> bool:
        """Let the watchers see a step before it changes weights; say whether it may."""
        return self._heed(self.watchers.look(self.step, metrics), self.step + 1)

    def _heed(self, alarm: Alarm | None, step: int) -> bool:
        """Write down an alarm and what is done about it; say whether the step at work may change weights."""
        if alarm is None:
            return True
        self.folder.append(
            "events.jsonl",
            {
                "step": step,
                "kind": alarm.kind,
                "advice": alarm.advice,
                "action": alarm.action,
                "at": time.time(),
            },
        )
        self.say(f"step {step}: {alarm.advice} ({alarm.action})")
        if alarm.action is Action.STOP:
            self.stopping, self.halted = alarm.advice, True
        if alarm.action is Action.LOWER:
            self.lowered *= LOWER_BY
        return alarm.action is Action.ADVISE

    def to_lower(self) -> float:
        """Return the factor by which watchers want the rate lowered since this was last asked; 1 mostly."""
        factor, self.lowered = self.lowered, 1.0
        return factor

    def ended(self) -> Ended:
        """Return how the run ends where it is now."""
        stopped = State.HALTED if self.halted else State.STOPPED
        return Ended(stopped if self.stopping else State.DONE, self.step, self.seconds, self.best)

    def record(self, done: StepDone) -> None:
        """Count a step and write down what it measured."""
        self.step += 1
        now = time.monotonic()
        self.seconds += now - self._last
        self._last = now
        self.folder.append(
            "metrics.jsonl", {"step": self.step, "seconds": round(self.seconds, 3), **done.metrics}
        )
        if done.rows:
            rows = [[one.row_id, round(one.loss, 5)] for one in done.rows]
            self.folder.append("rows.jsonl", {"step": self.step, "rows": rows})
        self._heed(self.watchers.look_back(self.step, done.metrics), self.step)
        if now - self._shown >= SHOW_EVERY_S or self.step == self.steps:
            self._shown = now
            self._show(done.metrics)

    def validated(self, scores: Mapping[str, float]) -> bool:
        """Write down a validation; say whether it is the best so far."""
        self.folder.append("metrics.jsonl", {"step": self.step, "validation": dict(scores)})
        told = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
        self.say(f"validation at step {self.step}  {told}")
        score = scores["score"]
        self._heed(self.watchers.validated(self.step, scores), self.step)
        better = self.best is None or score > self.best or not isfinite(self.best)
        self.best, self.stale = (score, 0) if better else (self.best, self.stale + 1)
        return better

    def asked_to_stop(self) -> bool:
        if not self.stopping and self.folder.asked_to_stop:
            self.stopping = "asked to stop"
        return bool(self.stopping)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "stale": self.stale,
            "watchers": self.watchers.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.stale = state["best"], state["stale"]
        self.watchers.restore(state["watchers"])
        self.first_step, self._seconds_before = self.step, self.seconds
        self.folder.cut(self.step)
        self.folder.append("events.jsonl", {"step": self.step, "kind": "resumed", "at": time.time()})

    def status(self, state: State, message: str = "") -> None:
        self.folder.say(Status(state, self.step, self.steps, self.seconds, self._eta_s(), message=message))

    def _eta_s(self) -> float | None:
        done = self.step - self.first_step
        return (self.seconds - self._seconds_before) / done * (self.steps - self.step) if done else None

    def _show(self, metrics: Mapping[str, float]) -> None:
        self.status(State.RUNNING)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:5])
        eta = self._eta_s()
        left = f", about {eta:.0f} s left" if eta is not None else ""
        self.say(f"step {self.step}/{self.steps}  {shown}  {self.seconds:.0f} s{left}")

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Stop after the step at work on SIGINT or SIGTERM; a second one ends the process at once."""

        def leave(number: int, frame: object) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = signal.Signals(number).name

        before = {one: signal.signal(one, leave) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def drive(stage: Stage, course: Course, recipe: Recipe) -> Ended:
    """Run a stage to its last step, or until it is stopped or told to; leave its best weights in it.

    Blocks; writes into the run's folder; goes on from `state.pt` where there is one. Best means by validation; without
    validation the last weights stay.
    """
    best = _resume(stage, course)
    course.status(State.RUNNING)
    saved = time.monotonic()
    every = recipe.validation.every_steps
    while course.step < stage.steps and not course.asked_to_stop():
        course.record(stage.step(course.step, course.allow))
        if (factor := course.to_lower()) < 1:
            stage.lower_rate(factor)
        last = course.step == stage.steps
        if every and recipe.validation.problems and (course.step % every == 0 or last):
            scores = stage.validate()
            if scores and course.validated(scores):
                best = stage.keep()
            if recipe.validation.patience and course.stale >= recipe.validation.patience:
                course.say(f"no better for {course.stale} validations: ends here")
                break
            if 0 < recipe.validation.enough <= (course.best or 0.0):
                course.say(f"a score of {course.best:.3g} is enough: ends here")
                break
        if time.monotonic() - saved >= recipe.save_every_s:
            _save(stage, course, best)
            saved = time.monotonic()
    _save(stage, course, best)
    if best is not None and not course.stopping:
        stage.use(best)
    return course.ended()


def _save(stage: Stage, course: Course, best: Any) -> None:
    import torch

    path = course.folder.state_file
    part = path.with_suffix(".part")
    torch.save({"stage": stage.state(), "course": course.state(), "best": best}, part)
    part.replace(path)


def _resume(stage: Stage, course: Course) -> Any:
    import torch

    if not course.folder.state_file.exists():
        return None
    # Written by this program into its own folder; random states are no plain tensors.
    kept = torch.load(course.folder.state_file, weights_only=False)
    stage.restore(kept["stage"])
    course.restore(kept["course"])
    return kept["best"]
