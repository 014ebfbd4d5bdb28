"""What the registry tells: adapters, routes, their history and the gate's evidence, which it adds where it is new."""

import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from studium.errors import BadRequest
from studium.records.adapters import OWN_STUDENT, Adapter, Evidence, Fault, Route, RouteChange, content_sha256
from studium.records.models import ModelSpec
from studium.registry import routes
from studium.registry.cleaning import ABOUT_FILES, removed
from studium.registry.evidence_files import evidence_files
from studium.registry.standing import OWN, Standing, standings

if TYPE_CHECKING:  # the roster is read by commands that need no store
    from studium.store import Store

_RECENT = 32


class Head(NamedTuple):
    """The end of the history: whoever keeps it elsewhere can tell whether the history was cut off since."""

    number: int
    sha256: str


class Reading:
    """What is registered in one workspace, to be read. Every call blocks for the disk; any thread, any process."""

    def __init__(
        self,
        store: "Store",
        workspace: Path,
        models: Mapping[str, ModelSpec] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`models` are the roster's, which bases are held against; None: those of the embedded students."""
        self._book = store.adapters
        self._leases = store.leases
        self._workspace = workspace
        self._models = models
        self._now = now

    def adapters(self, role: str = "") -> list[Adapter]:
        """Return what is registered, all or a role's, in the order it was."""
        with self._book.look() as look:
            return look.adapters(role)

    def adapter(self, role: str, name_or_id: str) -> Adapter:
        """Return an adapter of a role by its name, id, or the id's first eight letters or more. Raises BadRequest."""
        with self._book.look() as look:
            return the_adapter(look.adapters(role), role, name_or_id)

    def adapter_id(self, role: str, name_or_id: str) -> str:
        """Return the id of an adapter, "" for `OWN`, the student itself. Raises BadRequest."""
        return OWN_STUDENT if name_or_id == OWN else self.adapter(role, name_or_id).id

    def names(self) -> dict[str, str]:
        """Return every adapter's name by its id."""
        return {one.id: one.name for one in self.adapters()}

    def routes(self) -> dict[str, Route]:
        """Return every route that was ever changed, by role. In every other role the student itself serves."""
        with self._book.look() as look:
            return look.routes()

    def route(self, role: str) -> Route:
        """Return a role's route."""
        with self._book.look() as look:
            return look.route(role)

    def history(self, role: str = "") -> list[RouteChange]:
        """Return every change, all or a role's, the oldest first."""
        with self._book.look() as look:
            return look.changes(role)

    def state(self, roles: Mapping[str, str]) -> list[Standing]:
        """Return every role as it stands; `roles` are the roster's: who holds each."""
        with self._book.look() as look:
            return standings(roles, look.routes(), look.adapters(), look.changes())

    def predecessors(self, role: str) -> list[str]:
        """Return the ids of the champions that rollbacks lead to, the nearest first; "" is the student itself."""
        return routes.predecessors(self.history(role))[::-1]

    def nearest_predecessors(self, role: str) -> list[str]:
        """Return the first of `predecessors` at a cost that a long history does not raise: they are told soonest."""
        with self._book.look() as look:
            recent = look.changes(role, newest=_RECENT)
        return routes.predecessors(recent)[::-1] or self.predecessors(role)

    def removed(self) -> set[str]:
        """Return the ids of the adapters whose files were removed (`Registry.clean`)."""
        with self._book.look() as look:
            return removed(look.changes(of=ABOUT_FILES))

    def add_evidence(self, evidence: Evidence) -> None:
        """Keep what the gate measured. Raises BadRequest where its id is not the hash of its body."""
        if evidence.id != content_sha256(evidence.body):
            raise BadRequest(
                f"the evidence {evidence.id[:12]} is not what its id says",
                expected="an id that is the SHA-256 of its body",
                try_next="give the evidence as the gate wrote it",
            )
        self._book.add_evidence(evidence)

    def evidence(self, evidence_id: str) -> Evidence:
        """Return evidence by its id, or the id's first eight letters or more. Raises BadRequest.

        What the gate laid down as evidence/ID.json in the workspace and nobody has added yet is added now.
        """
        with self._book.look() as look:
            found = look.evidence_like(evidence_id)
        if not found:
            for laid_down in evidence_files(self._workspace, evidence_id):
                self.add_evidence(laid_down)
                found.append(laid_down)
        if len(found) != 1:
            raise BadRequest(
                f"there is {'no' if not found else 'more than one'} evidence {evidence_id[:80]!r}",
                expected="the id of evidence that the gate wrote",
                try_next="studium compare CHAMPION CHALLENGER, which tells its id",
            )
        return found[0]

    def head(self) -> Head:
        """Return the last change's number and hash; 0 and "" before any."""
        last = self.history()[-1:]
        return Head(last[0].number, last[0].sha256) if last else Head(0, "")

    def verify(self) -> list[Fault]:
        """Return everything that is not as it was written: rows, chain, routes, files. Reads every file."""
        from studium.registry.verifying import verify

        return verify(self._book, self._workspace)

    def serving_path(self, adapter: Adapter) -> Path:
        """Return the file that an engine loads."""
        return self._workspace / adapter.folder / adapter.serving_file

    def _is_there(self, adapter: Adapter) -> bool:
        return self.serving_path(adapter).is_file()


def the_adapter(adapters: list[Adapter], role: str, name_or_id: str) -> Adapter:
    """Return the one that is called so. Raises BadRequest, naming the nearest."""
    exact = [one for one in adapters if name_or_id in (one.name, one.id)]
    found = exact or [one for one in adapters if len(name_or_id) >= 8 and one.id.startswith(name_or_id)]
    if len(found) == 1:
        return found[0]
    names = [one.name for one in adapters]
    near = get_close_matches(name_or_id, names, n=1)
    raise BadRequest(
        f"there is no adapter {name_or_id[:80]!r} in the role {role}",
        expected=f"one of {', '.join(names)}" if names else "one that was registered for it",
        try_next=f"did you mean {near[0]!r}?" if near else "studium adapters list",
    )
