"""What an answer from the cache costs beside making it: the embedded students, one process, the store on disk.

`measure` is a part of `benchmarks.selector`; it has no command of its own.
"""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.workspace import fresh_studium
from studium.records.answers import Answer
from studium.store.cache import AnswerShelf

MADE, AGAIN, AGAIN_QUICK = 12, 200, 60


async def measure(quick: bool) -> Sequence[dict[str, Any]]:
    """Return a row each for answers made, made and kept, and given again: milliseconds, median and p95.

    The models are in memory; another question is asked each time, and of those given again one of the kept.
    """
    questions = [f"What is {30 + number} + {58 + number}?" for number in range(MADE)]
    async with fresh_studium(**{"fleet.memory_budget": "1GiB", "cache.enabled": "true"}) as studium:

        async def timed(question: str, *, cache: bool | None) -> tuple[float, Answer]:
            began = time.perf_counter()
            answer = await studium.ask(question, cache=cache)
            return 1000 * (time.perf_counter() - began), answer

        for question in questions:  # whoever is needed is loaded
            await timed(question, cache=False)
        made = [(await timed(question, cache=False))[0] for question in questions]
        kept = [await timed(question, cache=None) for question in questions]
        given = [await timed(questions[n % MADE], cache=None) for n in range(AGAIN_QUICK if quick else AGAIN)]
        settled = {question for question, (_, answer) in zip(questions, kept, strict=True) if _kept(answer)}
        hits = [ms for ms, answer in given if "cached" in answer.flags]
        rows = [_row("made", made), _row("made and kept", [ms for ms, _ in kept]), _row("given again", hits)]
        rows[-1] |= {"questions kept": len(settled), "bytes": _bytes(studium.store.cache)}
        return rows


def _kept(answer: Answer) -> bool:
    return bool(answer.notes.get("cache", {}).get("kept"))


def _bytes(shelf: AnswerShelf) -> int:
    return shelf.figures(time.time())["bytes"]


def _row(what: str, values_ms: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(values_ms)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else None
    middle = median(ordered) if ordered else None
    return {"answer": what, "number": len(ordered), "median ms": middle, "p95 ms": p95}
