"""Adapters, routes, the chained history of routes, and the gate's evidence, as rows.

A route changes only within a `turn`: one transaction in which the lease's token is held against the newest, the row of
the history is added and the route replaced. Who may serve is not decided here.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from studium.records.adapters import (
    ROUTES_LEASE,
    Action,
    Adapter,
    AdapterKind,
    Evidence,
    Phase,
    Route,
    RouteChange,
    Verdict,
    canonical,
    content_sha256,
)
from studium.store import schema
from studium.store.durable import durably
from studium.store.leases import Leases

Row = Mapping[str, Any]


class AdapterBook:
    """What is registered and who serves. Every call blocks for the disk; any thread, any process."""

    def __init__(self, database: Engine, leases: Leases) -> None:
        self._database = database
        self._leases = leases

    @contextmanager
    def turn(self, token: int) -> "Iterator[Turn]":
        """Hold the right to change routes for one transaction, on disk past a power cut at its end.

        Raises LeaseLost where `token` is stale, StoreUnavailable where the disk refuses; then nothing changed.
        """
        with durably(self._database, "the registry of adapters") as connection:
            self._leases.require(connection, ROUTES_LEASE, token)
            yield Turn(connection)

    @contextmanager
    def look(self) -> "Iterator[Turn]":
        """Read only, without a lease."""
        with self._database.connect() as connection:
            yield Turn(connection)

    def add_evidence(self, evidence: Evidence) -> None:
        """Keep evidence; the same again changes nothing."""
        row = asdict(evidence) | {"verdict": evidence.verdict.value, "body": canonical(evidence.body)}
        row["sha256"] = content_sha256(row)
        statement = upsert(schema.gate_evidence).values(row).on_conflict_do_nothing()
        with durably(self._database, "the gate's evidence") as connection:
            connection.execute(statement)

    def raw(self, table: str) -> list[Row]:
        """Return the rows of `adapters`, `routes`, `route_changes` or `gate_evidence` as they stand, for checking."""
        found = schema.metadata.tables[table]
        with self._database.connect() as connection:
            rows = connection.execute(select(found).order_by(*found.primary_key.columns)).mappings()
            return [_plain(row) for row in rows]


class Turn:
    """One transaction on the book."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def adapters(self, role: str = "") -> list[Adapter]:
        """Return what is registered, all or a role's, in the order it was."""
        table = schema.adapters
        query = select(table).order_by(table.c.registered_at, table.c.role, table.c.name)
        return [adapter_of(row) for row in self._rows(query.where(table.c.role == role) if role else query)]

    def route(self, role: str) -> Route:
        """Return a role's route; the student's own where nothing was ever changed."""
        rows = self._rows(select(schema.routes).where(schema.routes.c.role == role))
        return route_of(rows[0]) if rows else Route(role)

    def routes(self) -> dict[str, Route]:
        """Return every route that was ever changed, by role."""
        return {row["role"]: route_of(row) for row in self._rows(select(schema.routes))}

    def changes(
        self, role: str = "", newest: int | None = None, *, of: Collection[Action] = ()
    ) -> list[RouteChange]:
        """Return the history, all or a role's, or only some actions, the oldest first; with `newest` only the newest.

        It grows with every promotion: who asks for it whole pays for all there were.
        """
        table = schema.route_changes
        query = select(table).order_by(table.c.number.desc()).limit(newest)
        if of:
            query = query.where(table.c.action.in_([one.value for one in of]))
        rows = self._rows(query.where(table.c.role == role) if role else query)
        return [change_of(row) for row in reversed(rows)]

    def evidence(self, evidence_id: str) -> Evidence | None:
        """Return evidence by its id; None where there is none."""
        rows = self._rows(select(schema.gate_evidence).where(schema.gate_evidence.c.id == evidence_id))
        return evidence_of(rows[0]) if rows else None

    def evidence_like(self, beginning: str) -> list[Evidence]:
        """Return evidence whose id begins so, with eight letters or more; two at most."""
        table = schema.gate_evidence
        if len(beginning) < 8:
            return []
        query = select(table).where(table.c.id.startswith(beginning, autoescape=True)).limit(2)
        return [evidence_of(row) for row in self._rows(query)]

    def add_adapter(self, adapter: Adapter) -> None:
        row = asdict(adapter) | {
            "kind": adapter.kind.value,
            "files": canonical(adapter.files),
            "lineage": canonical(adapter.lineage),
        }
        self._connection.execute(insert(schema.adapters).values(row))

    def drafted(
        self,
        after: Route,
        action: Action,
        *,
        adapter: str,
        actor: str,
        at: float,
        token: int,
        evidence: str = "",
        reason: str = "",
    ) -> RouteChange:
        """Return the next row of the history, with its place in the chain, unwritten."""
        table = schema.route_changes
        last = self._rows(select(table.c.number, table.c.sha256).order_by(table.c.number.desc()).limit(1))
        number, previous = (last[0]["number"] + 1, last[0]["sha256"]) if last else (1, "")
        row = {
            "number": number,
            "at": at,
            "role": after.role,
            "action": action.value,
            "adapter": adapter,
            "before": canonical(asdict(self.route(after.role))),
            "after": canonical(asdict(replace(after, number=number))),
            "actor": actor,
            "evidence": evidence,
            "reason": reason,
            "token": token,
            "previous_sha256": previous,
        }
        return change_of(row | {"sha256": content_sha256(row)})

    def write(self, change: RouteChange) -> RouteChange:
        """Add the row to the history and let the route follow it."""
        row = asdict(change) | {
            "action": change.action.value,
            "before": canonical(change.before),
            "after": canonical(change.after),
        }
        self._connection.execute(insert(schema.route_changes).values(row))
        route = upsert(schema.routes).values(dict(change.after))
        self._connection.execute(route.on_conflict_do_update(["role"], set_=dict(change.after)))
        return change

    def _rows(self, query: Any) -> list[Row]:
        return [_plain(row) for row in self._connection.execute(query).mappings()]


def _plain(row: Mapping[Any, Any]) -> Row:
    return {str(name): value for name, value in row.items()}  # SQLAlchemy's names are more than texts


def adapter_of(row: Row) -> Adapter:
    return Adapter(
        **{
            **row,
            "kind": AdapterKind(row["kind"]),
            "files": orjson.loads(row["files"]),
            "lineage": orjson.loads(row["lineage"]),
        }
    )


def route_of(row: Row) -> Route:
    """Return the route of a row, or of one side of a change."""
    return Route(**{**row, "phase": Phase(row["phase"])})


def change_of(row: Row) -> RouteChange:
    return RouteChange(
        **{
            **row,
            "action": Action(row["action"]),
            "before": orjson.loads(row["before"]),
            "after": orjson.loads(row["after"]),
        }
    )


def evidence_of(row: Row) -> Evidence:
    row = {name: value for name, value in row.items() if name != "sha256"}
    return Evidence(**{**row, "verdict": Verdict(row["verdict"]), "body": orjson.loads(row["body"])})
