"""The embedded committee against each of its members, an oracle, and one generalist of equal budget.

Every figure comes from fresh problems, drawn here with a seed of its own and never trained on, put to
the real students through the ensemble, exactly as a user's question would be. The oracle is right where
any member is. The generalist has the students' parameters and training seconds together; train it with
`python -m studium.train.students --generalist`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import REPOSITORY, Aim, Report, run, say
from benchmarks.workspace import fresh_studium
from studium.app import Studium
from studium.domains.catalogue import domain as domain_named
from studium.domains.catalogue import skills
from studium.domains.protocol import Domain, Problem, Split, make_split
from studium.evals.intervals import bootstrap_mean, wilson
from studium.records.answers import Answer, Fate

SEED = 7_202_611
GENERALIST = REPOSITORY / "build" / "generalist" / "generalist.gguf"
GENERALIST_YAML = """
models: [{{name: generalist, engine: llamacpp, source: "{path}", context_tokens: {context}}}]
students: [{{name: generalist, sampling: {{temperature: 0}}}}]
"""
QUERIES_AT_ONCE = 2
COMMITTEE, BEST, ORACLE = "committee", "best member", "oracle"


@dataclass(frozen=True, slots=True)
class Graded:
    """One problem answered: its score and what it took."""

    score: float
    asked: int
    declined: bool


def fresh_problems(per_skill: int) -> list[Problem]:
    """Draw the same problems every time, skill by skill, all levels in turn."""
    problems: list[Problem] = []
    for domain in skills().values():
        rng = Random(f"{SEED}/{domain.name}")
        problems += [_draw(domain, rng, number) for number in range(per_skill)]
    return problems


def _draw(domain: Domain, rng: Random, number: int) -> Problem:
    return make_split(domain, rng, domain.levels[number % len(domain.levels)], Split.FRESH)


async def answer_all(studium: Studium, problems: Sequence[Problem], model: str) -> list[Graded]:
    """Put every problem to `model` (a student or "auto"), a few at once; return the grades in order."""
    gate = asyncio.Semaphore(QUERIES_AT_ONCE)
    done = 0

    async def one(problem: Problem) -> Graded:
        nonlocal done
        async with gate:
            answer = await studium.ask(problem.prompt, model=model)
        done += 1
        if done % 500 == 0:
            say(f"{model}: {done} of {len(problems)}")
        return _grade(problem, answer)

    return list(await asyncio.gather(*map(one, problems)))


def _grade(problem: Problem, answer: Answer) -> Graded:
    score = domain_named(problem.domain).verify(problem, answer.text)
    asked = sum(member.fate is not Fate.NOT_NEEDED for member in answer.members)
    return Graded(1.0 if score == 1.0 else 0.0, asked, all(m.fate is Fate.ABSTAINED for m in answer.members))


async def _measure(quick: bool) -> Report:
    problems = fresh_problems(20 if quick else 500)
    async with fresh_studium(**{"fleet.memory_budget": "1GiB"}) as studium:
        names = [one.name for one in studium.ensemble.team.members()]
        grades = {name: await answer_all(studium, problems, name) for name in names}
        committee = await answer_all(studium, problems, "auto")
    parts = {**grades, COMMITTEE: committee, ORACLE: _oracle(list(grades.values()))}
    generalist, note = await _generalist(problems)
    if generalist:
        parts["generalist of equal budget"] = generalist
    best = max(names, key=lambda name: sum(one.score for one in grades[name]))
    rows = [_row(who, problems, graded) for who, graded in parts.items()]
    return Report(
        rows, _aims(parts, best, generalist), [f"best member: {best}", _calls(committee, len(names)), *note]
    )


def _oracle(members: Sequence[Sequence[Graded]]) -> list[Graded]:
    return [Graded(max(one.score for one in column), 1, False) for column in zip(*members, strict=True)]


async def _generalist(problems: Sequence[Problem]) -> tuple[list[Graded], list[str]]:
    if not GENERALIST.exists():
        return [], [
            "the generalist was not trained on this machine: python -m studium.train.students --generalist"
        ]
    text = GENERALIST_YAML.format(path=GENERALIST, context=_context(GENERALIST.with_suffix(".json")))
    async with fresh_studium(text, **{"fleet.memory_budget": "1GiB"}) as studium:
        return await answer_all(studium, problems, "generalist"), []


def _context(card: Path) -> int:
    import json

    return json.loads(card.read_text())["context_tokens"]


def _row(who: str, problems: Sequence[Problem], graded: Sequence[Graded]) -> Mapping[str, Any]:
    row: dict[str, Any] = {"who": who}
    for skill in skills():
        scores = [one.score for problem, one in zip(problems, graded, strict=True) if problem.domain == skill]
        row[skill] = f"{100 * sum(scores) / len(scores):.1f}"
    overall = wilson(round(sum(one.score for one in graded)), len(graded))
    row["overall %"] = f"{100 * overall.value:.1f} ({100 * overall.low:.1f} to {100 * overall.high:.1f})"
    row["declined %"] = f"{100 * sum(one.declined for one in graded) / len(graded):.1f}"
    row["calls a question"] = f"{sum(one.asked for one in graded) / len(graded):.2f}"
    return row


def _aims(parts: Mapping[str, Sequence[Graded]], best: str, generalist: Sequence[Graded]) -> list[Aim]:
    return [
        _gain("committee over its best member, points", parts[COMMITTEE], parts[best], least=10.0),
        _gain("committee against the oracle, points", parts[COMMITTEE], parts[ORACLE], least=-3.0),
        _gain(
            "committee over a generalist of equal budget, points", parts[COMMITTEE], generalist, least=None
        ),
    ]


def _gain(aim: str, one: Sequence[Graded], other: Sequence[Graded], *, least: float | None) -> Aim:
    if not other:
        return Aim(aim, None, None, None, "for information", None)
    gain = bootstrap_mean([100 * (a.score - b.score) for a, b in zip(one, other, strict=True)])
    if least is None:
        return Aim(aim, gain.value, gain.low, gain.high, "for information", None)
    return Aim(aim, gain.value, gain.low, gain.high, f">= {least:g}", gain.value >= least)


def _calls(committee: Sequence[Graded], students: int) -> str:
    calls = bootstrap_mean([float(one.asked) for one in committee])
    saved = 100 * (1 - calls.value / students)
    return (
        f"early stop: {calls.value:.2f} calls a question ({calls.low:.2f} to {calls.high:.2f}) of {students}, "
        f"{saved:.0f} % fewer than asking all"
    )


def main() -> None:
    run("committee", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
