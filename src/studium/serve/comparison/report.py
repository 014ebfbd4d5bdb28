"""A comparison as Markdown for a pull request, as one HTML page with plots, and as plain data for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from studium.evals.charts import Bar, bar_chart
from studium.evals.intervals import Interval
from studium.evals.pages import markdown_table, table
from studium.evals.pages import page as whole_page
from studium.serve.comparison.measure import ADAPTIVE, Outcome, Total, paired_points

COLUMNS = (
    "way", "right %", "calls", "loads", "seconds", "tokens", "money USD", "declined", "failed", "not scored",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """All ways on the same questions. `what` says which questions, `best_chosen` how the single student was chosen."""

    what: str
    best_chosen: str
    totals: Sequence[Total]
    outcomes: Mapping[str, Sequence[Outcome]]

    def differences(self) -> dict[str, Interval | None]:
        """Return, for every other way, the points by which the adaptive one is better, paired."""
        mine = self.outcomes[ADAPTIVE]
        return {name: paired_points(mine, other) for name, other in self.outcomes.items() if name != ADAPTIVE}


def as_data(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison without the single outcomes."""
    differences = {name: one and one._asdict() for name, one in comparison.differences().items()}
    totals = [
        {**asdict(one), "accuracy": one.accuracy and one.accuracy._asdict()} for one in comparison.totals
    ]
    return {
        "what": comparison.what,
        "best_chosen": comparison.best_chosen,
        "ways": totals,
        "adaptive_better_by_points": differences,
    }


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return one row of text per way, under COLUMNS."""
    return [
        (
            one.scheme,
            _share(one.accuracy),
            f"{one.calls:.2f}",
            f"{one.loads:.2f}",
            f"{one.seconds:.3f}",
            f"{one.tokens:.0f}",
            "-" if one.cost_usd is None else f"{one.cost_usd:.6f}",
            str(one.declined),
            str(one.failed),
            str(one.asked - one.scored),
        )
        for one in comparison.totals
    ]


def sentences(comparison: Comparison) -> list[str]:
    """Return what the figures say, a sentence per other way."""
    adaptive = next(one for one in comparison.totals if one.scheme == ADAPTIVE)
    said: list[str] = []
    for other in comparison.totals:
        if other.scheme == ADAPTIVE:
            continue
        points = comparison.differences()[other.scheme]
        if points is None:
            said.append(f"Against {other.scheme}: nothing could be scored.")
            continue
        chance = ", which may be chance" if points.low <= 0 <= points.high and points.value else ""
        more = f"{abs(points.value):.1f} {'more' if points.value > 0 else 'fewer'} of 100 right"
        said.append(
            f"Against {other.scheme} ({other.about}): {more if points.value else 'as many right'} "
            f"({points.low:+.1f} to {points.high:+.1f}{chance}), "
            f"{_ratio(adaptive.calls, other.calls)} of its calls, "
            f"{_ratio(adaptive.seconds, other.seconds)} of its seconds."
        )
    return said


def markdown(comparison: Comparison) -> str:
    lines = [
        f"# Ways to use the students, on {comparison.what}",
        "",
        f"Figures are means per question; shares with 95 % intervals. {comparison.best_chosen}",
        "",
        *markdown_table(COLUMNS, rows(comparison)),
        "",
        *(f"- {sentence}" for sentence in sentences(comparison)),
    ]
    return "\n".join(lines) + "\n"


def page(comparison: Comparison) -> str:
    """Return the report as one HTML page that needs nothing else."""
    right = [Bar(one.scheme, 100 * one.accuracy.value) for one in comparison.totals if one.accuracy]
    seconds = [Bar(one.scheme, one.seconds) for one in comparison.totals]
    calls = [Bar(one.scheme, one.calls, min(one.calls, one.loads)) for one in comparison.totals]
    sections = [
        f"<h1>Ways to use the students</h1><p>On {escape(comparison.what)}. {escape(comparison.best_chosen)}</p>",
        "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(comparison)),
        table(COLUMNS, rows(comparison)),
        '<p class="quiet">Means per question; shares with 95 % intervals.</p>',
        "<h2>Right answers, of 100</h2>",
        bar_chart(right, "of 100 right"),
        "<h2>Seconds a question</h2>",
        bar_chart(seconds, "s"),
        "<h2>Calls a question</h2>",
        bar_chart(calls, "calls", parts=("calls", "that had to load a model")),
    ]
    return whole_page("Ways to use the students", sections)


def _share(accuracy: Interval | None) -> str:
    if accuracy is None:
        return "not scored"
    return f"{100 * accuracy.value:.1f} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}" if other > 0 else "any multiple"
