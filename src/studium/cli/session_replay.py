"""A recorded session put through the planner's simulator, and beside it through other policies."""

from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from studium.cli.output import note, write_json, write_table
from studium.errors import ConfigurationError

if TYPE_CHECKING:
    from studium.fleet.simulate import Row


def replay_session(
    workspace: Path, name: str, policies: Sequence[str], *, seeds: int, export: Path | None, as_json: bool
) -> None:
    """Replay a session. Raises CallerError where there is none, ConfigurationError for an unknown policy."""
    from studium.fleet.simulate import POLICIES, parse_trace, replay, tabulate
    from studium.serve.sessions.folder import SessionFolder, write_whole
    from studium.serve.sessions.ledger import read_ledger
    from studium.serve.sessions.trace import trace_lines

    for policy in policies:
        if policy not in POLICIES:
            near = get_close_matches(policy, POLICIES, 1, cutoff=0.0)
            raise ConfigurationError(
                f"there is no policy {policy!r}",
                expected=f"one of {', '.join(POLICIES)}",
                try_next=f"studium session replay {name} --policy {near[0]}",
            )
    chosen = {policy: POLICIES[policy] for policy in policies or POLICIES}
    ledger = read_ledger(SessionFolder(workspace, name).database)
    try:
        summary = ledger.summary()
        lines = trace_lines(name, ledger.cycles(), ledger.runs(), ledger.budgets())
    finally:
        ledger.close()
    if export is not None:
        write_whole(export, "".join(line.decode() + "\n" for line in lines))
        note(f"wrote {export}; also for: studium bench schedule --trace {export}")
    trace = parse_trace(lines, name=name)
    note(f"simulating {len(trace.asks)} asks under {len(chosen)} policies")
    rows = tabulate(replay(trace, chosen.values(), seeds=range(seeds)))
    if as_json:
        write_json(
            {
                "session": name,
                "asks": len(trace.asks),
                "recorded_seconds": summary.active_seconds,
                "policies": {key: one.about for key, one in chosen.items()},
                "rows": [asdict(row) for row in rows],
            }
        )
        return
    _show(rows)
    note(
        f"{len(trace.asks)} asks of {summary.cycles} cycles; the session itself took "
        f"{summary.active_seconds:.1f} s, judging and recording included, which a simulation leaves out"
    )
    for key, one in chosen.items():
        note(f"{key}: {one.about}")


def _show(rows: Sequence["Row"]) -> None:
    write_table(
        ("policy", "loads", "wait mean s", "wait p95 s", "wait max s", "makespan s"),
        [
            (
                row.policy,
                f"{row.loads:.0f}",
                *(
                    "-" if s is None else f"{s:.2f}"
                    for s in (row.wait_mean_s, row.wait_p95_s, row.wait_max_s)
                ),
                f"{row.makespan_s:.2f}",
            )
            for row in rows
        ],
    )
