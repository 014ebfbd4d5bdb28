"""Real models in bounded memory: Studium's planner against byte-aware LRU and ask-in-order, and a memory thief.

The embedded students and random-weight GGUF files, of which somewhat under half fit at once, are asked the
same mixed trace under each policy in turn, by the same residency and the same llama.cpp engine: interactive
asks (Zipf), a session that goes round its members and says who is next, and a burst. Every repeat draws a new
trace and begins with another policy. Waits count from the ask to its seat. The resident memory (RSS, shared
pages in full) of all worker processes is read every 20 ms from the kernel, not by the fleet. In the thief's
run another process fills a third of the budget in mid-trace, on a machine declared to have no more memory
than the budget; everything that is free there is measured.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import psutil

from benchmarks.memory import Meter
from benchmarks.policies import ask_in_order, byte_lru
from benchmarks.random_models import write_random_gguf
from benchmarks.report import Aim, Report, run, say
from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.errors import StudiumError
from studium.fleet import Coming, Fleet
from studium.fleet.limits import Limits
from studium.fleet.plan import plan
from studium.fleet.residency import Planner
from studium.records.answers import MemoryMove, MoveKind
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.models import ModelSpec, Student
from studium.records.profiles import ModelProfile
from studium.records.scheduling import Priority
from studium.registry import embedded_students

SEED = 4_202_611
MIB = 2**20
OURS = "studium"
POLICIES: Mapping[str, Planner] = {OURS: plan, "byte-aware LRU": byte_lru, "ask in order": ask_in_order}
SHARE_THAT_FITS = 0.45
# What a thief leaves, two thirds, must still hold the largest model.
LARGEST_TIMES = 1.6
ASK_LIMIT_S = 90.0
SETTLED_AFTER_S = 3.0
THIEF = "import sys; held = bytearray(b'x' * int(sys.argv[1])); print(flush=True); sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    models_mb: Sequence[int]
    trace_s: float
    asks_per_s: float
    burst: int
    rounds: int
    repeats: int


FULL = Size(models_mb=(60, 120, 200, 300), trace_s=12.0, asks_per_s=2.5, burst=16, rounds=4, repeats=3)
QUICK = Size(models_mb=(60, 120), trace_s=5.0, asks_per_s=2.0, burst=6, rounds=2, repeats=1)


class Timed(NamedTuple):
    """One ask of a trace; `at_s` from its beginning. A session's asks follow on each other instead."""

    at_s: float
    student: Student
    priority: Priority
    tokens: int


