"""Asking students problems whose answers are known, to learn how reliable they are and what their confidence is worth.

The problems come from the side of the split that is kept for scores, the same ones every time; a grade's key names
student, model and problem, so that what was asked once is not asked again and an interrupted run goes on.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from studium.domains.catalogue import all_domains, domain
from studium.domains.protocol import Domain, Problem, Split, make_split
from studium.errors import StudiumError
from studium.fleet import Fleet
from studium.records.answers import Fate, Query
from studium.records.grades import WHOLE, Grade, GradeSource
from studium.records.messages import Message
from studium.records.models import Student
from studium.serve.history import CALIBRATING, History
from studium.serve.team import AUTO

Json = dict[str, Any]
Ask = Callable[[Query], Awaitable[Json]]
"""Puts a query to an ensemble and returns the answer as `report.whole` writes it, with what everybody said."""

_GRADED = (Fate.ANSWERED, Fate.ABSTAINED, Fate.UNREADABLE)


@dataclass(frozen=True, slots=True)
class Task:
    """One problem for one student; for WHOLE, for the ensemble."""

    student: str
    model: str
    domain: Domain
    problem: Problem

    @property
    def key(self) -> str:
        return "\n".join((CALIBRATING, self.student, self.model, self.domain.name, self.problem.key))


class Progress(NamedTuple):
    """How far a run has come; `score` None where nothing could be graded."""

    done: int
    total: int
    seconds_left: float
    task: Task
    score: float | None
    error: str = ""


def tasks(
    domains: Sequence[str],
    num_problems: int,
    students: Sequence[Student],
    models: Mapping[str, str],
    *,
    whole: bool,
) -> list[Task]:
    """Return what there is to ask, student by student, so that each is loaded once. Raises CallerError.

    Without names, every domain that makes problems; its levels take turns.
    """
    chosen = [domain(name) for name in domains] or [one for one in all_domains().values() if one.levels]
    problems = [(one, problem) for one in chosen for problem in _problems(one, num_problems)]
    asked = [(student.name, models[student.name]) for student in students] + ([(WHOLE, "")] if whole else [])
    return [Task(name, model, one, problem) for name, model in asked for one, problem in problems]


def estimate(left: Sequence[Task], students: Mapping[str, Student], fleet: Fleet) -> dict[str, Json]:
    """Return the questions and the seconds, about, by student; what auto takes is not foreseen: None."""
    found: dict[str, Json] = {}
    for name in dict.fromkeys(task.student for task in left):
        number = sum(task.student == name for task in left)
        student = students.get(name)
        load_s = fleet.seconds_to_answer(student) - fleet.run_seconds(student) if student else 0.0
        seconds = load_s + number * fleet.run_seconds(student) if student else None
        found[name or AUTO] = {"questions": number, "seconds": seconds}
    return found


async def run(left: Sequence[Task], ask: Ask, history: History) -> AsyncIterator[Progress]:
    """Ask one after the other and record each grade before the next. A student that fails is asked again next time."""
    began = time.monotonic()
    for number, task in enumerate(left, start=1):
        score, error = None, ""
        try:
            told = await ask(_query(task))
            if (grade := _grade(task, told, history)) is not None:
                score = grade.score
                await history.record([grade])
        except StudiumError as caught:
            error = caught.happened
        spent = time.monotonic() - began
        yield Progress(number, len(left), spent / number * (len(left) - number), task, score, error)


def _problems(of: Domain, number: int) -> list[Problem]:
    """Return different problems, the same ones every time, the first of a larger number first."""
    found: dict[str, Problem] = {}
    for place in range(20 * number):
        level = of.levels[place % len(of.levels)]
        problem = make_split(of, Random(f"calibrate/{of.name}/{place}"), level, Split.SCORING)
        found.setdefault(problem.key, problem)
        if len(found) == number:
            break
    return list(found.values())


def _query(task: Task) -> Query:
    return Query(
        messages=(Message("user", task.problem.prompt),),
        model=task.student or AUTO,
        domain=task.domain.name,
        top_logprobs=0,  # for the student's own confidence
        request_id=f"{CALIBRATING}{Random(task.key).getrandbits(64):016x}",
        cache=False,
        refine=False,
    )


def _grade(task: Task, told: Json, history: History) -> Grade | None:
    """Return the grade of an answer; None where the student did not get to speak or cannot be graded.

    A decline is no right answer, as in the cards.
    """
    said, confidence = told["text"], history.calibration.before(told["confidence"])
    if task.student != WHOLE:
        member = next((one for one in told["members"] if one["student"] == task.student), None)
        if member is None or member["fate"] not in _GRADED:
            return None
        said = member["text"]
        confidence = member["confidence"] if member["fate"] == Fate.ANSWERED else None
    score = task.domain.verify(task.problem, said)
    if score is None:
        return None
    return Grade(
        at=time.time(),
        request_id=f"{CALIBRATING}{task.problem.key[:80]}",
        student=task.student,
        kind=task.domain.name,
        source=GradeSource.VERIFIER,
        score=score,
        model=task.model,
        confidence=confidence,
        key=task.key,
    )
