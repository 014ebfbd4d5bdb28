"""Forecasts of memory and load seconds against what was then measured, and what reading one costs.

The embedded students and random-weight GGUF files are loaded, asked and unloaded in turn by the real
llama.cpp engine; a round of a model is one load, a few answers, one unload. The measurements are then given
to the profiles as the fleet gives them. After 0, 1, 3 and 10 rounds of every model, beginning anywhere, each
forecast is judged on the next rounds, beside the formula alone (the engine's estimate of memory, the nominal
start and storage speed for loads) and beside the best that any one figure could do there, which is what
noise leaves. Errors are symmetric: twice too much is as bad as half. The reading cost is taken with a history
of many runs in the same store.
"""

import asyncio
import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any, NamedTuple

from benchmarks.history import reading
from benchmarks.random_models import write_random_gguf
from benchmarks.report import Aim, Report, run, say
from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.engines.protocol import complete
from studium.evals.intervals import Interval, bootstrap_mean, wilson
from studium.fleet.formulas import FORMULAS
from studium.fleet.profiles import Profiles
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.models import MemoryEstimate, ModelSpec
from studium.records.profiles import Forecast, Quantity, Range
from studium.records.runs import StudentRun
from studium.registry import embedded_students

SEED = 4_202_611
MIB = 2**20
LEARNED = (0, 1, 3, 10)
ROUNDS_JUDGED = 4
ROUNDS = max(LEARNED) + ROUNDS_JUDGED
ASKS_A_ROUND = 2
LOAD_S = 120.0
FORMULA = "formula alone"
JUDGED = (Quantity.MEMORY_BYTES, Quantity.LOAD_SECONDS)
COVERED = (*JUDGED, Quantity.TOKENS_PER_SECOND, Quantity.PROMPT_TOKENS_PER_SECOND)


@dataclass(frozen=True, slots=True)
class Round:
    """What one load, its answers and its unload were measured to take."""

    model: ModelSpec
    estimate: MemoryEstimate
    load_seconds: float
    load_peak_bytes: int
    unload_seconds: float
    replies: Sequence[Reply]
    peaks: Sequence[int]
    """The most memory held up to the end of each answer."""

    @property
    def measured(self) -> Mapping[Quantity, float]:
        return {Quantity.MEMORY_BYTES: self.peaks[-1], Quantity.LOAD_SECONDS: self.load_seconds}


async def _measure(quick: bool) -> Report:
    with tempfile.TemporaryDirectory(prefix="studium-forecast-") as folder:
        models = _models(Path(folder), (50, 120) if quick else (50, 120, 250, 500))
        rounds = await _all_rounds(models)
        by_model = {model.name: [one for one in rounds if one.model == model] for model in models}
        history = 300_000 if quick else 10_000_000
        cost, cost_row = reading(Path(folder), models, lambda profiles: _teach_all(profiles, rounds), history)
    errors = _errors(by_model)
    rows = [*_error_rows(errors), *_coverage_rows(rounds), cost_row]
    aims = [_error_aim(quantity, errors[3]) for quantity in JUDGED]
    aims += [_coverage_aim(rounds), cost]
    return Report(rows, aims, [f"{len(models)} models, {len(rounds)} rounds, {ASKS_A_ROUND} asks a round"])


def _models(folder: Path, megabytes: Iterable[int]) -> list[ModelSpec]:
    """The embedded students, and random models of these sizes (MB of 10^6 bytes) written to `folder`."""
    models = [student.model for student in embedded_students().values() if not student.topics]
    for size in megabytes:
        path = write_random_gguf(folder / f"random-{size}.gguf", size, seed=size)
        models.append(ModelSpec(path.stem, "llamacpp", str(path), threads=2))
    return models


async def _all_rounds(models: Sequence[ModelSpec]) -> list[Round]:
    """Measure every model ROUNDS times, each time in another order."""
    engine, rng, rounds = LlamaCppEngine(), Random(SEED), list[Round]()
    try:
        for number in range(ROUNDS):
            for model in rng.sample(models, len(models)):
                rounds.append(await _one_round(engine, model, rng))
            say(f"round {number + 1} of {ROUNDS}")
    finally:
        await engine.close()
    return rounds


