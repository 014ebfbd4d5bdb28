"""Jobs and the steps they have done, as rows. A process may change a job only with the token it was begun with.

Who begins a process takes the next token first, in one statement that only one can win; so two never believe that a
job is theirs, and one that was thought dead writes nothing any more. A step is done once: who takes a job up reads what
came of it instead of doing it again.
"""

import time
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from studium.records.jobs import Job, JobState
from studium.store import schema
from studium.store.durable import durably

_WHAT = "the list of jobs"


class JobLog:
    """The jobs of one store. Every call blocks for the disk; any thread, any process. Raises StoreUnavailable."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def add(self, job: Job) -> bool:
        """Keep a new job; False where there is one of its id."""
        now = time.time()
        values = {**_row(job), "created_at": now, "changed_at": now}
        statement = upsert(schema.jobs).values(values).on_conflict_do_nothing(["id"])
        with durably(self._database, _WHAT) as connection:
            return connection.execute(statement).rowcount == 1

    def job(self, job_id: str) -> Job | None:
        with self._database.connect() as connection:
            row = connection.execute(select(schema.jobs).where(schema.jobs.c.id == job_id)).mappings().first()
        return None if row is None else _job(row)

    def jobs(self, *, only_open: bool = False) -> list[Job]:
        """Return all jobs, or those that are not over, the oldest first."""
        query = select(schema.jobs).order_by(schema.jobs.c.created_at, schema.jobs.c.id)
        if only_open:
            query = query.where(schema.jobs.c.state.in_([one.value for one in JobState if one.open]))
        with self._database.connect() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def claim(self, job: Job) -> int | None:
        """Take the next token for a job as it was read; None where somebody else did, or it is over."""
        table, token = schema.jobs, job.token + 1
        mine = (table.c.id == job.id) & (table.c.token == job.token) & table.c.state.in_(_open())
        values = {
            "token": token,
            "state": JobState.RUNNING,
            "process": 0,
            "starts": table.c.starts + 1,
            "changed_at": time.time(),
        }
        with durably(self._database, _WHAT) as connection:
            return token if connection.execute(update(table).where(mine).values(values)).rowcount else None

    def change(self, job_id: str, token: int, **values: Any) -> bool:
        """Change a job that is open, with its token; False where the token is an earlier one or the job is over."""
        table = schema.jobs
        mine = (table.c.id == job_id) & (table.c.token == token) & table.c.state.in_(_open())
        if "error" in values:
            values["error"] = orjson.dumps(values["error"]).decode()
        with durably(self._database, _WHAT) as connection:
            changed = update(table).where(mine).values(**values, changed_at=time.time())
            return connection.execute(changed).rowcount == 1

    def halt(self, job_id: str) -> bool:
        """Have a job stop; False where it is over. One that no process has begun is stopped by this."""
        table = schema.jobs
        open_ones = (table.c.id == job_id) & table.c.state.in_(_open())
        waiting = (table.c.id == job_id) & (table.c.state == JobState.QUEUED)
        with durably(self._database, _WHAT) as connection:
            halted = connection.execute(
                update(table).where(open_ones).values(halt=1, changed_at=time.time())
            ).rowcount
            connection.execute(update(table).where(waiting).values(state=JobState.STOPPED))
            return halted == 1

    def queue(self, job_id: str, request: Mapping[str, Any] | None = None) -> bool:
        """Have a job that is over go on, told the same or a new request; False where it is open or there is none.

        A new request begins anew: the steps of the former are forgotten.
        """
        table = schema.jobs
        over = (table.c.id == job_id) & ~table.c.state.in_(_open())
        values: dict[str, Any] = {
            "state": JobState.QUEUED,
            "halt": 0,
            "starts": 0,
            "message": "",
            "error": "{}",
        }
        if request is not None:
            values["request"] = orjson.dumps(request).decode()
        with durably(self._database, _WHAT) as connection:
            queued = connection.execute(
                update(table).where(over).values(**values, changed_at=time.time())
            ).rowcount
            if queued and request is not None:
                connection.execute(delete(schema.job_steps).where(schema.job_steps.c.job == job_id))
            return queued == 1

    def done(self, job_id: str, step: str) -> Mapping[str, Any] | None:
        """Return what came of a step; None where it was not done."""
        table = schema.job_steps
        query = select(table.c.result).where(table.c.job == job_id, table.c.step == step)
        with self._database.connect() as connection:
            found = connection.scalar(query)
        return None if found is None else orjson.loads(found)

    def finish(self, job_id: str, token: int, step: str, result: Mapping[str, Any]) -> bool:
        """Keep what came of a step, once; False where the token is an earlier one."""
        jobs = schema.jobs
        values = {"job": job_id, "step": step, "at": time.time(), "result": orjson.dumps(result).decode()}
        with durably(self._database, _WHAT) as connection:
            mine = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.token == token)
            if connection.scalar(mine) is None:
                return False
            connection.execute(
                upsert(schema.job_steps).values(values).on_conflict_do_nothing(["job", "step"])
            )
            return True

    def steps(self, job_id: str) -> dict[str, Mapping[str, Any]]:
        """Return the steps done and what came of them, in order."""
        table = schema.job_steps
        query = select(table.c.step, table.c.result).where(table.c.job == job_id).order_by(table.c.at)
        with self._database.connect() as connection:
            return {step: orjson.loads(result) for step, result in connection.execute(query)}


def _open() -> list[str]:
    return [one.value for one in JobState if one.open]


def _row(job: Job) -> dict[str, Any]:
    named = {name: getattr(job, name) for name in job.__slots__}
    return named | {
        "request": orjson.dumps(job.request).decode(),
        "error": orjson.dumps(job.error).decode(),
        "halt": int(job.halt),
    }


def _job(row: Mapping[Any, Any]) -> Job:
    told = {"request": orjson.loads(row["request"]), "error": orjson.loads(row["error"])}
    return Job(**{**row, **told, "state": JobState(row["state"]), "halt": bool(row["halt"])})
