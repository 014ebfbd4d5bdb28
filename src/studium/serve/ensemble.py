"""The one door: a question goes in, an answer with its evidence comes out.

Chooses strategy, students and domain for a query, has the driver carry it out, and writes the answer.
Knows no HTTP and loads no model.
"""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from difflib import get_close_matches

from studium.domains.catalogue import domain as domain_named
from studium.domains.catalogue import recognise
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.protocol import Domain
from studium.errors import (
    BadRequest,
    CallerError,
    EngineFailure,
    OperatorError,
    StudiumError,
    UnknownModel,
    Unsupported,
)
from studium.fleet import Fleet
from studium.records.answers import (
    Answer,
    AnswerEvent,
    AnswerStatus,
    Complexity,
    Delta,
    Fate,
    MemberReply,
    Query,
)
from studium.records.messages import Ask, Embeddings, Message
from studium.records.models import Student
from studium.serve.driver import Driver, Round
from studium.serve.strategies import STRATEGIES, Brief

AUTO = "auto"
VIRTUAL_MODELS = (AUTO, *(complexity.value for complexity in Complexity))


@dataclass(frozen=True, slots=True)
class EnsembleLimits:
    """Bounds of one complexity (requirement ENS-1)."""

    min_students: int
    max_students: int
    question_timeout_s: float
    student_timeout_s: float


@dataclass(frozen=True, slots=True)
class _Choice:
    """What was decided about a query before anybody is asked."""

    strategy: str
    complexity: Complexity
    limits: EnsembleLimits
    brief: Brief
    domain: Domain


