"""Kept answers on disk: found by key or by the neighbourhood of their meaning, the least recently used dropped first.

Knows nothing of what an answer is: a body is bytes. What cannot be read or written is as if it were not there, since
an answer can always be made anew; only `clear` and `switch`, whose effect somebody counts on, say that they failed.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, delete, func, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from studium.config.schema import CacheConfig
from studium.errors import StoreUnavailable
from studium.store import schema
from studium.store.durable import durably

log = logging.getLogger(__name__)

_ROWS = schema.cached_answers
_SWITCH = schema.cache_switch
_WHAT = "the cache of answers"
_Found = TypeVar("_Found")

# The largest part of the whole that one answer may take.
_MOST_OF_ALL = 8
_TRIM = text(
    "DELETE FROM cached_answers WHERE key IN (SELECT key FROM (SELECT key,"
    " SUM(bytes) OVER recent AS total, ROW_NUMBER() OVER recent AS place FROM cached_answers"
    " WINDOW recent AS (ORDER BY used_at DESC, rowid DESC)) WHERE total > :max_bytes OR place > :max_entries)"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept answer. `at` is when it was made, in seconds since the epoch; `vector` is float32 bytes or None."""

    key: str
    scope: str
    guard: str
    api_key_name: str
    request_id: str
    at: float
    body: bytes
    vector: bytes | None = None


class AnswerShelf:
    """The kept answers of one workspace, shared by all its processes. Every call blocks for the disk."""

    def __init__(self, database: Engine, settings: CacheConfig | None = None) -> None:
        self._database = database
        self.settings = settings or CacheConfig()

    def look(self, key: str, now: float) -> Entry | None:
        """Return what is kept under a key. What expired, or was damaged on disk, is removed and not returned."""
        return self._try(lambda: self._look(key, now))

    def near(self, scope: str, guard: str, now: float, most: int) -> Sequence[tuple[str, bytes]]:
        """Return key and vector of up to `most` answers of one scope and guard, the newest first."""
        rows = (
            select(_ROWS.c.key, _ROWS.c.vector)
            .where(_ROWS.c.scope == scope, _ROWS.c.guard == guard, _ROWS.c.vector.is_not(None))
            .where(_ROWS.c.at > now - self.settings.expiry_s, _ROWS.c.at <= now)
            .order_by(_ROWS.c.at.desc())
            .limit(most)
        )

        def read() -> list[tuple[str, bytes]]:
            with self._database.connect() as connection:
                return [(key, vector) for key, vector in connection.execute(rows)]

        return self._try(read) or ()

    def put(self, entry: Entry, now: float) -> bool:
        """Keep an answer and drop what is too old or too much; False where it was not kept."""
        size = sum(
            len(part) for part in (entry.body, entry.vector or b"", entry.key, entry.scope, entry.guard)
        )
        if size > self.settings.max_size_bytes // _MOST_OF_ALL:
            return False
        row = {name: getattr(entry, name) for name in Entry.__slots__}
        row |= {"used_at": now, "hits": 0, "bytes": size, "digest": _digest(entry.body)}

        def write() -> bool:
            with self._database.begin() as connection:
                changes = {name: value for name, value in row.items() if name != "key"}
                connection.execute(upsert(_ROWS).values(row).on_conflict_do_update(["key"], set_=changes))
                self._trim(connection, now)
            return True

        return bool(self._try(write))

    def used(self, key: str, now: float) -> None:
        """Note that an answer was given again."""
        change = update(_ROWS).where(_ROWS.c.key == key).values(used_at=now, hits=_ROWS.c.hits + 1)

        def write() -> None:
            with self._database.begin() as connection:
                connection.execute(change)

        self._try(write)

    def switched(self) -> bool | None:
        """Return what `switch` was told last; None where it never was, and where the disk cannot say."""

        def read() -> int | None:
            with self._database.connect() as connection:
                return connection.scalar(select(_SWITCH.c.enabled))

        found = self._try(read)
        return None if found is None else bool(found)

    def switch(self, enabled: bool, *, by: str, at: float) -> None:
        """Turn keeping and giving again on or off, for every process, until told otherwise. Raises StoreUnavailable."""
        row = {"id": 1, "enabled": int(enabled), "by": by, "at": at}
        self._must(upsert(_SWITCH).values(row).on_conflict_do_update(["id"], set_=row))

    def clear(self, api_key_name: str | None = None) -> int:
        """Remove the answers of one key, None: of all; return how many those were. Raises StoreUnavailable."""
        rows = delete(_ROWS)
        return self._must(rows if api_key_name is None else rows.where(_ROWS.c.api_key_name == api_key_name))

    def forget(self, request_id: str) -> int:
        """Remove the answer that a request was given, wherever it is kept. Raises StoreUnavailable."""
        return self._must(delete(_ROWS).where(_ROWS.c.request_id == request_id))

    def figures(self, now: float, api_key_name: str | None = None) -> dict[str, Any]:
        """Return entries, bytes, hits and the oldest one's age in seconds, of one key or (None) of all."""
        columns = (func.count(), func.sum(_ROWS.c.bytes), func.sum(_ROWS.c.hits), func.min(_ROWS.c.at))
        rows = select(*columns).where(_ROWS.c.at > now - self.settings.expiry_s)
        rows = rows if api_key_name is None else rows.where(_ROWS.c.api_key_name == api_key_name)
        try:
            with self._database.connect() as connection:
                entries, size, hits, oldest = connection.execute(rows).one()
        except SQLAlchemyError as error:
            raise StoreUnavailable(
                f"{_WHAT} cannot be read: {error}",
                expected="a readable store",
                try_next="see: studium doctor",
            ) from error
        age_s = None if oldest is None else max(0.0, now - oldest)
        return {"entries": entries, "bytes": size or 0, "hits": hits or 0, "oldest_s": age_s}

    def _look(self, key: str, now: float) -> Entry | None:
        with self._database.connect() as connection:
            row = connection.execute(select(_ROWS).where(_ROWS.c.key == key)).mappings().first()
        if row is None:
            return None
        body = row["body"]
        if (
            isinstance(body, bytes)
            and _digest(body) == row["digest"]
            and 0 <= now - row["at"] < self.settings.expiry_s
        ):
            return Entry(**{name: row[name] for name in Entry.__slots__})
        self.remove(key)
        return None

    def remove(self, key: str) -> None:
        """Remove one answer, such as one that turned out to be unreadable."""

        def write() -> None:
            with self._database.begin() as connection:
                connection.execute(delete(_ROWS).where(_ROWS.c.key == key))

        self._try(write)

    def _trim(self, connection: Connection, now: float) -> None:
        limits = self.settings
        connection.execute(delete(_ROWS).where((_ROWS.c.at <= now - limits.expiry_s) | (_ROWS.c.at > now)))
        entries, size = connection.execute(select(func.count(), func.sum(_ROWS.c.bytes))).one()
        if entries > limits.max_entries or (size or 0) > limits.max_size_bytes:
            connection.execute(_TRIM, {"max_bytes": limits.max_size_bytes, "max_entries": limits.max_entries})

    def _must(self, statement: Any) -> int:
        with durably(self._database, _WHAT, power_cut=False) as connection:
            return connection.execute(statement).rowcount

    def _try(self, action: Callable[[], _Found]) -> _Found | None:
        try:
            return action()
        except SQLAlchemyError as error:
            log.warning("the cache of answers could not be used: %s", error)
            return None


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
