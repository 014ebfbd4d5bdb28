"""Looks after the models in memory of a running Studium, so that trouble is met before a question meets it.

Every few seconds: whose process is gone is loaded anew, and who was used says one token now and then, after everybody
who waits for an answer; who is not used is let be, and may leave memory. From time to time one is asked a problem whose
answer is known, always the same ones; who gets clearly fewer right than it used to is called degraded, which is told
and changes no route. Models that cost money are never asked here. What the path of a question does about trouble stands
in `serve.breakers`.
"""

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from studium.domains.catalogue import all_domains
from studium.domains.protocol import Domain
from studium.errors import EngineDied, EngineTimeout, StudiumError
from studium.evals.intervals import wilson
from studium.fleet import Fleet
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.models import ModelSpec, Student
from studium.records.scheduling import Priority
from studium.serve.team.breakers import Breakers, Health, counts
from studium.serve.team.routing import Routing

log = logging.getLogger(__name__)

QUIET_S = 60.0
"""A model that has answered within this long needs no proof that it can."""

SAY_S = 10.0
PROBLEM_S = 60.0
WINDOW = 20
"""Problems a judgement of quality rests on, the newest; they are the same ones in turn."""

SLACK = 0.1
"""How much lower than its card a share may truly be before a model is called degraded."""

_SEED = 20260101


@dataclass
class _Seen:
    right: deque[bool] = field(default_factory=lambda: deque[bool](maxlen=WINDOW))
    expected: deque[float] = field(default_factory=lambda: deque[float](maxlen=WINDOW))
    asked: int = 0


class Turn(NamedTuple):
    """What a model is asked next: a domain, the share it is expected to get right there, 0 to 1, and a level."""

    domain: Domain
    expected: float
    level: int


