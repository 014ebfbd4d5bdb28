"""The one door: a question goes in, an answer with its evidence comes out.

Chooses strategy, students and domain for a query, has the driver carry it out, and writes the answer.
Knows no HTTP and loads no model.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from studium.config.schema import ComplexityLimits
from studium.errors import Unsupported
from studium.fleet import Fleet
from studium.records.answers import Answer, AnswerEvent, Complexity, Delta, Query
from studium.records.messages import Embeddings
from studium.serve.briefing import Briefing
from studium.serve.cache.cache import ResponseCache, Visit
from studium.serve.driver import Driver, Round
from studium.serve.governor.governor import Governor
from studium.serve.history.history import History
from studium.serve.refining.refinement import Refiners, refined
from studium.serve.refining.refining import Refining
from studium.serve.strategies import STRATEGIES
from studium.serve.team.breakers import Breakers
from studium.serve.team.routing import Routing
from studium.serve.team.team import VIRTUAL_MODELS, Team
from studium.serve.writing import written

EMBED_S = 60.0


class Ensemble:
    """Answers queries with those who stand in `routing`.

    `witnesses` are told of every answer that students gave, with the team they were; they must not wait.
    """

    def __init__(
        self,
        fleet: Fleet,
        routing: Routing,
        limits: Mapping[Complexity, ComplexityLimits],
        experience: History,
        *,
        default_complexity: Complexity | None = None,
        refining: Refining | None = None,
        governor: Governor | None = None,
        cache: ResponseCache | None = None,
        breakers: Breakers | None = None,
    ) -> None:
        self._fleet = fleet
        self._refining = refining or Refining()
        self._governor = governor
        self._cache = cache
        self.routing = routing
        self.breakers = breakers or Breakers()
        self.witnesses: list[Callable[[Query, Team, Answer], None]] = []
        self._experience = experience
        self._briefing = Briefing(fleet, limits, experience, default_complexity, governor)

    @property
    def team(self) -> Team:
        """Who answers now: the champions."""
        return self.routing.team

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

    def _events(self, query: Query, *, live: bool) -> AsyncGenerator[AnswerEvent, None]:
        query = query if query.request_id else replace(query, request_id=secrets.token_hex(8))
        team = self.routing.team_for(query)  # kept to the end: a swap is for those who come later
        refiners = self._refining.refiners(query, team)
        computed = self._computed(query, team, refiners, live=live)
        visit = self._cache.visit(query, team, refiners) if self._cache else None
        return computed if visit is None else self._kept(query, visit, computed)

    async def _kept(
        self, query: Query, visit: Visit, computed: AsyncGenerator[AnswerEvent, None]
    ) -> AsyncGenerator[AnswerEvent, None]:
        async with visit, aclosing(computed) as events:
            if visit.found is not None:
                self._experience.answered(query, visit.found)
                yield Delta(visit.found.text, visit.found.logprobs)
                yield visit.found
                return
            async for event in events:
                yield await visit.keep(event) if isinstance(event, Answer) else event

    async def _computed(
        self, query: Query, team: Team, refiners: Refiners | None, *, live: bool
    ) -> AsyncGenerator[AnswerEvent, None]:
        began = time.monotonic()
        choice = self._briefing.choose(query, team, live=live)
        brief = choice.brief
        strategy = STRATEGIES[choice.decision.strategy](brief)
        if refiners:
            strategy = refined(strategy, brief, refiners)
        bill = self._governor.bill(query.session) if self._governor else None
        driver = Driver(
            self._fleet,
            brief.ask,
            extract=brief.extract,
            deadline=choice.deadline,
            model_timeout_s=choice.limits.model_timeout_s,
            refine_timeout_s=self._refining.timeout_s,
            members=brief.students,
            bill=bill,
            breakers=self.breakers,
            stand_ins=partial(team.stand_ins, alone=query.model in team.roles),
        )
        passed_on = False
        async with aclosing(driver.run(strategy)) as events:
            async for event in events:
                if not isinstance(event, Round):
                    passed_on = passed_on or isinstance(event, Delta)
                    yield event
                    continue
                seconds, moves = time.monotonic() - began, self._fleet.moves_since(began)
                answer = written(query, choice, event, seconds=seconds, moves=moves)
                answer = await self._refining.keep(query, answer, team)
                if self._governor and bill and (told := self._governor.told(bill)):
                    answer = replace(answer, notes={**answer.notes, "governor": told})
                self._experience.answered(query, answer)
                for witness in self.witnesses:
                    witness(query, team, answer)
                if live and not passed_on:
                    yield Delta(answer.text, answer.logprobs)
                yield answer

    async def embed(self, model: str, texts: Sequence[str]) -> Embeddings:
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
        async with self._fleet.seat(student, timeout_s=EMBED_S) as seat:
            return await seat.embed(texts)
