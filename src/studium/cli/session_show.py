"""What sessions there are and what one came to, read from their databases alone."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from studium.cli.output import note, write, write_json, write_table
from studium.cli.session_run import STUDENT_COLUMNS, Json, cycles_told, student_rows
from studium.serve.sessions.glance import all_at_a_glance, by_student, summary_json

if TYPE_CHECKING:
    from studium.records.sessions import SessionSummary

MOST_CYCLES = 12
MOST_PROPOSALS = 5
LONGEST_TEXT = 120


def list_all(workspace: Path, *, as_json: bool) -> None:
    """List every session of a workspace; one that cannot be read is listed with its trouble."""
    found = all_at_a_glance(workspace)
    if as_json:
        write_json(found)
        return
    if not found:
        note("There are no sessions. Begin one: studium session run demo --topic arithmetic --duration 0.5")
        return
    write_table(
        ("session", "topic", "state", "minutes", "cycles", "runs", "useful", "begun"),
        [_row(one) for one in found],
    )


def show_one(workspace: Path, name: str, *, as_json: bool) -> None:
    """Show one session. Raises CallerError where there is none, StoreUnavailable where it cannot be read."""
    from studium.records.sessions import SessionState
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.ledger import read_ledger
    from studium.serve.sessions.ownership import owner_of
    from studium.serve.sessions.projections import cycle_json

    folder = SessionFolder(workspace, name)
    ledger = read_ledger(folder.database)
    try:
        owner = owner_of(folder.lock)
        summary = ledger.summary(owner.pid if owner else None)
        cycles = ledger.cycles(last=None if as_json else MOST_CYCLES)
        useful = [run for run in ledger.runs() if run.useful]
        if as_json:
            budgets = ledger.budgets()
            document = summary_json(summary) | {
                "folder": folder.root,
                "students": by_student(ledger),
                "cycle_reports": [cycle_json(one, [], budgets.get(one.cycle)) for one in cycles],
                "useful_proposals": [
                    {
                        "cycle": run.run.cycle,
                        "student": run.run.student,
                        "subject": run.subject,
                        "text": run.reply,
                        "reason": run.reason,
                    }
                    for run in useful
                ],
            }
            write_json(document)
            return
        write(_headline(summary))
        write_table(STUDENT_COLUMNS, student_rows(ledger))
        write("\n")
        write_table(
            ("cycle", "runs", "useful", "useful/hour", "seconds", "waited, and why"),
            [
                (
                    str(one.cycle) + ("" if one.ended else " (open)"),
                    str(one.runs),
                    str(one.useful),
                    "-" if one.useful_per_hour is None else f"{one.useful_per_hour:,.0f}",
                    f"{one.seconds:.1f}",
                    "; ".join(f"{s.student}: {s.reason.partition(':')[0]}" for s in one.plan.skips) or "-",
                )
                for one in cycles
            ],
        )
        for run in useful[-MOST_PROPOSALS:]:
            text = " ".join(run.reply.split())
            short = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."
            write(f"\ncycle {run.run.cycle}, {run.run.student}: {short}\n  {run.reason}\n")
        write(f"\nfolder: {folder.root}\n")
        if folder.report.is_file():
            write(f"report: {folder.report}\n")
        if summary.state is SessionState.STOPPED or summary.interrupted:
            note(f"go on with: studium session resume {name}")
    finally:
        ledger.close()


def _headline(summary: "SessionSummary") -> str:
    state = "interrupted" if summary.interrupted else summary.state.value
    reason = f" ({summary.reason})" if summary.reason else ""
    by = f" by process {summary.owner_pid}" if summary.owner_pid else ""
    return (
        f"{summary.plan.name}: {summary.title}, {state}{by}{reason}\n"
        f"{summary.useful} useful of {summary.runs} runs in {cycles_told(summary.cycles)}, "
        f"{summary.active_seconds / 60:.2f} of {summary.plan.duration_s / 60:g} minutes, "
        f"{summary.tokens:,} tokens\n\n"
    )


def _row(one: Json) -> tuple[str, ...]:
    if one["state"] == "unreadable":
        return (one["name"], "-", "unreadable", "-", "-", "-", "-", one["error"])
    return (
        one["name"],
        one["topic"],
        one["state"],
        f"{one['active_seconds'] / 60:.2f}",
        str(one["cycles"]),
        str(one["runs"]),
        str(one["useful"]),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(one["created_at"])),
    )
