"""Useful proposals an hour, cycle by cycle: a session that learns against the same session that keeps to declarations.

Six scripted students on a card that holds about two of them. Their roster declares memory and seconds wrong by a
factor of two, up or down by the toss of a coin; nobody declares how useful they are. Three arms run the very same
code, fleet, work and judge on the same seeds:

- `learned`: profiles and the order of cycles follow what was measured; first-cycle figures are the declared ones;
- `declared`: learning switched off, in the session and in the fleet: order and memory from the declaration;
- `declared, right`: the same with a declaration that is exact, to tell what wrong figures cost from what
  learning who is useful brings.

The card is enforced by the engine: a model that does not fit what is physically free fails to load, as on a GPU.
Whether a student knows a task is fixed by the task's number, so equal tasks get equal answers in every arm.
The embedded rows are real models on real problems, checked exactly, in memory for two.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import Aim, Report, run, say
from studium.domains.topic_catalogue import topic as topic_named
from studium.domains.topics import Assignment, Judgement, Topic
from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.engines.protocol import Engine
from studium.engines.scripted import ModelScript, Rule, ScriptedEngine
from studium.errors import DoesNotFit
from studium.evals.intervals import Interval
from studium.fleet import Fleet
from studium.fleet.profiles import Profiles
from studium.fleet.residency import Limits, Residency
from studium.hardware import snapshot
from studium.records.models import MemoryEstimate, ModelSpec, Residence, Student
from studium.records.profiles import ModelProfile
from studium.records.sessions import CycleSummary, SessionPlan
from studium.registry import embedded_students
from studium.serve.sessions.folder import SessionFolder
from studium.serve.sessions.ledger import Ledger
from studium.serve.sessions.opening import begin
from studium.serve.sessions.ownership import owned
from studium.serve.sessions.session import Declared, Means, Session

MB = 10**6
CYCLES = 10
BY_CYCLE = 5
CARD_MB = 100
AT_ONCE = 3
EMBEDDED_MB = 120
ARMS = ("learned", "declared", "declared, right")
KNOWS = (9, 7, 5, 3, 1, 0)  # of ten kinds of task
RESAMPLES = 2000


@dataclass(frozen=True)
class Nature:
    """What a student really is, and how wrong its declaration is (factors 0.5 or 2)."""

    name: str
    mb: int
    run_s: float
    load_s: float
    knows: int
    memory_factor: float
    seconds_factor: float


class Tasks:
    """Numbered tasks; whoever knows a task's kind claims something new with it."""

    name, prefix, title = "tasks", "tasks", "Numbered tasks"

    def assign(self, student: str, cycle: int, rng: Random, known: Collection[str]) -> Assignment:
        number = rng.randrange(10)
        return Assignment(
            "tasks", f"task {number} of {student} in cycle {cycle}", {"key": f"{student}/{cycle}"}
        )

    def judge(self, assignment: Assignment, reply: str, known: Collection[str]) -> Judgement:
        useful = "claim" in reply and assignment.facts["key"] not in known
        return Judgement(float(useful), useful, (assignment.facts["key"],) if useful else (), "")


class Card(ScriptedEngine):
    """Scripted models on a card of a fixed size, whose files promise other sizes than they have."""

    def __init__(self, models: Mapping[str, ModelScript], promised: Mapping[str, int]) -> None:
        super().__init__(models)
        self.promised = promised
        self.most_bytes = 0
        self.refused = 0

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        return MemoryEstimate(self.promised[model.name], 0, 0)

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        residence = await super().load(model, timeout_s=timeout_s)
        if self.occupied_bytes > CARD_MB * MB:
            self.refused += 1
            await self.unload(model)
            raise DoesNotFit(f"{model.name} does not fit what is free on the card")
        self.most_bytes = max(self.most_bytes, self.occupied_bytes)
        return residence


