"""Worst measured resident memory against the budget, over mixed questions in memory for two students.

The budget is what the two largest students were measured to need, and a tenth; all students of the
roster are asked. Every 20 ms the resident memory (RSS, shared pages counted in full, so on the high side) of all worker
processes is read from the kernel by this script, not by the fleet that is being measured.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

import psutil

from benchmarks.committee import fresh_problems
from benchmarks.report import Aim, Report, run, say
from benchmarks.workspace import fresh_studium
from studium.app import Studium
from studium.domains.protocol import Problem
from studium.records.answers import AnswerStatus, Fate, MoveKind

MIB = 2**20
SAMPLE_S = 0.02


async def _two_student_budget() -> int:
    """The two largest measured needs, with the room the fleet itself adds to a new measurement."""
    async with fresh_studium(**{"fleet.memory_budget": "8GiB"}) as studium:
        for name in studium.roster.students:
            await studium.ask("What is 2 + 2?", model=name)
        peaks = sorted(one.peak_bytes or 0 for one in await studium.fleet.residences())
    return round(sum(peaks[-2:]) * 1.1)


class Meter:
    """Reads the workers' resident memory until stopped; keeps the most it saw."""

    def __init__(self) -> None:
        self.most_rss_bytes = 0
        self.most_workers = 0
        self.samples = 0

    async def watch(self) -> None:
        me = psutil.Process()
        while True:
            sizes = [size for size in map(_rss, me.children(recursive=True)) if size]
            self.most_rss_bytes = max(self.most_rss_bytes, sum(sizes))
            self.most_workers = max(self.most_workers, len(sizes))
            self.samples += 1
            await asyncio.sleep(SAMPLE_S)


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


async def _measure(quick: bool) -> Report:
    budget = await _two_student_budget()
    problems = fresh_problems(40)
    Random(3).shuffle(problems)
    problems = problems[: 20 if quick else 200]
    async with fresh_studium(**{"fleet.memory_budget": f"{budget // MIB}MiB"}) as studium:
        meter, loads = Meter(), Counter[MoveKind]()
        studium.fleet.residency.listeners.append(lambda move: loads.update([move.kind]))
        watching = asyncio.create_task(meter.watch())
        began = time.monotonic()
        answered, heard = await _ask_all(studium, problems)
        seconds = time.monotonic() - began
        watching.cancel()
    ratio = meter.most_rss_bytes / budget
    rows = [
        {
            "budget MiB": budget // MIB,
            "worst resident MiB": meter.most_rss_bytes / MIB,
            "of budget": f"{100 * ratio:.1f} %",
            "workers at once": meter.most_workers,
            "students heard": len(heard),
            "questions": len(problems),
            "answered": answered,
            "loads": loads[MoveKind.LOAD],
            "s a question": seconds / len(problems),
            "samples": meter.samples,
        }
    ]
    return Report(rows, [Aim("worst resident memory / budget", ratio, ratio, ratio, "<= 1", ratio <= 1)])


async def _ask_all(studium: Studium, problems: Sequence[Problem]) -> tuple[int, set[str]]:
    answered, heard = 0, set[str]()
    for number, problem in enumerate(problems, start=1):
        answer = await studium.ask(problem.prompt)
        answered += answer.status is AnswerStatus.ANSWERED
        heard |= {member.student for member in answer.members if member.fate is not Fate.NOT_NEEDED}
        if number % 50 == 0:
            say(f"{number} of {len(problems)} questions")
    return answered, heard


def main() -> None:
    run("memory", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
