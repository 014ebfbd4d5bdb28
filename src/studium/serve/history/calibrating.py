"""Asking students problems whose answers are known: how reliable they are, and which of their replies go together.

The problems come from the side of the split that is kept for scores, the same ones every time; what was asked once, of
the same model, is not asked again, so an interrupted run goes on. A student that answered is asked once more, with
some chance: what a further try is worth beside the first. Only first tries are graded for reliability.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

from studium.domains.catalogue import all_domains, domain, skills
from studium.domains.protocol import Domain, Problem, Split, make_split
from studium.errors import StudiumError
from studium.fleet import Fleet
from studium.records.answers import Fate, Query
from studium.records.grades import WHOLE, Grade, GradedReply, GradeSource
from studium.records.messages import Ask as Question
from studium.records.messages import Message
from studium.records.models import Student
from studium.serve.history.history import CALIBRATING, History
from studium.serve.history.reliability import Reliability
from studium.serve.strategies.committee import again
from studium.serve.team.team import AUTO
from studium.store.replies import Asked

Json = dict[str, Any]
Ask = Callable[[Query], Awaitable[Json]]
"""Puts a query to an ensemble and returns the answer as `report.whole` writes it, with what everybody said."""

_GRADED = (Fate.ANSWERED, Fate.ABSTAINED, Fate.UNREADABLE)


@dataclass(frozen=True, slots=True)
class Task:
    """One problem for one student; for WHOLE, for the ensemble. `sample` above 0 is a further try."""

    student: str
    model: str
    domain: Domain
    problem: Problem
    sample: int = 0

    @property
    def key(self) -> str:
        return "\n".join((CALIBRATING, self.student, self.model, self.domain.name, self.problem.key))

    @property
    def question(self) -> str:
        """What tells its question apart, whoever is asked."""
        return "\n".join((CALIBRATING, self.domain.name, self.problem.key))

    @property
    def asked(self) -> Asked:
        return Asked(self.question, self.student, self.model, self.sample)

    @property
    def first(self) -> Asked:
        return self.asked._replace(sample=0)


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
    tries: int = 1,
) -> list[Task]:
    """Return what there is to ask, student by student, so that each is loaded once. Raises CallerError.

    Levels take turns. Every student is asked up to `tries` times.
    """
    chosen = [domain(name) for name in domains]
    problems = [(one, problem) for one in chosen for problem in _problems(one, num_problems)]
    of_students = [
        Task(student.name, models[student.name], one, problem, sample)
        for student in students
        for one, problem in problems
        for sample in range(tries)
    ]
    return of_students + [Task(WHOLE, "", one, problem) for one, problem in problems if whole]


def known_domains(students: Sequence[Student], reliability: Reliability) -> list[str]:
    """Return the domains of which a card or a grade of these students tells something.

    Where nothing is known of anybody: what the embedded students are taught, short problems that most models can try.
    """
    makes = [name for name, one in all_domains().items() if one.levels]
    known = [name for name in makes if any(reliability.evidence(one, name) > 0 for one in students)]
    return known or list(skills())


def done(task: Task, scores: Mapping[str, float], heard: Mapping[Asked, bool]) -> bool:
    """Say whether a task was carried out before: graded, and its reply kept beside what others say to it."""
    kept = task.student == WHOLE or task.asked in heard
    return kept and (task.sample > 0 or task.key in scores)


def left(planned: Sequence[Task], scores: Mapping[str, float], heard: Mapping[Asked, bool]) -> list[Task]:
    """Return what there is still to ask: no further try where the first is known to have given no answer."""
    return [
        task
        for task in planned
        if not done(task, scores, heard) and (task.sample == 0 or heard.get(task.first, True))
    ]


def estimate(to_ask: Sequence[Task], students: Mapping[str, Student], fleet: Fleet) -> dict[str, Json]:
    """Return the questions and the seconds, about, by student; what auto takes is not foreseen: None."""
    found: dict[str, Json] = {}
    for name in dict.fromkeys(task.student for task in to_ask):
        number = sum(task.student == name for task in to_ask)
        student = students.get(name)
        load_s = fleet.seconds_to_answer(student) - fleet.run_seconds(student) if student else 0.0
        seconds = load_s + number * fleet.run_seconds(student) if student else None
        found[name or AUTO] = {"questions": number, "seconds": seconds}
    return found


async def run(to_ask: Sequence[Task], ask: Ask, history: History) -> AsyncIterator[Progress]:
    """Ask one after the other and record each before the next. A student that fails is asked again next time.

    Further tries are left out where the first gave no answer.
    """
    began = time.monotonic()
    heard = dict(history.heard(CALIBRATING))
    for number, task in enumerate(to_ask, start=1):
        if task.sample and not heard.get(task.first):
            continue
        score, error = None, ""
        try:
            score = await _carry_out(task, ask, history, heard)
        except StudiumError as caught:
            error = caught.happened
        spent = time.monotonic() - began
        yield Progress(number, len(to_ask), spent / number * (len(to_ask) - number), task, score, error)


async def _carry_out(task: Task, ask: Ask, history: History, heard: dict[Asked, bool]) -> float | None:
    """Ask, record what came of it, and return the score; None where it cannot be graded."""
    told = await ask(_query(task))
    # A domain may run what was said, for seconds: meanwhile others are answered.
    grade = await asyncio.to_thread(_grade, task, told, history)
    if grade is None:
        return None
    replies = [] if task.student == WHOLE else [_reply(task, told, grade)]
    await history.record([] if task.sample else [grade], replies)
    heard.update((task.asked, bool(one.answer)) for one in replies)
    return grade.score


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
    messages = (Message("user", task.problem.prompt),)
    query = Query(
        messages=messages,
        model=task.student or AUTO,
        domain=task.domain.name,
        top_logprobs=0,  # for the student's own confidence
        request_id=f"{CALIBRATING}{Random(f'{task.key}/{task.sample}').getrandbits(64):016x}",
        cache=False,
        refine=False,
    )
    if not task.sample:
        return query
    return replace(query, sampling=again(Question(messages), task.sample).sampling)


def _grade(task: Task, told: Json, history: History) -> Grade | None:
    """Return the grade of an answer; None where the student did not get to speak or cannot be graded.

    A decline is no right answer, as in the cards.
    """
    text, confidence = told["text"], history.calibration.before(told["confidence"])
    if task.student != WHOLE:
        member = _member(task, told)
        if member is None or member["fate"] not in _GRADED:
            return None
        text = member["text"]
        confidence = member["confidence"] if member["fate"] == Fate.ANSWERED else None
    score = task.domain.verify(task.problem, text)
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


def _reply(task: Task, told: Json, grade: Grade) -> GradedReply:
    member = _member(task, told) or {}
    answer = member.get("answer") if member.get("fate") == Fate.ANSWERED else None
    return GradedReply(
        grade.at,
        task.question,
        grade.kind,
        task.student,
        task.model,
        task.sample,
        answer or "",
        grade.score == 1.0,
    )


def _member(task: Task, told: Json) -> Json | None:
    return next((one for one in told["members"] if one["student"] == task.student), None)
