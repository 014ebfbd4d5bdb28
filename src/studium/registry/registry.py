"""The registry: adapters taken in with their lineage, and who serves each role, changed under a lease.

The store is the meeting place: every process that opens it sees the same routes, and all changes go through one
transaction that holds the lease's token. What a promotion needs is decided in `routes`.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.config.kinds import NAME_PATTERN
from studium.errors import BadRequest
from studium.records.adapters import (
    OWN_STUDENT,
    Action,
    Adapter,
    AdapterKind,
    Evidence,
    Fault,
    Phase,
    Route,
    RouteChange,
    content_sha256,
)
from studium.records.models import ModelSpec
from studium.registry import routes
from studium.registry.evidence_files import evidence_files
from studium.registry.files import sha256_of_file
from studium.registry.holding import WAIT_S, holding
from studium.registry.intake import ADAPTERS, Staged, staged
from studium.registry.roster import embedded_students
from studium.registry.standing import OWN, Standing, standings

if TYPE_CHECKING:  # the roster is read by commands that need no store
    from studium.store import Store
    from studium.store.adapters import Turn

MAX_REASON = 2_000


class Head(NamedTuple):
    """The end of the history: whoever keeps it elsewhere can tell whether the history was cut off since."""

    number: int
    sha256: str


_RECENT = 32


class Registry:
    """What is registered in one workspace. Every call blocks for the disk; any thread, any process.

    Changes of a route take the token of the lease; with None they write nothing and return what they would. They raise
    LeaseLost where the token is stale, StoreUnavailable where the disk refuses, BadRequest for what may not be; in each
    case nothing was changed.
    """

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

    def lease(self, actor: str, wait_s: float = WAIT_S) -> AbstractContextManager[int]:
        """Hold the right to change routes: a context with its token. Waits up to `wait_s` s; raises LeaseLost."""
        return holding(self._leases, actor, wait_s)

    def register(
        self,
        folder: Path,
        role: str,
        *,
        name: str,
        base: str,
        base_sha256: str,
        kind: AdapterKind,
        lineage: Mapping[str, Any],
        actor: str = "local",
        shelf: str = "",
        dry_run: bool = False,
    ) -> Adapter:
        """Take a folder's files in as adapters/ROLE/NAME (or adapters/`shelf`/NAME) and return the adapter.

        Copies; the folder stays. The same again returns what is there. `base_sha256` "" means that nobody noted what
        it was trained on; for an adapter the base must be a model of the roster. Takes the lease by itself. With
        `dry_run` everything is checked and nothing kept.
        """
        for what, value in (("role", role), ("adapter", name), ("shelf", shelf or role)):
            check_name(what, value)
        if self._models is None:
            self._models = {one: student.model for one, student in embedded_students().items()}
        where = f"{ADAPTERS}/{shelf or role}/{name}"
        draft = Adapter("", role, name, kind, base, base_sha256, where, "", {}, dict(lineage), self._now())
        with staged(folder, draft, self._workspace, self._models) as files:
            if dry_run:
                with self._book.look() as look:
                    return _known(look, files.adapter) or files.adapter
            with self.lease(actor) as token:
                return self._take_in(files, actor, token)

    def adapters(self, role: str = "") -> list[Adapter]:
        """Return what is registered, all or a role's, in the order it was."""
        with self._book.look() as look:
            return look.adapters(role)

    def adapter(self, role: str, name_or_id: str) -> Adapter:
        """Return an adapter of a role by its name, id, or the id's first eight letters or more. Raises BadRequest."""
        with self._book.look() as look:
            return _the(look.adapters(role), role, name_or_id)

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

    def promote(
        self, role: str, adapter_id: str, *, evidence: str, actor: str, token: int | None, reason: str = ""
    ) -> RouteChange:
        """Make an adapter the champion, on evidence whose verdict is promote, about it and the champion of now."""

        def decide(turn: "Turn", route: Route) -> Route:
            adapter = self._ready(turn, role, adapter_id)
            return routes.promoted(route, adapter, turn.evidence(evidence), turn.changes(role))

        self._check_file(role, adapter_id)
        return self._change(role, Action.PROMOTE, decide, adapter_id, actor, token, reason, evidence)

    def force(self, role: str, adapter_id: str, *, reason: str, actor: str, token: int | None) -> RouteChange:
        """Make an adapter ("": the student itself) the champion without evidence, for a reason that is kept."""
        if not reason.strip():
            raise BadRequest(
                "forcing needs a reason", expected="why, in words, for the history", try_next="--reason '...'"
            )

        def decide(turn: "Turn", route: Route) -> Route:
            return routes.forced(
                route, self._ready(turn, role, adapter_id) if adapter_id != OWN_STUDENT else None
            )

        if adapter_id != OWN_STUDENT:
            self._check_file(role, adapter_id)
        return self._change(role, Action.FORCE, decide, adapter_id, actor, token, reason)

    def rollback(
        self, role: str, *, actor: str, token: int | None, reason: str = "", emergency: bool = False
    ) -> RouteChange:
        """Make the predecessor champion again: the nearest one whose file is still there, else the student itself."""

        def decide(turn: "Turn", route: Route) -> Route:
            there = {one.id for one in turn.adapters(role) if self._is_there(one)}
            return routes.rolled_back(route, turn.changes(role), there)

        action = Action.EMERGENCY if emergency else Action.ROLL_BACK
        return self._change(role, action, decide, None, actor, token, reason)

    def challenge(
        self,
        role: str,
        adapter_id: str,
        phase: Phase,
        share: float,
        *,
        actor: str,
        token: int | None,
        evidence: str = "",
        reason: str = "",
    ) -> RouteChange:
        """Let an adapter meet traffic: in the shadow (`share` 0), or answering a share of conversations."""

        def decide(turn: "Turn", route: Route) -> Route:
            return routes.challenged(route, self._ready(turn, role, adapter_id), phase, share)

        action = Action.SHIFT if phase is Phase.SHIFT else Action.CHALLENGE
        return self._change(role, action, decide, adapter_id, actor, token, reason, evidence)

    def withdraw(
        self, role: str, *, actor: str, token: int | None, reason: str, evidence: str = ""
    ) -> RouteChange:
        """Let the challenger meet no traffic any more."""
        return self._change(
            role,
            Action.WITHDRAW,
            lambda _, route: routes.withdrawn(route),
            None,
            actor,
            token,
            reason,
            evidence,
        )

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

    def _change(
        self,
        role: str,
        action: Action,
        decide: "Callable[[Turn, Route], Route]",
        adapter: str | None,
        actor: str,
        token: int | None,
        reason: str,
        evidence: str = "",
    ) -> RouteChange:
        """Change a role's route as decided; `adapter` None notes the one that leaves."""
        check_name("role", role)
        if len(reason) > MAX_REASON:
            raise BadRequest(f"a reason of {len(reason):,} characters", expected=f"{MAX_REASON:,} at most")
        opened = self._book.look() if token is None else self._book.turn(token)
        with opened as turn:
            before = turn.route(role)
            after = decide(turn, before)
            leaving = before.challenger if action is Action.WITHDRAW else before.champion
            change = turn.drafted(
                after,
                action,
                adapter=leaving if adapter is None else adapter,
                actor=actor,
                at=self._now(),
                token=token or 0,
                evidence=evidence,
                reason=reason,
            )
            return change if token is None else turn.write(change)

    def _take_in(self, files: Staged, actor: str, token: int) -> Adapter:
        adapter = files.adapter
        with self._book.turn(token) as turn:
            if there := _known(turn, adapter):
                return there
            files.settle(self._workspace)
            turn.add_adapter(adapter)
            route, at = turn.route(adapter.role), self._now()
            row = turn.drafted(route, Action.REGISTER, adapter=adapter.id, actor=actor, at=at, token=token)
            turn.write(row)
        return adapter

    def _ready(self, turn: "Turn", role: str, adapter_id: str) -> Adapter:
        adapter = _the(turn.adapters(role), role, adapter_id)
        if adapter.serving_file and not self._is_there(adapter):
            raise BadRequest(
                f"the file of {adapter.name}, {adapter.folder}/{adapter.serving_file}, is not there any more",
                expected="the files as they were registered",
                try_next="studium adapters verify",
            )
        return adapter

    def _check_file(self, role: str, adapter_id: str) -> None:
        """Raise BadRequest unless the file that would serve is the one that was registered. Reads it whole."""
        adapter = self.adapter(role, adapter_id)
        if not adapter.serving_file or not self._is_there(adapter):
            return  # said where the change is decided
        if sha256_of_file(self.serving_path(adapter)) != adapter.files[adapter.serving_file]:
            raise BadRequest(
                f"{adapter.folder}/{adapter.serving_file} is not the file that was registered",
                expected="the files as they were registered",
                try_next="studium adapters verify",
            )

    def _is_there(self, adapter: Adapter) -> bool:
        return self.serving_path(adapter).is_file()


def check_name(what: str, name: str) -> None:
    """Raise BadRequest unless a name may become part of a path."""
    if not NAME_PATTERN.fullmatch(name) or name.endswith(".") or name == OWN:
        raise BadRequest(
            f"{name[:80]!r} is no name for {'an' if what == 'adapter' else 'a'} {what}",
            expected="a-z, 0-9, '.', '_', '-', at most 64 characters",
            try_next="choose another name",
        )


def _known(turn: "Turn", adapter: Adapter) -> Adapter | None:
    """Return what is registered already with this id. Raises BadRequest where the name or folder is another's."""
    for one in turn.adapters():
        if one.id == adapter.id:
            return one
        if (one.role, one.name) == (adapter.role, adapter.name) or one.folder == adapter.folder:
            raise BadRequest(
                f"there is another adapter {one.name!r} in the role {one.role}",
                expected="a name that is free: what was registered is never replaced",
                try_next=f"--name {adapter.name}-2",
            )
    return None


def _the(adapters: list[Adapter], role: str, name_or_id: str) -> Adapter:
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