async def _one_round(engine: LlamaCppEngine, model: ModelSpec, rng: Random) -> Round:
    estimate = await engine.estimate(model)
    began = time.monotonic()
    residence = await engine.load(model, timeout_s=LOAD_S)
    load_seconds = time.monotonic() - began
    replies, peaks = list[Reply](), list[int]()
    for _ in range(ASKS_A_ROUND):
        question = "What is " + " + ".join(str(rng.randrange(100)) for _ in range(rng.randint(2, 12))) + "?"
        sampling = Sampling(temperature=0.0, max_tokens=rng.randint(4, 16))
        replies.append(await complete(engine, model, Ask((Message("user", question),), sampling=sampling)))
        peaks.append((await engine.residences())[0].peak_bytes or 0)
    began = time.monotonic()
    await engine.unload(model)
    unload_seconds = time.monotonic() - began
    return Round(model, estimate, load_seconds, residence.peak_bytes or 0, unload_seconds, replies, peaks)


def _teach(profiles: Profiles, one: Round) -> None:
    """Tell the profiles of a round as residency and the fleet do."""
    profiles.estimated(one.model, one.estimate)
    profiles.loaded(one.model, seconds=one.load_seconds, peak_bytes=one.load_peak_bytes)
    for reply, peak in zip(one.replies, one.peaks, strict=True):
        profiles.ran(
            one.model,
            StudentRun(
                one.model.name,
                one.model.name,
                0.0,
                reply.seconds,
                True,
                memory_bytes=peak,
                prompt_tokens=reply.prompt_tokens or 0,
                completion_tokens=reply.completion_tokens or 0,
            ),
            generate_seconds=reply.seconds,
            first_token_s=reply.first_token_s,
        )
    profiles.unloaded(one.model, seconds=one.unload_seconds)


def _taught(rounds: Iterable[Round]) -> Profiles:
    profiles = Profiles({}, lambda _profile: None)
    _teach_all(profiles, rounds)
    return profiles


def _teach_all(profiles: Profiles, rounds: Iterable[Round]) -> None:
    for one in rounds:
        _teach(profiles, one)


ByModel = Mapping[str, Sequence[Round]]
Figures = Mapping[Quantity, float]


@dataclass(frozen=True, slots=True)
class Errors:
    """By how much of it three ways to forecast the same rounds missed, one figure for each model.

    The mean of the logarithm of the factor missed by, so that twice too much is as bad as half.
    """

    knowing: str
    forecast: Mapping[Quantity, Sequence[float]]
    formula: Mapping[Quantity, Sequence[float]]
    hindsight: Mapping[Quantity, Sequence[float]]


def _errors(by_model: ByModel) -> dict[int | None, Errors]:
    """Errors by the rounds known of each model; None: three of each other model, none of its own."""
    found: dict[int | None, Errors] = {}
    for known in LEARNED:
        knowing = f"{known} round{'' if known == 1 else 's'} of each model"
        found[known] = _judge(by_model, knowing, known, without_own=False)
    found[None] = _judge(by_model, "3 rounds of each other model, none of its own", 3, without_own=True)
    return found


def _judge(by_model: ByModel, knowing: str, known: int, *, without_own: bool) -> Errors:
    """Learn from `known` rounds and judge on those that follow, beginning at every round where that fits.

    A machine that is busier for a while would else decide alone: each model's figure is the mean.
    """
    forecast, formula, hindsight = (
        {quantity: [list[float]() for _ in by_model] for quantity in JUDGED} for _ in range(3)
    )
    for start in range(ROUNDS - known - ROUNDS_JUDGED + 1):
        learned = {name: rounds[start : start + known] for name, rounds in by_model.items()}
        everything = _taught(one for rounds in learned.values() for one in rounds)
        for index, (name, rounds) in enumerate(by_model.items()):
            judged, first = rounds[start + known :][:ROUNDS_JUDGED], rounds[0]
            profiles = everything
            if without_own:
                profiles = _taught(one for other in learned if other != name for one in learned[other])
            ways = (
                (forecast, _medians(profiles.forecast(first.model, first.estimate))),
                (formula, _by_formula(first.estimate)),
                (hindsight, {one: median(each.measured[one] for each in judged) for one in JUDGED}),
            )
            for errors, figures in ways:
                for quantity in JUDGED:
                    errors[quantity][index] += [
                        abs(math.log(figures[quantity] / one.measured[quantity])) for one in judged
                    ]
    means = [
        {one: [math.expm1(fmean(errors)) for errors in way[one]] for one in JUDGED}
        for way in (forecast, formula, hindsight)
    ]
    return Errors(knowing, *means)


