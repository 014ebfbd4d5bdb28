"""The truth of a session: its SQLite database. Every finished run is one transaction, on disk when it returns.

All files beside it are made from it (`projections`). What waits for the disk here is waited for: call from a
thread. A reader (`read_only`) may look at any time, also while a session runs.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from studium.errors import CallerError, StoreUnavailable
from studium.records.hardware import HardwareSnapshot
from studium.records.sessions import (
    CyclePlan,
    CycleSummary,
    SessionPlan,
    SessionRun,
    SessionState,
    SessionSummary,
)
from studium.serve.sessions import rows, tables
from studium.store import schema
from studium.store.database import open_database, open_read_only
from studium.store.store import run_row, snapshot_row


class Ledger:
    """One session's database. Raises StoreUnavailable from every method when the disk refuses."""

    def __init__(self, path: Path, database: Engine) -> None:
        self.path = path
        self._database = database

    def create(self, plan: SessionPlan, *, prefix: str, title: str) -> None:
        """Write what the session is. Once."""
        with self._write() as connection:
            tables.metadata.create_all(connection)
            connection.execute(
                insert(tables.session).values(
                    id=1,
                    version=tables.VERSION,
                    plan=rows.as_json(asdict(plan)),
                    prefix=prefix,
                    title=title,
                    state=SessionState.STOPPED.value,
                    reason="not begun",
                    created_at=time.time(),
                    active_seconds=0.0,
                )
            )

    @property
    def created(self) -> bool:
        """Whether `create` was done: a session killed before that never began."""
        with self._read() as connection:
            if not self._database.dialect.has_table(connection, "session"):
                return False
            return connection.scalar(select(func.count()).select_from(tables.session)) == 1

    def change_plan(self, plan: SessionPlan) -> None:
        """Replace the plan, as when a session is given more time."""
        with self._write() as connection:
            connection.execute(update(tables.session).values(plan=rows.as_json(asdict(plan))))

    def set_state(self, state: SessionState, reason: str) -> None:
        """Write where the session stands, and why."""
        with self._write() as connection:
            connection.execute(update(tables.session).values(state=state.value, reason=reason))

    def tick(self, active_seconds: float, cycle: int, cycle_seconds: float) -> None:
        """Write how long the session, and the cycle under way, have run."""
        with self._write() as connection:
            _tick(connection, active_seconds, cycle, cycle_seconds)

    def begin_cycle(self, plan: CyclePlan, budget_bytes: int, hardware: HardwareSnapshot) -> None:
        """Write a cycle's plan and the hardware it was made for."""
        with self._write() as connection:
            connection.execute(insert(schema.hardware_snapshots).values(snapshot_row(hardware)))
            connection.execute(
                insert(tables.session_cycles).values(
                    cycle=plan.cycle,
                    plan=rows.as_json(asdict(plan)),
                    began_at=time.time(),
                    seconds=0.0,
                    ended=0,
                    budget_bytes=budget_bytes,
                )
            )

    def end_cycle(self, plan: CyclePlan, active_seconds: float, cycle_seconds: float) -> None:
        """Write that a cycle is over, with the plan as it came out (who was skipped after all)."""
        with self._write() as connection:
            _tick(connection, active_seconds, plan.cycle, cycle_seconds)
            connection.execute(
                update(tables.session_cycles)
                .where(tables.session_cycles.c.cycle == plan.cycle)
                .values(ended=1, plan=rows.as_json(asdict(plan)))
            )

    def record(self, run: SessionRun) -> None:
        """Write one finished run with its proposal and judgement, all or nothing.

        The (cycle, student) of a run is written once in the life of a session.
        """
        measured = run.run
        with self._write() as connection:
            done = connection.execute(insert(schema.student_runs).values(run_row(measured)))
            assert done.inserted_primary_key is not None
            row = rows.run_row(run, run_id=done.inserted_primary_key[0])
            connection.execute(insert(tables.session_runs).values(row))

    def summary(self, owner_pid: int | None = None) -> SessionSummary:
        """Return the session at a glance; `owner_pid` is what the caller knows of who runs it."""
        runs, own = schema.student_runs.c, tables.session_runs.c
        with self._read() as connection:
            row = connection.execute(select(tables.session)).mappings().one()
            cycles = connection.scalar(select(func.count()).select_from(tables.session_cycles)) or 0
            counted = connection.execute(
                select(
                    func.count(), func.sum(1 - runs.success), func.sum(own.useful), func.sum(runs.tokens)
                ).select_from(_joined())
            ).one()
        if row["version"] > tables.VERSION:
            raise StoreUnavailable(
                f"the session at {self.path} has version {row['version']}",
                expected=f"this Studium knows versions up to {tables.VERSION}",
                try_next="use the Studium that wrote it",
            )
        return SessionSummary(
            plan=rows.session_plan(row["plan"]),
            state=SessionState(row["state"]),
            reason=row["reason"],
            prefix=row["prefix"],
            title=row["title"],
            created_at=row["created_at"],
            active_seconds=row["active_seconds"],
            cycles=cycles,
            runs=counted[0],
            failed=counted[1] or 0,
            useful=counted[2] or 0,
            tokens=counted[3] or 0,
            owner_pid=owner_pid,
        )

    def cycles(self, last: int | None = None) -> list[CycleSummary]:
        """Return the cycles in order, or only the `last` so many."""
        runs, own, table = schema.student_runs.c, tables.session_runs.c, tables.session_cycles.c
        query = (
            select(
                table.cycle,
                table.plan,
                table.seconds,
                table.ended,
                func.count(runs.id).label("runs"),
                func.sum(1 - runs.success).label("failed"),
                func.sum(own.useful).label("useful"),
                func.sum(runs.tokens).label("tokens"),
            )
            .select_from(tables.session_cycles.outerjoin(_joined(), own.cycle == table.cycle))
            .group_by(table.cycle)
            .order_by(table.cycle.desc())
            .limit(last)
        )
        with self._read() as connection:
            found = connection.execute(query).all()
        return [
            CycleSummary(
                cycle=row.cycle,
                seconds=row.seconds,
                ended=bool(row.ended),
                runs=row.runs,
                failed=row.failed or 0,
                useful=row.useful or 0,
                tokens=row.tokens or 0,
                plan=rows.cycle_plan(row.plan),
            )
            for row in reversed(found)
        ]

    def runs(self, cycle: int | None = None) -> list[SessionRun]:
        """Return every run in the order it was recorded, or only those of one cycle."""
        query = select(schema.student_runs, tables.session_runs).select_from(_joined())
        if cycle is not None:
            query = query.where(tables.session_runs.c.cycle == cycle)
        with self._read() as connection:
            found = connection.execute(query.order_by(tables.session_runs.c.run_id)).all()
        return [rows.session_run(row._mapping) for row in found]

    def budgets(self, cycle: int | None = None) -> dict[int, int]:
        """Return the bytes models could use, by cycle, or only those of one."""
        table = tables.session_cycles.c
        query = select(table.cycle, table.budget_bytes)
        if cycle is not None:
            query = query.where(table.cycle == cycle)
        with self._read() as connection:
            return {row.cycle: row.budget_bytes for row in connection.execute(query)}

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the newest row of `hardware_snapshots`, where there is one."""
        table = schema.hardware_snapshots
        with self._read() as connection:
            found = connection.execute(select(table).order_by(table.c.id.desc()).limit(1)).mappings()
            return [dict(row) for row in found]

    def close(self) -> None:
        self._database.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._on_disk("written"), self._database.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._on_disk("read"), self._database.connect() as connection:
            yield connection

    @contextmanager
    def _on_disk(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, ValueError, KeyError, TypeError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StoreUnavailable(
                f"the session's database {self.path} cannot be {verb}: {cause}",
                expected="a whole SQLite database on a disk with free space; what was recorded stays",
                try_next=f"free some space, then: studium session resume {self.path.parent.parent.name}",
            ) from error


def open_ledger(path: Path) -> Ledger:
    """Open a session's database to write, creating the file and its promised tables. Raises StoreUnavailable."""
    database = open_database(path)
    # Once per run of a student, so that not even a power cut takes a proposal back (see store.database).
    event.listen(database, "connect", _synchronous)
    database.dispose()
    return Ledger(path, database)


def read_ledger(path: Path) -> Ledger:
    """Open a session's database to look only. Raises CallerError where there is none, StoreUnavailable."""
    if not path.is_file():
        name = path.parent.parent.name
        raise CallerError(
            f"there is no session {name!r} ({path} is not there)",
            expected="the name of a session of this workspace",
            try_next="see: studium session list",
        )
    ledger = Ledger(path, open_read_only(path))
    if not ledger.created:
        raise StoreUnavailable(
            f"the database {path} holds no session",
            expected="a session that was begun",
            try_next=f"remove the folder {path.parent.parent} and run the session again",
        )
    return ledger


def _synchronous(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _joined() -> Any:
    return tables.session_runs.join(
        schema.student_runs, schema.student_runs.c.id == tables.session_runs.c.run_id
    )


def _tick(connection: Connection, active_seconds: float, cycle: int, cycle_seconds: float) -> None:
    connection.execute(update(tables.session).values(active_seconds=active_seconds))
    connection.execute(
        update(tables.session_cycles)
        # An ended cycle keeps its time, whoever still counts.
        .where(tables.session_cycles.c.cycle == cycle, tables.session_cycles.c.ended == 0)
        .values(seconds=cycle_seconds)
    )
