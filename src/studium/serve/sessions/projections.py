"""The files made from a session's database: written as things happen, made again on resume where missing."""

import json
from pathlib import Path
from typing import Any

from studium.records.sessions import CycleSummary, SessionRun, Skip, Turn
from studium.serve.sessions.folder import TEMPORARY, SessionFolder, write_json, write_whole
from studium.serve.sessions.ledger import Ledger
from studium.store.store import BYTES_PER_MB, timestamp

Json = dict[str, Any]


def project_run(folder: SessionFolder, prefix: str, run: SessionRun) -> None:
    """Write the files of one run: what it cost and, where it said something, its proposal."""
    student, cycle = run.run.student, run.run.cycle
    write_json(folder.run_file(cycle, student), run_json(run))
    if run.run.success:
        write_whole(folder.proposal_file(prefix, cycle, student), proposal_text(run))


def project_cycle(folder: SessionFolder, ledger: Ledger, summary: CycleSummary) -> None:
    """Write the report of a cycle that ended."""
    report = cycle_json(summary, ledger.runs(summary.cycle), ledger.budgets(summary.cycle).get(summary.cycle))
    write_json(folder.cycle_report(summary.cycle), report)


def rebuild(folder: SessionFolder, ledger: Ledger, prefix: str) -> int:
    """Write every file that is missing, and remove what a kill left half written; return how many were made."""
    if folder.root.is_dir():
        for leftover in folder.root.rglob(f"*{TEMPORARY}"):
            leftover.unlink(missing_ok=True)
    made = 0
    for run in ledger.runs():
        student, cycle = run.run.student, run.run.cycle
        wanted: list[Path] = [folder.run_file(cycle, student)]
        if run.run.success:
            wanted.append(folder.proposal_file(prefix, cycle, student))
        if not all(_is_whole(path) for path in wanted):
            project_run(folder, prefix, run)
            made += 1
    for summary in ledger.cycles():
        if summary.ended and not _is_whole(folder.cycle_report(summary.cycle)):
            project_cycle(folder, ledger, summary)
            made += 1
    return made


def _is_whole(path: Path) -> bool:
    """Whether a file is there with something in it: a power cut may leave the name without the content."""
    return path.is_file() and path.stat().st_size > 0


def run_json(run: SessionRun) -> Json:
    """Return the record of one run: the promised fields first (SES-8), then what else is known."""
    measured = run.run
    speed = measured.completion_tokens / measured.seconds if measured.seconds > 0 else None
    return {
        "student": measured.student,
        "vram_used_mb": None if measured.memory_bytes is None else measured.memory_bytes / BYTES_PER_MB,
        "time_seconds": measured.seconds,
        "tokens_generated": measured.completion_tokens,
        "tokens_per_second": speed,
        "cycle": measured.cycle,
        "timestamp": timestamp(measured.started_at),
        "success": measured.success,
        "error": run.error,
        "model": measured.model,
        "queue_seconds": run.queue_seconds,
        "load_seconds": measured.load_seconds,
        "run_seconds": run.run_seconds,
        "max_tokens": run.max_tokens,
        "cut": run.finish == "length",
        "subject": run.subject,
        "score": run.score,
        "useful": run.useful,
        "reason": run.reason,
    }


def proposal_text(run: SessionRun) -> str:
    """Return a proposal for people: a head of facts as JSON, and the student's own words below it."""
    head = {
        "student": run.run.student,
        "cycle": run.run.cycle,
        "subject": run.subject,
        "useful": run.useful,
        "score": run.score,
        "reason": run.reason,
        "claims": list(run.keys),
        "timestamp": timestamp(run.run.started_at),
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---", "", run.reply.rstrip("\n"), ""])


def cycle_json(summary: CycleSummary, runs: list[SessionRun], budget_bytes: int | None) -> Json:
    return {
        "cycle": summary.cycle,
        "seconds": summary.seconds,
        "runs": summary.runs,
        "failed": summary.failed,
        "useful": summary.useful,
        "useful_per_hour": summary.useful_per_hour,
        "tokens": summary.tokens,
        "memory_budget_mb": None if budget_bytes is None else budget_bytes / BYTES_PER_MB,
        "order": [_turn(turn) for turn in summary.plan.turns],
        "skipped": [_skip(skip) for skip in summary.plan.skips],
        "students": [run_json(run) for run in runs],
    }


def _turn(turn: Turn) -> Json:
    return {
        "student": turn.student,
        "reason": turn.reason,
        "expected_seconds": turn.expected_s,
        "max_tokens": turn.max_tokens,
        "limit_seconds": turn.timeout_s,
    }


def _skip(skip: Skip) -> Json:
    return {"student": skip.student, "reason": skip.reason}
