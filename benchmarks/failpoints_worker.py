"""One process of `benchmarks.failpoints`, to be killed: stops at a counted step and waits for the kill from outside.

    python -m benchmarks.failpoints_worker register|promote WORKSPACE STEP
    python -m benchmarks.failpoints_worker flip WORKSPACE
    python -m benchmarks.failpoints_worker sleep WORKSPACE

Steps are what the work does to the outside: every SQL statement and commit, before and after it, and every call
on a file of the workspace, before it. `flip` changes the route to and fro and says so after each change. `sleep`
takes the lease, says so, and writes under it when it is told to. The product knows nothing of this: SQLAlchemy tells
of statements, Python's audit hooks of files.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from benchmarks.failpoints_folder import LEASE_S, ROLE, registry_of, told
from studium.errors import LeaseLost
from studium.registry import Registry, holding
from studium.store import Store
from studium.store.database import open_database

_ON_FILES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class Steps:
    """Counts what happens to the outside; at step `stop` it says so and waits to be killed."""

    def __init__(self, stop: int) -> None:
        self._stop = stop
        self._seen = 0
        self.counting = False

    def step(self, what: str) -> None:
        if not self.counting:
            return
        self._seen += 1
        if self._seen == self._stop:
            self.counting = False
            say(f"at {what}")
            sys.stdin.read()  # until the kill

    def watch(self, database: Engine, workspace: Path) -> None:
        """Count statements of the database, and files below the workspace."""

        def before(_c: Any, _k: Any, statement: str, *_: Any) -> None:
            self.step(f"before {_short(statement)}")

        def after(_c: Any, _k: Any, statement: str, *_: Any) -> None:
            self.step(f"after {_short(statement)}")

        event.listen(database, "before_cursor_execute", before)
        event.listen(database, "after_cursor_execute", after)
        event.listen(database, "commit", lambda _: self.step("before COMMIT"))
        event.listen(database, "reset", lambda *_: self.step("after the transaction"))
        below = str(workspace)

        def file_event(name: str, arguments: tuple[Any, ...]) -> None:
            if name in _ON_FILES and str(arguments[0]).startswith(below):
                self.step(f"before {name} {Path(str(arguments[0])).name}")

        sys.addaudithook(file_event)


def main(task: str, workspace: Path, stop: int = 0) -> None:
    """Do one task."""
    holding.LEASE_S = LEASE_S
    steps = Steps(stop)
    database = open_database(workspace / "state.db")
    registry = registry_of(Store(database, workspace), workspace)
    steps.watch(database, workspace)
    steps.counting = True
    TASKS[task](registry, workspace)
    steps.counting = False
    say("done")


def register(registry: Registry, workspace: Path) -> None:
    folder = workspace.parent / "trained"
    registry.register(folder, ROLE, name="late", **told())


def promote(registry: Registry, workspace: Path) -> None:
    adapter = registry.adapter(ROLE, "first")
    evidence = registry.evidence((workspace / "evidence_id").read_text())
    with registry.lease("promoter") as token:
        registry.promote(ROLE, adapter.id, evidence=evidence.id, actor="promoter", token=token)


def flip(registry: Registry, _: Path) -> None:
    adapter = registry.adapter(ROLE, "first")
    while True:
        with registry.lease("flipper") as token:
            if registry.route(ROLE).champion:
                change = registry.rollback(ROLE, actor="flipper", token=token)
            else:
                change = registry.force(ROLE, adapter.id, reason="flip", actor="flipper", token=token)
        say(f"{change.number}")


def sleep(registry: Registry, _: Path) -> None:
    adapter = registry.adapter(ROLE, "first")
    with registry.lease("sleeper") as token:
        say(f"{token}")
        sys.stdin.readline()
        try:
            registry.force(ROLE, adapter.id, reason="late", actor="sleeper", token=token)
            say("accepted")
        except LeaseLost:
            say("refused")


TASKS: dict[str, Callable[[Registry, Path], None]] = {
    "register": register,
    "promote": promote,
    "flip": flip,
    "sleep": sleep,
}


def say(text: str) -> None:
    print(text, flush=True)


def _short(statement: str) -> str:
    words = statement.split()
    at = next(
        (words[index + 1] for index, word in enumerate(words) if word in ("FROM", "INTO", "UPDATE")), ""
    )
    return f"{words[0]} {at}".strip()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