class Ensemble:
    """Answers queries with the students of a roster."""

    def __init__(
        self,
        fleet: Fleet,
        students: Mapping[str, Student],
        limits: Mapping[Complexity, EnsembleLimits],
        *,
        default_complexity: Complexity = Complexity.MEDIUM,
    ) -> None:
        self._fleet = fleet
        self._students = students
        self._limits = limits
        self._default_complexity = default_complexity

    async def answer(self, query: Query) -> Answer:
        """Answer a query. Raises what `stream` raises."""
        async with aclosing(self._events(query, live=False)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event
        raise AssertionError("a stream of answer events ends with an Answer")

    def stream(self, query: Query) -> AsyncGenerator[AnswerEvent, None]:
        """Yield progress, the winning text in pieces, and last the Answer.

        A single student's words come as they are generated; a committee's once it is settled. Raises
        UnknownModel, BadRequest or another CallerError for a query that cannot be served as it stands, and
        the students' own error only when none of them left anything usable. Closing the generator
        stops all that was started.
        """
        return self._events(query, live=True)

    async def _events(self, query: Query, *, live: bool) -> AsyncGenerator[AnswerEvent, None]:
        began = time.monotonic()
        choice = self._choose(query)
        driver = Driver(
            self._fleet,
            _ask_of(query, choice, self._fleet, live=live),
            extract=choice.domain.extract,
            deadline=began + (query.timeout_s or choice.limits.question_timeout_s),
            model_timeout_s=choice.limits.student_timeout_s,
            members=choice.brief.students,
        )
        passed_on = False
        async with aclosing(driver.run(STRATEGIES[choice.strategy](choice.brief))) as events:
            async for event in events:
                if not isinstance(event, Round):
                    passed_on = passed_on or isinstance(event, Delta)
                    yield event
                    continue
                answer = self._write(query, choice, event, began)
                if not passed_on:
                    yield Delta(answer.text, answer.logprobs)
                yield answer

    async def embed(self, model: str, texts: Sequence[str], *, timeout_s: float = 60.0) -> Embeddings:
        """Embed texts with a named student, or with the first that can for a virtual model.

        Raises Unsupported where no student of the roster gives embeddings, UnknownModel.
        """
        able = [student for student in self._students.values() if student.model.embeddings]
        if model not in VIRTUAL_MODELS:
            student = self._student(model)
        elif able:
            student = able[0]
        else:
            raise Unsupported(
                "no model of the roster gives embeddings",
                expected="a model with `embeddings: true`",
                try_next="add an embedding model to studium.yaml under `models`, and a student that uses it",
            )
        async with self._fleet.seat(student, timeout_s=timeout_s) as seat:
            return await seat.embed(texts)

    def _choose(self, query: Query) -> _Choice:
        if not query.question.strip():
            raise BadRequest("the question is empty", expected="a message from the user with some text")
        complexity = query.complexity or self._default_complexity
        if query.model in VIRTUAL_MODELS:
            complexity = Complexity(query.model) if query.model != AUTO else complexity
            students = [self._student(name) for name in query.students] or self._generators()
            strategy = query.strategy or ("single" if len(students) == 1 else "committee")
        else:
            students, strategy = [self._student(query.model)], "single"
        if strategy not in STRATEGIES:
            raise BadRequest(f"unknown strategy {strategy!r}", expected=f"one of {', '.join(STRATEGIES)}")
        limits = self._limits[complexity]
        if query.domain:
            domain = domain_named(query.domain)
        elif len(students) == 1:  # nothing to compare, so nothing to recognise
            domain = OPEN_QUESTION
        else:
            domain = recognise(query.question) or OPEN_QUESTION
        return _Choice(strategy, complexity, limits, self._brief(students, strategy, limits, domain), domain)

    def _brief(
        self, students: Sequence[Student], strategy: str, limits: EnsembleLimits, domain: Domain
    ) -> Brief:
        """Order students by what they are known to be good at, then by who is in memory already."""
        resident = set(self._fleet.residency.resident())
        ranked = sorted(
            students,
            key=lambda one: (
                -round(one.skills.get(domain.name, 0.5), 1),
                one.model.name not in resident,
                -one.priority,
                one.name,
            ),
        )
        most = 1 if strategy == "single" else limits.max_students
        return Brief(tuple(ranked[:most]), tuple(ranked[most:]), domain.name, domain.same)

    def _generators(self) -> list[Student]:
        able = [student for student in self._students.values() if not student.model.embeddings]
        if not able:
            raise OperatorError(
                "the roster has no student that answers questions",
                expected="at least one student under `students`",
                try_next="add one to studium.yaml, or remove `students` to use the embedded ones",
            )
        return able

    def _student(self, name: str) -> Student:
        if name in self._students:
            return self._students[name]
        known = (*VIRTUAL_MODELS, *self._students)
        near = get_close_matches(name, known, n=1)
        raise UnknownModel(
            f"there is no model {name[:80]!r}",
            expected=f"one of {', '.join(known)}",
            try_next=f"did you mean {near[0]!r}?"
            if near
            else "see `studium students list` or GET /v1/models",
        )

    def _write(self, query: Query, choice: _Choice, done: Round, began: float) -> Answer:
        verdict, replies = done.verdict, done.replies
        if verdict.winner is None:
            raise _last_resort(done.errors)
        asked = [reply for reply in replies if reply.fate is not Fate.NOT_NEEDED]
        text = verdict.winner.text
        if verdict.status is AnswerStatus.UNABLE and len(asked) > 1:
            text = _cannot(asked)
        costs = [reply.cost_usd for reply in asked]
        allowed = len(choice.brief.students)
        flags = verdict.flags
        if choice.strategy == "committee" and allowed < choice.limits.min_students:
            flags = (*flags, "short_handed")
        return Answer(
            text=text,
            status=verdict.status,
            strategy=choice.strategy,
            complexity=choice.complexity,
            chosen_model=verdict.winner.student,
            agreement=verdict.agreement,
            confidence=verdict.confidence,
            members=replies if query.top_logprobs is not None else _without_logprobs(replies),
            seconds=time.monotonic() - began,
            prompt_tokens=sum(reply.prompt_tokens for reply in asked),
            completion_tokens=sum(reply.completion_tokens for reply in asked),
            answer=verdict.winner.answer,
            domain=choice.domain.name,
            calls_saved=max(0, allowed - len(asked)),
            cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
            moves=tuple(self._fleet.moves_since(began)),
            finish=verdict.winner.finish,
            flags=flags,
            logprobs=verdict.winner.logprobs if query.top_logprobs is not None else (),
        )


def _ask_of(query: Query, choice: _Choice, fleet: Fleet, *, live: bool) -> Ask:
    """What every student is asked. A vote wants log-probabilities, where all who may vote can give them."""
    students = (*choice.brief.students, *choice.brief.reserves)
    top_logprobs = query.top_logprobs
    able = all(fleet.engines[one.model.engine].capabilities.logprobs for one in students)
    if top_logprobs is None and able and len(students) > 1:
        top_logprobs = 0
    messages, prompt = query.messages, query.prompt
    if prompt is not None and query.model in VIRTUAL_MODELS:
        messages, prompt = (Message("user", prompt),), None
    return Ask(
        messages=messages,
        prompt=prompt,
        sampling=query.sampling,
        top_logprobs=top_logprobs,
        json_schema=query.json_schema,
        grammar=query.grammar,
        timeout_s=choice.limits.student_timeout_s,
        live=live or len(students) > 1,  # of a committee's late members, what they had said is worth having
    )


def _without_logprobs(replies: Sequence[MemberReply]) -> tuple[MemberReply, ...]:
    """Those gathered for the vote alone have done their work."""
    return tuple(replace(reply, logprobs=()) if reply.logprobs else reply for reply in replies)


def _cannot(asked: Sequence[MemberReply]) -> str:
    names = ", ".join(reply.student for reply in asked)
    return f"I cannot answer that: none of the students asked ({names}) has an answer."


def _last_resort(errors: Sequence[StudiumError]) -> StudiumError:
    """The error to raise when nothing usable is left: the one somebody can act on first."""
    for family in (CallerError, OperatorError, StudiumError):
        for error in errors:
            if isinstance(error, family):
                return error
    return EngineFailure("no student said anything", expected="at least one reply", try_next="ask again")
