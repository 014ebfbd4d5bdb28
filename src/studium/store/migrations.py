"""A schema's life as numbered functions. A step that has landed is never edited: add the next one.

Each runs once, in order, in one transaction with the row that says it ran. A database from a newer
Studium is refused rather than guessed at.
"""

from collections.abc import Callable

from sqlalchemy import Connection, Table, func, insert, inspect, select

from studium.errors import StoreUnavailable
from studium.store import schema


def first_tables(connection: Connection) -> None:
    schema.metadata.create_all(connection)


def learned_profiles(connection: Connection) -> None:
    """Profiles gain their spreads. Counts and peaks stay; what had no spread is learned anew."""
    columns = {
        "run_seconds": "FLOAT",
        "prompt_tokens_per_second": "FLOAT",
        "name": "TEXT NOT NULL DEFAULT ''",
        "engine": "TEXT NOT NULL DEFAULT ''",
        "device": "TEXT NOT NULL DEFAULT ''",
        "quantisation": "TEXT NOT NULL DEFAULT ''",
        "weights_bytes": "INTEGER",
        "kv_cache_bytes": "INTEGER",
        "overhead_bytes": "INTEGER",
        "statistics": "TEXT NOT NULL DEFAULT '{}'",
    }
    there = {column["name"] for column in inspect(connection).get_columns("model_profiles")}
    for name, kind in columns.items():
        if name not in there:  # a new store was made with them
            connection.exec_driver_sql(f"ALTER TABLE model_profiles ADD COLUMN {name} {kind}")


def adding(*tables: Table) -> Callable[[Connection], None]:
    """Return the step that makes tables which were not there before."""

    def step(connection: Connection) -> None:
        for table in tables:
            table.create(connection, checkfirst=True)

    return step


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    first_tables,
    learned_profiles,
    adding(schema.examples),
    adding(*schema.GOVERNOR),
    adding(*schema.RELIABILITY),
    adding(*schema.CACHE),
    adding(schema.graded_replies),
    adding(*schema.REGISTRY),
    adding(*schema.JOBS),
    adding(*schema.ROLLOUTS),
)


def migrate(connection: Connection) -> int:
    """Bring the schema to the newest version; return that version. Idempotent."""
    schema.schema_version.create(connection, checkfirst=True)
    done = connection.scalar(select(func.max(schema.schema_version.c.version))) or 0
    if done > len(MIGRATIONS):
        raise StoreUnavailable(
            f"the store has schema version {done}",
            expected=f"this Studium knows versions up to {len(MIGRATIONS)}",
            try_next="use the Studium that wrote it, or another --workspace",
        )
    for version, step in enumerate(MIGRATIONS[done:], start=done + 1):
        step(connection)
        connection.execute(insert(schema.schema_version).values(version=version))
    return len(MIGRATIONS)
