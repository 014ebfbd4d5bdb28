"""Ways to use the embedded students, on the same fresh problems of five domains, in one run, at two budgets.

Peers are written anew here, from their papers. "Drafts, then one" is the two-layer scheme of Wang et al. 2024
(arXiv:2406.04692): everyone drafts, the best student aggregates. Our students never saw such prompts, so there
is a kinder variant that shows the drafts' answers alone. "Self-consistency" is Wang et al. 2022
(arXiv:2203.11171): five samples at temperature 0.7, the most frequent answer. Students are chosen on
questions of their own; the best in hindsight is chosen on the test itself, which favours it.

Every way has a Studium of its own, so that none learns from another's answers. Blocks of questions go through
the ways in random order, each from an empty memory; the response cache and refinement are off.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

from benchmarks.report import Aim, Report, run, say
from benchmarks.workspace import fresh_studium
from studium.app import Studium
from studium.domains.catalogue import skills
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.outside import outside_question
from studium.domains.protocol import Split
from studium.evals.intervals import Interval, wilson
from studium.evals.items import Item, fresh_items
from studium.records.answers import AnswerStatus, Fate, MemberReply, Query
from studium.records.messages import Message
from studium.serve.calls import Batch, Brief, Call, Strategy, Verdict
from studium.serve.comparison.measure import (
    ADAPTIVE,
    EVERYONE,
    Outcome,
    Scheme,
    alone,
    best_of,
    carry_out,
    paired_points,
    schemes,
)
from studium.serve.strategies import STRATEGIES
from studium.serve.strategies.committee import again

SEED, SAMPLES, BLOCK, RESAMPLES = 7_202_614, 5, 50, 1000
BUDGETS = ("1GiB", "85MiB")
# Where loads count, a question takes seconds for all ways together: the first of the same questions are enough.
MOST_WHERE_TIGHT = 50
# The students' contexts hold 1,024 tokens: of each draft its end, where the answer stands.
DRAFT_CHARACTERS = 80
DECLINES_AIM = 95.0


def self_consistency(best: Mapping[str, str], overall: str) -> Callable[[Brief], Strategy]:
    """Return the strategy that samples one student; `best` names it by domain, `overall` elsewhere."""

    def strategy(brief: Brief) -> Strategy:
        student = _student(brief, best.get(brief.domain, overall))
        calls = tuple(Call(student, again(brief.ask, n), sample=n) for n in range(1, SAMPLES + 1))
        replies = yield Batch(calls)
        given = [one for one in replies if one.answer is not None]
        return _verdict(max(given, key=lambda one: _votes(brief, given, one), default=replies[0]))

    return strategy


def drafts(aggregator: str, *, answers_only: bool) -> Callable[[Brief], Strategy]:
    """Return the two-layer strategy whose second layer is the student `aggregator`."""

    def strategy(brief: Brief) -> Strategy:
        replies = yield Batch(tuple(map(Call, (*brief.students, *brief.reserves))))
        shown = [one.answer if answers_only else one.text[-DRAFT_CHARACTERS:] for one in replies]
        told = "\n".join(f"{n}. {text}" for n, text in enumerate(filter(None, shown), start=1))
        prompt = (
            f"{brief.question}\n\nAnswers of other models, which may be wrong:\n{told}\n\n{brief.question}"
        )
        ask = replace(brief.ask, messages=(Message("user", prompt),))
        final = yield Batch((Call(_student(brief, aggregator), ask, sample=1),))
        return _verdict(final[0])

    return strategy


def _student(brief: Brief, name: str) -> Any:
    return next(one for one in (*brief.students, *brief.reserves) if one.name == name)


def _votes(brief: Brief, given: Sequence[MemberReply], one: MemberReply) -> int:
    return sum(brief.same(one.answer or "", other.answer or "") for other in given)


def _verdict(reply: MemberReply) -> Verdict:
    status = {Fate.ANSWERED: AnswerStatus.ANSWERED, Fate.ABSTAINED: AnswerStatus.UNABLE}
    return Verdict(status.get(reply.fate, AnswerStatus.PARTIAL), reply, 0.0, 0.0)


def _peers(best: str, by_domain: Mapping[str, str]) -> list[Scheme]:
    """Register the peers, in this process alone, and return the ways that ask for them."""
    found = {
        "self-consistency": (self_consistency({}, best), f"{best}, {SAMPLES} samples"),
        "self-consistency, best of the domain": (self_consistency(by_domain, best), f"{SAMPLES} samples"),
        "drafts, then one": (drafts(best, answers_only=False), f"{best} sees the drafts"),
        "drafts' answers, then one": (drafts(best, answers_only=True), f"{best} sees the answers"),
    }
    STRATEGIES.update({name: strategy for name, (strategy, _) in found.items()})
    return [Scheme(name, about, _asking(name)) for name, (_, about) in found.items()]


def _asking(strategy: str) -> Callable[[str], Query]:
    return lambda text: Query(messages=(Message("user", text),), strategy=strategy, cache=False, refine=False)


async def _choose(studium: Studium, number: int) -> tuple[str, dict[str, str]]:
    """Return the best student overall, and by domain, on questions of the scoring side."""
    items = fresh_items(list(skills()), number, SEED, Split.SCORING)
    names = [one.name for one in studium.ensemble.team.members()]
    got = {name: await _carry_out(studium, alone(name), items) for name in names}
    by_domain = {
        domain: best_of({name: _of(domain, items, outcomes) for name, outcomes in got.items()})
        for domain in skills()
    }
    return best_of(got), by_domain


async def _carry_out(studium: Studium, way: Scheme, items: Sequence[Item]) -> list[Outcome]:
    return [one async for one in carry_out(studium.ensemble, studium.fleet, way, items)]


def _of(domain: str, items: Sequence[Item], outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for item, one in zip(items, outcomes, strict=True) if item.domain.name == domain]


async def _measure_ways(
    budget: str, ways: Sequence[Scheme], items: Sequence[Item]
) -> dict[str, list[Outcome]]:
    rng, got = Random(SEED), {way.name: list[Outcome]() for way in ways}
    async with AsyncExitStack() as stack:
        settings = {"fleet.memory_budget": budget}
        own = {way.name: await stack.enter_async_context(fresh_studium(**settings)) for way in ways}
        for start in range(0, len(items), BLOCK):
            for way in rng.sample(list(ways), len(ways)):
                studium = own[way.name]
                got[way.name] += await _carry_out(studium, way, items[start : start + BLOCK])
                for name in studium.fleet.residency.resident():
                    await studium.fleet.residency.evict(name)
            say(f"{budget}: {min(start + BLOCK, len(items))} of {len(items)} questions")
    return got


async def _measure(quick: bool) -> Report:
    items = fresh_items(list(skills()), 4 if quick else 30, SEED)
    async with fresh_studium(**{"fleet.memory_budget": BUDGETS[0]}) as studium:
        best, by_domain = await _choose(studium, 5 if quick else 20)
        members = [alone(one.name) for one in studium.ensemble.team.members()]
    ways = [*schemes(best), *_peers(best, by_domain)]
    rows: list[dict[str, Any]] = []
    aims: list[Aim] = []
    notes = [f"best member on the scoring side: {best}; by domain: {by_domain}"]
    for budget, part in zip(BUDGETS, (items, items[:MOST_WHERE_TIGHT]), strict=True):
        asked = [*ways, *members] if budget == BUDGETS[0] else ways
        got = await _measure_ways(budget, asked, part)
        rows += [_row(budget, way.name, part, got[way.name]) for way in asked]
        aims += _aims(budget, got[ADAPTIVE], got[EVERYONE])
        notes += [*_losses(budget, part, got), _without_loads(budget, got)]
        if budget == BUDGETS[0]:
            hindsight = best_of({one.name: got[one.name] for one in members})
            notes.append(f"best member in hindsight, chosen on the test itself: {hindsight}")
    outside_rows, outside_aims = await _outside([*ways[:2], *members], 25 if quick else 150)
    return Report([*rows, *outside_rows], [*aims, *outside_aims], notes)


def _row(budget: str, way: str, items: Sequence[Item], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    right = sum(one.score == 1.0 for one in outcomes)
    seconds = sorted(one.seconds for one in outcomes)
    calls = fmean(one.calls for one in outcomes)
    row: dict[str, Any] = {
        "budget": budget,
        "way": way,
        "asked": len(outcomes),
        "right %": _share(wilson(right, len(outcomes))),
    }
    for domain in skills():
        part = _of(domain, items, outcomes)
        row[domain] = _share(wilson(sum(one.score == 1.0 for one in part), len(part)))
    return row | {
        "calls": f"{calls:.2f}",
        "loads": f"{fmean(one.loads for one in outcomes):.2f}",
        "mean ms": f"{1000 * fmean(seconds):.1f}",
        "p95 ms": f"{1000 * seconds[math.ceil(0.95 * len(seconds)) - 1]:.1f}",
        "tokens": f"{fmean(one.tokens for one in outcomes):.0f}",
        "right a second": f"{right / sum(seconds):.1f}",
        "right a call": f"{right / (calls * len(outcomes)):.2f}" if calls else "-",
        "failed": sum(bool(one.error) for one in outcomes),
    }


def _aims(budget: str, mine: Sequence[Outcome], theirs: Sequence[Outcome]) -> list[Aim]:
    """Not worse is told by the paired interval: met where its low end is above what noise could hide, 2 points."""
    points, ratio = paired_points(mine, theirs), _seconds_ratio(mine, theirs)
    more = (
        Aim(
            f"{budget}: adaptive over everyone, points, paired",
            points.value,
            points.low,
            points.high,
            ">= 0, low end >= -2",
            points.value >= 0 and points.low >= -2,
        )
        if points
        else Aim(f"{budget}: adaptive over everyone", None, None, None, ">= 0", None, "nothing was scored")
    )
    name = f"{budget}: adaptive seconds of everyone's"
    return [more, Aim(name, ratio.value, ratio.low, ratio.high, "<= 0.5", ratio.value <= 0.5)]


def _seconds_ratio(mine: Sequence[Outcome], theirs: Sequence[Outcome]) -> Interval:
    """Return the ratio of mean seconds; questions are drawn anew in pairs for the interval."""
    pairs = [(a.seconds, b.seconds) for a, b in zip(mine, theirs, strict=True)]
    rng = Random(SEED)
    drawn = sorted(_ratio(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return Interval(_ratio(pairs), drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES) - 1])


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(one for one, _ in pairs) / sum(other for _, other in pairs)


def _without_loads(budget: str, got: Mapping[str, Sequence[Outcome]]) -> str:
    """Tell the mean of the questions that loaded nothing: adaptive loads one by one, everyone all at once."""
    warm = {name: [one.seconds for one in got[name] if not one.loads] for name in (ADAPTIVE, EVERYONE)}
    if not all(warm.values()):
        return f"{budget}: every question of one way loaded a model"
    mine, theirs = (1000 * fmean(warm[name]) for name in (ADAPTIVE, EVERYONE))
    told = f"adaptive {mine:.1f} ms, everyone {theirs:.1f} ms, ratio {mine / theirs:.2f}"
    return f"{budget}: questions that loaded nothing: {told}"


def _losses(budget: str, items: Sequence[Item], got: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Return where another way beats the adaptive one: in all, on a domain, or in right answers a second."""
    notes: list[str] = []
    for name, outcomes in got.items():
        if name == ADAPTIVE:
            continue
        said = [
            f"{where} by {-points.value:.1f} points ({-points.high:+.1f} to {-points.low:+.1f})"
            for where, points in _differences(items, got[ADAPTIVE], outcomes)
            if points and points.value < 0
        ]
        if _rate(outcomes) > _rate(got[ADAPTIVE]):
            said.append(f"right a second {_rate(outcomes):.1f} to {_rate(got[ADAPTIVE]):.1f}")
        if said:
            notes.append(f"{budget}: {name} beats adaptive: {'; '.join(said)}")
    return notes