def _by_formula(estimate: MemoryEstimate) -> Figures:
    loading = FORMULAS[Quantity.LOAD_SECONDS]
    return {
        Quantity.MEMORY_BYTES: estimate.total_bytes,
        Quantity.LOAD_SECONDS: sum(map(mul, loading.coefficients, loading.features(estimate))),
    }


def _medians(forecast: Forecast) -> Figures:
    return {quantity: _range(forecast, quantity).median for quantity in JUDGED}


def _range(forecast: Forecast, quantity: Quantity) -> Range:
    found: Range | None = getattr(forecast, quantity.value)
    assert found is not None, f"no forecast of {quantity} although the file was estimated"
    return found


def _error_rows(errors: Mapping[int | None, Errors]) -> list[Mapping[str, Any]]:
    return [
        {
            "what": f"error knowing {one.knowing}",
            **{f"{quantity} %": _percent(one.forecast[quantity]) for quantity in JUDGED},
            **{f"{quantity} %, formula": _percent(one.formula[quantity]) for quantity in JUDGED},
            **{f"{quantity} %, hindsight": _percent(one.hindsight[quantity]) for quantity in JUDGED},
        }
        for one in errors.values()
    ]


def _percent(errors: Sequence[float]) -> str:
    mean = bootstrap_mean([100 * error for error in errors])
    return f"{mean.value:.1f} ({mean.low:.1f} to {mean.high:.1f})"


def _error_aim(quantity: Quantity, errors: Errors) -> Aim:
    pairs = zip(errors.forecast[quantity], errors.formula[quantity], strict=True)
    gain = bootstrap_mean([100 * (forecast - formula) for forecast, formula in pairs])
    return Aim(
        f"{quantity}: error after 3 rounds less the formula's, points",
        gain.value,
        gain.low,
        gain.high,
        "< 0",
        gain.value < 0,
    )


class Coverage(NamedTuple):
    """Of the intervals forecast just before each measurement: how many held it, and how wide they were."""

    inside: int
    widths: Sequence[float]
    """High end over low end."""

    @property
    def share(self) -> Interval:
        return wilson(self.inside, len(self.widths))


def _coverage(rounds: Sequence[Round]) -> Mapping[Quantity, Coverage]:
    profiles = Profiles({}, lambda _profile: None)
    found: dict[Quantity, Coverage] = {quantity: Coverage(0, ()) for quantity in COVERED}
    for one in rounds:
        forecast = profiles.forecast(one.model, one.estimate)
        _teach(profiles, one)
        measured: Figures = {**one.measured, **_speeds(one)}
        for quantity, value in measured.items():
            expected: Range | None = getattr(forecast, quantity.value)
            if expected is not None:
                inside = found[quantity].inside + (expected.low <= value <= expected.high)
                found[quantity] = Coverage(inside, (*found[quantity].widths, expected.high / expected.low))
    return found


def _speeds(one: Round) -> Mapping[Quantity, float]:
    """The speeds of a round's first answer, as the profiles themselves take them."""
    only_first = Round(
        one.model,
        one.estimate,
        one.load_seconds,
        one.load_peak_bytes,
        one.unload_seconds,
        one.replies[:1],
        one.peaks[:1],
    )
    profile = _taught([only_first]).of(one.model)
    speeds = {
        Quantity.TOKENS_PER_SECOND: profile.tokens_per_second,
        Quantity.PROMPT_TOKENS_PER_SECOND: profile.prompt_tokens_per_second,
    }
    return {quantity: speed for quantity, speed in speeds.items() if speed is not None}


def _coverage_rows(rounds: Sequence[Round]) -> Sequence[Mapping[str, Any]]:
    rows = list[dict[str, Any]]()
    for quantity, coverage in _coverage(rounds).items():
        share = coverage.share
        text = f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
        rows.append(
            {"what": f"inside the 90 % interval: {quantity}", "inside %": text, "of": len(coverage.widths)}
        )
        rows[-1] |= {"high/low, median": median(coverage.widths)}
    return rows


def _coverage_aim(rounds: Sequence[Round]) -> Aim:
    found = _coverage(rounds)
    share = wilson(sum(found[one].inside for one in JUDGED), sum(len(found[one].widths) for one in JUDGED))
    return Aim(
        "memory and load inside the 90 % interval",
        share.value,
        share.low,
        share.high,
        ">= 0.85",
        share.value >= 0.85,
    )


def main() -> None:
    run("forecast", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
