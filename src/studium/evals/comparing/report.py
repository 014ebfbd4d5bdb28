"""A comparison as plain data: differences with intervals and effect sizes, regressions, speed, memory, examples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from studium.evals.comparing.asking import Outcome
from studium.evals.gate.bound import change
from studium.evals.gate.evidence import Side
from studium.evals.gate.verdict import Decision, Tallied, tallies
from studium.evals.grading import Graded
from studium.evals.intervals import wilson
from studium.evals.items import Item

Json = dict[str, Any]
COLUMNS = (
    "domain",
    "level",
    "pairs",
    "baseline",
    "tuned",
    "difference",
    "95 % interval",
    "won",
    "lost",
    "effect",
)
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one side took: of its files and of memory in bytes, and of time a reply; None: not measured."""

    replies: int
    failed: int
    file_bytes: int | None
    peak_bytes: int | None
    median_seconds: float | None
    tokens_per_second: float | None


def cost(graded: Sequence[Graded], file_bytes: int | None, peak_bytes: int | None) -> Cost:
    """Return what a side took, its failed replies left out."""
    answered = [one for one in graded if not one.error]
    timed = [one for one in answered if one.completion_tokens is not None]
    seconds = sum(one.seconds for one in timed)
    return Cost(
        replies=len(graded),
        failed=len(graded) - len(answered),
        file_bytes=file_bytes,
        peak_bytes=peak_bytes,
        median_seconds=median(one.seconds for one in answered) if answered else None,
        tokens_per_second=sum(one.completion_tokens or 0 for one in timed) / seconds if seconds > 0 else None,
    )


def report(
    sides: tuple[Side, Side],
    outcome: Outcome,
    decision: Decision,
    costs: tuple[Cost, Cost],
    *,
    planned: int,
    asked: Mapping[str, Any],
    examples: int = 5,
) -> Json:
    """Return everything a comparison tells. `planned` fresh problems were to be asked at most."""
    fresh, suite = outcome.pairs(outcome.fresh), outcome.pairs(outcome.suite)
    counts = tallies(fresh)
    rows = [_row(domain, level, one) for (domain, level), one in counts.items()]
    whole = sum((one for (_, level), one in counts.items() if level is None), Tallied())
    if sum(level is None for _, level in counts) > 1:
        rows.append(_row(_ALL, None, whole))
    return {
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "gate": {
            name: value for name, value in asdict(decision).items() if name not in ("verdict", "reasons")
        },
        "baseline": asdict(sides[0]) | {"cost": asdict(costs[0])},
        "tuned": asdict(sides[1]) | {"cost": asdict(costs[1])},
        "asked": dict(asked),
        "planned": planned,
        "fresh_pairs": len(fresh),
        "stopped_early": decision.at_pair is not None and len(fresh) < planned,
        "differences": rows,
        "suite": [
            _row(domain, level, one) for (domain, level), one in tallies(suite).items() if level is None
        ],
        "lost_on_suite": _examples(outcome, outcome.suite, -1, examples),
        "won": _examples(outcome, outcome.fresh, 1, examples),
        "lost": _examples(outcome, outcome.fresh, -1, examples),
    }


def table(rows: Sequence[Json]) -> list[tuple[str, ...]]:
    """Return a row of text per difference, under COLUMNS. Differences are in points of 100."""
    return [
        (
            one["domain"],
            str(one["level"] or _ALL),
            str(one["pairs"]) + (f" ({one['unscored']} not scored)" if one["unscored"] else ""),
            _percent(one["baseline"]),
            _percent(one["tuned"]),
            "not measured" if one["difference"] is None else f"{100 * one['difference']:+.1f}",
            "" if one["difference"] is None else f"{100 * one['low']:+.1f} to {100 * one['high']:+.1f}",
            str(one["won"]),
            str(one["lost"]),
            "" if one["cohens_h"] is None else f"{one['cohens_h']:+.2f}",
        )
        for one in rows
    ]


def _row(domain: str, level: int | None, counted: Tallied) -> Json:
    """Return one line: shares right, their paired difference, and how large it is (Cohen 1988, h)."""
    tally = counted.tally
    row: Json = {"domain": domain, "level": level, "pairs": tally.pairs, "unscored": counted.unscored}
    row |= {"won": tally.gains, "lost": tally.losses, "won_share": None}
    if tally.gains + tally.losses:
        row["won_share"] = wilson(tally.gains, tally.gains + tally.losses)._asdict()
    if not counted.measured:
        nothing = ("baseline", "tuned", "difference", "low", "high", "cohens_h")
        return row | dict.fromkeys(nothing)
    before, after = counted.champion_right / tally.pairs, counted.challenger_right / tally.pairs
    found = change(tally)
    row |= {
        "baseline": before,
        "tuned": after,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }
    return row | {"cohens_h": 2 * (math.asin(math.sqrt(after)) - math.asin(math.sqrt(before)))}


def _examples(outcome: Outcome, items: Sequence[Item], sign: int, most: int) -> list[Json]:
    """Return problems the tuned model won (sign 1) or lost (-1), both replies side by side."""
    found: list[Json] = []
    for item in items:
        before, after = outcome.champion[item.id], outcome.challenger[item.id]
        if before.score is None or after.score is None or (after.score - before.score) * sign <= 0:
            continue
        row = {"item": item.id, "domain": item.domain.name, "level": item.level, "question": item.question}
        row |= {"expected": item.expected, "baseline": before.reply, "tuned": after.reply}
        found.append(row)
        if len(found) == most:
            break
    return found


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