class Exaggerating(LlamaCppEngine):
    """The real engine, with estimates wrong by given factors."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        super().__init__()
        self.factors = factors

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        true = await super().estimate(model)
        return MemoryEstimate(round(true.total_bytes * self.factors.get(model.name, 1.0)), 0, 0)


class Unlearning(Profiles):
    """Profiles that learn nothing, so that the engine's estimate is all that is ever known."""

    def memory_bytes(self, model: ModelSpec, device: str = "") -> int | None:
        return None

    def estimated(self, model: ModelSpec, estimate: MemoryEstimate, device: str = "") -> int:
        return estimate.total_bytes

    def _keep(self, profile: ModelProfile) -> None:
        return


def natures(seed: int, *, mixed: bool = False) -> list[Nature]:
    """Return six students of one seed; `mixed` tosses the memory error for each instead of once for all."""
    rng = Random(seed)
    knows = rng.sample(KNOWS, len(KNOWS))
    memory_factor = (0.5, 2.0)[seed % 2]
    return [
        Nature(
            name=f"student-{index}",
            mb=(mb := rng.randrange(24, 49)),
            run_s=rng.uniform(0.06, 0.24),
            load_s=0.02 + mb / 600,
            knows=known,
            memory_factor=rng.choice((0.5, 2.0)) if mixed else memory_factor,
            seconds_factor=rng.choice((0.5, 2.0)),
        )
        for index, known in enumerate(knows)
    ]


async def one_session(
    arm: str,
    seed: int,
    cycles: int,
    students: Mapping[str, Student],
    engine: Engine,
    topic: Topic,
    budget_bytes: int,
    declared: Mapping[str, Declared],
) -> list[CycleSummary]:
    """Run one session in a folder of its own and return its cycles."""
    limits = Limits(budget_bytes, max_models=AT_ONCE)
    fleet = Fleet(
        {engine.name: engine},
        limits,
        known={},
        save_profile=lambda _profile: None,
        record_run=lambda _run: None,
    )
    if arm != "learned":
        fleet.profiles = Unlearning({}, lambda _profile: None)
        fleet.residency = Residency(fleet.engines, fleet.profiles, limits)
    fleet.start()
    plan = SessionPlan(
        f"seed-{seed}",
        topic.name,
        tuple(students),
        duration_s=600.0,
        max_cycles=cycles,
        seed=seed,
        learn=arm == "learned",
    )
    means = Means(max_models=AT_ONCE, seat_s=30.0)
    try:
        with tempfile.TemporaryDirectory(prefix="studium-benchmark-") as workspace:
            folder = SessionFolder(Path(workspace), plan.name)
            with owned(folder.lock, plan.name):
                ledger: Ledger = begin(folder, plan, topic)
                session = Session(
                    fleet,
                    students,
                    topic,
                    folder,
                    ledger,
                    means,
                    tell=lambda _line: None,
                    declared=declared,
                    read_hardware=snapshot,
                )
                try:
                    await session.run()
                    return ledger.cycles()
                finally:
                    ledger.close()
    finally:
        await fleet.close()


async def scripted(arm: str, seed: int, cycles: int, *, mixed: bool = False) -> list[CycleSummary]:
    there = natures(seed, mixed=mixed)
    if arm == "declared, right":
        there = [replace(one, memory_factor=1.0, seconds_factor=1.0) for one in there]
    scripts = {
        one.name: ModelScript(
            rules=(Rule(("a claim",), matches=rf"task [0-{one.knows - 1}] "),) if one.knows else (),
            default=("nothing new",),
            first_token_s=one.run_s,
            load_s=one.load_s,
            resident_bytes=one.mb * MB,
        )
        for one in there
    }
    promised = {one.name: round(one.mb * MB * one.memory_factor) for one in there}
    students = {one.name: Student(one.name, ModelSpec(one.name, "scripted", one.name)) for one in there}
    declared = {
        one.name: Declared(promised[one.name], (one.run_s + one.load_s) * one.seconds_factor) for one in there
    }
    return await one_session(
        arm, seed, cycles, students, Card(scripts, promised), Tasks(), CARD_MB * MB, declared
    )


