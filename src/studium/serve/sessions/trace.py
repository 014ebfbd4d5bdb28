"""A session as a trace for the simulator: the same work, whoever had scheduled it.

Each cycle's asks are issued together, in their planned order, when those of the cycle before have ended: when the
session itself asked them followed from its own scheduling, which is what a replay is to vary. Seconds,
bytes and classes are as recorded. Not recorded, so taken as nothing: the time to give memory back, and how much
models slow each other.
"""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from studium.errors import BadRequest
from studium.records.sessions import CycleSummary, SessionRun

Json = dict[str, Any]
# A load nobody waited for was not measured, but no load takes no time at all.
LEAST_LOAD_S = 0.001


def trace_lines(
    name: str, cycles: Sequence[CycleSummary], runs: Sequence[SessionRun], budgets: Mapping[int, int]
) -> list[bytes]:
    """Return the lines of a trace file: a header, then one line for each ask that got to its model.

    Raises BadRequest where nothing ran.
    """
    ran = [run for run in runs if run.run_seconds > 0]
    if not ran:
        raise BadRequest(
            f"the session {name!r} has no run to replay",
            expected="at least one run that got to its model",
            try_next=f"go on with it: studium session resume {name}",
        )
    header = {
        "trace": name,
        "devices": [{"name": "memory for models", "budget_bytes": max(1, *budgets.values())}],
        "models": [_model(model, of) for model, of in sorted(_by_model(ran).items())],
    }
    return [json.dumps(line).encode() for line in (header, *_asks(cycles, ran))]


def _model(name: str, runs: Sequence[SessionRun]) -> Json:
    loads = [run.run.load_seconds for run in runs if run.run.load_seconds > 0]
    return {
        "name": name,
        "bytes": max(run.run.memory_bytes or 0 for run in runs),
        "load_seconds": max(fmean(loads) if loads else 0.0, LEAST_LOAD_S),
        "unload_seconds": 0.0,
    }


def _asks(cycles: Sequence[CycleSummary], runs: Sequence[SessionRun]) -> list[Json]:
    asks: list[Json] = []
    before: list[int] = []
    for cycle in cycles:
        place = {turn.student: index for index, turn in enumerate(cycle.plan.turns)}
        mine = [run for run in runs if run.run.cycle == cycle.cycle]
        numbers: list[int] = []
        for run in sorted(mine, key=lambda one: place.get(one.run.student, len(place))):
            numbers.append(len(asks) + 1)
            asks.append(
                {
                    "at_s": 0.0,
                    "model": model_name(run),
                    "priority": run.priority,
                    "run_seconds": run.run_seconds,
                    "after": before,
                    "announced": 1.0,  # a session's plan says beforehand who comes
                }
            )
        before = numbers or before
    return asks


def model_name(run: SessionRun) -> str:
    """Return the roster's name of the model that ran: what stands first in its profile's key."""
    return run.run.model.partition("|")[0]


def _by_model(runs: Sequence[SessionRun]) -> dict[str, list[SessionRun]]:
    grouped: dict[str, list[SessionRun]] = {}
    for run in runs:
        grouped.setdefault(model_name(run), []).append(run)
    return grouped
