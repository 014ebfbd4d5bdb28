"""A comparison for people: its verdict in words, as Markdown for a pull request, and as one page with plots."""

from collections.abc import Sequence
from html import escape
from typing import Any

from studium.evals.charts import Bar, bar_chart, line_under_limit
from studium.evals.comparing.report import COLUMNS, table
from studium.evals.pages import markdown_table, plain
from studium.evals.pages import page as whole_page
from studium.evals.pages import table as html_table

Json = dict[str, Any]
COSTS = ("", "file MiB", "memory MiB", "median seconds", "tokens a second", "replies", "failed")
WIDTH, ROW, LABELS = 720, 22, 190


def headline(told: Json) -> str:
    """Return the verdict and whom it is about, in one line."""
    return f"{told['verdict'].upper()}: {told['tuned']['name']} in the place of {told['baseline']['name']}"


def sentences(told: Json) -> list[str]:
    """Return the verdict's reasons and how far the comparison went, a sentence each."""
    said = [f"{reason[0].upper()}{reason[1:]}." for reason in told["reasons"]]
    if told["stopped_early"]:
        said.append(
            f"Decided after {told['gate']['at_pair']} problems; {told['fresh_pairs']} of {told['planned']} were asked."
        )
    else:
        said.append(f"{told['fresh_pairs']} of {told['planned']} fresh problems were asked.")
    return said


def costs(told: Json) -> list[tuple[str, ...]]:
    """Return what both took, under COSTS."""
    return [
        (
            side,
            _number(told[side]["cost"]["file_bytes"], 1 / 2**20, 1),
            _number(told[side]["cost"]["peak_bytes"], 1 / 2**20, 1),
            _number(told[side]["cost"]["median_seconds"], 1.0, 3),
            _number(told[side]["cost"]["tokens_per_second"], 1.0, 0),
            str(told[side]["cost"]["replies"]),
            str(told[side]["cost"]["failed"]),
        )
        for side in ("baseline", "tuned")
    ]


def suite_line(told: Json) -> str:
    """Return what became of the frozen suite, domain by domain, in one line."""
    parts = [
        f"{one['domain']} {one['won']} won, {one['lost']} lost of {one['pairs']}" for one in told["suite"]
    ]
    return f"frozen suite {told['asked']['suite']}: {'; '.join(parts) if parts else 'not asked'}"


def markdown(told: Json) -> str:
    """Return a text for a pull request."""
    lines = [
        f"## {plain(headline(told))}",
        "",
        *(f"- {plain(one)}" for one in sentences(told)),
        f"- {plain(suite_line(told))}",
        "",
        *markdown_table(COLUMNS, table(told["differences"])),
        "",
        *markdown_table(COSTS, costs(told)),
        "",
        f"Differences are in points of 100, paired, with Tango's interval; effect is Cohen's h. {_asked(told)}",
        f"Evidence `{told['evidence']}`: `studium compare --replay {told['evidence'][:16]}`.",
    ]
    for title, key in _EXAMPLES:
        if told[key]:
            lines += ["", f"<details><summary>{title}</summary>", ""]
            lines += markdown_table(_SIDES, [_cells(one) for one in told[key]])
            lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def page(told: Json, path: Sequence[float]) -> str:
    """Return one HTML page that needs nothing else. `path` is the base-10 logarithm of the evidence after each pair."""
    sections = [
        f"<h1>{escape(headline(told))}</h1>",
        *(f"<p>{escape(one)}</p>" for one in (*sentences(told), suite_line(told))),
        html_table(COLUMNS, table(told["differences"])),
        f"<p class=\"quiet\">Points of 100, paired, Tango's interval; effect is Cohen's h. {escape(_asked(told))}</p>",
        "<h2>Difference, in points of 100</h2>",
        _forest(told["differences"] + [one | {"domain": f"suite: {one['domain']}"} for one in told["suite"]]),
        "<h2>Right answers, of 100</h2>",
        bar_chart(_bars(told), "of 100 right (dark: baseline, light: tuned)"),
        "<h2>Evidence that the tuned model is better, in powers of ten</h2>",
        line_under_limit(*_thinned(path), "powers of ten"),
        "<h2>What it takes</h2>",
        html_table(COSTS, costs(told)),
    ]
    for title, key in _EXAMPLES:
        if told[key]:
            sections += [f"<h2>{title}</h2>", html_table(_SIDES, [_cells(one) for one in told[key]])]
    sections.append(f'<p class="quiet">Evidence {told["evidence"]}</p>')
    return whole_page(headline(told), sections)


_SIDES = ("question", "right", "baseline", "tuned")
_EXAMPLES = (
    ("Won: the tuned model is better", "won"),
    ("Lost: the baseline is better", "lost"),
    ("Lost on the frozen suite", "lost_on_suite"),
)


def _cells(one: Json) -> tuple[str, ...]:
    return one["question"], one["expected"], one["baseline"].strip(), one["tuned"].strip()


def _asked(told: Json) -> str:
    asked = told["asked"]
    levels = f", levels {', '.join(map(str, asked['levels']))}" if asked["levels"] else ""
    return f"Fresh problems of {', '.join(asked['domains'])}{levels}, seed {asked['seed']}, greedy replies."


def _bars(told: Json) -> list[Bar]:
    found: list[Bar] = []
    for one in told["differences"]:
        if one["difference"] is not None:
            name = f"{one['domain'][:8]} {one['level'] or ''}"
            found += [
                Bar(name, 100 * one["baseline"]),
                Bar("tuned", 100 * one["tuned"], 100 * one["tuned"]),
            ]  # light: all of it
    return found


def _forest(rows: Sequence[Json]) -> str:
    """Return each difference as a point with its interval, from -100 to +100."""
    shown = [one for one in rows if one["difference"] is not None]
    height = ROW * (len(shown) + 2)

    def x(share: float) -> float:
        return LABELS + (share + 1) / 2 * (WIDTH - LABELS - 20)

    marks: list[str] = []
    for number, one in enumerate(shown):
        y = ROW * (number + 1)
        label = f"{one['domain']} {one['level'] or ''}"
        title = (
            f"{label}: {100 * one['difference']:+.1f} ({100 * one['low']:+.1f} to {100 * one['high']:+.1f})"
        )
        marks.append(
            f'<text x="4" y="{y + 4}">{escape(label)}</text><g><title>{escape(title)}</title>'
            f'<line class="line" x1="{x(one["low"]):.1f}" y1="{y}" x2="{x(one["high"]):.1f}" y2="{y}"/>'
            f'<circle cx="{x(one["difference"]):.1f}" cy="{y}" r="4"/></g>'
        )
    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        line = "limit" if share == 0 else "grid"
        marks.append(
            f'<line class="{line}" x1="{x(share):.1f}" y1="8" x2="{x(share):.1f}" y2="{height - ROW}"/>'
            f'<text x="{x(share):.1f}" y="{height - 6}" text-anchor="middle">{100 * share:+.0f}</text>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="differences">{"".join(marks)}</svg>'


def _thinned(path: Sequence[float]) -> tuple[list[str], list[float], list[float]]:
    every = max(1, len(path) // 100)
    kept = [(number, max(0.0, value)) for number, value in enumerate(path, start=1)]
    kept = [*kept[every - 1 : -1 : every], *kept[-1:]]
    return [str(number) for number, _ in kept], [value for _, value in kept], [2.0] * len(kept)


def _number(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{value * scale:,.{digits}f}"
