"""Briefs for tests of strategies: students by letter, a world in which everything is quick and fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studium.records.answers import Complexity
from studium.records.messages import Ask, Message
from studium.records.models import Capabilities, ModelSpec, Student
from studium.serve.calls import Brief, Known, Stage


def student(name: str) -> Student:
    return Student(name, ModelSpec(name, "scripted", name))


@dataclass(frozen=True)
class World:
    """An outlook that a test lays down: seconds to an answer by name (1 s where it says nothing)."""

    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    loads: Mapping[str, float] = field(default_factory=dict[str, float])
    room: int = 100
    left_s: float = 1000.0
    able: Capabilities = field(default_factory=lambda: Capabilities(manages_memory=True))

    def seconds_to_answer(self, student: Student) -> float:
        return self.seconds.get(student.name, 1.0)

    def seconds_to_load(self, student: Student) -> float:
        return self.loads.get(student.name, 0.0)

    def fit_together(self, students: Sequence[Student]) -> bool:
        return len({one.model.name for one in students}) <= self.room

    def seconds_left(self) -> float:
        return self.left_s

    def capabilities(self, student: Student) -> Capabilities:
        return self.able


def brief(
    names: str,
    reserves: str = "",
    also: str = "",
    *,
    reliability: Mapping[str, float] | None = None,
    world: World | None = None,
    **changes: Any,
) -> Brief:
    """Return a brief for students named by one letter each; `changes` are fields of `Brief`."""
    known = {name: Known((reliability or {}).get(name, 0.5), 20.0, name) for name in names + reserves + also}
    fields: dict[str, Any] = {
        "students": tuple(map(student, names)),
        "reserves": tuple(map(student, reserves)),
        "ask": Ask(messages=(Message("user", "What is 2 + 2?"),)),
        "question": "What is 2 + 2?",
        "domain": "sums",
        "kind": "sums",
        "recognised": True,
        "same": lambda one, other: one == other,
        "extract": lambda text: text or None,
        "known": known,
        "stages": (Stage(Complexity.MEDIUM, 1, len(names), 1.0),),
        "outlook": world or World(),
    }
    return Brief(**(fields | changes))