async def embedded(arm: str, seed: int, cycles: int) -> list[CycleSummary]:
    """The students that ship, one factor for all of a seed's memory figures, in a budget that fits any one of them."""
    rng = Random(seed)
    students = {name: one for name, one in embedded_students().items() if not one.topics}
    names = rng.sample(sorted(students), len(students))
    memory_factor = 1.0 if arm == "declared, right" else (0.5, 2.0)[seed % 2]
    engine = Exaggerating(dict.fromkeys(names, memory_factor))
    # Without a first measurement nobody could declare their seconds right, so all are declared alike.
    declared = {
        name: Declared((await engine.estimate(students[name].model)).total_bytes, 1.0) for name in names
    }
    chosen = {name: students[name] for name in names}
    topic = topic_named("arithmetic")
    return await one_session(arm, seed, cycles, chosen, engine, topic, EMBEDDED_MB * MB, declared)


Runner = Callable[[str, int, int], Any]


async def measure(quick: bool) -> Report:
    cycles = BY_CYCLE if quick else CYCLES
    trials = await _all_arms("scripted", scripted, range(1, 5 if quick else 13), cycles, together=4)
    # Real models share the processor: one session at a time, or they would measure each other.
    real = await _all_arms("embedded", embedded, range(1, 3 if quick else 5), cycles, together=1)
    rows = [*_rows("scripted", trials, cycles), *_rows("embedded", real, cycles)]
    mixed: list[Aim] = []
    if not quick:
        seeds = range(1, 7)
        other = await _all_arms("mixed errors", partial(scripted, mixed=True), seeds, cycles, together=4)
        rows += _rows("mixed errors", other, cycles)
        found = _over(other, _from(1))
        mixed = [_aim("mixed errors: learned over declared, the whole session", found, 1.2)]
    aims = [
        _aim("scripted: learned, cycle 5 over cycle 1", _over_first(trials["learned"]), 1.2),
        _aim("scripted: learned over declared, cycle 5", _over(trials, _at(BY_CYCLE)), 1.2),
        _aim("scripted: learned over declared, cycle 5 to the end", _over(trials, _from(BY_CYCLE)), 1.2),
        _aim("scripted: learned over declared, the whole session", _over(trials, _from(1)), 1.2),
        _aim(
            "scripted: learned over exact declarations, the whole session",
            _over(trials, _from(1), "declared, right"),
            1.0,
        ),
        _aim("embedded: learned, cycle 5 over cycle 1", _over_first(real["learned"]), 1.2),
        _aim("embedded: learned over declared, cycle 5 to the end", _over(real, _from(BY_CYCLE)), 1.2),
        *mixed,
    ]
    notes = (
        "useful proposals an hour, pooled over seeds (sum of proposals over sum of seconds); intervals by bootstrap "
        "over seeds, learned and declared paired by seed",
        "in a first cycle every model has to be loaded, so part of 'over cycle 1' is not learning: "
        "compare with the declared arm",
        "price of learning: fewer students are heard in a cycle (last column); those left out are tried again",
        "scripted time is about 20 times as fast as small models on a small card; memory errors are the same for all "
        "students of a seed (odd seeds twice, even seeds half of the truth), errors in seconds are tossed for each; "
        "with 'mixed errors' memory is tossed for each as well: then what one model teaches misleads about the next, "
        "and one whose forecast passes the whole card is never tried",
    )
    return Report(rows, aims, notes)


