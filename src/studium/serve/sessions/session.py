"""A session: cycles until the time is up. Each measures, selects, runs, records and learns (requirement SES-4).

Decisions are `decide.choose`, pure; the truth is the `Ledger`; the fleet alone loads and unloads. A session that
was stopped or killed goes on with the very plan of the cycle it was in, less what is recorded.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from studium.domains.topics import Topic
from studium.errors import ConfigurationError, EngineFailure, StudiumError, UnknownModel
from studium.fleet import Fleet
from studium.hardware import snapshot
from studium.records.hardware import HardwareSnapshot
from studium.records.models import Student
from studium.records.sessions import CyclePlan, CycleSummary, SessionState, SessionSummary, Skip
from studium.serve.sessions.cycle import Bounds, run_turns
from studium.serve.sessions.decide import choose, does_not_fit
from studium.serve.sessions.folder import SessionFolder
from studium.serve.sessions.learn import learn
from studium.serve.sessions.ledger import Ledger
from studium.serve.sessions.limits import FEWEST_TOKENS, Allowance
from studium.serve.sessions.live import Live
from studium.serve.sessions.projections import project_cycle, rebuild
from studium.serve.sessions.refusals import nothing_fits
from studium.serve.sessions.room import Room, measure_room
from studium.serve.sessions.turns import Desk
from studium.serve.sessions.worth import TOO_LITTLE, Candidate, Outlook

LOOK_S = 0.5
FRUITLESS_CYCLES = 3
# Cycles whose length tells how many more there will be.
RECENT_CYCLES = 5


@dataclass(frozen=True, slots=True)
class Declared:
    """What a declaration says of a student's run, where it says anything: memory and seconds."""

    needs_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Means:
    """What a session may use beside the memory its fleet has: models at once, and seconds of one wait and ask."""

    max_models: int = 6
    seat_s: float = 180.0
    longest_ask_s: float = 180.0
    shortest_ask_s: float = 5.0


