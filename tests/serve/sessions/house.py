"""A session of scripted students on a topic whose judge looks for the word "good"."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from studium.domains.topics import Assignment, Judgement
from studium.engines.scripted import ModelScript, ScriptedEngine
from studium.fleet import Fleet
from studium.fleet.residency import Limits
from studium.records.hardware import HardwareSnapshot
from studium.records.models import ModelSpec, Student
from studium.records.sessions import SessionPlan, SessionSummary
from studium.serve.sessions.folder import SessionFolder
from studium.serve.sessions.ledger import Ledger
from studium.serve.sessions.opening import begin, take_up
from studium.serve.sessions.ownership import owned
from studium.serve.sessions.session import Means, Session

MIB = 2**20


@dataclass
class Words:
    """Whoever says "good" proposes something useful; its claim is that of its student and cycle, or `same`."""

    name: str = "words"
    prefix: str = "wd"
    title: str = "Good words"
    same: bool = False
    assigned: list[tuple[str, int]] = field(default_factory=list)

    def assign(self, student: str, cycle: int, rng: Random, known: Collection[str]) -> Assignment:
        self.assigned.append((student, cycle))
        key = "the only claim" if self.same else f"{student}-{cycle}"
        return Assignment("words", f"Say something, {student} ({rng.randrange(10**6)})", {"key": key})

    def judge(self, assignment: Assignment, reply: str, known: Collection[str]) -> Judgement:
        key = assignment.facts["key"]
        useful = "good" in reply and key not in known
        return Judgement(1.0 if useful else 0.0, useful, (key,), "it is good" if useful else "nothing new")


def student(name: str, **more: object) -> Student:
    priority = more.pop("priority", 0)
    return Student(name, ModelSpec(name, "scripted", name, **more), priority=priority)  # type: ignore[arg-type]


def says(text: str = "a good one", mib: int = 40, **more: object) -> ModelScript:
    return ModelScript(default=(text,), resident_bytes=mib * MIB, **more)  # type: ignore[arg-type]


def roomy() -> HardwareSnapshot:
    return HardwareSnapshot(0.0, 64 << 30, 60 << 30, 4 << 30, 10.0)


class House:
    """A fleet, a roster and a workspace; sessions are run in it with `run`."""

    def __init__(self, workspace: Path, models: Mapping[str, ModelScript], budget_mib: int) -> None:
        self.workspace = workspace
        self.engine = ScriptedEngine(models)
        self.students = {name: student(name) for name in models}
        self.fleet = Fleet(
            {"scripted": self.engine},
            Limits(budget_mib * MIB),
            known={},
            save_profile=lambda profile: None,
            record_run=lambda run: None,
        )
        self.topic = Words()
        self.told: list[str] = []
        self.session: Session | None = None

    def folder(self, name: str = "s1") -> SessionFolder:
        return SessionFolder(self.workspace, name)

    def plan(self, name: str = "s1", **more: object) -> SessionPlan:
        fields = {"duration_s": 30.0, "max_cycles": 1, "students": tuple(self.students)} | more
        return SessionPlan(name, "words", **fields)  # type: ignore[arg-type]

    def means(self, **more: object) -> Means:
        return Means(seat_s=10.0, **more)  # type: ignore[arg-type]

    async def run(
        self, plan: SessionPlan | None = None, *, hardware: HardwareSnapshot | None = None, **means: object
    ) -> SessionSummary:
        plan = plan or self.plan()
        with owned(self.folder(plan.name).lock, plan.name):
            return await self._run(
                begin(self.folder(plan.name), plan, self.topic), plan.name, hardware, means
            )

    async def resume(self, name: str = "s1", **more: object) -> SessionSummary:
        with owned(self.folder(name).lock, name):
            return await self._run(take_up(self.folder(name), **more), name, None, {})  # type: ignore[arg-type]

    async def _run(
        self, ledger: Ledger, name: str, hardware: HardwareSnapshot | None, means: Mapping[str, object]
    ) -> SessionSummary:
        self.session = Session(
            self.fleet,
            self.students,
            self.topic,
            self.folder(name),
            ledger,
            self.means(**means),
            tell=self.told.append,
            read_hardware=lambda: hardware or roomy(),
        )
        try:
            return await self.session.run()
        finally:
            ledger.close()


@asynccontextmanager
async def house(
    workspace: Path, models: Mapping[str, ModelScript], budget_mib: int = 100
) -> AsyncIterator[House]:
    made = House(workspace, models, budget_mib)
    made.fleet.start()
    try:
        yield made
    finally:
        await made.fleet.close()
