"""The readable report of a session: one HTML file that needs nothing else, made from the record alone."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from statistics import fmean

from studium.evals.charts import Bar, bar_chart, line_under_limit
from studium.evals.intervals import wilson
from studium.evals.pages import page, table
from studium.records.sessions import CycleSummary, SessionRun, SessionSummary
from studium.serve.sessions.folder import SessionFolder, write_whole
from studium.serve.sessions.ledger import Ledger
from studium.store.store import timestamp

MB = 1e6
MOST_COLUMNS = 60
MOST_PROPOSALS = 200
LONGEST_TEXT = 2_000


def write_report(folder: SessionFolder, ledger: Ledger) -> None:
    """Write `report.html`. Raises OperatorError, StoreUnavailable."""
    page = report_page(ledger.summary(), ledger.cycles(), ledger.runs(), ledger.budgets())
    write_whole(folder.report, page)


def report_page(
    summary: SessionSummary,
    cycles: Sequence[CycleSummary],
    runs: Sequence[SessionRun],
    budgets: Mapping[int, int],
) -> str:
    plan = summary.plan
    head = (
        f"{escape(plan.topic)}, {summary.active_seconds / 60:.1f} of {plan.duration_s / 60:g} minutes, "
        f"{summary.cycles} cycles, {summary.runs} runs ({summary.failed} failed), "
        f"<b>{summary.useful} useful proposals</b>, {summary.tokens:,} tokens. "
        f"{escape(summary.state.value)}: {escape(summary.reason or 'under way')}."
    )
    sections = [
        f"<h1>{escape(plan.name)}: {escape(summary.title)}</h1>",
        f'<p>{head}</p><p class="quiet">begun {timestamp(summary.created_at)}</p>',
        "<h2>Useful proposals per hour, by cycle</h2>",
        _yield_chart(cycles),
        "<h2>Memory held by runs at once, against what models could use</h2>",
        _memory_chart(cycles, runs, budgets),
        "<h2>Seconds of a run, by student</h2>",
        _seconds_chart(runs),
        "<h2>Students</h2>",
        _students_table(runs),
        "<h2>Useful proposals</h2>",
        _proposals_table([run for run in runs if run.useful]),
    ]
    return page(plan.name, sections)


def _yield_chart(cycles: Sequence[CycleSummary]) -> str:
    bars = [
        Bar(_span(group), 3600 * sum(one.useful for one in group) / seconds)
        for group in _grouped(cycles)
        if (seconds := sum(one.seconds for one in group)) > 0
    ]
    return bar_chart(bars, "useful proposals per hour")


def _memory_chart(
    cycles: Sequence[CycleSummary], runs: Sequence[SessionRun], budgets: Mapping[int, int]
) -> str:
    by_cycle: dict[int, list[SessionRun]] = {}
    for run in runs:
        by_cycle.setdefault(run.run.cycle, []).append(run)
    labels, values, limits = list[str](), list[float](), list[float]()
    for group in _grouped(cycles):
        labels.append(_span(group))
        values.append(max(held_at_once(by_cycle.get(one.cycle, [])) for one in group) / MB)
        limits.append(min(budgets.get(one.cycle, 0) for one in group) / MB)
    return line_under_limit(labels, values, limits, "MB")


def _seconds_chart(runs: Sequence[SessionRun]) -> str:
    bars = [
        Bar(
            student,
            fmean(run.run.seconds for run in mine),
            min(fmean(run.run.seconds for run in mine), fmean(run.run.load_seconds for run in mine)),
        )
        for student, mine in _by_student(runs).items()
    ]
    return bar_chart(bars, "s", parts=("a run", "loading its model"))


def held_at_once(runs: Sequence[SessionRun]) -> int:
    """Return the most bytes models held while they spoke at the same time; students of one model share it."""
    moments = sorted(
        moment
        for run in runs
        for moment in (
            (run.run.started_at, 1, run.run.model, run.run.memory_bytes or 0),
            (run.run.started_at + run.run_seconds, 0, run.run.model, run.run.memory_bytes or 0),
        )
    )
    speaking: dict[str, list[int]] = {}
    most = 0
    for _at, begins, model, size in moments:
        if begins:
            speaking.setdefault(model, []).append(size)
        elif size in speaking.get(model, []):
            speaking[model].remove(size)
        most = max(most, sum(max(sizes) for sizes in speaking.values() if sizes))
    return most


def _students_table(runs: Sequence[SessionRun]) -> str:
    columns = ("student", "runs", "useful", "failed", "share useful (95 %)", "mean s", "MB", "tokens/s")
    rows: list[tuple[str, ...]] = []
    for student, mine in _by_student(runs).items():
        useful = sum(run.useful for run in mine)
        share = wilson(useful, len(mine))
        sizes = [run.run.memory_bytes for run in mine if run.run.memory_bytes is not None]
        seconds = sum(run.run_seconds for run in mine)
        speed = sum(run.run.completion_tokens for run in mine) / seconds if seconds > 0 else 0.0
        rows.append(
            (
                student,
                str(len(mine)),
                str(useful),
                str(sum(not run.run.success for run in mine)),
                f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})",
                f"{fmean(run.run.seconds for run in mine):.2f}",
                f"{fmean(sizes) / MB:,.0f}" if sizes else "-",
                f"{speed:,.1f}",
            )
        )
    return table(columns, rows)


def _proposals_table(useful: Sequence[SessionRun]) -> str:
    if not useful:
        return "<p>None: nothing that was proposed was tested, held, and was new.</p>"
    rows = [
        (str(run.run.cycle), run.run.student, run.subject, run.reply[:LONGEST_TEXT], run.reason)
        for run in useful[:MOST_PROPOSALS]
    ]
    left = len(useful) - MOST_PROPOSALS
    more = f"<p>{left} more stand in the folder of proposals.</p>" if left > 0 else ""
    return table(("cycle", "student", "subject", "proposal", "why it counts"), rows) + more


def _by_student(runs: Sequence[SessionRun]) -> dict[str, list[SessionRun]]:
    ordered = sorted(runs, key=lambda run: run.run.student)
    return {student: list(mine) for student, mine in groupby(ordered, key=lambda run: run.run.student)}


def _grouped(cycles: Sequence[CycleSummary]) -> list[list[CycleSummary]]:
    """Return cycles one by one, or in equal groups where there are more than fit a chart."""
    size = -(-len(cycles) // MOST_COLUMNS) if cycles else 1
    return [list(cycles[start : start + size]) for start in range(0, len(cycles), size)]


def _span(group: Sequence[CycleSummary]) -> str:
    first, last = group[0].cycle, group[-1].cycle
    return str(first) if first == last else f"{first}-{last}"
