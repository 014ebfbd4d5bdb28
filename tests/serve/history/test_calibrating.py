"""What students are calibrated on, and that grading keeps nobody waiting."""

import asyncio
from dataclasses import replace
from threading import Event

import pytest
from tests.serve.briefs import student

from studium.domains.arithmetic import Arithmetic
from studium.domains.catalogue import skills
from studium.domains.protocol import Problem
from studium.serve.history.calibrating import known_domains, run, tasks
from studium.serve.history.history import CALIBRATING, History
from studium.serve.history.reliability import Reliability
from studium.store import open_store

STUDENTS = {name: student(name) for name in "ab"}


@pytest.fixture
def history(tmp_path):
    store = open_store(tmp_path / "state.db")
    yield History(store, STUDENTS)
    store.close()


class Waits(Arithmetic):
    """A domain whose `verify` takes as long as others need to get their turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = Event()

    def verify(self, problem: Problem, reply: str) -> float | None:
        return float(self.turn.wait(3.0))


def test_the_loop_goes_on_while_a_domain_grades(history):
    """A program that hangs took seconds of everybody's time."""
    slow = Waits()
    (task,) = [
        replace(one, domain=slow)
        for one in tasks(["arithmetic"], 1, [STUDENTS["a"]], history.models, whole=False)
    ]

    async def ask(query):
        asyncio.get_running_loop().call_soon(slow.turn.set)
        said = {"student": "a", "fate": "answered", "text": "1", "answer": "1", "confidence": 0.5}
        return {"text": "1", "confidence": 0.5, "members": [said]}

    async def graded():
        return [one.score async for one in run([task], ask, history)]

    assert asyncio.run(graded()) == [1.0]
    assert list(history.scores(CALIBRATING).values()) == [1.0]


def test_students_are_calibrated_on_what_their_cards_or_grades_tell_of(history):
    assert known_domains(list(STUDENTS.values()), history.reliability) == list(skills())
    carded = [replace(STUDENTS["a"], skills={"sorting": 0.9, "no domain": 0.5}), STUDENTS["b"]]
    reliability = Reliability((), {one.name: one for one in carded}, history.models)
    assert known_domains(carded, reliability) == ["sorting"]
