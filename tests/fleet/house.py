"""A fleet of scripted models, with what it recorded."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from studium.engines.scripted import ModelScript, ScriptedEngine
from studium.fleet import Fleet
from studium.fleet.limits import Limits
from studium.fleet.plan import plan
from studium.fleet.residency import Planner
from studium.records.messages import Ask, Message, Reply
from studium.records.models import ModelSpec, Student
from studium.records.runs import StudentRun

MIB = 2**20
ASK = Ask(messages=(Message("user", "hello"),))


def script(megabytes: int = 40, **more: object) -> ModelScript:
    return ModelScript(default=("hi there",), resident_bytes=megabytes * MIB, **more)  # type: ignore[arg-type]


def student(name: str, *, slots: int = 1) -> Student:
    return Student(name, ModelSpec(name, "scripted", name, slots=slots))


class House:
    """A fleet under test with what it recorded."""

    def __init__(
        self,
        models: dict[str, ModelScript],
        budget_mib: int,
        available: Callable[[ScriptedEngine], Mapping[str, int]] | None = None,
        planner: Planner = plan,
        **limits: object,
    ) -> None:
        self.engine = ScriptedEngine(models)
        self.runs: list[StudentRun] = []
        self.fleet = Fleet(
            {"scripted": self.engine},
            Limits(budget_mib * MIB, **limits),  # type: ignore[arg-type]
            known={},
            save_profile=lambda profile: None,
            record_run=self.runs.append,
            available=None if available is None else lambda: available(self.engine),
            planner=planner,
        )

    @property
    def most_occupied_mib(self) -> float:
        return max(event.occupied_bytes for event in self.engine.events) / MIB

    async def ask(self, who: Student, *, timeout_s: float = 5.0, ask: Ask = ASK, **more: Any) -> str:
        async with (
            self.fleet.seat(who, timeout_s=timeout_s, **more) as seat,
            aclosing(seat.generate(ask)) as pieces,
        ):
            async for piece in pieces:
                if isinstance(piece, Reply):
                    return piece.text
        raise AssertionError("no reply")


@asynccontextmanager
async def house(
    models: dict[str, ModelScript],
    budget_mib: int = 100,
    available: Callable[[ScriptedEngine], Mapping[str, int]] | None = None,
    planner: Planner = plan,
    **limits: object,
) -> AsyncIterator[House]:
    """Open a house of scripted models; `available` measures what is free, given the engine."""
    made = House(models, budget_mib, available, planner, **limits)
    made.fleet.start()
    try:
        yield made
    finally:
        await made.fleet.close()


async def eventually(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until something holds; fail when it does not within the limit."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.005)
