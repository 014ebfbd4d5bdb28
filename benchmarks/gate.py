"""The gate by simulation: does it promote noise, how soon does it find a winner, how soon does it stop a loser?

Every rule looks after every comparison. Beside the gate stand two rules in common use: "promote at a win rate above
55 % after 50 comparisons", and a one-sided sign test at 5 % looked at again and again. What the gate says comes from
`studium.evals.gate` itself; the looks are vectorised over runs, since the evidence depends on counts alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report import Aim, Report, run, say
from studium.evals.gate.betting import SHAPE, Tally, log_evidence, mean_of
from studium.evals.gate.bound import most_lost
from studium.evals.gate.live import Terms
from studium.evals.gate.verdict import Limits, Pair, judge
from studium.evals.intervals import Interval, bootstrap, wilson
from studium.records.adapters import Verdict

SEED = 20_261_121
LIMITS, TERMS = Limits(), Terms()
LOOKS, TASKS, SUITE = 1000, 100, 108
WIN_RATE, LEAST, PEEKED_P = 0.55, 50, 0.05
_AT_ONCE = 500
SHAPES = ((1.0, 1.0), (2.0, 1.0), (10.0, 5.0), SHAPE, (20.0, 12.0))
GATE, THRESHOLD, PEEKED = "the gate", "win rate above 55 % after 50", "sign test at 5 %, peeked"


@dataclass(frozen=True, slots=True)
class Chances:
    """How two models' replies go together: the shares of comparisons that the challenger wins and loses."""

    name: str
    wins: float
    losses: float


def independent(champion: float, challenger: float) -> Chances:
    """Return the chances of two models that are right so often and make their mistakes apart."""
    name = f"{100 * champion:.0f} % against {100 * challenger:.0f} %, mistakes apart"
    return Chances(name, (1 - champion) * challenger, champion * (1 - challenger))


def kin(champion: float, challenger: float, apart: float) -> Chances:
    """Return the chances of two models of one base, which differ in a share `apart` of their replies."""
    gap = challenger - champion
    name = f"{100 * champion:.0f} % against {100 * challenger:.0f} %, differing in {100 * apart:.0f} %"
    return Chances(name, (apart + gap) / 2, (apart - gap) / 2)


EVEN = Chances("equal, every comparison differs", 0.5, 0.5)
WINNER = Chances("a winner of 70 %", 0.7, 0.3)
HARMFUL = (
    independent(0.8, 0.7),
    independent(0.9, 0.8),
    kin(0.8, 0.7, 0.2),
    independent(0.7, 0.6),
    independent(0.5, 0.4),
)


class Tables:
    """What each rule says at every count of gains and losses: looked up, not computed anew in each run."""

    def __init__(self, most: int) -> None:
        counts = np.arange(most + 1)
        gains, losses = np.meshgrid(counts, counts, indexing="ij")
        self.log_better = log_evidence(gains, losses)
        enough = -math.log(LIMITS.alpha)
        apart = gains + losses
        # What is 0 of 0 wins nothing.
        self.promotes = {
            GATE: self.log_better >= enough,
            THRESHOLD: (apart >= LEAST) & (gains > WIN_RATE * apart),
            PEEKED: _sign_test(most) < PEEKED_P,
        }
        harmed = -math.log(LIMITS.harm_alpha)
        self.rolls_back = harmed <= self.log_better.T


def _sign_test(most: int) -> np.ndarray:
    """Return the one-sided p-value of a sign test at every count of gains (rows) and losses."""
    log_factorial = np.array([math.lgamma(n + 1) for n in range(2 * most + 1)])
    p_values = np.ones((most + 1, most + 1))
    for apart in range(1, 2 * most + 1):
        gains = np.arange(apart + 1)
        logs = (
            log_factorial[apart] - log_factorial[gains] - log_factorial[apart - gains] - apart * math.log(2)
        )
        tail = np.cumsum(np.exp(logs)[::-1])[::-1]
        inside = (gains <= most) & (apart - gains <= most)
        p_values[gains[inside], (apart - gains)[inside]] = tail[inside]
    return p_values


def first_looks(
    rng: np.random.Generator, chances: Chances, says: np.ndarray, runs: int, looks: int
) -> np.ndarray:
    """Return, per run, the comparison after which a rule first speaks; `looks` + 1 where it never does."""
    found: list[np.ndarray] = []
    for begin in range(0, runs, _AT_ONCE):
        gains, losses = _counts(rng, chances, min(_AT_ONCE, runs - begin), looks)
        spoke = says[gains, losses]
        found.append(np.where(spoke.any(axis=1), spoke.argmax(axis=1) + 1, looks + 1))
    return np.concatenate(found)


def _counts(
    rng: np.random.Generator, chances: Chances, runs: int, looks: int
) -> tuple[np.ndarray, np.ndarray]:
    drawn = rng.random((runs, looks))
    wins, losses = drawn < chances.wins, drawn >= 1 - chances.losses
    return np.cumsum(wins, axis=1, dtype=np.int32), np.cumsum(losses, axis=1, dtype=np.int32)


