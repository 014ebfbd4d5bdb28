"""How long it takes to decide how a question is answered, and what an answer from the cache costs against making it.

Decisions are timed one by one, in processor time, over random circumstances (2 to 12 students, up to 8 parts, every
complexity), then with all that comes before one in a request: recognising the question, looking up what is known,
asking the fleet for seconds. Answers are made by the embedded students, all in memory, for fresh problems; then the
same questions are asked again, once from the cache and once with the cache left out, in turn, so that whatever else
the machine does falls on both.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from random import Random
from statistics import quantiles
from typing import Any

from benchmarks.committee import fresh_problems
from benchmarks.report import Aim, Report, run, say
from benchmarks.workspace import fresh_studium
from studium.app import Studium
from studium.config.schema import ComplexityLimits
from studium.evals.intervals import bootstrap_mean
from studium.records.answers import Complexity, Query
from studium.records.messages import Message
from studium.serve.briefing import Briefing
from studium.serve.calls import Known
from studium.serve.choosing.selector import Candidate, Circumstances, select

SEED = 20_261_121
OPEN_QUESTIONS = (
    "Compare two ways to cross a river and explain why one is safer.",
    "1. What is 47 + 58? 2. Sort: 7, 3, 9 3. Who wrote Hamlet?",
    "Which planet is the largest?",
)
MOST_STUDENTS = 12


def circumstances(rng: Random, num_students: int) -> Circumstances:
    """Draw what a selector may meet."""
    names = [f"s{number}" for number in range(num_students)]
    known = lambda: {  # noqa: E731
        name: Known(rng.random(), rng.choice((0.0, 50.0)), name) for name in names
    }
    whole = known()
    complexity = rng.choice(list(Complexity))
    named = rng.random() < 0.5
    return Circumstances(
        [
            Candidate(
                name, whole[name], rng.expovariate(0.2), rng.choice((0.0, 0.001, None)), rng.choice((1, 4))
            )
            for name in names
        ],
        complexity,
        rng.choice((30.0, 45.0, 90.0, 120.0)),
        rng.random() < 0.5,
        [known() for _ in range(rng.choice((0, 0, 2, 5, 8)))],
        confidence=rng.choice((0.9, 0.95, 1.0)),
        wrong_answers=rng.choice((2.0, 10.0)),
        courier=names[0] if named else "",
        master=names[-1] if named else "",
        judge=rng.random() < 0.5,
        most_usd=rng.choice((None, 0.01)),
    )


def timed(work: Callable[[], Any]) -> float:
    """Return the processor microseconds that something takes: on a shared machine a wall clock times the neighbours."""
    began = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began) / 1e3


def decisions(each: int) -> dict[str, list[float]]:
    """Time decisions by number of students, all sizes in turn."""
    rng = Random(SEED)
    found: dict[str, list[float]] = {}
    for number in range(2, MOST_STUDENTS + 1):
        drawn = [circumstances(rng, number) for _ in range(each)]
        select(drawn[0])
        label = "2 to 4 students" if number < 5 else "5 to 8 students" if number < 9 else "9 to 12 students"
        found.setdefault(label, []).extend(timed(lambda one=one: select(one)) for one in drawn)
    return found


def whole_choices(studium: Studium, questions: Sequence[str], number: int) -> list[float]:
    """Time everything that is decided before anybody is asked."""
    limits = {one: ComplexityLimits(2, 6, 45.0, 45.0, 0.95) for one in Complexity}
    briefing = Briefing(studium.fleet, limits, studium.history, None)
    queries = [Query(messages=(Message("user", question),)) for question in questions]
    for query in queries:
        briefing.choose(query, studium.ensemble.team)
    turn = cycle(queries)
    return [timed(lambda: briefing.choose(next(turn), studium.ensemble.team)) for _ in range(number)]


async def answers(studium: Studium, questions: Sequence[str]) -> dict[str, list[float]]:
    """Time each question made, then from the cache, then made again; milliseconds in the order of questions."""
    found: dict[str, list[float]] = {"made": [], "from the cache": [], "made again": []}
    for number, question in enumerate(questions):
        for way, cache in (("made", None), ("from the cache", None), ("made again", False)):
            began = time.perf_counter()
            answer = await studium.ask(question, cache=cache)
            hit = bool(answer.notes.get("cache", {}).get("hit"))
            if hit is (way == "from the cache"):
                found[way].append(1e3 * (time.perf_counter() - began))
        if number % 100 == 99:
            say(f"{number + 1} of {len(questions)} questions")
    return found


def _row(what: str, values: Sequence[float], unit: str) -> dict[str, Any]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {
        "what": what,
        "unit": unit,
        "number": len(values),
        "p50": cuts[49],
        "p99": cuts[98],
        "most": max(values),
    }


async def _measure(quick: bool) -> Report:
    by_size = decisions(200 if quick else 2_000)
    problems = [one.prompt for one in fresh_problems(8 if quick else 60)]
    overrides = {"fleet.memory_budget": "1GiB", "cache.enabled": "true"}
    async with fresh_studium(**overrides) as studium:
        for name in studium.roster.students:
            await studium.ask("What is 12 + 7?", model=name, cache=False)
        whole = whole_choices(studium, [*problems[:20], *OPEN_QUESTIONS], 400 if quick else 4_000)
        found = await answers(studium, problems)
    rows = [_row(f"a decision, {size}", values, "processor us") for size, values in by_size.items()]
    rows.append(_row("all that is decided before asking, 6 students", whole, "processor us"))
    rows += [_row(f"an answer {way}", values, "ms") for way, values in found.items()]
    return Report(rows, _aims(by_size, found), _notes(found, len(problems)))


def _aims(by_size: dict[str, list[float]], found: dict[str, list[float]]) -> list[Aim]:
    everything = [value for values in by_size.values() for value in values]
    p99 = quantiles(everything, n=100, method="inclusive")[98]
    aims = [Aim("p99 of a decision, processor microseconds", p99, None, None, "<= 1000", p99 <= 1_000)]
    cached, made = found["from the cache"], found["made again"]
    if cached and len(cached) == len(made):
        ratio = bootstrap_mean([one / other for one, other in zip(cached, made, strict=True)])
        name = "an answer from the cache against making it again, ratio of milliseconds"
        aims.append(Aim(name, ratio.value, ratio.low, ratio.high, "for information", None))
    return aims


def _notes(found: dict[str, list[float]], asked: int) -> list[str]:
    hits = len(found["from the cache"])
    return [
        "decisions are timed over panels that were never seen; the same panel again costs less (see the whole choice)",
        f"{hits} of {asked} questions were answered from the cache when they were asked again",
        "made: by the strategy the selector took, with every student in memory; a load would come on top",
    ]


def main() -> None:
    run("selector", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
