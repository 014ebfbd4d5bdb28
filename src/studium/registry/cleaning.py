"""Which adapters' files may go, and how they go: the history says so first, then they leave their place, then the disk.

Rows stay, so whoever asks later is told. Killed in between, the next cleaning ends it; taking the same in again brings
it back. What serves, challenges or may be gone back to stays, and what these went on from.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from studium.errors import StoreUnavailable
from studium.records.adapters import OWN_STUDENT, STANDS_ON, Action, Adapter, Route, RouteChange
from studium.registry.intake import ADAPTERS
from studium.registry.routes import predecessors

KEPT = 3
_OUTGOING = ".outgoing"


class Cleaned(NamedTuple):
    """An adapter whose files went, or would; `size_bytes` is what they take."""

    adapter: Adapter
    size_bytes: int


ABOUT_FILES = (Action.REGISTER, Action.REMOVE)
"""What of the history tells whether an adapter's files are there."""


def removed(changes: Iterable[RouteChange]) -> set[str]:
    """Return the adapters whose files were removed and not brought back since, by id."""
    last = {one.adapter: one.action for one in changes if one.action in ABOUT_FILES}
    return {adapter_id for adapter_id, action in last.items() if action is Action.REMOVE}


def removable(
    adapters: Sequence[Adapter], routes: Mapping[str, Route], changes: Sequence[RouteChange], keep: int = KEPT
) -> list[Adapter]:
    """Return the adapters that may go, in their order; in each role `keep` that rollbacks lead to stay, the nearest.

    So does the one that was registered last in each: it may be on its way to the gate. Who was rolled back may go.
    """
    stays = {who for route in routes.values() for who in (route.champion, route.challenger)}
    stays |= {one.id for one in {one.role: one for one in adapters}.values()}
    for route in routes.values():
        stays |= set(_former(route, changes)[:keep])
    by_id = {one.id: one for one in adapters}
    for adapter_id in list(stays):
        stays |= set(_stood_on(adapter_id, by_id))
    gone = removed(changes)
    return [one for one in adapters if one.id not in stays and one.id not in gone]


def remove(adapters: Iterable[Adapter], workspace: Path) -> None:
    """Take files that the history calls removed from their places and from the disk; those gone already are none.

    Raises StoreUnavailable where the disk refuses; what is left goes the next time.
    """
    outgoing = workspace / ADAPTERS / _OUTGOING
    try:
        for one in adapters:
            if (place := workspace / one.folder).is_dir():
                outgoing.mkdir(exist_ok=True)
                shutil.rmtree(outgoing / one.id, ignore_errors=True)
                place.rename(outgoing / one.id)
        if outgoing.is_dir():
            shutil.rmtree(outgoing)
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename} cannot be removed: {error.strerror}",
            expected="a writable workspace",
            try_next="studium adapters clean goes on with what is left",
        ) from error


def size_bytes(adapter: Adapter, workspace: Path) -> int:
    """Return what an adapter's files take on disk."""
    return sum(one.stat().st_size for one in (workspace / adapter.folder).glob("*") if one.is_file())


def _former(route: Route, changes: Sequence[RouteChange]) -> list[str]:
    """Return the adapters that rollbacks in a role lead to, each once, the nearest first."""
    before = reversed(predecessors([one for one in changes if one.role == route.role]))
    return [who for who in dict.fromkeys(before) if who not in (OWN_STUDENT, route.champion)]


def _stood_on(adapter_id: str, by_id: Mapping[str, Adapter]) -> Iterator[str]:
    while (one := by_id.get(adapter_id)) is not None and (adapter_id := str(one.lineage.get(STANDS_ON, ""))):
        yield adapter_id
