"""Puts the same questions to the students in several ways and counts what each takes and what it gets right."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from studium.errors import StudiumError
from studium.evals.intervals import Interval, bootstrap_mean, wilson
from studium.evals.items import Item
from studium.fleet import Fleet
from studium.records.answers import Answer, AnswerStatus, Complexity, Fate, MoveKind, Query
from studium.records.messages import Message
from studium.serve.ensemble import Ensemble

ADAPTIVE, EVERYONE, BEST, TRIES = "adaptive", "everyone", "best single", "best, several tries"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to use the students: its name, what it is, and the query that carries it out."""

    name: str
    about: str
    query: Callable[[str], Query]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question: `score` None where it was not scored. `cost_usd` None: no price is known."""

    score: float | None
    declined: bool
    calls: int
    loads: int
    seconds: float
    tokens: int
    cost_usd: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """A scheme's outcomes added up. `accuracy` None where nothing could be scored."""

    scheme: str
    about: str
    asked: int
    scored: int
    accuracy: Interval | None
    declined: int
    failed: int
    calls: float
    loads: float
    seconds: float
    tokens: float
    cost_usd: float | None


def schemes(best: str) -> list[Scheme]:
    """Return the ways that are compared; `best` is the student that stands for a single model."""
    return [
        Scheme(ADAPTIVE, "as few as settle it", query),
        Scheme(EVERYONE, "all students at once, the usual answer", lambda text: query(text, strategy="everyone")),
        Scheme(BEST, f"{best} alone", lambda text: query(text, model=best)),
        Scheme(
            TRIES,
            f"{best} up to six times, the weightiest answer",
            lambda text: query(text, students=(best,), strategy="committee", complexity=Complexity.MEDIUM),
        ),
    ]  # fmt: skip


async def carry_out(
    ensemble: Ensemble, fleet: Fleet, scheme: Scheme, items: Sequence[Item]
) -> AsyncGenerator[Outcome, None]:
    """Put every item to the students in one way, one after another, from an empty memory; yield the outcomes."""
    for name in fleet.residency.resident():
        await fleet.residency.evict(name)
    for item in items:
        yield await _outcome(ensemble, scheme, item)


async def _outcome(ensemble: Ensemble, scheme: Scheme, item: Item) -> Outcome:
    began = time.monotonic()
    try:
        answer = await ensemble.answer(scheme.query(item.question))
    except StudiumError as error:
        return Outcome(0.0, False, 0, 0, time.monotonic() - began, 0, 0.0, str(error))
    return outcome_of(answer, item)


def outcome_of(answer: Answer, item: Item) -> Outcome:
    """Grade an answer and count what it took."""
    asked = [one for one in answer.members if one.fate not in (Fate.NOT_NEEDED, Fate.REFUSED)]
    declined = answer.status is AnswerStatus.UNABLE
    return Outcome(
        0.0 if declined else item.grade(answer.text),
        declined,
        len(asked),
        sum(move.kind is MoveKind.LOAD for move in answer.moves),
        answer.seconds,
        answer.prompt_tokens + answer.completion_tokens,
        answer.cost_usd,
    )


def total(scheme: Scheme, outcomes: Sequence[Outcome]) -> Total:
    """Add up a scheme's outcomes. Raises ValueError for none."""
    scores = [one.score for one in outcomes if one.score is not None]
    costs = [one.cost_usd for one in outcomes if one.cost_usd is not None]
    return Total(
        scheme.name,
        scheme.about,
        len(outcomes),
        len(scores),
        wilson(sum(score == 1.0 for score in scores), len(scores)) if scores else None,
        sum(one.declined for one in outcomes),
        sum(bool(one.error) for one in outcomes),
        fmean(one.calls for one in outcomes),
        fmean(one.loads for one in outcomes),
        fmean(one.seconds for one in outcomes),
        fmean(one.tokens for one in outcomes),
        fmean(costs) if len(costs) == len(outcomes) else None,
    )


def paired_points(one: Sequence[Outcome], other: Sequence[Outcome]) -> Interval | None:
    """Return how many more of a hundred questions `one` gets right than `other`, paired; None: nothing was scored."""
    pairs = [
        100.0 * ((a.score == 1.0) - (b.score == 1.0))
        for a, b in zip(one, other, strict=True)
        if a.score is not None and b.score is not None
    ]
    return bootstrap_mean(pairs) if pairs else None


def best_of(scores: Mapping[str, Sequence[Outcome]]) -> str:
    """Return the student that got most right; equal ones in the order given."""
    return max(scores, key=lambda name: sum(one.score == 1.0 for one in scores[name]))


def alone(name: str) -> Scheme:
    """Return the way of asking one student only."""
    return Scheme(name, f"{name} alone", lambda text: query(text, model=name))


def query(
    text: str,
    *,
    model: str = "auto",
    strategy: str | None = None,
    students: tuple[str, ...] = (),
    complexity: Complexity | None = None,
) -> Query:
    """Return a question as it is put to be compared: nothing from the cache, nothing refined."""
    return Query(
        messages=(Message("user", text),),
        model=model,
        strategy=strategy,
        students=students,
        complexity=complexity,
        cache=False,
        refine=False,
    )