class Carer:
    """Looks after one fleet's models. `is_paid` says which cost money; `work` runs until it is cancelled."""

    def __init__(
        self,
        fleet: Fleet,
        routing: Routing,
        breakers: Breakers,
        *,
        probe_s: float,
        quality_s: float,
        is_paid: Callable[[ModelSpec], bool],
    ) -> None:
        self._fleet = fleet
        self._routing = routing
        self._breakers = breakers
        self._probe_s = probe_s
        self._quality_s = quality_s
        self._is_paid = is_paid
        self._proved: dict[str, float] = {}
        self._seen: dict[str, _Seen] = defaultdict(_Seen)
        self._replies: dict[tuple[str, str], int] = {}
        self.revived: int = 0

    async def work(self) -> None:
        """Probe until cancelled."""
        tested = time.monotonic()
        while True:
            await asyncio.sleep(self._probe_s)
            try:
                await self.probe()
                if time.monotonic() - tested >= self._quality_s:
                    tested = time.monotonic()
                    await self.test_one()
            except Exception:  # nobody's answer depends on it
                log.exception("looking after the models went wrong")

    async def probe(self) -> None:
        """Load anew whose process is gone, and have those say a token that were used since they last did.

        What a server of its own, such as Ollama or one named by `url`, lets go of is that server's affair.
        """
        alive = {one.model for one in await self._fleet.residences()}
        for student in self._residents():
            model, now = student.model.name, time.monotonic()
            if model not in alive:
                ours = self._fleet.engines[student.model.engine].capabilities.places_models
                if ours and "url" not in student.model.options:
                    await self._revive(student)
            elif now - self._proved.setdefault(model, now) >= QUIET_S and self._was_used(model, "proof"):
                self._proved[model] = now
                await self._say(student, Ask((Message("user", "1"),), sampling=Sampling(max_tokens=1)), SAY_S)
                self._done(model, "proof")

    async def test_one(self) -> None:
        """Ask the model in memory that was tested least one problem whose answer is known."""
        used = [one for one in self._residents() if self._was_used(one.model.name, "problem")]
        able = [one for one in used if _tested_on(one)]
        if not able:
            return
        student = min(able, key=lambda one: (self._seen[one.model.name].asked, one.name))
        seen, domains = self._seen[student.model.name], _tested_on(student)
        domain, expected, level = turn(domains, seen.asked)
        problem = domain.make(Random(_SEED + seen.asked % WINDOW), level)
        seen.asked += 1
        said = await self._say(student, Ask((Message("user", problem.prompt),)), PROBLEM_S)
        self._done(student.model.name, "problem")
        score = None if said is None else await asyncio.to_thread(domain.verify, problem, said)
        if score is None:
            return
        seen.right.append(score == 1.0)
        seen.expected.append(expected)
        self._breakers.judge(student.model.name, judged(seen.right, seen.expected))

    def state(self) -> Mapping[str, Any]:
        """Return what is known of each model in memory, and of each that failed, by the model's name."""
        known: dict[str, Health] = dict(self._breakers.health())
        for student in self._residents():
            known.setdefault(student.model.name, Health(student.model.name))
        return {
            name: {
                "state": one.state.value,
                "errors": one.errors,
                "errors_in_a_row": one.in_a_row,
                "last_error": one.last_error or None,
                "degraded": one.degraded or None,
                "problems_right": sum(self._seen[name].right) if name in self._seen else None,
                "problems_asked": len(self._seen[name].right) if name in self._seen else None,
            }
            for name, one in sorted(known.items())
        }

    def _was_used(self, model: str, since: str) -> bool:
        """Say whether a model has answered since it was last looked after so: who is not used is let be."""
        return self._breakers.replies[model] > self._replies.get((model, since), 0)

    def _done(self, model: str, what: str) -> None:
        self._replies[model, what] = self._breakers.replies[model]

    def _residents(self) -> list[Student]:
        """Return one student for each model of the team, former champions and challengers included, in memory."""
        resident = set(self._fleet.residency.resident())
        known = [*self._routing.team.named.values()]
        for place in self._routing.places.values():
            known += [one for one in (place.champion, place.challenger, place.former) if one is not None]
        models = {one.model.name: one for one in known if not one.model.embeddings}
        return [one for name, one in models.items() if name in resident and not self._is_paid(one.model)]

    async def _revive(self, student: Student) -> None:
        model = student.model.name
        self._breakers.failed(model, EngineDied(f"{model}: its process is gone"), time.monotonic())
        log.warning("%s: its process is gone; it is loaded anew", model)
        if await self._fleet.unload(student.model):
            await self._fleet.load(student)
            self.revived += 1

    async def _say(self, student: Student, ask: Ask, limit_s: float) -> str | None:
        """Return what a student says; None where it could not be asked, or was lost, which its breaker is told."""
        model, began, seated = student.model.name, time.monotonic(), False
        try:
            place = self._fleet.seat(student, timeout_s=limit_s, priority=Priority.EVALUATION)
            async with place as seat:
                began, seated = time.monotonic(), True
                async with asyncio.timeout(limit_s), aclosing(seat.generate(ask)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            self._breakers.replied(model)
                            return piece.text
        except TimeoutError:
            hung = EngineTimeout(f"{model} said nothing within {limit_s:g} s")
            self._breakers.failed(model, hung, began)
        except StudiumError as error:
            if counts(error, seated=seated):
                self._breakers.failed(model, error, began)
        return None


def turn(domains: Sequence[tuple[Domain, float]], asked: int) -> Turn:
    """Return whose turn it is after `asked` problems: one domain after the other, at the next level each round."""
    domain, expected = domains[asked % len(domains)]
    return Turn(domain, expected, domain.levels[(asked // len(domains)) % len(domain.levels)])


def judged(right: deque[bool], expected: deque[float]) -> str:
    """Return in words why a model is degraded: the upper end of its share's interval is below what was expected."""
    if len(right) < WINDOW // 2:
        return ""
    share, meant = wilson(sum(right), len(right), level=0.99), sum(expected) / len(expected)
    if share.high >= meant - SLACK:
        return ""
    return f"{sum(right)} of {len(right)} known problems right, {meant:.0%} were expected"


def _tested_on(student: Student) -> list[tuple[Domain, float]]:
    """Return the domains a student is good at, by its card, with the share it got right."""
    card = {**student.former_skills, **student.skills}
    return [
        (all_domains()[name], share)
        for name, share in sorted(card.items())
        if share >= 0.5 and name in all_domains()
    ]
