"""The one door to durable state: facts go in without waiting, profiles and history come out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Select

from studium.records.hardware import HardwareSnapshot
from studium.records.profiles import ModelProfile
from studium.records.runs import RequestRecord, StudentRun
from studium.store import schema
from studium.store.adapters import AdapterBook
from studium.store.answers import AnswerLog
from studium.store.cache import AnswerShelf
from studium.store.database import open_database
from studium.store.examples import ExampleLog
from studium.store.grades import GradeLog
from studium.store.jobs import JobLog
from studium.store.learning import Standing, standing
from studium.store.leases import Leases
from studium.store.profiles import profile_row, read_profiles
from studium.store.replies import ReplyLog
from studium.store.rollouts import RolloutLog
from studium.store.spending import Spending
from studium.store.writer import BatchWriter, Newest, Row

BYTES_PER_MB = 1e6


class Store:
    """Facts of one workspace. Writes are queued and batched; reads block briefly."""

    def __init__(self, database: Engine, workspace: Path) -> None:
        self._database = database
        self.examples = ExampleLog(database, workspace)
        self.spending = Spending(database)
        self.cache = AnswerShelf(database)
        self.leases = Leases(database)
        self.adapters = AdapterBook(database, self.leases)
        self.jobs = JobLog(database)
        self._writer = BatchWriter(database)
        self.answers = AnswerLog(database, self._writer)
        self.grades = GradeLog(database, self._writer)
        self.replies = ReplyLog(database)
        self.rollouts = RolloutLog(database)

    @property
    def trouble(self) -> str:
        """What keeps rows from reaching the disk now; empty when all is well."""
        return self._writer.trouble

    @property
    def rows_dropped(self) -> int:
        """Rows given up because the disk refused them for too long."""
        return self._writer.dropped

    def log_request(self, record: RequestRecord) -> None:
        """Queue one line of the request log."""
        self._writer.add(Row(schema.requests, _columns(record)))

    def record_run(self, run: StudentRun) -> None:
        """Queue one row of `student_runs`."""
        self._writer.add(Row(schema.student_runs, run_row(run)))

    def record_snapshot(self, snapshot: HardwareSnapshot) -> None:
        """Queue one row of `hardware_snapshots`."""
        self._writer.add(Row(schema.hardware_snapshots, snapshot_row(snapshot)))

    def save_profile(self, profile: ModelProfile) -> None:
        """Queue a model's profile, replacing the one before."""
        make = partial(profile_row, profile)
        self._writer.add(Newest(schema.model_profiles, "model", profile.model, make))

    def profiles(self) -> dict[str, ModelProfile]:
        """Return every model's profile by key: one small row each, however long the history."""
        return read_profiles(self._database)

    def read(self, query: Select[Any]) -> Sequence[Mapping[str, Any]]:
        """Run a query of the tables in `schema` and return its rows as mappings."""
        with self._database.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def standing(self, student: str, *, window: int, since: float) -> Standing:
        """Return what a student's newest `window` grades and runs say beside those before. Blocks for the disk."""
        return standing(self._database, student, window=window, since=since)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything queued is on disk; False where that did not happen in time."""
        return self._writer.flush(timeout_s)

    def close(self) -> bool:
        """Write what is queued and close the database; False where rows could not be written."""
        complete = self._writer.close()
        self.spending.close()
        self._database.dispose()
        return complete


def open_store(path: Path) -> Store:
    """Open the store at `path`. Raises StoreUnavailable."""
    return Store(open_database(path), path.parent)


def _columns(record: RequestRecord) -> dict[str, Any]:
    """The record as a row. On the path of every request, where `dataclasses.asdict` copies too much."""
    return {name: getattr(record, name) for name in record.__slots__}


def run_row(run: StudentRun) -> dict[str, Any]:
    """Return a run as a row of `student_runs`, in the units promised there."""
    return {
        "cycle": run.cycle,
        "student": run.student,
        "vram_mb": None if run.memory_bytes is None else run.memory_bytes / BYTES_PER_MB,
        "time_seconds": run.seconds,
        "tokens": run.completion_tokens,
        "tokens_per_sec": run.completion_tokens / run.seconds if run.seconds > 0 else None,
        "success": int(run.success),
        "timestamp": timestamp(run.started_at),
        "model": run.model,
        "prompt_tokens": run.prompt_tokens,
        "load_seconds": run.load_seconds,
        "error_code": run.error_code,
    }


def snapshot_row(snapshot: HardwareSnapshot) -> dict[str, Any]:
    """Return a snapshot as a row of `hardware_snapshots`, memory in MB; VRAM None without a GPU."""
    used = sum(gpu.vram_used_bytes for gpu in snapshot.gpus) / BYTES_PER_MB
    total = sum(gpu.vram_total_bytes for gpu in snapshot.gpus) / BYTES_PER_MB
    return {
        "timestamp": timestamp(snapshot.at),
        "vram_used": used if snapshot.gpus else None,
        "vram_total": total if snapshot.gpus else None,
        "ram_used": snapshot.ram_used_bytes / BYTES_PER_MB,
        "ram_total": snapshot.ram_total_bytes / BYTES_PER_MB,
        "cpu_percent": snapshot.cpu_percent,
    }


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