class Session:
    """One process's run of a session. `tell` is given lines for people as things happen, also from threads.

    `under_way` is set once its record says that it runs.
    """

    def __init__(
        self,
        fleet: Fleet,
        students: Mapping[str, Student],
        topic: Topic,
        folder: SessionFolder,
        ledger: Ledger,
        means: Means,
        *,
        tell: Callable[[str], None],
        declared: Mapping[str, Declared] | None = None,
        read_hardware: Callable[[], HardwareSnapshot] = snapshot,
    ) -> None:
        before = ledger.summary()
        self._plan = before.plan
        self._fleet = fleet
        self._students = {name: students[name] for name in self._plan.students if name in students}
        self._topic = topic
        self._folder = folder
        self._ledger = ledger
        self._means = means
        self._tell = tell
        self._declared = declared or {}
        self._read_hardware = read_hardware
        self._live = Live(active_seconds=before.active_seconds)
        self._desk = Desk(
            fleet, self._students, topic, folder, ledger, seed=self._plan.seed, live=self._live, tell=tell
        )
        self._ran_before = before.active_seconds
        self._began = time.monotonic()
        self._cycle_before = 0.0
        self._cycle_began = self._began
        self._trouble: StudiumError | None = None
        self._stop = asyncio.Event()
        self.under_way = asyncio.Event()
        self._fruitless = 0
        self._told: set[str] = set()

    def stop(self) -> None:
        """Ask the session to end after the runs that are at work. From its own event loop."""
        self._stop.set()

    async def run(self) -> SessionSummary:
        """Run cycles until the time, the cycles or the tokens are used up, or somebody stops it.

        Raises DoesNotFit, UnknownModel, EngineFailure (nobody could answer for three cycles) or StoreUnavailable;
        what was recorded stays, and the session can be resumed. Cancelling withdraws the runs at work.
        """
        await asyncio.to_thread(self._take_up)
        self.under_way.set()
        watching = asyncio.create_task(self._watch(), name="session watch")
        state, reason = SessionState.STOPPED, "interrupted"
        try:
            reason = await self._cycles()
            state = SessionState.STOPPED if self._stop.is_set() else SessionState.FINISHED
        except StudiumError as error:
            reason = error.happened
            raise
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await asyncio.to_thread(self._settle, state, reason)
        return await asyncio.to_thread(self._ledger.summary)

    def _take_up(self) -> None:
        """Put the files in order, recall what was learnt, and say that the session runs."""
        missing = [name for name in self._plan.students if name not in self._students]
        if not self._students:
            raise ConfigurationError(
                f"none of the session's students is in the roster: {', '.join(missing)}",
                expected="at least one of them",
                try_next="see: studium students list",
            )
        for name in missing:
            self._tell(f"{name} is no longer in the roster and is left out")
        made = rebuild(self._folder, self._ledger, self._topic.prefix)
        if made:
            self._tell(f"{made} missing files were written again from the record")
        self._folder.stop.unlink(missing_ok=True)
        self._desk.recall()
        self._ledger.set_state(SessionState.RUNNING, "")
        self._read_hardware()  # the first reading of the processor's load is always 0

    def _settle(self, state: SessionState, reason: str) -> None:
        """Write how it ended, as far as the disk allows: what matters is recorded already."""
        with suppress(StudiumError):
            self._ledger.tick(self._active_s(), self._live.cycle, self._cycle_s())
            self._ledger.set_state(state, reason)
        self._folder.status.unlink(missing_ok=True)
        self._folder.stop.unlink(missing_ok=True)

    async def _cycles(self) -> str:
        """Run cycles and return why they ended."""
        while True:
            if self._stop.is_set():
                return "stopped"
            last = await asyncio.to_thread(self._ledger.cycles, RECENT_CYCLES)
            if over := self._over(last):
                return over
            under_way = last[-1] if last and not last[-1].ended else None
            plan = await self._begin(under_way, last)
            if isinstance(plan, str):
                return plan
            await self._carry_out(plan, under_way)
            if self._trouble is not None:
                raise self._trouble

    def _over(self, last: list[CycleSummary]) -> str:
        """Return why no further cycle begins; empty where one does."""
        if self._remaining_s() <= 0:
            return "the time is up"
        ended = [one for one in last if one.ended]
        most = self._plan.max_cycles
        if most is not None and ended and ended[-1].cycle >= most:
            return f"{most} cycles are done" if most != 1 else "1 cycle is done"
        left = self._tokens_left()
        if left is not None and left < FEWEST_TOKENS:
            return "the token budget is used up"
        return ""

    async def _begin(self, under_way: CycleSummary | None, last: list[CycleSummary]) -> CyclePlan | str:
        """Measure and select: return the plan of the cycle to run, or why there is nothing to run."""
        self._live.phase = "measuring"
        room = await self._measure()
        candidates, skips = await self._candidates()
        self._candidates_now = {one.student: one for one in candidates}
        self._room_now = room
        self._cycle_before = under_way.seconds if under_way else 0.0
        self._cycle_began = time.monotonic()
        if under_way is not None:
            self._live.cycle = under_way.cycle
            self._tell(f"cycle {under_way.cycle} goes on")
            return under_way.plan
        self._live.phase = "selecting"
        cycle = last[-1].cycle + 1 if last else 1
        outlook = Outlook(
            cycle=cycle,
            room_bytes=room.bytes,
            largest_bytes=room.largest_bytes,
            remaining_s=self._remaining_s(),
            tokens=Allowance(self._tokens_left(), self._cycles_left(last)),
            max_models=self._means.max_models,
            longest_ask_s=self._means.longest_ask_s,
            shortest_ask_s=self._means.shortest_ask_s,
        )
        forecasts = learn(self._desk.trials, list(self._students))
        plan = choose(candidates, forecasts, outlook, learned=self._plan.learn)
        plan = replace(plan, skips=(*plan.skips, *skips))
        if not plan.turns:
            return self._nothing_to_run(plan, candidates, room)
        self._live.cycle = cycle
        await asyncio.to_thread(self._ledger.begin_cycle, plan, room.bytes, room.hardware)
        self._tell(f"cycle {cycle}: {', '.join(turn.student for turn in plan.turns)}")
        self._tell_skips(plan.skips)
        return plan

    async def _carry_out(self, plan: CyclePlan, under_way: CycleSummary | None) -> None:
        """Run, record and learn: the turns of a plan that are not recorded yet, then the cycle's report."""
        self._live.phase = "running"
        done: set[str] = set()
        if under_way is not None:
            done = {run.run.student for run in await asyncio.to_thread(self._ledger.runs, plan.cycle)}
        turns = [t for t in plan.turns if t.student not in done and t.student in self._candidates_now]
        room, largest = self._room_now.bytes, self._room_now.largest_bytes
        unfit = [t for t in turns if self._candidates_now[t.student].needs_bytes > largest]
        skips = [
            Skip(t.student, does_not_fit(self._candidates_now[t.student].needs_bytes, largest)) for t in unfit
        ]
        skips += await run_turns(
            self._desk,
            plan.cycle,
            [turn for turn in turns if turn not in unfit],
            self._candidates_now,
            Bounds(room, self._means.max_models, self._means.seat_s, self._remaining_s),
            stop=self._stop,
            live=self._live,
        )
        if self._stop.is_set():
            missing = {turn.student for turn in turns} - {skip.student for skip in skips}
            runs = {run.run.student for run in await asyncio.to_thread(self._ledger.runs, plan.cycle)}
            if missing - runs:
                return  # the cycle is left open; resume goes on with it
        self._live.phase = "recording"
        await asyncio.to_thread(self._end_cycle, replace(plan, skips=(*plan.skips, *skips)))

    def _end_cycle(self, plan: CyclePlan) -> None:
        self._ledger.end_cycle(plan, self._active_s(), self._cycle_s())
        summary = self._ledger.cycles(last=1)[-1]
        project_cycle(self._folder, self._ledger, summary)
        rate = summary.useful_per_hour
        self._tell(
            f"cycle {summary.cycle}: {summary.useful} useful of {summary.runs} in {summary.seconds:.1f} s"
            + (f", {rate:,.0f} an hour" if rate is not None else "")
        )
        self._fruitless = 0 if summary.runs > summary.failed else self._fruitless + 1
        if self._fruitless >= FRUITLESS_CYCLES and self._remaining_s() > 0:
            errors = [skip.reason for skip in summary.plan.skips]
            errors += [run.error for run in self._ledger.runs(summary.cycle) if run.error]
            raise EngineFailure(
                f"nobody gave an answer in {FRUITLESS_CYCLES} cycles in a row",
                expected=f"at least one; the last said: {errors[-1] if errors else 'nothing'}",
                try_next=f"see: studium doctor; then: studium session resume {self._plan.name}",
            )

    def _nothing_to_run(self, plan: CyclePlan, candidates: list[Candidate], room: Room) -> str:
        """Return why no student can run; raises where somebody can do something about it."""
        if not candidates:
            assert self._missing is not None
            raise self._missing
        if all(one.needs_bytes > room.largest_bytes for one in candidates):
            needs = {one.student: one.needs_bytes for one in candidates}
            raise nothing_fits(needs, room.largest_bytes, room.source, self._plan.name)
        fitting = {one.student for one in candidates if one.needs_bytes <= room.largest_bytes}
        reasons = [skip.reason for skip in plan.skips if skip.student in fitting]
        return f"no further run: {reasons[-1]}" if reasons else "no further run"

    def _tell_skips(self, skips: Sequence[Skip]) -> None:
        """Name who is left out for now; other reasons are told in full, once for each student."""
        pausing = [skip.student for skip in skips if skip.reason.startswith(TOO_LITTLE)]
        if pausing:
            self._tell(f"  left out for now: {', '.join(pausing)}")
        for skip in skips:
            if skip.student not in pausing and skip.student not in self._told:
                self._told.add(skip.student)
                self._tell(f"  {skip.student} does not run: {skip.reason}")

    async def _measure(self) -> Room:
        hardware = await asyncio.to_thread(self._read_hardware)
        residency = self._fleet.residency
        where, held = residency.whereabouts(), Counter[str]()
        for one in await self._fleet.residences():
            held[where.get(one.model, "")] += one.resident_bytes or 0
        room = measure_room(hardware, residency.limits.homes, held)
        self._live.room_bytes, self._live.room_source = room.bytes, room.source
        return room

    async def _candidates(self) -> tuple[list[Candidate], list[Skip]]:
        """Return the students whose model's need is known, and those whose model is not there."""
        self._missing: StudiumError | None = None
        resident = set(self._fleet.residency.resident())
        candidates: list[Candidate] = []
        skips: list[Skip] = []
        for name, student in self._students.items():
            declared = self._declared.get(name)
            try:
                needs = await self._fleet.need_bytes(student.model)
            except StudiumError as error:
                if isinstance(error, UnknownModel):
                    error = self._desk.explain_missing(student, error)
                    self._told.add(name)
                self._missing = error
                skips.append(Skip(name, error.happened))
                continue
            candidates.append(
                Candidate(
                    student=name,
                    model=student.model.name,
                    needs_bytes=declared.needs_bytes if declared and not self._plan.learn else needs,
                    priority=student.priority,
                    resident=student.model.name in resident,
                    most_tokens=_most_tokens(student),
                    slots=student.model.slots,
                    declared_s=declared.seconds if declared else None,
                )
            )
        return candidates, skips

    async def _watch(self) -> None:
        """Twice a second: tell what goes on, count the time, look whether somebody wants it to stop."""
        while True:
            try:
                await asyncio.to_thread(self._look)
            except StudiumError as error:
                self._trouble = error
                self._stop.set()
                return
            if self._folder.stop.exists():
                self._stop.set()
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        live = self._live
        live.active_seconds, live.cycle_seconds = self._active_s(), self._cycle_s()
        live.reserved_bytes = self._fleet.residency.reserved_bytes()
        live.resident = self._fleet.residency.resident()
        live.hardware = asdict(self._read_hardware())
        self._ledger.tick(live.active_seconds, live.cycle, live.cycle_seconds)
        live.write(self._folder)

    def _active_s(self) -> float:
        return self._ran_before + time.monotonic() - self._began

    def _cycle_s(self) -> float:
        return self._cycle_before + time.monotonic() - self._cycle_began

    def _remaining_s(self) -> float:
        return self._plan.duration_s - self._active_s()

    def _tokens_left(self) -> int | None:
        budget = self._plan.token_budget
        return None if budget is None else max(0, budget - self._desk.tokens)

    def _cycles_left(self, last: list[CycleSummary]) -> float:
        """Return how many cycles there will be, this one included, from how long the latest took."""
        lengths = [one.seconds for one in last if one.ended and one.seconds > 0]
        by_time = self._remaining_s() / fmean(lengths) if lengths else 1.0
        if self._plan.max_cycles is None:
            return max(1.0, by_time)
        by_count = self._plan.max_cycles - (last[-1].cycle if last else 0)
        return max(1.0, min(by_time, by_count) if lengths else by_count)


def _most_tokens(student: Student) -> int:
    """Half the context: the other half is for the question."""
    half = max(FEWEST_TOKENS, student.model.context_tokens // 2)
    return min(half, student.sampling.max_tokens or half)
