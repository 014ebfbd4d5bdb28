"""Rows written behind the caller's back, in batches, by one thread.

`add` only appends to a queue, so a request never waits for the disk. A batch is one transaction.
When the disk refuses (full, read-only), rows are kept and tried again; past `MOST_ROWS_KEPT` the oldest
are dropped and counted. `trouble` says what is wrong, for health checks.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Engine, Table, func, insert
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError

from studium.store.schema import NEVER_FALLS

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.2
RETRY_SECONDS = 1.0
MOST_ROWS_KEPT = 100_000
MOST_ROWS_A_BATCH = 2_000


class Row(NamedTuple):
    """One row to insert."""

    table: Table
    values: Mapping[str, Any]


class Newest(NamedTuple):
    """A row that takes the place of the one whose column `key` is `owner`. Made when written: only the newest is."""

    table: Table
    key: str
    owner: str
    make: Callable[[], Mapping[str, Any]]


class BatchWriter:
    """Owns the writing thread. Safe to call from any thread."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._rows: deque[Row | Newest] = deque()
        self._wake = threading.Event()
        self._written = threading.Condition()
        self._stopping = False
        self._accepted = 0
        self._settled = 0
        self.dropped = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="studium-store", daemon=True)
        self._thread.start()

    def add(self, row: Row | Newest) -> None:
        """Queue one row. Never blocks."""
        if len(self._rows) >= MOST_ROWS_KEPT:
            self._rows.popleft()
            self.dropped += 1
            self._settled += 1
        self._rows.append(row)
        self._accepted += 1

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was added before is on disk; False where that did not happen in time."""
        goal = self._accepted
        self._wake.set()
        with self._written:
            return self._written.wait_for(lambda: self._settled >= goal, timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is left and end the thread; False where rows could not be written."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._rows

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(RETRY_SECONDS if self.trouble else BATCH_SECONDS)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._rows:
            batch = [self._rows.popleft() for _ in range(min(len(self._rows), MOST_ROWS_A_BATCH))]
            try:
                self._write(batch)
            except DBAPIError as error:
                self.trouble = f"{type(error.orig).__name__}: {error.orig}"
                self._rows.extendleft(reversed(batch))
                return
            except Exception:  # ours: rows that cannot be written must not end the writing of all others
                log.exception("%d rows could not be written and are dropped", len(batch))
                self.dropped += len(batch)
            self.trouble = ""
            with self._written:
                self._settled += len(batch)
                self._written.notify_all()

    def _write(self, batch: Sequence[Row | Newest]) -> None:
        """Write a batch as one statement per table; of rows with one key only the newest is written.

        Row by row, writing was the largest single cost of a request behind the gateway benchmark.
        """
        plain: dict[Table, list[Mapping[str, Any]]] = {}
        keyed: dict[tuple[Table, str], dict[str, Newest]] = {}
        for row in batch:
            if isinstance(row, Row):
                plain.setdefault(row.table, []).append(row.values)
            else:
                keyed.setdefault((row.table, row.key), {})[row.owner] = row
        with self._database.begin() as connection:
            for table, rows in plain.items():
                connection.execute(insert(table), rows)
            for (table, key), newest in keyed.items():
                connection.execute(_replace_by(table, key), [row.make() for row in newest.values()])


@cache
def _replace_by(table: Table, key: str) -> Insert:
    statement = upsert(table)
    changes = {}
    for column in table.columns:
        newest = statement.excluded[column.name]
        if column.name != key:
            changes[column.name] = func.max(column, newest) if column.info == NEVER_FALLS else newest
    return statement.on_conflict_do_update([key], set_=changes)
