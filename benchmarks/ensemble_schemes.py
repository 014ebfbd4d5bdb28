"""Ways to use the same embedded students, in one run and one memory.

The adaptive ensemble; a vote of everyone; the best student alone; the best one several times (self-consistency, Wang et
al. 2023, arXiv:2203.11171); and two layers, in which everyone drafts and one aggregates (mixture of agents, Wang et al.
2024, arXiv:2406.04692; re-implemented here). Fresh problems of five domains are cut into blocks; every way answers
every block from an empty memory, in a random order of ways within each block, so that the machine's noise falls on all
alike. The best student is the one that got most right on problems of the scoring side; the best in hindsight, chosen on
the test itself, is shown beside it and favours the peers. Once with room for all models, once with room for two or three,
so that loads count. Outside questions, which nobody here can answer, tell how often each way declines as it should.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

from benchmarks.report import Aim, Report, run, say
from benchmarks.workspace import fresh_studium
from studium.app import Studium
from studium.domains.catalogue import shipped_domains
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.outside import outside_question
from studium.domains.protocol import Split
from studium.evals.intervals import Interval, wilson
from studium.records.answers import Part
from studium.records.messages import Message
from studium.serve.calls import Batch, Brief, Call, Strategy
from studium.serve.comparison.items import Item, fresh_items
from studium.serve.comparison.measure import (
    ADAPTIVE,
    BEST,
    EVERYONE,
    TRIES,
    Outcome,
    Scheme,
    alone,
    best_of,
    carry_out,
    paired_points,
    query,
    schemes,
)
from studium.serve.strategies import STRATEGIES
from studium.serve.strategies.verdicts import judge

SEED = 20_261_121
LAYERS, ANSWERS_ONLY = "two layers, drafts", "two layers, answers only"
HINDSIGHT = "best in hindsight"
BUDGETS = {"1GiB": "room for all", "85MiB": "room for two or three"}
LONGEST_DRAFT_CHARACTERS = 120
Outcomes = Mapping[str, Sequence[Outcome]]


def two_layers(aggregator: str, shown: Callable[[str, str | None], str]) -> Callable[[Brief], Strategy]:
    """Return the strategy in which everyone drafts and `aggregator` answers with the drafts before it."""

    def strategy(brief: Brief) -> Strategy:
        members = (*brief.students, *brief.reserves)
        drafts = yield Batch(tuple(map(Call, members)))
        lines = [shown(one.text, one.answer) for one in drafts if one.text]
        prompt = f"{brief.question}\nProposed: {'; '.join(line for line in lines if line)}"
        chosen = next(one for one in members if one.name == aggregator)
        ask = replace(brief.ask, messages=(Message("user", prompt),))
        last = yield Batch((Call(chosen, ask, part=Part.JOIN),))
        return judge(brief, last, ())

    return strategy


def _draft(text: str, _answer: str | None) -> str:
    return " ".join(text.split())[:LONGEST_DRAFT_CHARACTERS]


def _answer(_text: str, answer: str | None) -> str:
    return answer or ""


def _ways(best: str) -> list[Scheme]:
    STRATEGIES[LAYERS] = two_layers(best, _draft)
    STRATEGIES[ANSWERS_ONLY] = two_layers(best, _answer)
    layers = [
        Scheme(
            name, f"everyone drafts, {best} aggregates", lambda text, name=name: query(text, strategy=name)
        )
        for name in (LAYERS, ANSWERS_ONLY)
    ]
    return [*schemes(best), *layers]


async def _measure(quick: bool) -> Report:
    rows: list[Mapping[str, Any]] = []
    aims: list[Aim] = []
    notes: list[str] = []
    for budget, name in BUDGETS.items():
        per_domain = (6 if quick else 100) if budget == "1GiB" else (3 if quick else 40)
        items = fresh_items(list(shipped_domains()), per_domain, SEED)
        outside = _outside(10 if quick else 200) if budget == "1GiB" else []
        async with fresh_studium(**{"fleet.memory_budget": budget}) as studium:
            best, others = await _students(studium, 4 if quick else 40)
            ways = _ways(best)
            found = await _in_blocks(studium, ways, items, name, num_blocks=2 if quick else 5)
            alone_now = {one: await _run(studium, alone(one), items) for one in others}
            hindsight = best_of(alone_now)
            found[HINDSIGHT] = alone_now[hindsight]
            declined = {way.name: await _run(studium, way, outside) for way in [*ways, *map(alone, others)]}
        rows += [_row(name, way, found[way], items, declined.get(way)) for way in found]
        notes += [_declines(one, declined[one]) for one in others if declined.get(one)]
        aims += _aims(name, found)
        notes.append(f"{name}: {len(items)} problems; best student {best}, in hindsight {hindsight}")
    return Report(rows, aims, [*notes, *_NOTES])


_NOTES = (
    "the accuracy aim is met where the difference is not below zero by more than chance: its interval reaches 0",
    "the students never saw drafts in a prompt: two layers show what the scheme does with tiny specialists, not with "
    "chat models",
    "seconds are the whole question's, loads included; the ways stand in random order within each block",
)


async def _students(studium: Studium, per_domain: int) -> tuple[str, list[str]]:
    """Return the best student on the scoring side, and all of them."""
    names = [one.name for one in studium.ensemble.team.members()]
    items = fresh_items(list(shipped_domains()), per_domain, SEED, Split.SCORING)
    return best_of({name: await _run(studium, alone(name), items) for name in names}), names


async def _in_blocks(
    studium: Studium, ways: Sequence[Scheme], items: Sequence[Item], name: str, *, num_blocks: int
) -> dict[str, Sequence[Outcome]]:
    found: dict[str, list[Outcome]] = defaultdict(list)
    rng = Random(SEED)
    size = -(-len(items) // num_blocks)
    for start in range(0, len(items), size):
        for way in rng.sample(ways, len(ways)):
            found[way.name] += await _run(studium, way, items[start : start + size])
        say(f"{name}: {min(start + size, len(items))} of {len(items)} problems")
    return {way.name: found[way.name] for way in ways}


async def _run(studium: Studium, way: Scheme, items: Sequence[Item]) -> list[Outcome]:
    return [one async for one in carry_out(studium.ensemble, studium.fleet, way, items)]


def _outside(number: int) -> list[Item]:
    rng = Random(SEED)
    return [Item(outside_question(rng, Split.FRESH), "", OPEN_QUESTION) for _ in range(number)]


def _row(
    budget: str,
    way: str,
    outcomes: Sequence[Outcome],
    items: Sequence[Item],
    outside: Sequence[Outcome] | None,
) -> Mapping[str, Any]:
    row: dict[str, Any] = {"memory": budget, "way": way}
    for domain in shipped_domains():
        scores = [
            one.score == 1.0 for item, one in zip(items, outcomes, strict=True) if item.domain.name == domain
        ]
        row[domain] = f"{100 * fmean(scores):.1f}"
    right = sum(one.score == 1.0 for one in outcomes)
    share, seconds = wilson(right, len(outcomes)), sorted(one.seconds for one in outcomes)
    calls = fmean(one.calls for one in outcomes)
    row["right %"] = _percent(share)
    row["calls"] = f"{calls:.2f}"
    row["loads"] = f"{fmean(one.loads for one in outcomes):.2f}"
    row["seconds"] = f"{fmean(seconds):.3f}"
    row["p95 s"] = f"{seconds[int(0.95 * len(seconds))]:.3f}"
    row["right per second"] = f"{right / sum(seconds):.1f}"
    row["right per call"] = f"{right / max(1.0, calls * len(outcomes)):.2f}"
    row["declines outside %"] = (
        _percent(wilson(sum(one.declined for one in outside), len(outside))) if outside else None
    )
    return row


def _declines(student: str, outside: Sequence[Outcome]) -> str:
    share = wilson(sum(one.declined for one in outside), len(outside))
    return f"{student} alone declines {_percent(share)} % of {len(outside)} outside questions"


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _aims(budget: str, found: Outcomes) -> list[Aim]:
    aims: list[Aim] = []
    points = paired_points(found[ADAPTIVE], found[EVERYONE])
    if points is not None:
        aim = f"{budget}: adaptive over everyone, points"
        aims.append(
            Aim(aim, points.value, points.low, points.high, ">= 0, or within chance of it", points.high >= 0)
        )
    ratio = _ratio(found[ADAPTIVE], found[EVERYONE])
    aims.append(Aim(f"{budget}: adaptive / everyone, seconds", *ratio, "<= 0.5", ratio.value <= 0.5))
    for other in (BEST, HINDSIGHT, TRIES, LAYERS, ANSWERS_ONLY):
        points = paired_points(found[ADAPTIVE], found[other])
        if points is not None:
            aims.append(Aim(f"{budget}: adaptive over {other}, points", *points, "for information", None))
    return aims


def _ratio(one: Sequence[Outcome], other: Sequence[Outcome]) -> Interval:
    """Return the ratio of mean seconds with a paired bootstrap interval."""
    pairs = [(a.seconds, b.seconds) for a, b in zip(one, other, strict=True)]
    rng = Random(SEED)
    ratios: list[float] = []
    for _ in range(1000):
        drawn = rng.choices(pairs, k=len(pairs))
        ratios.append(sum(a for a, _ in drawn) / sum(b for _, b in drawn))
    ratios.sort()
    value = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    return Interval(value, ratios[25], ratios[974])


def main() -> None:
    run("ensemble_schemes", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
