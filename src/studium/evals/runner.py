"""Asking a model every item, some number of times, and grading what it says; what was asked before is not asked again.

Who is asked is a callable that asks as serving does: this module knows neither engines nor templates.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from studium.domains.open_question import OPEN_QUESTION
from studium.errors import EngineFailure, PromptTooLong, StudiumError
from studium.evals.grading import Forced, Graded, Said, grade
from studium.evals.items import Item
from studium.records.messages import Sampling

# An answer may take its limit and the time to bring its model into memory; then nobody waits any longer.
_GRACE_S = 120.0


class Try(NamedTuple):
    """One try at one item; the sampling is all that differs between tries."""

    item: Item
    sample: int
    sampling: Sampling

    @property
    def key(self) -> tuple[str, int]:
        return self.item.id, self.sample


Ask = Callable[[Try], Awaitable[Said]]
Force = Callable[[Item], Awaitable[Forced | None]]
"""Returns how likely a model finds an item's reference as its own reply; None where its engine cannot tell."""
Judge = Callable[[Item, str], Awaitable[float | None]]
"""Returns a score of a reply that no domain can grade; None: not scored."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is asked. `force` None: no perplexity; `judge` None: the item's domain grades alone."""

    ask: Ask
    force: Force | None = None
    judge: Judge | None = None
    timeout_s: float = 60.0


class Progress(NamedTuple):
    """How far a run has come; `seconds_left` is expected from the pace so far."""

    done: int
    total: int
    seconds_left: float
    graded: Graded


def tries(items: Sequence[Item], samples: int, temperature: float) -> list[Try]:
    """Return the tries at all items, the first of each before the second. Seeds follow from item and sample."""
    return [
        Try(
            item, sample, Sampling(temperature=temperature, seed=_seed(item, sample) if temperature else None)
        )
        for sample in range(samples)
        for item in items
    ]


def is_for_a_judge(item: Item) -> bool:
    """Say whether no domain can grade every reply to an item. Rows of a recognised domain have a right answer."""
    return item.domain is OPEN_QUESTION


def left(planned: Sequence[Try], done: Collection[tuple[str, int]]) -> list[Try]:
    """Return what there is still to ask."""
    return [one for one in planned if one.key not in done]


async def run(to_ask: Sequence[Try], way: Way) -> AsyncIterator[Progress]:
    """Ask one after the other and yield each with its grade.

    A model that fails at a question is recorded as failed there; what would fail at every question is raised.
    """
    began = time.monotonic()
    for number, one in enumerate(to_ask, start=1):
        graded = await _carry_out(one, way)
        spent = time.monotonic() - began
        yield Progress(number, len(to_ask), spent / number * (len(to_ask) - number), graded)


async def _carry_out(one: Try, way: Way) -> Graded:
    said = await _ask(one, way)
    if said.error:
        return grade(one.item, one.sample, said)
    forced = await way.force(one.item) if way.force and one.sample == 0 else None
    if way.judge is None or not is_for_a_judge(one.item):
        return grade(one.item, one.sample, said, forced=forced)
    score = one.item.grade(said.text) or await way.judge(one.item, said.text)
    return grade(one.item, one.sample, said, forced=forced, score=score, judged=True)


async def _ask(one: Try, way: Way) -> Said:
    began = time.monotonic()
    try:
        async with asyncio.timeout(way.timeout_s + _GRACE_S):
            return await way.ask(one)
    except (EngineFailure, PromptTooLong) as error:
        return Said("", time.monotonic() - began, error=_short(error))
    except TimeoutError:
        return Said("", time.monotonic() - began, error=f"no answer within {way.timeout_s + _GRACE_S:.0f} s")


def _short(error: StudiumError) -> str:
    return error.happened[:300]


def _seed(item: Item, sample: int) -> int:
    return (int(item.id[:8], 16) + sample) % 2**31