def _differences(
    items: Sequence[Item], mine: Sequence[Outcome], theirs: Sequence[Outcome]
) -> list[tuple[str, Interval | None]]:
    parts = {one: (_of(one, items, mine), _of(one, items, theirs)) for one in skills()}
    return [(where, paired_points(a, b)) for where, (a, b) in {"in all": (mine, theirs), **parts}.items()]


def _rate(outcomes: Sequence[Outcome]) -> float:
    return sum(one.score == 1.0 for one in outcomes) / sum(one.seconds for one in outcomes)


async def _outside(ways: Sequence[Scheme], number: int) -> tuple[list[dict[str, Any]], list[Aim]]:
    """Ask what no skill covers; count who says that it cannot (status `unable`)."""
    rng = Random(f"{SEED}/outside")
    items = [Item(outside_question(rng, Split.FRESH), "", OPEN_QUESTION) for _ in range(number)]
    rows: list[dict[str, Any]] = []
    aims: list[Aim] = []
    for way in ways:
        async with fresh_studium(**{"fleet.memory_budget": BUDGETS[0]}) as studium:
            outcomes = await _carry_out(studium, way, items)
        share = wilson(sum(one.declined for one in outcomes), number)
        calls = f"{fmean(one.calls for one in outcomes):.2f}"
        rows.append(
            {"budget": BUDGETS[0], "way": way.name, "outside, declined %": _share(share), "calls": calls}
        )
        if way.name == ADAPTIVE:
            aims.append(_declines(share))
        say(f"outside questions: {way.name} done")
    return rows, aims


def _declines(share: Interval) -> Aim:
    value, low, high = (100 * one for one in (share.value, share.low, share.high))
    return Aim("adaptive declines outside questions, %", value, low, high, ">= 95", value >= DECLINES_AIM)


def _share(share: Interval) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def main() -> None:
    run("ensemble_schemes", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
