"""What came of an evaluation: per domain the metrics it names, per level the share of right replies, as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from studium.domains.protocol import Domain, metrics_of
from studium.evals.grading import Graded
from studium.evals.metrics import PASS_AT_K, Figure, by_item, metric

Json = dict[str, Any]
COLUMNS = ("domain", "level", "metric", "value", "95 % interval", "items", "not counted")
_ALL = "all"


def report(
    graded: Sequence[Graded], domains: Mapping[str, Domain], samples: int, more: Sequence[str] = ()
) -> Json:
    """Return counts and figures; `more` names metrics besides those the domains ask for.

    "asked" counts tries: scored, not scored though answered, and failed add up to it. Raises BadRequest for a metric
    there is not, ConfigurationError for one whose library is missing.
    """
    failed = sum(bool(one.error) for one in graded)
    scored = sum(one.score is not None for one in graded)
    answered = [one.seconds for one in graded if not one.error]
    rows: list[Json] = []
    for name, domain in domains.items():
        of_domain = [one for one in graded if one.domain == name]
        rows += [_row(name, None, one) for one in _figures(of_domain, (*metrics_of(domain), *more), samples)]
        levels = sorted({one.level for one in of_domain if one.level})
        for level in levels if len(levels) > 1 else ():
            of_level = [one for one in of_domain if one.level == level]
            rows.append(_row(name, level, metric("accuracy").figure(by_item(of_level))))
    if len(domains) > 1:
        rows += [_row(_ALL, None, one) for one in _figures(graded, ("accuracy",), samples)]
    return {
        "asked": len(graded),
        "scored": scored,
        "not_scored": len(graded) - scored - failed,
        "failed": failed,
        "declined": sum(one.declined for one in graded),
        "seconds_per_answer": sum(answered) / len(answered) if answered else None,
        "figures": rows,
    }


def table(told: Json) -> list[tuple[str, ...]]:
    """Return a row of text per figure, under COLUMNS."""
    return [
        (
            one["domain"],
            str(one["level"] or _ALL),
            one["metric"],
            "not scored" if one["value"] is None else f"{one['value']:.3f}",
            "" if one["value"] is None else f"{one['low']:.3f} to {one['high']:.3f}",
            str(one["counted"]),
            str(one["not_counted"]),
        )
        for one in told["figures"]
    ]


def _figures(graded: Sequence[Graded], names: Sequence[str], samples: int) -> list[Figure]:
    items = by_item(graded)
    wanted: list[str] = []
    for name in names:
        wanted += ["pass@1"] if name == PASS_AT_K else [name]
    if samples > 1:
        wanted += ["pass@1", f"pass@{samples}"]
    return [metric(name).figure(items) for name in dict.fromkeys(wanted)]


def _row(domain: str, level: int | None, figure: Figure) -> Json:
    value, low, high = figure.interval or (None, None, None)
    return {
        "domain": domain,
        "level": level,
        "metric": figure.metric,
        "value": value,
        "low": low,
        "high": high,
        "counted": figure.counted,
        "not_counted": figure.not_counted,
    }
