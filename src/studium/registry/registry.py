"""The registry: adapters taken in with their lineage, and who serves each role, changed under a lease.

The store is the meeting place: every process that opens it sees the same routes, and all changes go through one
transaction that holds the lease's token. What a promotion needs is decided in `routes`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studium.config.kinds import NAME_PATTERN
from studium.errors import BadRequest
from studium.records.adapters import (
    OWN_STUDENT,
    Action,
    Adapter,
    AdapterKind,
    Phase,
    Route,
    RouteChange,
)
from studium.registry import cleaning, routes
from studium.registry.files import sha256_of_file
from studium.registry.holding import WAIT_S, holding
from studium.registry.intake import ADAPTERS, Staged, staged
from studium.registry.reading import Reading, the_adapter
from studium.registry.roster import embedded_students
from studium.registry.standing import OWN

if TYPE_CHECKING:  # the roster is read by commands that need no store
    from studium.store.adapters import Turn

MAX_REASON = 2_000


class Registry(Reading):
    """What is registered in one workspace. Every call blocks for the disk; any thread, any process.

    Changes of a route take the token of the lease; with None they write nothing and return what they would. They raise
    LeaseLost where the token is stale, StoreUnavailable where the disk refuses, BadRequest for what may not be; in each
    case nothing was changed.
    """

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
        """Make the predecessor champion again: the nearest one whose file is still there, else the student itself.

        One that was removed is not passed over, but in an `emergency`.
        """

        def decide(turn: "Turn", route: Route) -> Route:
            adapters, changes = turn.adapters(role), turn.changes(role)
            there = {one.id for one in adapters if self._is_there(one)}
            gone = set() if emergency else cleaning.removed(changes)
            return routes.rolled_back(
                route, changes, there, {one.id: one.name for one in adapters if one.id in gone}
            )

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

    def clean(self, keep: int = cleaning.KEPT, *, actor: str, token: int | None) -> list[cleaning.Cleaned]:
        """Remove the files of adapters that nothing needs (see `cleaning`); their rows stay. Return which and how much.

        With the token None nothing is removed.
        """
        with self._book.look() if token is None else self._book.turn(token) as turn:
            adapters, changes = turn.adapters(), turn.changes()
            going = [
                cleaning.Cleaned(one, cleaning.size_bytes(one, self._workspace))
                for one in cleaning.removable(adapters, turn.routes(), changes, keep)
            ]
            for one, size in going if token is not None else ():
                self._note(turn, one, Action.REMOVE, actor, token, f"{size:,} bytes")
        if token is not None:
            gone = cleaning.removed(changes) | {one.adapter.id for one in going}
            cleaning.remove((one for one in adapters if one.id in gone), self._workspace)
        return going

    def _note(
        self, turn: "Turn", adapter: Adapter, action: Action, actor: str, token: int | None, reason: str = ""
    ) -> None:
        """Write into the history what happened to an adapter's files; its role's route stays."""
        route, at = turn.route(adapter.role), self._now()
        told = {"adapter": adapter.id, "actor": actor, "at": at, "token": token or 0, "reason": reason}
        turn.write(turn.drafted(route, action, **told))

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
            there = _known(turn, adapter)
            if there and there.id not in cleaning.removed(turn.changes(there.role, of=cleaning.ABOUT_FILES)):
                return there
            files.settle(self._workspace)
            if there is None:
                turn.add_adapter(adapter)
            self._note(turn, adapter, Action.REGISTER, actor, token)
        return there or adapter

    def _ready(self, turn: "Turn", role: str, adapter_id: str) -> Adapter:
        adapter = the_adapter(turn.adapters(role), role, adapter_id)
        if adapter.id in cleaning.removed(turn.changes(role, of=cleaning.ABOUT_FILES)):
            raise BadRequest(
                f"the files of {adapter.name} were removed (studium adapters clean)",
                expected="an adapter with its files",
                try_next="register its run again, under the same name",
            )
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
