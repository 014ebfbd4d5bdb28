"""Which rows stand behind a spike: read from the flight recorder, which keeps every step's rows and their losses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from studium.errors import BadRequest
from studium.train.run_folder import RunFolder

_AROUND = 25


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row of a step: its loss there, and what its loss mostly is in other steps, None where it was met once."""

    row_id: str
    loss: float
    usual: float | None


@dataclass(frozen=True, slots=True)
class Spike:
    """A step that stands out: what was measured, against the median of the steps around it."""

    step: int
    metric: str
    value: float
    usual: float


def spikes(folder: RunFolder, most: int = 3) -> list[Spike]:
    """Return the steps of a run that stand out most from those around them, by loss and gradient norm."""
    lines = [line for line in folder.lines("metrics.jsonl") if "validation" not in line]
    return sorted(_spikes(lines), key=lambda one: -_height(one))[:most]


def _spikes(lines: Sequence[Mapping[str, float]]) -> Iterator[Spike]:
    # The loss of a reward's gradient is noise around nought.
    metrics = ("gradient_norm",) if any("reward" in line for line in lines) else ("loss", "gradient_norm")
    for metric in metrics:
        values = [float(line.get(metric) or 0.0) for line in lines]
        for at, value in enumerate(values):
            around = values[max(0, at - _AROUND) : at] + values[at + 1 : at + 1 + _AROUND]
            if around and value > 1.5 * (usual := median(around)) > 0:
                yield Spike(int(lines[at]["step"]), metric, value, usual)


def _height(spike: Spike) -> float:
    return spike.value / spike.usual


def suspects(folder: RunFolder, step: int) -> list[Suspect]:
    """Return a step's rows, those first whose loss is furthest above what it mostly is. Raises BadRequest."""
    here: dict[str, float] = {}
    elsewhere: dict[str, list[float]] = {}
    for line in folder.lines("rows.jsonl"):
        for row_id, loss in line["rows"]:
            if line["step"] == step:
                here[row_id] = max(loss, here.get(row_id, loss))
            else:
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
    middle = median(here.values())
    return sorted(found, key=lambda one: -(one.loss - (middle if one.usual is None else one.usual)))
