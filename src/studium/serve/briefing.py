"""From a query to a decision and a brief: which domain and kind, who may be asked, in what order, and how far.

Reads what is known of students and machine; asks nobody.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

from studium.config.schema import ComplexityLimits
from studium.domains.catalogue import domain as domain_named
from studium.domains.catalogue import recognise
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.protocol import ChecksQuestions, Domain
from studium.errors import BadRequest
from studium.fleet import Fleet
from studium.records.answers import Complexity, Considered, Decision, Query
from studium.records.messages import Ask, Message
from studium.records.models import Student
from studium.records.profiles import Quantity
from studium.serve.calls import Brief, Known, Outlook, Stage, SubQuestion
from studium.serve.choosing import selector
from studium.serve.choosing.complexity import ceiling
from studium.serve.choosing.parts import parts_of
from studium.serve.governor.governor import Governor
from studium.serve.history.evidence_history import USUAL_WRONG_ANSWERS, InCommon
from studium.serve.history.history import History
from studium.serve.strategies import STRATEGIES
from studium.serve.team.team import AUTO, COURIER, MASTER, VIRTUAL_MODELS, Team

_RANKS = tuple(Complexity)
_COMPLEXITIES = {one.value: one for one in Complexity}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided about a query before anybody is asked. `deadline` is in `time.monotonic` seconds."""

    decision: Decision
    limits: ComplexityLimits
    brief: Brief
    domain: Domain
    deadline: float
    least_students: int = 1


class _Reading(NamedTuple):
    """What a query is about, how far asking may go, and who could answer.

    `forced` is the strategy that the caller chose or implied, else empty; `alone`: there is one student, asked by name,
    so that nothing is to be weighed (it may still be refined); `chosen`: the caller said how far.
    """

    team: Team
    forced: str
    alone: bool
    domain: Domain
    recognised: bool
    parts: tuple[str, ...]
    most: Complexity
    chosen: bool
    limits: ComplexityLimits
    kind: str
    known: Mapping[str, Known]
    ranked: Sequence[Student]
    outlook: Outlook
    in_common: InCommon


