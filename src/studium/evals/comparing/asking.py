"""Asks two models the same problems, a few at a time, so that one may stop as soon as the gate has decided.

The models take turns by blocks, and who begins changes from block to block (ABBA): memory that holds one of them is
not emptied at every question, and a machine that slows down slows both. What is in the folders is not asked again.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from studium.evals.folder import EvalFolder
from studium.evals.gate.verdict import Decision, Limits, Pair, judge
from studium.evals.grading import Graded
from studium.evals.items import Item
from studium.evals.runner import Way, run, tries
from studium.records.adapters import Verdict

BLOCK = 10


@dataclass(frozen=True, slots=True)
class Contest:
    """What is asked of both: fresh problems in an order of chance, then the suite. `everything`: no early end."""

    fresh: Sequence[Item]
    suite: Sequence[Item]
    limits: Limits
    everything: bool = False


class Contestant(NamedTuple):
    """One of the two: how it is asked, and where its graded replies are kept."""

    way: Way
    folder: EvalFolder


class Step(NamedTuple):
    """How far a comparison has come. `total` questions at most; `decision` on the fresh problems so far."""

    done: int
    total: int
    seconds_left: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Outcome:
    """Both sides' graded replies by item, and the items of either part that both were asked, in order."""

    champion: Mapping[str, Graded]
    challenger: Mapping[str, Graded]
    fresh: Sequence[Item]
    suite: Sequence[Item]

    def pairs(self, items: Sequence[Item]) -> list[Pair]:
        return [
            Pair(
                one.id,
                one.domain.name,
                one.level,
                self.champion[one.id].score,
                self.challenger[one.id].score,
            )
            for one in items
        ]


async def ask_both(
    contest: Contest,
    champion: Contestant,
    challenger: Contestant,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Step]:
    """Ask what is left, block by block, writing every reply down; yield after each block.

    The suite is asked unless the fresh problems have rolled the challenger back. Failed replies are asked again by
    the next call, not by this one.
    """
    asker = _Asker(contest, (champion, challenger), clock)
    decision = asker.decision()
    for number, block in enumerate(blocks(contest.fresh)):
        if decided(decision) and not contest.everything:
            break
        await asker.ask(block, first=number % 2)
        decision = asker.decision()
        yield asker.step(decision)
    if decision.verdict is Verdict.ROLL_BACK and not contest.everything:
        return
    for number, block in enumerate(blocks(contest.suite)):
        await asker.ask(block, first=number % 2)
        yield asker.step(decision)


class _Asker:
    """What is still to be asked of whom, and how long that takes."""

    def __init__(
        self, contest: Contest, sides: tuple[Contestant, Contestant], clock: Callable[[], float]
    ) -> None:
        self._contest, self._sides, self._clock = contest, sides, clock
        self._said = tuple(_replies(side) for side in sides)
        self._todo = sum(
            self._open(item, index) for item in (*contest.fresh, *contest.suite) for index in (0, 1)
        )
        self._asked, self._began = 0, clock()

    async def ask(self, block: Sequence[Item], *, first: int) -> None:
        for index in (first, 1 - first):
            left = [item for item in block if self._open(item, index)]
            async for one in run(tries(left, 1, 0.0), self._sides[index].way):
                self._sides[index].folder.append(one.graded)
                self._said[index][one.graded.item] = one.graded
                self._asked += 1

    def _open(self, item: Item, index: int) -> bool:
        said = self._said[index].get(item.id)
        return said is None or bool(said.error)

    def decision(self) -> Decision:
        outcome = _outcome(self._contest, *self._said)
        return judge(outcome.pairs(outcome.fresh), None, self._contest.limits)

    def step(self, decision: Decision) -> Step:
        spent = self._clock() - self._began
        left_s = spent / self._asked * (self._todo - self._asked) if self._asked else 0.0
        return Step(self._asked, self._todo, left_s, decision)


def blocks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[at : at + BLOCK] for at in range(0, len(items), BLOCK)]


def outcome_of(contest: Contest, champion: Contestant, challenger: Contestant) -> Outcome:
    """Return what both were asked so far; of the fresh problems, in the order they are asked."""
    return _outcome(contest, _replies(champion), _replies(challenger))


def _replies(side: Contestant) -> dict[str, Graded]:
    return {one.item: one for one in side.folder.answers()}


def _outcome(contest: Contest, first: Mapping[str, Graded], second: Mapping[str, Graded]) -> Outcome:
    both = first.keys() & second.keys()
    return Outcome(
        first,
        second,
        [one for one in contest.fresh if one.id in both],
        [one for one in contest.suite if one.id in both],
    )


def decided(decision: Decision) -> bool:
    """Say whether more fresh problems would change nothing: better or worse was shown."""
    return decision.at_pair is not None
