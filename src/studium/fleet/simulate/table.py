"""Outcomes as rows: one per policy, workload and class of work, each figure the mean over the seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studium.fleet.simulate.measures import Outcome, Spread, spread
from studium.records.scheduling import Priority


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds unless said otherwise. Waits count from issue to start, finishes from issue to end.

    `first_wait_s` is how long a model that was wanted and not in memory took to begin its first ask.
    `late`: answers after their deadline. `asks_of` is a class of work, or "all". None: nothing to measure.
    """

    workload: str
    policy: str
    asks_of: str
    seeds: int
    asks: float
    refused: float
    late: float
    loads: float
    wait_mean_s: float | None
    wait_p95_s: float | None
    wait_max_s: float | None
    finish_mean_s: float | None
    finish_p95_s: float | None
    first_wait_mean_s: float | None
    first_wait_max_s: float | None
    makespan_s: float


def tabulate(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return rows in the order of `outcomes`; where a trace has several classes, a row for each and for all."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.trace, outcome.policy), []).append(outcome)
    rows: list[Row] = []
    for group in groups.values():
        classes = {one.priority for outcome in group for one in outcome.served}
        rows.append(_row(group, None))
        if len(classes) > 1:
            rows += [_row(group, one) for one in sorted(classes, reverse=True)]
    return rows


def _row(group: Sequence[Outcome], priority: Priority | None) -> Row:
    waits = [spread(one.waits(priority)) for one in group]
    finishes = [spread(one.finishes(priority)) for one in group]
    firsts = [spread(one.first_waits()) for one in group] if priority is None else []
    return Row(
        group[0].trace,
        group[0].policy,
        "all" if priority is None else priority.name.lower(),
        len(group),
        _mean(len(one.chosen(priority)) for one in group) or 0.0,
        _mean(one.refused for one in group) or 0.0,
        _mean(one.late(priority) for one in group) or 0.0,
        _mean(one.tally.loads for one in group) or 0.0,
        _mean(one.mean for one in _there(waits)),
        _mean(one.p95 for one in _there(waits)),
        _mean(one.most for one in _there(waits)),
        _mean(one.mean for one in _there(finishes)),
        _mean(one.p95 for one in _there(finishes)),
        _mean(one.mean for one in _there(firsts)),
        _mean(one.most for one in _there(firsts)),
        _mean(one.makespan_s for one in group) or 0.0,
    )


def _there(spreads: Iterable[Spread | None]) -> list[Spread]:
    return [one for one in spreads if one is not None]


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None
