"""Simulated scheduling: Studium's planner against six other policies, the offline optimum and a lower bound.

Every policy sees the same machines and the same asks (`studium.fleet.simulate.workloads`: sizes and timings
are invented; 11 GB and no contention unless said); the peers are re-implemented from public descriptions.
A ratio divides the mean over all seeds of ours by that of the best peer *at this figure on this workload*,
chosen after looking, so it is hard on us; its interval is a paired bootstrap over the seeds. Waits are times
to start. The full run uses seeds the planner was not tuned on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from statistics import fmean, median
from typing import Any

from benchmarks.report import Aim, Report, run, say
from benchmarks.schedule_bound import Bound, relaxation
from benchmarks.schedule_optimum import Objective, optimum
from studium.fleet.simulate import PEERS, POLICIES, WORKLOADS, Outcome, simulate, tabulate
from studium.fleet.simulate.measures import spread
from studium.fleet.simulate.policies import OURS, WITHOUT_HINTS
from studium.fleet.simulate.workloads import small
from studium.fleet.simulate.world import Trace
from studium.fleet.situation import Rules
from studium.records.scheduling import Priority

SEEDS = 20
# Seeds the planner was not tuned on: `studium bench schedule` and --quick count from 0.
FIRST_SEED = 1_000
QUICK_SEEDS = 3
SMALL_TRACES = 100
QUICK_SMALL_TRACES = 25
RESAMPLES = 2_000
NO_WORSE = 1.05
NEAR_OPTIMAL = 1.15
HARDLY_LATER = 1.2

Figure = Callable[[Outcome], float]
Runs = Mapping[str, Sequence[Outcome]]


def _measure(quick: bool) -> Report:
    seeds = range(QUICK_SEEDS) if quick else range(FIRST_SEED, FIRST_SEED + SEEDS)
    rows: list[Mapping[str, Any]] = []
    aims: list[Aim] = []
    for name, make in WORKLOADS.items():
        say(f"{name}: {len(seeds)} seeds")
        traces = [make(seed) for seed in seeds]
        runs = _run_all(traces)
        rows += [*_rows(runs), _bound_row(name, [relaxation(trace) for trace in traces])]
        aims += _aims(name, traces, runs)
    count = QUICK_SMALL_TRACES if quick else SMALL_TRACES
    say(f"small traces against the optimum: {count}")
    small_rows, small_aims = _against_optimum([small(seeds[0] + n) for n in range(count)])
    notes = [f"{name}: {POLICIES[name].about}" for name in POLICIES]
    notes.append(f"{WITHOUT_HINTS} is shown where the workload announces anything; elsewhere it is the same")
    notes.append("lower bound: a relaxation (makespan, mean and maximum wait), not reachable in general")
    return Report([*rows, *small_rows], [*aims, *small_aims], notes)


def _run_all(traces: Sequence[Trace]) -> Runs:
    """Every policy over every trace; ours without hints only where there are any."""
    names = [
        name
        for name, policy in POLICIES.items()
        if policy.suits(traces[0]) and (name != WITHOUT_HINTS or traces[0].announces)
    ]
    return {
        name: [simulate(trace, POLICIES[name], seed=seed) for seed, trace in enumerate(traces)]
        for name in names
    }


def _rows(runs: Runs) -> list[Mapping[str, Any]]:
    return [
        {
            "workload": row.workload,
            "policy": row.policy,
            "asks of": row.asks_of,
            "asks": row.asks,
            "loads": row.loads,
            "mean s": row.wait_mean_s,
            "p95 s": row.wait_p95_s,
            "max s": row.wait_max_s,
            "finish p95 s": row.finish_p95_s,
            "absent model s": row.first_wait_mean_s,
            "makespan s": row.makespan_s,
        }
        for row in tabulate(outcome for group in runs.values() for outcome in group)
    ]


def _bound_row(name: str, bounds: Sequence[Bound]) -> Mapping[str, Any]:
    return {
        "workload": name,
        "policy": "lower bound",
        "asks of": "all",
        "mean s": fmean(one.wait_mean_s for one in bounds),
        "max s": fmean(one.wait_max_s for one in bounds),
        "makespan s": fmean(one.makespan_s for one in bounds),
    }


def _aims(name: str, traces: Sequence[Trace], runs: Runs) -> list[Aim]:
    figures: dict[str, Figure] = {"p95 wait": _p95(None), "makespan": lambda one: one.makespan_s}
    if name == "mixed-day":
        figures["p95 wait, interactive"] = _p95(Priority.INTERACTIVE)
    aims = [_no_worse(f"{name}: {what}", figure, runs, NO_WORSE) for what, figure in figures.items()]
    if name.startswith("hog"):
        seldom = [model for model in traces[0].models if model != "hog"]
        if name == "hog-88":
            aims.append(_no_worse(f"{name}: an absent model starts", _first_wait(seldom), runs, HARDLY_LATER))
            aims.append(_against_median(f"{name}: an absent model starts", _first_wait(seldom), runs))
        else:
            aims.append(_within_bound(name, seldom, traces, runs[OURS]))
    return aims


def _p95(priority: Priority | None) -> Figure:
    def figure(outcome: Outcome) -> float:
        found = spread(outcome.waits(priority))
        return found.p95 if found else 0.0

    return figure


def _first_wait(models: Sequence[str]) -> Figure:
    def figure(outcome: Outcome) -> float:
        found = spread(outcome.first_waits(models))
        return found.mean if found else 0.0

    return figure


def _no_worse(aim: str, figure: Figure, runs: Runs, most: float) -> Aim:
    """Ours over the best peer's, over the seeds in pairs."""
    ours = [figure(one) for one in runs[OURS]]
    peers = {name: [figure(one) for one in runs[name]] for name in PEERS if name in runs}
    best = min(peers, key=lambda name: fmean(peers[name]))
    value, low, high = _ratio(ours, peers[best])
    return Aim(
        f"{aim}, over the best peer's", value, low, high, f"<= {most:g}", value <= most, f"best: {best}"
    )


