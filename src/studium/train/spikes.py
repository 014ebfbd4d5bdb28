"""Which rows stand behind a spike: read from the flight recorder, which keeps every step's rows and their losses.

What was not finite is null in a run's files, and None here; it stands out more than any number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from statistics import median
from typing import Any

from studium.errors import BadRequest
from studium.train.run_folder import RunFolder

_AROUND = 25


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row of a step: its loss there, None where not finite, and what it mostly is in other steps.

    `usual` is None where it was met once, or is finite nowhere else.
    """

    row_id: str
    loss: float | None
    usual: float | None


@dataclass(frozen=True, slots=True)
class Spike:
    """A step that stands out: what was measured, None where not finite, against the median of the steps around it.

    `usual` is None where nothing around it is finite either.
    """

    step: int
    metric: str
    value: float | None
    usual: float | None


def spikes(folder: RunFolder, most: int = 3) -> list[Spike]:
    """Return the steps of a run that stand out most from those around them, by loss and gradient norm.

    Those where something was not finite come first, in their order.
    """
    lines = [line for line in folder.lines("metrics.jsonl") if "validation" not in line]
    return [*islice(_broken(lines), most), *sorted(_spikes(lines), key=_height, reverse=True)][:most]


def _broken(lines: Sequence[Mapping[str, Any]]) -> Iterator[Spike]:
    """Yield the steps with something that is not finite, each once, by the first of it."""
    for at, line in enumerate(lines):
        metric = next((name for name, value in line.items() if value is None), None)
        if metric is not None:
            around = _around([one.get(metric) for one in lines], at)
            yield Spike(int(line["step"]), metric, None, median(around) if around else None)


def _around(values: Sequence[float | None], at: int) -> list[float]:
    """Return the finite values around a place, without its own."""
    near = [*values[max(0, at - _AROUND) : at], *values[at + 1 : at + 1 + _AROUND]]
    return [value for value in near if value is not None]


def _spikes(lines: Sequence[Mapping[str, Any]]) -> Iterator[Spike]:
    # The loss of a reward's gradient is noise around nought.
    metrics = ("gradient_norm",) if any("reward" in line for line in lines) else ("loss", "gradient_norm")
    for metric in metrics:
        values = [line.get(metric) for line in lines]
        for at, value in enumerate(values):
            around = _around(values, at)
            if value is not None and around and value > 1.5 * (usual := median(around)) > 0:
                yield Spike(int(lines[at]["step"]), metric, value, usual)


def _height(spike: Spike) -> float:
    assert spike.value is not None and spike.usual
    return spike.value / spike.usual


def suspects(folder: RunFolder, step: int) -> list[Suspect]:
    """Return a step's rows, those first whose loss is furthest above what it mostly is, or not finite.

    Raises BadRequest.
    """
    here: dict[str, float | None] = {}
    elsewhere: dict[str, list[float]] = {}
    for line in folder.lines("rows.jsonl"):
        for row_id, loss in line["rows"]:
            if line["step"] == step:
                here[row_id] = _higher(loss, here.get(row_id, loss))
            elif loss is not None:
                elsewhere.setdefault(row_id, []).append(loss)
    if not here:
        raise BadRequest(
            f"no rows of step {step} were recorded",
            expected="a step the run has done, from 1",
            try_next=f"studium train watch {folder.path.name} --once",
        )
    found = [
        Suspect(row_id, loss, median(elsewhere[row_id]) if row_id in elsewhere else None)
        for row_id, loss in here.items()
    ]
    middle = median([loss for loss in here.values() if loss is not None] or [0.0])
    return sorted(found, key=lambda one: _above(one, middle), reverse=True)


def _higher(one: float | None, other: float | None) -> float | None:
    """Return the higher of two losses; one that is not finite is higher than any."""
    return None if one is None or other is None else max(one, other)


def _above(suspect: Suspect, middle: float) -> float:
    """Return how far a row's loss is above what it mostly is, or above its step's `middle` where nobody knows."""
    return (
        inf if suspect.loss is None else suspect.loss - (middle if suspect.usual is None else suspect.usual)
    )
