"""The one door: a question goes in, an answer with its evidence comes out.

Chooses strategy, students and domain for a query, has the driver carry it out, and writes the answer.
Knows no HTTP and loads no model.
"""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from studium.errors import (
    CallerError,
    EngineFailure,
    OperatorError,
    StudiumError,
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
    Part,
    Query,
)
from studium.records.messages import Embeddings
from studium.records.models import Student
from studium.serve.briefing import Briefing, Choice, EnsembleLimits
from studium.serve.driver import Driver, Round
from studium.serve.experience import CardsOnly, Experience
from studium.serve.strategies import STRATEGIES
from studium.serve.team import VIRTUAL_MODELS, Parts, Team


class Ensemble:
    """Answers queries with the students of a roster."""

    def __init__(
        self,
        fleet: Fleet,
        students: Mapping[str, Student],
        limits: Mapping[Complexity, EnsembleLimits],
        *,
        default_complexity: Complexity | None = None,
        parts: Parts | None = None,
        experience: Experience | None = None,
    ) -> None:
        self._fleet = fleet
        self.team = Team(students, parts)
        self._briefing = Briefing(fleet, self.team, limits, experience or CardsOnly(), default_complexity)

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
        choice = self._briefing.choose(query)
        brief = choice.brief
        # Of a committee's late members, what they had said is worth having.
        ask = replace(brief.ask, live=live or len(brief.students) + len(brief.reserves) > 1)
        brief = replace(brief, ask=ask)
        driver = Driver(
            self._fleet,
            ask,
            extract=brief.extract,
            deadline=choice.deadline,
            model_timeout_s=choice.limits.student_timeout_s,
            members=brief.students,
        )
        passed_on = False
        async with aclosing(driver.run(STRATEGIES[choice.decision.strategy](brief))) as events:
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
        able = [student for student in self.team.students.values() if student.model.embeddings]
        if model not in VIRTUAL_MODELS:
            student = self.team.student(model)
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

    def _write(self, query: Query, choice: Choice, done: Round, began: float) -> Answer:
        verdict, replies = done.verdict, done.replies
        if verdict.winner is None:
            raise _last_resort(done.errors)
        asked = [reply for reply in replies if reply.fate is not Fate.NOT_NEEDED]
        text = verdict.winner.text if verdict.text is None else verdict.text
        if verdict.status is AnswerStatus.UNABLE and len(asked) > 1:
            text = _cannot(asked)
        costs = [reply.cost_usd for reply in asked]
        allowed = len(choice.brief.students)
        members = {reply.student for reply in asked if reply.part is Part.MEMBER}
        flags = verdict.flags
        if allowed < choice.least_students:
            flags = (*flags, "short_handed")
        decision = choice.decision
        return Answer(
            text=text,
            status=verdict.status,
            strategy=decision.strategy,
            complexity=verdict.complexity or decision.complexity,
            chosen_model=verdict.winner.student,
            agreement=verdict.agreement,
            confidence=verdict.confidence,
            members=replies if query.top_logprobs is not None else _without_logprobs(replies),
            seconds=time.monotonic() - began,
            prompt_tokens=sum(reply.prompt_tokens for reply in asked),
            completion_tokens=sum(reply.completion_tokens for reply in asked),
            answer=verdict.winner.answer,
            domain=choice.domain.name,
            calls_saved=max(0, allowed - len(members)),
            cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
            moves=tuple(self._fleet.moves_since(began)),
            finish=verdict.winner.finish,
            flags=flags,
            logprobs=verdict.winner.logprobs if query.top_logprobs is not None else (),
            request_id=query.request_id,
            kind=choice.brief.kind,
            decision=decision,
            notes={decision.strategy: verdict.notes} if verdict.notes else {},
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