class Fate(NamedTuple):
    priority: Priority
    wait_s: float
    failed: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trace under one policy."""

    fates: Sequence[Fate]
    makespan_s: float
    loads: int
    most_rss_bytes: int

    def waits(self, *classes: Priority) -> list[float]:
        return sorted(one.wait_s for one in self.fates if not classes or one.priority in classes)

    @property
    def failed(self) -> list[str]:
        return [one.failed for one in self.fates if one.failed]


class Trace(NamedTuple):
    timed: Sequence[Timed]
    session: Sequence[Timed]


def draw(students: Sequence[Student], size: Size, rng: Random) -> Trace:
    """Draw one mixed trace: who is popular, who is in the session and what the burst wants change with it."""
    popular = rng.sample(students, len(students))
    weights = [1 / (rank + 1) for rank in range(len(popular))]
    timed: list[Timed] = []
    at_s = rng.expovariate(size.asks_per_s)
    while at_s < size.trace_s:
        (who,) = rng.choices(popular, weights)
        timed.append(Timed(at_s, who, Priority.INTERACTIVE, rng.randint(8, 24)))
        at_s += rng.expovariate(size.asks_per_s)
    burst_s = size.trace_s * rng.uniform(0.3, 0.6)
    timed += [
        Timed(burst_s, rng.choice(students), Priority.EVALUATION, rng.randint(4, 12))
        for _ in range(size.burst)
    ]
    members = rng.sample(students, 4)
    session = [Timed(0.0, who, Priority.SESSION, 24) for _ in range(size.rounds) for who in members]
    return Trace(sorted(timed, key=lambda one: one.at_s), session)


class Runner:
    """Runs traces on fleets of its own; what was learned is carried from one to the next."""

    def __init__(self, students: Sequence[Student], budget_bytes: int) -> None:
        self.students = students
        self.budget_bytes = budget_bytes
        self.known: dict[str, ModelProfile] = {}

    def _fleet(self, planner: Planner, available: Callable[[], Mapping[str, int]] | None = None) -> Fleet:
        device = DeviceBudget("memory", DeviceKind.CPU, self.budget_bytes, "declared by the benchmark")
        return Fleet(
            {"llamacpp": LlamaCppEngine()},
            Limits(self.budget_bytes, max_models=len(self.students), devices=(device,)),
            known=self.known,
            save_profile=lambda profile: self.known.update({profile.model: profile}),
            record_run=lambda run: None,
            available=available,
            planner=planner,
        )

    async def learn(self) -> None:
        """Load, ask and unload every model twice, so that each policy knows what it may know."""
        fleet = self._fleet(plan)
        fleet.start()
        for _ in range(2):
            for student in self.students:
                await _one(fleet, Timed(0.0, student, Priority.INTERACTIVE, 16))
                await fleet.unload(student.model)
        await fleet.close()

    async def needs(self) -> list[int]:
        """Return the memory set aside for each model, the largest last."""
        fleet = self._fleet(plan)
        return sorted([await fleet.need_bytes(student.model) for student in self.students])

    async def run(
        self,
        trace: Trace,
        planner: Planner,
        *,
        available: Callable[[], Mapping[str, int]] | None = None,
        beside: Callable[[], Any] | None = None,
    ) -> Outcome:
        """Run one trace; `beside` is awaited alongside."""
        fleet, meter, moves = self._fleet(planner, available), Meter(), list[MemoryMove]()
        fleet.residency.listeners.append(moves.append)
        fleet.start()
        watching = asyncio.create_task(meter.watch())
        also = asyncio.create_task(beside()) if beside else None
        began = time.monotonic()
        try:
            fates = await asyncio.gather(
                *(_at(fleet, timed, began) for timed in trace.timed), _session(fleet, trace.session)
            )
            seconds = time.monotonic() - began
        finally:
            watching.cancel()
            if also is not None:
                await also
            await fleet.close()
        flat = [one for part in fates for one in (part if isinstance(part, list) else [part])]
        loads = sum(move.kind is MoveKind.LOAD for move in moves)
        return Outcome(flat, seconds, loads, meter.most_rss_bytes)


async def _at(fleet: Fleet, timed: Timed, began: float) -> Fate:
    await asyncio.sleep(max(0.0, began + timed.at_s - time.monotonic()))
    return await _one(fleet, timed)


async def _session(fleet: Fleet, asks: Sequence[Timed]) -> list[Fate]:
    """Ask one after the other, and say who is next: which a session knows."""
    fates: list[Fate] = []
    with fleet.expect() as expectation:
        for number, timed in enumerate(asks):
            coming, in_s = list[Coming](), fleet.run_seconds(timed.student)
            for later in asks[number + 1 : number + 3]:
                coming.append(Coming(later.student, in_s))
                in_s += fleet.run_seconds(later.student)
            expectation.change(coming)
            fates.append(await _one(fleet, timed))
    return fates


async def _one(fleet: Fleet, timed: Timed) -> Fate:
    ask = Ask(
        messages=(Message("user", "Tell me what you know of this, in a few words."),),
        sampling=Sampling(max_tokens=timed.tokens, temperature=0.0, seed=1),
    )
    began, waited_s, said = time.monotonic(), 0.0, False
    try:
        async with fleet.seat(timed.student, timeout_s=ASK_LIMIT_S, priority=timed.priority) as seat:
            waited_s = time.monotonic() - began
            async with aclosing(seat.generate(ask)) as pieces:
                async for piece in pieces:
                    said = said or isinstance(piece, Reply)
    except StudiumError as error:
        return Fate(timed.priority, waited_s or time.monotonic() - began, str(error))
    return Fate(timed.priority, waited_s, "" if said else "no reply")


class Thief:
    """A process that fills memory in mid-trace, and the small machine it shares with the workers."""

    def __init__(self, budget_bytes: int, takes_bytes: int, after_s: float) -> None:
        self._budget_bytes = budget_bytes
        self._takes_bytes = takes_bytes
        self._after_s = after_s
        self._process: subprocess.Popen[bytes] | None = None
        self.settled = Meter()
        self.rss_bytes = self.private_bytes = 0

    def available(self) -> Mapping[str, int]:
        """Return what is free of the machine: all of it less what our processes hold for themselves."""
        mine = psutil.Process()
        return {"memory": self._budget_bytes - sum(map(_private_bytes, mine.children(recursive=True)))}

    async def steal(self) -> None:
        """Come after a while, and stay until `leave`; watch the workers once they have had time to make room."""
        await asyncio.sleep(self._after_s)
        self._process = await asyncio.to_thread(self._start)
        running = psutil.Process(self._process.pid)
        self.rss_bytes, self.private_bytes = running.memory_info().rss, _private_bytes(running)
        await asyncio.sleep(SETTLED_AFTER_S)
        watching = asyncio.create_task(self.settled.watch())
        await asyncio.sleep(self._after_s)
        watching.cancel()

    def leave(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", THIEF, str(self._takes_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process


def _private_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        return memory.rss - memory.shared
    except psutil.Error:
        return 0


async def _measure(quick: bool) -> Report:
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="studium-benchmark-") as folder:
        shipped = [one for one in embedded_students().values() if not one.topics]
        students = [*shipped, *_random_students(Path(folder), size)]
        runner = Runner(students, 64 * 2**30)
        say("learning what each model costs")
        await runner.learn()
        needs = await runner.needs()
        runner.budget_bytes = max(round(SHARE_THAT_FITS * sum(needs)), round(LARGEST_TIMES * needs[-1]))
        outcomes: dict[str, list[Outcome]] = {name: [] for name in POLICIES}
        for repeat in range(size.repeats):
            trace = draw(students, size, Random(SEED + repeat))
            names = list(POLICIES)
            for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
                say(f"repeat {repeat + 1} of {size.repeats}: {name}")
                outcomes[name].append(await runner.run(trace, POLICIES[name]))
        say("a thief")
        thief = Thief(runner.budget_bytes, runner.budget_bytes // 3, size.trace_s / 3)
        robbed = await runner.run(
            draw(students, size, Random(SEED)), plan, available=thief.available, beside=thief.steal
        )
        thief.leave()
    return _report(runner, needs, outcomes, robbed, thief)


def _random_students(folder: Path, size: Size) -> list[Student]:
    students: list[Student] = []
    for megabytes in size.models_mb:
        path = write_random_gguf(folder / f"random-{megabytes}.gguf", megabytes, seed=megabytes)
        name = f"random-{megabytes}"
        students.append(Student(name, ModelSpec(name, "llamacpp", str(path), context_tokens=512)))
    return students


def _report(
    runner: Runner,
    needs: Sequence[int],
    outcomes: Mapping[str, Sequence[Outcome]],
    robbed: Outcome,
    thief: Thief,
) -> Report:
    budget = runner.budget_bytes
    rows = [_row(name, runs, budget) for name, runs in outcomes.items()]
    rows.append({**_row(f"{OURS}, a thief takes a third", [robbed], budget), "worst RSS": None})
    ours = outcomes[OURS]
    aims = [
        _against_best("mean wait", lambda one: fmean(one.waits()), outcomes),
        _against_best("95th percentile of the wait", lambda one: _p95(one.waits()), outcomes),
        _against_best("interactive mean wait", lambda one: fmean(one.waits(Priority.INTERACTIVE)), outcomes),
        _against_best("makespan", lambda one: one.makespan_s, outcomes),
    ]
    shares = [one.most_rss_bytes / budget for one in ours]
    most = max(shares)
    aims.append(Aim("worst resident memory / budget", most, min(shares), most, "<= 1", most <= 1))
    failures = len(robbed.failed) + sum(len(one.failed) for one in ours)
    aims.append(Aim("asks that failed, a thief's run included", failures, None, None, "0", failures == 0))
    left = budget - thief.private_bytes
    held = (thief.settled.most_rss_bytes - thief.rss_bytes) / left if thief.settled.samples else None
    note = f"from {SETTLED_AFTER_S:.0f} s after it came; mapped weights counted in full"
    met = None if held is None else held <= 1
    aims.append(Aim("workers' resident memory / what the thief left", held, None, None, "<= 1", met, note))
    notes = [
        f"{len(runner.students)} models need {sum(needs) / MIB:,.0f} MiB together, the budget is "
        f"{budget / MIB:,.0f} MiB",
        "low and high are the smallest and the largest of the repeats; each ratio compares runs of the same trace",
        *(f"failed: {text[:200]}" for one in (*ours, robbed) for text in one.failed[:3]),
    ]
    return Report(rows, aims, notes)


def _row(name: str, runs: Sequence[Outcome], budget: int) -> Mapping[str, Any]:
    return {
        "policy": name,
        "runs": len(runs),
        "asks": sum(len(one.fates) for one in runs),
        "failed": sum(len(one.failed) for one in runs),
        "mean wait s": fmean(fmean(one.waits()) for one in runs),
        "p95 wait s": fmean(_p95(one.waits()) for one in runs),
        "interactive s": fmean(fmean(one.waits(Priority.INTERACTIVE)) for one in runs),
        "session s": fmean(fmean(one.waits(Priority.SESSION)) for one in runs),
        "burst s": fmean(fmean(one.waits(Priority.EVALUATION)) for one in runs),
        "makespan s": fmean(one.makespan_s for one in runs),
        "loads": fmean(one.loads for one in runs),
        "worst RSS": f"{100 * max(one.most_rss_bytes for one in runs) / budget:.0f} %",
    }


def _against_best(
    what: str, figure: Callable[[Outcome], float], outcomes: Mapping[str, Sequence[Outcome]]
) -> Aim:
    """Compare ours with the better of the others, trace by trace."""
    others = [runs for name, runs in outcomes.items() if name != OURS]
    ratios = [
        figure(mine) / max(1e-9, min(figure(runs[number]) for runs in others))
        for number, mine in enumerate(outcomes[OURS])
    ]
    mean = fmean(ratios)
    aim = f"{what} / the better of the others"
    return Aim(aim, mean, min(ratios), max(ratios), "<= 1.05", mean <= 1.05)


def _p95(waits: Sequence[float]) -> float:
    return waits[max(0, -(-95 * len(waits) // 100) - 1)]


def main() -> None:
    run("residency", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