class Briefing:
    """Makes the choice for each query. `default` None leaves the complexity to the question."""

    def __init__(
        self,
        fleet: Fleet,
        limits: Mapping[Complexity, ComplexityLimits],
        experience: History,
        default: Complexity | None,
        governor: Governor | None = None,
    ) -> None:
        self._fleet = fleet
        self._governor = governor
        self._limits = limits
        self._stages = {
            (most, chosen): _stages(limits, most, chosen=chosen)
            for most in limits
            for chosen in (True, False)
        }
        self._experience = experience
        self._default = default

    def choose(self, query: Query, team: Team, *, live: bool = False) -> Choice:
        """Decide about a query that this team answers. Raises BadRequest, UnknownModel or OperatorError.

        `live`: what is said is wanted word by word.
        """
        if not query.question.strip():
            raise BadRequest("the question is empty", expected="a message from the user with some text")
        if query.strategy and query.strategy not in STRATEGIES:
            raise BadRequest(
                f"unknown strategy {query.strategy!r}", expected=f"one of {', '.join(STRATEGIES)}"
            )
        read = self._read(query, team)
        decision = self._decide(query, read)
        least = read.limits.min_models if decision.strategy == "committee" and read.chosen else 1
        brief = self._brief(query, read, decision, live=live)
        return Choice(decision, read.limits, brief, read.domain, read.outlook.deadline, least)

    def _read(self, query: Query, team: Team) -> _Reading:
        """Find out what a query is about and who could answer it, the best first."""
        students = _candidates(query, team)
        domain, recognised = _domain_of(query, students)
        forced = query.strategy or _implied(query)
        whole = recognised or _has_form(query) or forced not in ("", "clone_dispatch")
        parts = () if whole else parts_of(query.question, _is_recognised)
        wanted = query.complexity or _COMPLEXITIES.get(query.model) or self._default
        most = wanted or ceiling(query.question, recognised=recognised, num_parts=len(parts))
        limits = self._limits[most]
        kind = self._experience.kind(query.question, domain.name if recognised else "")
        alone = len(students) == 1 and forced == "single"
        others = team.refiners if alone else team.playing_parts
        standing_in = (
            team.stand_ins(students[0], alone=query.model in team.roles) if len(students) == 1 else ()
        )
        asked = {one.name: one for one in (*standing_in, *students, *others)}
        known = {name: self._experience.known(one, kind) for name, one in asked.items()}
        deadline = time.monotonic() + (query.timeout_s or limits.question_timeout_s)
        wrong_answers = getattr(domain, "wrong_answers", USUAL_WRONG_ANSWERS)
        return _Reading(
            team,
            forced,
            alone,
            domain,
            recognised,
            parts,
            most,
            wanted is not None,
            limits,
            kind,
            known,
            self._ranked(students, known),
            Outlook(self._fleet, deadline),
            self._experience.in_common(students, kind, wrong_answers),
        )

    def _decide(self, query: Query, read: _Reading) -> Decision:
        if read.alone:
            why = "one student was named"
            cost_usd = self._foreseen_usd(read.ranked[0], query)
            return Decision("single", read.most, why, (Considered("single", None, why, cost_usd=cost_usd),))
        limits = read.limits
        candidates = [
            selector.Candidate(
                one.name,
                read.known[one.name],
                read.outlook.seconds_to_answer(one),
                self._foreseen_usd(one, query),
                one.model.slots,
            )
            for one in read.ranked[: limits.max_models]
        ]
        now = selector.Circumstances(
            candidates,
            read.most,
            max(0.001, read.outlook.seconds_left()),
            comparable=read.recognised,
            parts=[self._look_at(read.ranked, part).known for part in read.parts],
            least_students=limits.min_models if read.chosen else 1,
            confidence=limits.confidence,
            wrong_answers=read.in_common.wrong_answers,
            courier=read.team.parts.courier,
            master=read.team.parts.master,
            judge=bool(read.team.parts.judge),
            forced=read.forced,
            most_usd=self._governor.settings.usd_per_request if self._governor else None,
            available=STRATEGIES,
        )
        return selector.select(now)

    def _brief(self, query: Query, read: _Reading, decision: Decision, *, live: bool) -> Brief:
        number = 1 if decision.strategy == "single" else read.limits.max_models
        domain = read.domain
        return Brief(
            students=tuple(read.ranked[:number]),
            reserves=tuple(read.ranked[number:]),
            ask=self._ask(query, read.ranked, read.limits, live=live),
            question=query.question,
            domain=domain.name,
            kind=read.kind,
            recognised=read.recognised,
            same=domain.same,
            extract=domain.extract,
            known=read.known,
            stages=self._stages[read.most, read.chosen],
            outlook=read.outlook,
            parts=read.parts,
            judge=read.team.playing("judge"),
            courier=read.team.courier(),
            master=read.team.master(),
            wrong_answers=read.in_common.wrong_answers,
            commons=read.in_common.commons,
            kinship=read.in_common.kinship,
            calibrated=partial(self._experience.calibrated, kind=read.kind),
            check=_check_of(domain),
            look_at=partial(self._look_at, read.ranked),
        )

    def _foreseen_usd(self, student: Student, query: Query) -> float | None:
        """Return what asking a student would usually cost: an answer as long as its answers were, or as it may be."""
        if self._governor is None or not self._governor.is_paid(student.model):
            return 0.0
        if not self._governor.has_price(student.model):
            return None
        usual = self._fleet.profiles.median(student.model, Quantity.TOKENS_PER_ANSWER)
        tokens = query.sampling.max_tokens or usual or self._governor.settings.max_tokens
        return self._governor.foreseen_usd(student.model, query.question, tokens)

    def _look_at(self, students: Sequence[Student], part: str) -> SubQuestion:
        """Return what is known of a part of a question, as if it were a question of its own."""
        found = recognise(part)
        domain = found or OPEN_QUESTION
        kind = self._experience.kind(part, domain.name if found else "")
        known = {one.name: self._experience.known(one, kind) for one in students}
        return SubQuestion(part, kind, found is not None, domain.extract, known)

    def _ranked(self, students: Sequence[Student], known: Mapping[str, Known]) -> list[Student]:
        """Order students by what they are known to be good at, then by who is in memory already."""
        if len(students) == 1:
            return list(students)
        resident = set(self._fleet.residency.resident())
        return sorted(
            students,
            key=lambda one: (
                -round(known[one.name].reliability, 1),
                one.model.name not in resident,
                -one.priority,
                one.name,
            ),
        )

    def _ask(self, query: Query, students: Sequence[Student], limits: ComplexityLimits, *, live: bool) -> Ask:
        """What every student is asked. A vote wants log-probabilities, where all who may vote can give them."""
        top_logprobs, several = query.top_logprobs, len(students) > 1
        if several and top_logprobs is None:
            engines = self._fleet.engines
            able = all(engines[one.model.engine].capabilities.logprobs for one in students)
            top_logprobs = 0 if able else None
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
            timeout_s=limits.model_timeout_s,
            live=live or several,  # of a committee's late members, what they had said is worth having
        )


def _candidates(query: Query, team: Team) -> list[Student]:
    if query.model == COURIER:
        return [team.courier()]
    if query.model == MASTER:
        return [team.master()]
    if query.model not in VIRTUAL_MODELS:
        return [team.student(query.model)]
    return [team.student(name) for name in query.students] or team.members()


def _stages(
    limits: Mapping[Complexity, ComplexityLimits], most: Complexity, *, chosen: bool
) -> tuple[Stage, ...]:
    """Return the bounds asking goes through: one stage as the caller chose, else from the smallest on."""
    steps = [most] if chosen else [step for step in _RANKS[: _RANKS.index(most) + 1] if step in limits]
    return tuple(
        Stage(
            step,
            limits[step].min_models if chosen else 1,
            limits[step].max_models,
            limits[step].confidence,
        )
        for step in steps
    )


def _domain_of(query: Query, students: Sequence[Student]) -> tuple[Domain, bool]:
    """Return the question's domain, and whether one knows it. With nobody to compare, nothing is recognised."""
    if query.domain:
        return domain_named(query.domain), True
    found = recognise(query.question) if len(students) > 1 else None
    return (found, True) if found else (OPEN_QUESTION, False)


def _is_recognised(text: str) -> bool:
    return recognise(text) is not None


def _has_form(query: Query) -> bool:
    """Say whether the answer must have a form of its own, which answers to parts would not have together."""
    return query.prompt is not None or query.json_schema is not None or query.grammar is not None


@cache
def _check_of(domain: Domain) -> Callable[[str, str], float | None] | None:
    return domain.check if isinstance(domain, ChecksQuestions) else None


def _implied(query: Query) -> str:
    """Return the strategy that naming a student, or several, means; empty where the choice is ours."""
    if query.model != AUTO and query.model not in _COMPLEXITIES:
        return "single"
    return "committee" if len(query.students) > 1 else ""
