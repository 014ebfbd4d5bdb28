"""`studium bench`: measure on this machine. `schedule` measures on a virtual one, so no model is loaded.

`intents` is in `bench_intents`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from studium.cli import bench_intents
from studium.cli.options import JsonOption
from studium.cli.output import note, write_json, write_table
from studium.errors import ConfigurationError

if TYPE_CHECKING:
    from studium.fleet.simulate import Outcome, Row, Trace

MOST_SEEDS = 1_000
T = TypeVar("T")

app = typer.Typer(help="Measure how this machine, or a simulated one, is used.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure how this machine, or a simulated one, is used."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("intents")(bench_intents.intents)


@app.command("schedule")
def schedule(
    workload: Annotated[
        list[str] | None,
        typer.Option("--workload", metavar="NAME", help="Only this workload; may be repeated."),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="NAME", help="Only this policy; may be repeated.")
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="NUMBER", min=1, max=MOST_SEEDS, help="Runs to average over.")
    ] = 3,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="A recorded trace instead of a workload.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare Studium's planner with other policies on a virtual clock. Loads no model.

    The other policies are re-implemented from public descriptions, and the workloads' sizes and timings
    are invented. A trace brings its own: one JSON object a line, a header first, then the asks.

    \b
    {"devices": [{"name": "gpu", "budget_bytes": 11000000000}],
     "models": [{"name": "a", "bytes": 4100000000, "load_seconds": 5, "slots": 1}]}   (in one line)
    {"at_s": 0.0, "model": "a", "priority": "interactive", "run_seconds": 6.2}

    \b
    Workloads: zipf-low, zipf-high, committees, cascade, burst, hog-88, hog-112,
    session, mixed-day, committees-shared, burst-shared, two-devices
    Policies: studium, studium-without-hints, parallel, fifo, byte-lru, ollama,
    llama-swap-group, llama-swap-matrix

    Example: studium bench schedule --workload burst --seeds 5
    """
    from studium.fleet.simulate import POLICIES, WORKLOADS, read_trace, replay, tabulate

    if trace is not None and workload:
        raise ConfigurationError(
            "both a trace and a workload were given",
            expected="one of them",
            try_next="leave out --workload or --trace",
        )
    policies = _choose("policy", policy, POLICIES)
    recorded = read_trace(trace) if trace is not None else None
    worlds: Mapping[str, Callable[[int], Trace]] = (
        {recorded.name: lambda _seed: recorded} if recorded else _choose("workload", workload, WORKLOADS)
    )
    outcomes: list[Outcome] = []
    for name, make in worlds.items():
        suited = [one for one in policies.values() if one.suits(make(0))]
        for one in policies.values():
            if one not in suited:
                note(f"{one.name} is left out of {name}: its rules are for one device")
        note(f"simulating {name}: {seeds} x {len(suited)} runs")
        for seed in range(seeds):
            outcomes += replay(make(seed), suited, seeds=[seed])
    rows = tabulate(outcomes)
    if json:
        write_json(
            {"policies": {n: one.about for n, one in policies.items()}, "rows": list(map(asdict, rows))}
        )
        return
    _show(rows)
    for name, one in policies.items():
        note(f"{name}: {one.about}")


def _choose(what: str, wanted: Sequence[str] | None, there: Mapping[str, T]) -> Mapping[str, T]:
    """Return the named ones, or all. Raises ConfigurationError for a name that is not there."""
    for name in wanted or ():
        if name not in there:
            near = get_close_matches(name, there, 1)
            raise ConfigurationError(
                f"there is no {what} {name!r}",
                expected=f"one of {', '.join(there)}",
                try_next=f"--{what} {near[0] if near else next(iter(there))}",
            )
    return {name: there[name] for name in wanted} if wanted else there


def _show(rows: "Sequence[Row]") -> None:
    write_table(
        (
            "workload",
            "policy",
            "asks of",
            "asks",
            "loads",
            "wait mean s",
            "wait p95 s",
            "wait max s",
            "finish p95 s",
            "absent model s",
            "makespan s",
        ),
        [
            (
                row.workload,
                row.policy,
                row.asks_of,
                f"{row.asks:.0f}"
                + (f" ({row.refused:.0f} refused)" if row.refused else "")
                + (f" ({row.late:.1f} late)" if row.late else ""),
                f"{row.loads:.0f}",
                *map(_seconds, (row.wait_mean_s, row.wait_p95_s, row.wait_max_s, row.finish_p95_s)),
                _seconds(row.first_wait_mean_s),
                _seconds(row.makespan_s),
            )
            for row in rows
        ],
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
