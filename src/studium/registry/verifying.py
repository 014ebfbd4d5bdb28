"""Checking the registry against itself: the chain of changes, what follows from it, and every file's hash."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studium.records.adapters import (
    OWN_STUDENT,
    Action,
    Adapter,
    Fault,
    RouteChange,
    Verdict,
    canonical,
    content_sha256,
)
from studium.registry.cleaning import removed
from studium.registry.files import CARD, card_of, sha256_of_file
from studium.store.adapters import AdapterBook, Row, adapter_of, change_of, evidence_of, route_of


def verify(book: AdapterBook, workspace: Path) -> list[Fault]:
    """Return everything that is wrong; blocks while every registered file is read."""
    changes, faults = _chain(book.raw("route_changes"))
    adapters: list[Adapter] = []
    for row in book.raw("adapters"):
        adapter, wrong = _adapter(row, changes)
        adapters += [adapter] if adapter else []
        faults += wrong
    evidence = {row["id"]: row for row in book.raw("gate_evidence")}
    faults += _evidence(evidence.values())
    faults += _promotions(changes, evidence)
    gone = removed(changes)
    faults += _routes(book.raw("routes"), changes, {one.id for one in adapters} - gone)
    for adapter in adapters:
        faults += _files(adapter, workspace) if adapter.id not in gone else ()
    return faults


def _chain(rows: Sequence[Row]) -> tuple[list[RouteChange], list[Fault]]:
    """Return the changes that can be read, and where the chain is broken."""
    changes: list[RouteChange] = []
    faults: list[Fault] = []
    number, previous, token = 0, "", 0
    routes: dict[str, Any] = {}
    for row in rows:
        where = f"route_changes, number {row['number']}"
        if row["number"] != number + 1:
            faults.append(
                Fault(where, f"follows number {number}: {row['number'] - number - 1} rows are missing")
            )
        if row["previous_sha256"] != previous:
            faults.append(Fault(where, "does not hold the hash of the row before it"))
        if row["sha256"] != content_sha256(_unhashed(row)):
            faults.append(Fault(where, "is not as it was written: its hash is another"))
        if row["token"] < token:
            faults.append(Fault(where, f"was written with the stale token {row['token']} after {token}"))
        number, previous, token = row["number"], row["sha256"], max(token, row["token"])
        try:
            change = change_of(row)
            if routes.get(change.role, change.before) != change.before:
                faults.append(Fault(where, "does not begin where the change before it ended"))
            routes[change.role] = change.after
            route_of(change.after)
            changes.append(change)
        except (ValueError, TypeError, KeyError) as error:
            faults.append(Fault(where, f"cannot be read: {str(error)[:120]}"))
    return changes, faults


def _unhashed(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "sha256"}


def _adapter(row: Row, changes: Sequence[RouteChange]) -> tuple[Adapter | None, list[Fault]]:
    where = f"adapters, {row['role']}/{row['name']}"
    try:
        adapter = adapter_of(row)
    except (ValueError, TypeError) as error:
        return None, [Fault(where, f"cannot be read: {str(error)[:120]}")]
    faults: list[Fault] = []
    if content_sha256(card_of(adapter)) != adapter.id:
        faults.append(Fault(where, "is not as it was registered: its hash is another"))
    if not any(one.action is Action.REGISTER and one.adapter == adapter.id for one in changes):
        faults.append(Fault(where, "is in no row of the history"))
    return adapter, faults


def _evidence(rows: Any) -> Iterator[Fault]:
    for row in rows:
        where = f"gate_evidence, {row['id'][:12]}"
        try:
            body = evidence_of(row).body
        except (ValueError, TypeError) as error:
            yield Fault(where, f"cannot be read: {str(error)[:120]}")
            continue
        if content_sha256(body) != row["id"] or canonical(body) != row["body"]:
            yield Fault(where, "its body is not as it was written")
        if row["sha256"] != content_sha256(_unhashed(row)):
            yield Fault(where, "is not as it was written: its hash is another")


def _promotions(changes: Sequence[RouteChange], evidence: Mapping[str, Row]) -> Iterator[Fault]:
    for change in changes:
        where = f"route_changes, number {change.number}"
        if change.action is Action.PROMOTE:
            row = evidence.get(change.evidence)
            if row is None:
                yield Fault(where, f"its evidence {change.evidence[:12] or '(none)'} is not there")
            elif (row["verdict"], row["role"], row["challenger"]) != (
                Verdict.PROMOTE.value,
                change.role,
                change.adapter,
            ):
                yield Fault(where, f"its evidence {change.evidence[:12]} does not say so")
        if change.action is Action.FORCE and not change.reason.strip():
            yield Fault(where, "was forced without a reason")


def _routes(rows: Sequence[Row], changes: Sequence[RouteChange], known: set[str]) -> Iterator[Fault]:
    expected = {change.role: dict(change.after) for change in changes}
    for row in rows:
        if dict(row) != expected.pop(row["role"], None):
            yield Fault(f"routes, {row['role']}", "is not where the last change of the history left it")
        for who in ("champion", "challenger"):
            if row[who] not in {OWN_STUDENT, *known}:
                yield Fault(
                    f"routes, {row['role']}", f"its {who} {row[who][:12]} is not registered, or removed"
                )
    for role in expected:
        yield Fault(f"routes, {role}", "is missing, though the history changed it")


def _files(adapter: Adapter, workspace: Path) -> Iterator[Fault]:
    folder = workspace / adapter.folder
    for name, kept in {**adapter.files, CARD: adapter.id}.items():
        try:
            found = sha256_of_file(folder / name)
        except OSError as error:
            yield Fault(f"{adapter.folder}/{name}", f"cannot be read: {error.strerror}")
            continue
        if found != kept:
            yield Fault(
                f"{adapter.folder}/{name}", f"is not as it was registered: {found[:12]}, was {kept[:12]}"
            )
    if folder.is_dir():
        for stray in sorted({one.name for one in folder.iterdir()} - {*adapter.files, CARD}):
            yield Fault(f"{adapter.folder}/{stray}", "was not registered with it")