def _against_median(aim: str, figure: Figure, runs: Runs) -> Aim:
    """Ours over the median peer's: the best may pay for its figure with all others."""
    means = sorted(fmean(figure(one) for one in runs[name]) for name in PEERS if name in runs)
    value = fmean(figure(one) for one in runs[OURS]) / median(means)
    return Aim(f"{aim}, over the median peer's", value, None, None, "for information", None)


def _within_bound(name: str, seldom: Sequence[str], traces: Sequence[Trace], ours: Sequence[Outcome]) -> Aim:
    """The longest wait of an absent model over what the rules promise.

    If all others that are absent come first: for each of them and for itself a turn of the hog and a swap,
    and then the longest run.
    """
    rules, worst = Rules(), 0.0
    for trace, outcome in zip(traces, ours, strict=True):
        hog, other = trace.models["hog"], trace.models[seldom[0]]
        swap_s = hog.unload_seconds + other.load_seconds + other.unload_seconds + hog.load_seconds
        longest_s = max(ask.run_seconds for ask in trace.asks)
        promised_s = len(seldom) * (rules.turn_swaps + 1) * swap_s + longest_s
        worst = max(worst, max(outcome.first_waits(seldom), default=0.0) / promised_s)
    aim = f"{name}: longest wait of an absent model over its bound"
    note = f"bound: {len(seldom)} turns of {rules.turn_swaps:g} swaps and a swap each, and the longest run"
    return Aim(aim, worst, None, None, "<= 1", worst <= 1, note)


def _against_optimum(traces: Sequence[Trace]) -> tuple[list[Mapping[str, Any]], list[Aim]]:
    best_end = [optimum(trace, Objective.MAKESPAN) for trace in traces]
    best_wait = [optimum(trace, Objective.MEAN_WAIT) for trace in traces]
    rows: list[Mapping[str, Any]] = []
    aims: list[Aim] = []
    for name in (OURS, *PEERS):
        outcomes = [simulate(trace, POLICIES[name], seed=seed) for seed, trace in enumerate(traces)]
        waits = [fmean(one.waits()) for one in outcomes]
        ends = [one.makespan_s for one in outcomes]
        rows.append(_small_row(name, fmean(waits), fmean(ends), fmean(one.tally.loads for one in outcomes)))
        if name == OURS:
            for what, mine, best in (("makespan", ends, best_end), ("mean wait", waits, best_wait)):
                value, low, high = _ratio(mine, best)
                aims.append(
                    Aim(
                        f"small traces: {what}, over the offline optimum",
                        value,
                        low,
                        high,
                        f"<= {NEAR_OPTIMAL:g}",
                        value <= NEAR_OPTIMAL,
                        f"{len(traces)} traces; the optimum knows what will come",
                    )
                )
    rows.append(_small_row("offline optimum of each", fmean(best_wait), fmean(best_end), None))
    bounds = [relaxation(trace) for trace in traces]
    rows.append(
        _small_row(
            "lower bound",
            fmean(one.wait_mean_s for one in bounds),
            fmean(one.makespan_s for one in bounds),
            None,
        )
    )
    return rows, aims


def _small_row(policy: str, mean_s: float, makespan_s: float, loads: float | None) -> Mapping[str, Any]:
    return {
        "workload": "small",
        "policy": policy,
        "asks of": "all",
        "loads": loads,
        "mean s": mean_s,
        "makespan s": makespan_s,
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return mean over mean with the 95 % percentile interval of resampled pairs."""
    random = Random(0)
    pairs = list(zip(ours, theirs, strict=True))
    ratios = sorted(_of(random.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return _of(pairs), ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES)]


def _of(pairs: Iterable[tuple[float, float]]) -> float:
    ours, theirs = map(sum, zip(*pairs, strict=True))
    return ours / theirs if theirs else float("inf")


def main() -> None:
    run("schedule", __doc__ or "", _measure)


if __name__ == "__main__":
    main()
