"""Four small charts as SVG: bars, bars of two parts, a line under a limit, and a curve. No library, no script.

Every value is also readable without the drawing: as a tooltip (`title`) on its mark.
"""

from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import NamedTuple

WIDTH, HEIGHT = 720, 220
LEFT, BOTTOM, TOP = 64, 34, 12
MOST_LABELS = 16
_STYLE = (
    "text{font:12px sans-serif;fill:#444}polyline{fill:none;stroke-width:1.5}"
    ".line{stroke:#2060a0}.faint{stroke:#b8cce0;stroke-width:1}"
)


class Bar(NamedTuple):
    """One bar: its label below, its value, and of that the part drawn in the second colour."""

    label: str
    value: float
    second: float = 0.0


def bar_chart(bars: Sequence[Bar], unit: str, *, parts: tuple[str, str] | None = None) -> str:
    """Return a chart of bars from zero; `parts` names the two colours where bars have two parts."""
    top = _nice(max((bar.value for bar in bars), default=0.0))
    step = (WIDTH - LEFT) / max(len(bars), 1)
    marks: list[str] = []
    for index, bar in enumerate(bars):
        x, width = LEFT + index * step + step * 0.1, step * 0.8
        marks.append(_rectangle(x, width, 0.0, bar.value, top, "a", f"{bar.label}: {bar.value:,.2f} {unit}"))
        if bar.second > 0:
            title = f"{bar.label}: {bar.second:,.2f} {unit} of it {parts[1] if parts else ''}"
            marks.append(_rectangle(x, width, bar.value - bar.second, bar.value, top, "b", title))
    labels = [(LEFT + (index + 0.5) * step, bar.label) for index, bar in enumerate(bars)]
    legend = f"{parts[0]} (light: {parts[1]}), {unit}" if parts else unit
    return _frame(marks, labels, top, legend)


def line_under_limit(
    labels: Sequence[str], values: Sequence[float], limits: Sequence[float], unit: str
) -> str:
    """Return a chart of values as a line with points, and their limits as a dashed line."""
    top = _nice(max([*values, *limits], default=0.0))
    step = (WIDTH - LEFT) / max(len(values), 1)
    xs = [LEFT + (index + 0.5) * step for index in range(len(values))]
    marks = [
        f'<polyline class="limit" points="{_points(_wide(xs, step), _doubled(limits), top)}"/>',
        f'<polyline class="line" points="{_points(xs, values, top)}"/>',
    ]
    for x, value, limit, label in zip(xs, values, limits, labels, strict=True):
        title = f"{label}: {value:,.1f} of {limit:,.1f} {unit}"
        marks.append(
            f'<circle cx="{x:.1f}" cy="{_y(value, top):.1f}" r="3"><title>{escape(title)}</title></circle>'
        )
    return _frame(marks, list(zip(xs, labels, strict=True)), top, f"{unit}, dashed: the limit")


def curve(points: Sequence[tuple[float, float]], name: str, *, smoothed: bool = False) -> str:
    """Return a picture of its own, not for a page: values over steps, from their least to their most.

    `smoothed` draws the values light and their running mean (a fiftieth of the curve) over them.
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys, default=0.0), max(ys, default=1.0)
    span, width = (high - low) or 1.0, (max(xs, default=1.0) - min(xs, default=0.0)) or 1.0
    left = min(xs, default=0.0)

    def place(x: float, y: float) -> str:
        return (
            f"{LEFT + (x - left) / width * (WIDTH - LEFT - 8):.1f},"
            f"{TOP + (HEIGHT - BOTTOM - TOP) * (1 - (y - low) / span):.1f}"
        )

    thinned = _thinned(points)
    lines = [
        f'<polyline class="{"faint" if smoothed else "line"}" points="{" ".join(place(*one) for one in thinned)}"/>'
    ]
    if smoothed:
        means = _thinned(list(zip(xs, _running(ys), strict=True)))
        lines.append(f'<polyline class="line" points="{" ".join(place(*one) for one in means)}"/>')
    marks = [
        f'<text x="{LEFT - 6}" y="{float(place(left, y).split(",")[1]) + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        for y in (low, (low + high) / 2, high)
    ]
    ends = [(LEFT, "start", left), (WIDTH - 8, "end", left + width)]
    steps = [
        f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{step:,.0f}</text>'
        for x, anchor, step in ends
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(name)}</title><style>{_STYLE}</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            *lines,
            *marks,
            *steps,
            f'<text x="{LEFT}" y="{HEIGHT - 4}">{escape(name)} over steps</text></svg>\n',
        ]
    )


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most as many points as a picture is wide, the last one among them."""
    every = -(-len(points) // WIDTH) or 1
    return [*points[::every], *points[-1:]]


def _running(values: Sequence[float]) -> list[float]:
    """Return the mean of a fiftieth of the values up to each, at least five."""
    window = max(5, len(values) // 50)
    return [fmean(values[max(0, at - window + 1) : at + 1]) for at in range(len(values))]


def _frame(marks: Sequence[str], labels: Sequence[tuple[float, str]], top: float, legend: str) -> str:
    lines = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(legend)}">',
        *(_grid(share * top, top) for share in (0.0, 0.5, 1.0)),
        *marks,
    ]
    every = -(-len(labels) // MOST_LABELS) if labels else 1
    for x, label in labels[::every]:
        lines.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(label[:14])}</text>'
        )
    lines.append(f'<text x="{LEFT}" y="{HEIGHT - 2}">{escape(legend)}</text></svg>')
    return "\n".join(lines)


def _grid(value: float, top: float) -> str:
    y = _y(value, top)
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rectangle(x: float, width: float, low: float, high: float, top: float, kind: str, title: str) -> str:
    y = _y(high, top)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_y(low, top) - y:.1f}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _points(xs: Sequence[float], values: Sequence[float], top: float) -> str:
    return " ".join(f"{x:.1f},{_y(value, top):.1f}" for x, value in zip(xs, values, strict=True))


def _wide(xs: Sequence[float], step: float) -> list[float]:
    """Each limit holds for the whole width of its cycle, so a single cycle has a line, too."""
    return [edge for x in xs for edge in (x - step / 2, x + step / 2)]


def _doubled(values: Sequence[float]) -> list[float]:
    return [value for value in values for _ in range(2)]


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - BOTTOM - TOP) * (1 - min(value, top) / top)


def _nice(most: float) -> float:
    """Return a round number at or above `most`, for the top of an axis."""
    if most <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(most))) - 1) if most >= 1 else 0.1
    while power > most:
        power /= 10
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most)
