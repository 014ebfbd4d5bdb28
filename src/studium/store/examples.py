"""Refined answers kept to learn from: a row each in the store, and a line each in `datasets/training_metadata.jsonl`.

The row is the truth. Row and line are written under one lock on the file, so that lines stand in the order of
their ids; whoever opens the log next adds the lines that a killed process still owed, and cuts off half a line.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine, func, insert, select

from studium.records.examples import Example
from studium.store import schema

DATASETS, METADATA = "datasets", "training_metadata.jsonl"
_TAIL_BYTES = 1 << 20


class ExampleLog:
    """The examples of one workspace. Each call blocks for a write to the disk: not for the event loop's thread."""

    def __init__(self, database: Engine, workspace: Path) -> None:
        self._database = database
        self.path = workspace / DATASETS / METADATA

    def append(self, example: Example) -> int:
        """Keep one example and return its number. Raises OSError or DBAPIError where the disk refuses."""
        body = _body(example)
        with self._locked() as file:
            self._catch_up(file)
            with self._database.begin() as connection:
                values = {
                    "request_id": example.request_id,
                    "at": example.at,
                    "domain": example.domain,
                    "kind": example.kind,
                    "trainable": int(example.trainable),
                    "cost_usd": example.cost_usd,
                    "body": orjson.dumps(body).decode(),
                }
                (number,) = connection.execute(
                    insert(schema.examples).values(values)
                ).inserted_primary_key or (0,)
            os.write(file, _line(number, body))
        return number

    def repair(self) -> int:
        """Add the lines that are owed; return how many."""
        if not self.path.exists() and not self.count():
            return 0
        with self._locked() as file:
            return self._catch_up(file)

    def count(self) -> int:
        """Return how many examples are kept."""
        with self._database.connect() as connection:
            return connection.scalar(select(func.count()).select_from(schema.examples)) or 0

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> int:
        last = _last_number(file)
        rows = schema.examples
        query = select(rows.c.id, rows.c.body).where(rows.c.id > last).order_by(rows.c.id)
        owed = 0
        with self._database.connect() as connection:
            for number, body in connection.execute(query):
                os.write(file, _line(number, orjson.loads(body)))
                owed += 1
        return owed


def _last_number(file: int) -> int:
    """Return the id of the last whole line, 0 where there is none; half a line behind it is cut off."""
    size, reach = os.fstat(file).st_size, _TAIL_BYTES
    while True:
        start = max(0, size - reach)
        tail = os.pread(file, size - start, start)
        whole = tail[: tail.rfind(b"\n") + 1]
        if number := _number_in(whole if start == 0 else whole.partition(b"\n")[2]):
            break
        if start == 0:
            break
        reach *= 4
    if len(whole) < len(tail):
        os.ftruncate(file, start + len(whole))
    return number


def _number_in(lines: bytes) -> int:
    for line in reversed(lines.splitlines()):
        try:
            return int(orjson.loads(line)["id"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _line(number: int, body: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"id": number, **body}) + b"\n"


def _body(example: Example) -> dict[str, Any]:
    return {**asdict(example), "trainable": example.trainable}
