"""How many planted mistakes the preflight stops before the first step, and how many sound runs it stops as well.

Cases are those of benchmarks/preflight_cases.py; rewards that can be had for nothing are counted apart.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.preflight_cases import Case, clean, planted, stopped_by
from benchmarks.report import Aim, Report, run, say
from studium.evals.intervals import wilson
from studium.train.surroundings import choose_threads, quiet


class Outcome(NamedTuple):
    """What became of a case: the check that stopped it, None where it would have begun."""

    case: Case
    by: str | None
    seconds: float


def measure(quick: bool) -> Report:
    """Check every case; `quick` takes every fourth sound one."""
    quiet()
    choose_threads(0)
    bad, sound = _tried(planted()), _tried(clean()[:: 4 if quick else 1])
    rewards = [one for one in bad if one.case.check == "reward probes" or "reward" in one.case.name]
    meant = sum(one.by == one.case.check for one in bad)
    stopped = sum(one.by is not None for one in bad)
    false = sum(one.by is not None for one in sound)
    return Report(
        rows=[
            _row("planted mistakes", bad),
            _row("of these rewards that can be had for nothing, or never", rewards),
            _row("sound runs", sound),
        ],
        aims=[
            _aim(
                "planted mistakes stopped before step 1",
                stopped,
                len(bad),
                "all of at least 20",
                met=stopped == len(bad) >= 20,
            ),
            _aim("stopped by the check for it", meant, len(bad), "all", met=meant == len(bad)),
            _aim(
                "sound runs stopped",
                false,
                len(sound),
                "none of 30",
                met=None if quick else false == 0 and len(sound) >= 30,
            ),
        ],
        notes=[
            f"{one.case.name}: stopped by {one.by}, meant {one.case.check or 'none'}"
            for one in (*bad, *sound)
            if one.by != (one.case.check or None)
        ],
    )


def _tried(cases: Sequence[Case]) -> list[Outcome]:
    found: list[Outcome] = []
    for case in cases:
        began = time.perf_counter()
        by = stopped_by(case)
        found.append(Outcome(case, by, time.perf_counter() - began))
        say(f"{case.name}: {by or 'may begin'}")
    return found


def _row(name: str, found: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "cases": name,
        "number": len(found),
        "stopped": sum(one.by is not None for one in found),
        "seconds a case": sum(one.seconds for one in found) / len(found),
    }


def _aim(name: str, hits: int, number: int, target: str, *, met: bool | None) -> Aim:
    interval = wilson(hits, number)
    return Aim(name, hits / number, interval.low, interval.high, target, met, f"{hits} of {number}")


if __name__ == "__main__":
    run("preflight", __doc__ or "", measure)