async def _all_arms(
    what: str, runner: Runner, seeds: Sequence[int], cycles: int, *, together: int
) -> dict[str, list[list[CycleSummary]]]:
    """Run every arm on every seed, seed by seed, so that a machine others use too is the same for all arms."""
    places = asyncio.Semaphore(together)
    began = time.monotonic()

    async def one(arm: str, seed: int) -> list[CycleSummary]:
        async with places:
            return await runner(arm, seed, cycles)

    cells = [(arm, seed) for seed in seeds for arm in ARMS]
    sessions = await asyncio.gather(*(one(arm, seed) for arm, seed in cells))
    say(f"{what}: {len(cells)} sessions of {cycles} cycles in {time.monotonic() - began:.0f} s")
    return {arm: [cycle for (of, _), cycle in zip(cells, sessions, strict=True) if of == arm] for arm in ARMS}


def _rows(
    workload: str, trials: Mapping[str, Sequence[Sequence[CycleSummary]]], cycles: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm, sessions in trials.items():
        row: dict[str, Any] = {"workload": workload, "arm": arm, "sessions": len(sessions)}
        for number in range(1, cycles + 1):
            row[f"cycle {number}"] = round(_rate(sessions, _at(number)))
        whole = [cycle for session in sessions for cycle in session]
        row["whole session"] = round(_rate(sessions, _from(1)))
        row["failed loads and runs"] = sum(cycle.failed for cycle in whole)
        row["students a cycle, from 5 on"] = round(
            sum(c.runs for c in whole if c.cycle >= BY_CYCLE) / sum(c.cycle >= BY_CYCLE for c in whole), 1
        )
        rows.append(row)
    return rows


Chosen = Callable[[CycleSummary], bool]


def _at(number: int) -> Chosen:
    return lambda cycle: cycle.cycle == number


def _from(number: int) -> Chosen:
    return lambda cycle: cycle.cycle >= number


def _rate(sessions: Sequence[Sequence[CycleSummary]], chosen: Chosen) -> float:
    """Useful proposals an hour of the chosen cycles, pooled."""
    cycles = [cycle for session in sessions for cycle in session if chosen(cycle)]
    seconds = sum(cycle.seconds for cycle in cycles)
    return 3600 * sum(cycle.useful for cycle in cycles) / seconds if seconds > 0 else 0.0


def _over(
    trials: Mapping[str, Sequence[Sequence[CycleSummary]]], chosen: Chosen, base: str = "declared"
) -> Interval | None:
    pairs = list(zip(trials["learned"], trials[base], strict=True))
    return _bootstrap(
        pairs,
        lambda sample: _ratio(
            _rate([learned for learned, _ in sample], chosen), _rate([other for _, other in sample], chosen)
        ),
    )


def _over_first(sessions: Sequence[Sequence[CycleSummary]]) -> Interval | None:
    return _bootstrap(
        list(sessions), lambda sample: _ratio(_rate(sample, _at(BY_CYCLE)), _rate(sample, _at(1)))
    )


def _ratio(value: float, base: float) -> float | None:
    return value / base if base > 0 else None


def _bootstrap(items: Sequence[Any], statistic: Callable[[Sequence[Any]], float | None]) -> Interval | None:
    """Return a ratio with its 95 % percentile interval over resampled items; None where it cannot be told."""
    rng = Random(0)
    found = sorted(
        value for _ in range(RESAMPLES) if (value := statistic(rng.choices(items, k=len(items)))) is not None
    )
    whole = statistic(items)
    if whole is None or len(found) < RESAMPLES * 0.95:
        return None
    return Interval(whole, found[int(0.025 * len(found))], found[int(0.975 * len(found))])


def _aim(name: str, found: Interval | None, target: float) -> Aim:
    note = "" if found is not None else "too little was useful in the base to tell"
    if found is None:
        return Aim(name, None, None, None, f">= {target:g}", None, note)
    return Aim(name, found.value, found.low, found.high, f">= {target:g}", found.value >= target)


def main() -> None:
    run("session_learning", __doc__ or "", lambda quick: asyncio.run(measure(quick)))


if __name__ == "__main__":
    main()