def false_rollouts(rng: np.random.Generator, runs: int, tables: Tables) -> dict[str, Interval]:
    """Return the share of roll-outs between equals that each rule promotes, over two streams looked at together."""
    promoted = dict.fromkeys(tables.promotes, 0)
    both = 0
    for begin in range(0, runs, _AT_ONCE):
        size = min(_AT_ONCE, runs - begin)
        gains, losses = _counts(rng, EVEN, size, LOOKS)
        more, fewer = _counts(rng, kin(0.8, 0.8, 0.3), size, LOOKS)
        for name, says in tables.promotes.items():
            promoted[name] += int(says[gains, losses].any(axis=1).sum())
        logs = mean_of([tables.log_better[gains, losses], tables.log_better[more, fewer]])
        both += int((logs >= -math.log(TERMS.alpha)).any(axis=1).sum())
    return {name: wilson(count, runs) for name, count in promoted.items()} | {
        "the gate, verifier and judge together": wilson(both, runs)
    }


def exactly(theta: float, log_limit: float, shape: tuple[float, float], most: int = LOOKS) -> int:
    """Return the median number of differences until evidence reaches a limit, by enumeration, were gains a `theta`."""
    waiting, gone = np.zeros(most + 1), 0.0
    waiting[0] = 1.0
    for look in range(1, most + 1):
        moved = waiting * (1 - theta)
        moved[1:] += waiting[:-1] * theta
        gains = np.arange(look + 1)
        here = log_evidence(gains, look - gains, shape=shape) >= log_limit
        gone += float(moved[: look + 1][here].sum())
        if gone >= 0.5:
            return look
        moved[: look + 1][here] = 0.0
        waiting = moved
    return most


def _of_shapes() -> list[dict[str, Any]]:
    harm, rows = HARMFUL[0], list[dict[str, Any]]()
    apart = harm.wins + harm.losses
    for shape in SHAPES:
        found = exactly(0.7, -math.log(LIMITS.alpha), shape)
        stopped = exactly(harm.losses / apart, -math.log(LIMITS.harm_alpha), shape)
        what = (
            f"mixture Beta({shape[0]:g}, {shape[1]:g}), exactly: 70 % winner found; {harm.name}, rolled back"
        )
        rows.append({"what": what, "value": f"{found}; {stopped / apart:.0f} comparisons"})
    return rows


def on_tasks(rng: np.random.Generator, chances: Chances, runs: int, *, whole: bool) -> tuple[int, int]:
    """Return how many challengers the gate promotes, and how many it rolls back, by 100 tasks.

    `whole`: with its frozen suite, on which the models differ alike; else as though the suite allowed everything.
    """
    promoted = rolled_back = 0
    for _ in range(runs):
        suite = _pairs(rng, chances, SUITE) if whole else [Pair("", "", None, 1.0, 1.0)] * SUITE
        verdict = judge(_pairs(rng, chances, TASKS), suite, LIMITS).verdict
        promoted += verdict is Verdict.PROMOTE
        rolled_back += verdict is Verdict.ROLL_BACK
    return promoted, rolled_back


def _pairs(rng: np.random.Generator, chances: Chances, number: int) -> list[Pair]:
    drawn = rng.random(number)
    return [
        Pair("", "", None, float(x >= chances.wins), float(x < 1 - chances.losses)) for x in drawn.tolist()
    ]


def bounded(rng: np.random.Generator, runs: int, loss: float) -> Interval:
    """Return how often the suite lets a loss of that size pass, in models that differ in 15 % of replies."""
    chances = kin(0.8, 0.8 - loss, 0.15)
    drawn = rng.multinomial(
        SUITE, [chances.wins, chances.losses, 1 - chances.wins - chances.losses], size=runs
    )
    passed: dict[tuple[int, ...], bool] = {}
    for counts in {tuple(row) for row in drawn.tolist()}:
        passed[counts] = most_lost(Tally(*counts), level=LIMITS.level) <= LIMITS.margin
    return wilson(sum(passed[tuple(row)] for row in drawn.tolist()), runs)


