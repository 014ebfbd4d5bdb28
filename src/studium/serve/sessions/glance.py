"""What a session came to, as plain data: for lists, for programs, and for those who ask over HTTP. Reads only."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studium.errors import StudiumError
from studium.records.sessions import SessionSummary
from studium.serve.sessions.folder import SessionFolder, session_names
from studium.serve.sessions.ledger import Ledger, read_ledger
from studium.serve.sessions.ownership import owner_of

Json = dict[str, Any]


def all_at_a_glance(workspace: Path) -> list[Json]:
    """Return every session of a workspace at a glance; one that cannot be read with its trouble."""
    return [_glance(workspace, name) for name in session_names(workspace)]


def in_detail(workspace: Path, name: str) -> Json:
    """Return one session with what each student's runs came to and what goes on now (None: nobody runs it).

    Raises CallerError where there is none, StoreUnavailable where it cannot be read.
    """
    folder = SessionFolder(workspace, name)
    with _read(folder) as (ledger, summary):
        return summary_json(summary) | {"students": by_student(ledger), "now": _now(folder, summary)}


def by_student(ledger: Ledger) -> list[Json]:
    """Return what each student's runs came to, as plain data, by name."""
    grouped: dict[str, list[Any]] = {}
    for run in ledger.runs():
        grouped.setdefault(run.run.student, []).append(run)
    rows: list[Json] = []
    for student, runs in sorted(grouped.items()):
        sizes = [run.run.memory_bytes / 1e6 for run in runs if run.run.memory_bytes is not None]
        seconds = sum(run.run_seconds for run in runs)
        tokens = sum(run.run.completion_tokens for run in runs)
        rows.append(
            {
                "student": student,
                "runs": len(runs),
                "useful": sum(run.useful for run in runs),
                "failed": sum(not run.run.success for run in runs),
                "mean_seconds": sum(run.run.seconds for run in runs) / len(runs),
                "mean_vram_mb": sum(sizes) / len(sizes) if sizes else None,
                "tokens_per_second": tokens / seconds if seconds > 0 else None,
            }
        )
    return rows


def summary_json(summary: SessionSummary) -> Json:
    """Return a session at a glance as plain data."""
    fields = asdict(summary)
    plan = fields.pop("plan")
    return {
        "name": plan["name"],
        "topic": plan["topic"],
        "state": "interrupted" if summary.interrupted else summary.state.value,
        **{key: value for key, value in fields.items() if key != "state"},
        "remaining_seconds": max(0.0, plan["duration_s"] - summary.active_seconds),
        "plan": plan,
    }


def _glance(workspace: Path, name: str) -> Json:
    try:
        with _read(SessionFolder(workspace, name)) as (_, summary):
            return summary_json(summary)
    except StudiumError as error:
        return {"name": name, "state": "unreadable", "error": error.happened}


@contextmanager
def _read(folder: SessionFolder) -> Iterator[tuple[Ledger, SessionSummary]]:
    ledger = read_ledger(folder.database)
    try:
        owner = owner_of(folder.lock)
        yield ledger, ledger.summary(owner.pid if owner else None)
    finally:
        ledger.close()


def _now(folder: SessionFolder, summary: SessionSummary) -> Json | None:
    try:
        return json.loads(folder.status.read_text(encoding="utf-8")) if summary.owner_pid else None
    except (OSError, ValueError):
        return None
