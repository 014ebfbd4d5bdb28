"""Records of a session as rows and JSON columns of its database, and back."""

import json
from collections.abc import Sequence
from typing import Any

from studium.records.runs import StudentRun
from studium.records.sessions import CyclePlan, SessionPlan, SessionRun, Skip, Turn
from studium.serve.sessions import tables
from studium.store import schema


def run_row(run: SessionRun, *, run_id: int) -> dict[str, Any]:
    """Return what `session_runs` holds of a run; the promised columns stand in `student_runs`, row `run_id`."""
    measured = run.run
    return {
        "run_id": run_id,
        "cycle": measured.cycle,
        "student": measured.student,
        "started_at": measured.started_at,
        "seconds": measured.seconds,
        "memory_bytes": measured.memory_bytes,
        "asked_at": run.asked_at,
        "priority": run.priority,
        "queue_seconds": run.queue_seconds,
        "run_seconds": run.run_seconds,
        "max_tokens": run.max_tokens,
        "subject": run.subject,
        "prompt": run.prompt,
        "facts": as_json(run.facts),
        "finish": run.finish,
        "reply": run.reply,
        "error": run.error,
        "score": run.score,
        "useful": int(run.useful),
        "claims": as_json(run.keys),
        "reason": run.reason,
    }


def as_json(value: object) -> str:
    """Return JSON text of JSON types; what is none of them as its text."""
    return json.dumps(value, default=str, ensure_ascii=True)


def session_plan(text: str) -> SessionPlan:
    """Return a plan from its JSON. Raises ValueError, KeyError or TypeError where it is none."""
    fields = json.loads(text)
    return SessionPlan(**fields | {"students": tuple(fields["students"])})


def cycle_plan(text: str) -> CyclePlan:
    """Return a cycle's plan from its JSON. Raises as `session_plan` does."""
    fields = json.loads(text)
    turns: Sequence[dict[str, Any]] = fields["turns"]
    skips: Sequence[dict[str, Any]] = fields["skips"]
    return CyclePlan(
        fields["cycle"], tuple(Turn(**turn) for turn in turns), tuple(Skip(**skip) for skip in skips)
    )


def session_run(row: Any) -> SessionRun:
    """Return the run that a row of `student_runs` joined with `session_runs` tells of."""
    own, promised = tables.session_runs.c, schema.student_runs.c
    return SessionRun(
        run=StudentRun(
            student=row[own.student],
            model=row[promised.model],
            started_at=row[own.started_at],
            seconds=row[own.seconds],
            success=bool(row[promised.success]),
            cycle=row[own.cycle],
            memory_bytes=row[own.memory_bytes],
            prompt_tokens=row[promised.prompt_tokens],
            completion_tokens=row[promised.tokens],
            load_seconds=row[promised.load_seconds],
            error_code=row[promised.error_code],
        ),
        asked_at=row[own.asked_at],
        priority=row[own.priority],
        queue_seconds=row[own.queue_seconds],
        run_seconds=row[own.run_seconds],
        max_tokens=row[own.max_tokens],
        subject=row[own.subject],
        prompt=row[own.prompt],
        facts=json.loads(row[own.facts]),
        finish=row[own.finish],
        reply=row[own.reply],
        error=row[own.error],
        score=row[own.score],
        useful=bool(row[own.useful]),
        keys=tuple(json.loads(row[own.claims])),
        reason=row[own.reason],
    )