def _measure(quick: bool) -> Report:
    rng = np.random.default_rng(SEED)
    runs, tasks = (2000, 1000) if quick else (10_000, 10_000)
    tables = Tables(LOOKS)
    say("roll-outs between equals")
    equal = false_rollouts(rng, runs, tables)
    say("winners and losers")
    found = {name: first_looks(rng, WINNER, says, runs, LOOKS) for name, says in tables.promotes.items()}
    harmed = {one.name: first_looks(rng, one, tables.rolls_back, runs, LOOKS) for one in HARMFUL}
    no_worse = first_looks(rng, EVEN, tables.rolls_back, runs, LOOKS)
    say("verdicts on 100 tasks")
    worse = independent(0.7, 0.67), kin(0.7, 0.67, 0.3)
    kinds = [(one, tasks) for one in (independent(0.7, 0.7), kin(0.7, 0.7, 0.3))]
    kinds += [(one, 1000) for one in worse]
    by_tasks = {
        (one.name, whole): on_tasks(rng, one, number, whole=whole)
        for one, number in kinds
        for whole in (False, True)
    }
    many = {one.name: on_tasks(rng, one, tasks, whole=True)[0] for one in worse}
    say("the suite's bound")
    passes = {loss: bounded(rng, runs, loss) for loss in (0.0, 0.05, 0.10)}
    rows = [
        *_rows_of_equal(equal, found),
        *({"what": f"rolled back: {name}", **_median(looks)} for name, looks in harmed.items()),
        {
            "what": "equal, rolled back within 1,000 looks",
            **_share(wilson(int((no_worse <= LOOKS).sum()), runs)),
        },
        *(
            {
                "what": f"promoted of {number:,} by {TASKS} tasks{' and the suite' if whole else ' alone'}: {name}",
                **_share(wilson(counts[0], number)),
            }
            for (name, whole), counts in by_tasks.items()
            for number in [1000 if "67 %" in name else tasks]
        ),
        *(
            {
                "what": f"promoted of {tasks:,} more by {TASKS} tasks and the suite: {name}",
                **_share(wilson(count, tasks)),
            }
            for name, count in many.items()
        ),
        *(
            {"what": f"the suite passes a loss of {100 * loss:.0f} points", **_share(one)}
            for loss, one in passes.items()
        ),
        *_of_shapes(),
    ]
    return Report(rows, _aims(equal, found, harmed, by_tasks, tasks, runs), _NOTES)


_NOTES = (
    "a comparison is one question that both answered and that was scored; its gain is a better score",
    "alpha 0.01 for promoting, 0.1 for rolling back; the suite may lose 5 points at most, as its upper bound of 95 %",
    "the threshold rule and the sign test count comparisons that differ",
)


def _rows_of_equal(equal: Mapping[str, Interval], found: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"what": f"equal, promoted within 1,000 looks: {name}", **_share(one)} for name, one in equal.items()
    ]
    return rows + [{"what": f"70 % winner found: {name}", **_median(looks)} for name, looks in found.items()]


def _aims(
    equal: Mapping[str, Interval],
    found: Mapping[str, np.ndarray],
    harmed: Mapping[str, np.ndarray],
    by_tasks: Mapping[tuple[str, bool], tuple[int, int]],
    tasks: int,
    runs: int,
) -> list[Aim]:
    most = max((one for name, one in equal.items() if name.startswith(GATE)), key=lambda one: one.value)
    aims = [
        _at_most(f"false promotions in {runs:,} roll-outs of equals, looked at 1,000 times, %", most, 1.0)
    ]
    looks = _median_of(found[GATE])
    aims.append(Aim("median comparisons to find a 70 % winner", *looks, "<= 60", looks.value <= 60))
    first = HARMFUL[0].name
    looks = _median_of(harmed[first])
    aims.append(Aim(f"median exposures until rolled back: {first}", *looks, "< 150", looks.value < 150))
    for (name, whole), (promoted, _) in by_tasks.items():
        if not whole:
            continue
        if "67 %" in name:
            share = wilson(promoted, 1000)
            aims.append(
                Aim(
                    f"promoted of 1,000 by {TASKS} tasks, three points worse: {name}",
                    promoted,
                    1000 * share.low,
                    1000 * share.high,
                    "0",
                    promoted == 0,
                )
            )
        else:
            aims.append(_at_most(f"promoted by {TASKS} tasks: {name}, %", wilson(promoted, tasks), 1.0))
    return aims


def _at_most(aim: str, share: Interval, most: float) -> Aim:
    value, low, high = (100 * one for one in share)
    return Aim(aim, value, low, high, f"<= {most:g}", value <= most)


def _share(one: Interval) -> dict[str, Any]:
    return {"value": f"{100 * one.value:.2f} %", "interval": f"{100 * one.low:.2f} to {100 * one.high:.2f} %"}


def _median(looks: np.ndarray) -> dict[str, Any]:
    one = _median_of(looks)
    ninety = float(np.quantile(looks, 0.9))
    return {
        "value": f"{one.value:.0f} comparisons",
        "interval": f"{one.low:.0f} to {one.high:.0f}",
        "nine in ten within": "more than 1,000" if ninety > LOOKS else f"{ninety:.0f}",
        "never": f"{100 * float((looks > LOOKS).mean()):.1f} %",
    }


def _median_of(looks: np.ndarray) -> Interval:
    median: Callable[[Sequence[float]], float] = lambda values: float(np.median(values))  # noqa: E731
    return bootstrap(looks.tolist(), median, resamples=200)


def main() -> None:
    run("gate", __doc__ or "", _measure)


if __name__ == "__main__":
    main()
