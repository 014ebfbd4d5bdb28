"""A run's report, from its folder: report.md with a curve of every metric worth one, each an SVG beside it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from studium.evals.charts import curve
from studium.train.recipe_file import FILE_NAME
from studium.train.run_folder import RunFolder

# In this order; what a run has not measured has no curve.
CURVES = (
    "loss",
    "reward",
    "score",
    "steps_right",
    "second_verifier",
    "kl",
    "entropy",
    "gradient_norm",
    "reply_tokens",
    "margin",
    "accuracy",
    "chosen",
)
_VALIDATED = ("score", "steps_right", "second_verifier")
_MOST_EVENTS = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's metrics by name, each as (step, value), those of validations among them."""

    series: Mapping[str, Sequence[tuple[float, float]]]

    def last(self, name: str) -> float | None:
        found = self.series.get(name)
        return found[-1][1] if found else None


def measured(folder: RunFolder) -> Measured:
    """Read what a run has measured so far."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in folder.lines("metrics.jsonl"):
        values = line.get("validation", line)
        for name, value in values.items():
            if name not in ("step", "seconds") and isinstance(value, int | float) and isfinite(value):
                series.setdefault(name, []).append((line["step"], float(value)))
    return Measured(series)


def write_report(folder: RunFolder) -> Path:
    """Write report.md and its curves into a run's folder; return where. Replaces an earlier one."""
    found = measured(folder)
    plots = [name for name in CURVES if len(found.series.get(name, ())) > 1]
    for name in plots:
        smoothed = name not in _VALIDATED and len(found.series[name]) > 20
        (folder.path / f"{name}.svg").write_text(curve(found.series[name], name, smoothed=smoothed))
    path = folder.path / "report.md"
    path.write_text("\n".join(_lines(folder, found, plots)) + "\n", encoding="utf-8")
    return path


def _lines(folder: RunFolder, found: Measured, plots: Sequence[str]) -> Iterator[str]:
    told, status = folder.told(), folder.status()
    yield f"# {folder.path.name}: {told.get('stage', '')}\n"
    steps = f"{status.step} of {status.steps} steps"
    yield f"{str(status.state).capitalize()} after {steps}, {status.seconds:.0f} s of training."
    if status.message:
        yield f"\n> {status.message}"
    yield "\n| measured | first | last | least | most |\n|---|---|---|---|---|"
    for name in plots:
        values = [value for _, value in found.series[name]]
        yield (
            f"| {name} | "
            + " | ".join(f"{one:.4g}" for one in (values[0], values[-1], min(values), max(values)))
            + " |"
        )
    if scores := found.series.get("score"):
        step, best = max(scores, key=lambda one: one[1])
        problems = told.get("recipe", {}).get("validation", {}).get("problems", 0)
        yield f"\nBest score {best:.3f} at step {step:.0f}, on {problems} problems kept from training."
    for name in plots:
        yield f"\n![{name}]({name}.svg)"
    yield from _events(list(folder.lines("events.jsonl")))
    yield f"\n## Recipe\n\n```yaml\n{_recipe(folder)}```"
    versions = ", ".join(f"{name} {number}" for name, number in told.get("versions", {}).items())
    yield f"\nCommit {told.get('commit') or 'unknown'}; {versions}. Data sha256 {told.get('data', '')[:16]}."


def _events(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "\n## Events\n"
    for event in events[:_MOST_EVENTS]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
        step = f", step {event['step']}" if "step" in event else ""
        action = f" ({event['action']})" if "action" in event else ""
        yield f"- {at}{step}: {event['kind']} {event.get('advice') or event.get('why') or ''}{action}".rstrip()
    if len(events) > _MOST_EVENTS:
        yield f"- and {len(events) - _MOST_EVENTS} more in events.jsonl"


def _recipe(folder: RunFolder) -> str:
    given = folder.path / FILE_NAME
    if given.exists():
        return given.read_text()
    return yaml.safe_dump(dict(folder.told().get("recipe", {})), sort_keys=False)
