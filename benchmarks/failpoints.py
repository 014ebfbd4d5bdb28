"""kill -9 at every step of one promotion, and leases whose owner wakes up too late.

After each kill the workspace is opened anew: the route must be the old one or the new one, the chain and every file
as they were written, and the next promotion must go through. Steps are counted from outside (see the worker): each
SQL statement and commit, before and after it, and each call on a file. Then kills at moments nobody chose, while
routes change as fast as they can: no change that was acknowledged may be lost. Then fail-overs: an owner is stopped
(SIGSTOP) until its lease ran out, another takes it and writes, the first one wakes up and writes with its token.
"""

import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.failpoints_folder import LEASE_S, ROLE, lay_out, registry_of
from benchmarks.report import Aim, Report, run, say
from studium.errors import LeaseLost
from studium.registry import holding
from studium.store import open_store

FAIL_OVERS, QUICK_FAIL_OVERS = 30, 3
KILLS_AT_RANDOM, QUICK_KILLS_AT_RANDOM = 100, 5
QUICK_EVERY = 12
MOST_STEPS = 2_000
WAIT_S = 60.0


@dataclass
class Tally:
    """What was found after kills."""

    kills: int = 0
    old: int = 0
    new: int = 0
    between: int = 0
    faults: int = 0
    lost: int = 0
    stuck: int = 0
    recovery_s: list[float] = field(default_factory=list[float])

    def row(self, what: str) -> dict[str, Any]:
        return {
            "what": what,
            "kills": self.kills,
            "old": self.old,
            "new": self.new,
            "between": self.between,
            "faults found by verify": self.faults,
            "acknowledged and lost": self.lost,
            "not recovered": self.stuck,
            "median s until the next change": statistics.median(self.recovery_s) if self.recovery_s else None,
        }


class Worker:
    """A process of `benchmarks.failpoints_worker`."""

    def __init__(self, task: str, workspace: Path, stop: int = 0) -> None:
        command = [sys.executable, "-m", "benchmarks.failpoints_worker", task, str(workspace), str(stop)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hears(self) -> str:
        """Return the next line it says; "" when it is gone."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self) -> None:
        print(file=self.process.stdin, flush=True)

    def kill(self) -> list[str]:
        """Kill it as nobody can catch; return what it had said by then."""
        self.process.kill()
        said, _ = self.process.communicate(timeout=WAIT_S)
        return [line for line in said.split("\n")[:-1] if line]


def at_every_step(task: str, folder: Path, every: int) -> Tally:
    """Kill one task at each step of it (every so many), each time in a fresh copy of the workspace."""
    template = lay_out(folder / "template")
    tally = Tally()
    for stop in range(1, MOST_STEPS, every):
        copy = folder / f"{task}-{stop}"
        shutil.copytree(template.parent, copy)
        worker = Worker(task, copy / template.name, stop)
        said = worker.hears()
        worker.kill()
        if said == "done":
            break
        if not said.startswith("at "):
            raise RuntimeError(f"the worker ended at step {stop} without a word")
        look(task, copy / template.name, tally)
        say(f"{task}: killed at step {stop}, {said}")
        shutil.rmtree(copy)
    return tally


def look(task: str, workspace: Path, tally: Tally) -> None:
    """Open what a kill left, note whether it is old or new, and make the next change."""
    tally.kills += 1
    store = open_store(workspace / "state.db")
    registry = registry_of(store, workspace)
    try:
        first = registry.adapter(ROLE, "first")
        champion, actions = registry.route(ROLE).champion, [one.action.value for one in registry.history()]
        names = [one.name for one in registry.adapters()]
        state = (champion, actions, names)
        before = ("", ["register"], ["first"])
        after = {
            "promote": (first.id, ["register", "promote"], ["first"]),
            "register": ("", ["register", "register"], ["first", "late"]),
        }[task]
        tally.old += state == before
        tally.new += state == after
        tally.between += state not in (before, after)
        tally.faults += len(registry.verify())
        next_change(registry, tally)
    finally:
        store.close()


def next_change(registry: Any, tally: Tally) -> None:
    began = time.monotonic()
    try:
        with registry.lease("after the kill") as token:
            if registry.route(ROLE).champion:
                registry.rollback(ROLE, actor="after the kill", token=token)
            else:
                adapter = registry.adapter(ROLE, "first")
                registry.force(ROLE, adapter.id, reason="after the kill", actor="after the kill", token=token)
        tally.recovery_s.append(time.monotonic() - began)
    except LeaseLost:
        tally.stuck += 1
    tally.faults += len(registry.verify())


def at_any_moment(folder: Path, times: int) -> Tally:
    """Kill a process that changes the route to and fro at random moments, over and over on one workspace."""
    workspace = lay_out(folder / "any")
    rng, tally = random.Random(9), Tally()
    for number in range(times):
        worker = Worker("flip", workspace)
        last = worker.hears()
        time.sleep(rng.uniform(0.0, 0.3))
        said = [last, *worker.kill()]
        acknowledged = int(said[-1])
        store = open_store(workspace / "state.db")
        registry = registry_of(store, workspace)
        written, champion = registry.history()[-1].number, registry.route(ROLE).champion
        tally.kills += 1
        tally.lost += written < acknowledged
        tally.old += written == acknowledged
        tally.new += written == acknowledged + 1
        tally.between += written > acknowledged + 1 or champion != registry.history()[-1].after["champion"]
        tally.faults += len(registry.verify())
        next_change(registry, tally)
        store.close()
        if number % 10 == 9:
            say(f"at any moment: {number + 1} kills, {written} changes")
    return tally


def fail_overs(folder: Path, times: int) -> Mapping[str, Any]:
    """Let owners of the lease sleep through its end; return what became of their writes."""
    workspace = lay_out(folder / "fail-over")
    store = open_store(workspace / "state.db")
    registry = registry_of(store, workspace)
    took_s: list[float] = []
    accepted = faults = between = 0
    for number in range(times):
        sleeper = Worker("sleep", workspace)
        stale = int(sleeper.hears())
        sleeper.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with registry.lease("heir") as token:
            took_s.append(time.monotonic() - began)
            change(registry, token)
            before = registry.history()
            if number % 2:  # in every second the heir still holds the lease when the sleeper wakes up
                accepted += wakes_up(sleeper)
        if not number % 2:
            accepted += wakes_up(sleeper)
        between += registry.history() != before or token <= stale
        faults += len(registry.verify())
        say(f"fail-over {number + 1}: taken over after {took_s[-1]:.2f} s")
    store.close()
    return {
        "what": f"fail-overs of a lease of {LEASE_S:g} s",
        "fail-overs": times,
        "stale writes accepted": accepted,
        "histories changed": between,
        "faults found by verify": faults,
        "median s to take over": statistics.median(took_s),
        "longest s": max(took_s),
    }


def change(registry: Any, token: int) -> None:
    if registry.route(ROLE).champion:
        registry.rollback(ROLE, actor="heir", token=token)
    else:
        registry.force(
            ROLE, registry.adapter(ROLE, "first").id, reason="fail-over", actor="heir", token=token
        )


def wakes_up(sleeper: Worker) -> bool:
    """Let the sleeper write with its stale token; return whether that was accepted."""
    sleeper.process.send_signal(signal.SIGCONT)
    sleeper.tell()
    said = sleeper.hears()
    sleeper.process.communicate(timeout=WAIT_S)
    if said not in ("accepted", "refused"):
        raise RuntimeError(f"the sleeper said {said!r}")
    return said == "accepted"


def measure(quick: bool) -> Report:
    holding.LEASE_S = LEASE_S
    with tempfile.TemporaryDirectory(prefix="failpoints-") as name:
        folder = Path(name)
        every = QUICK_EVERY if quick else 1
        promotion = at_every_step("promote", folder / "promote", every)
        registration = at_every_step("register", folder / "register", every)
        random_kills = at_any_moment(folder, QUICK_KILLS_AT_RANDOM if quick else KILLS_AT_RANDOM)
        leases = fail_overs(folder, QUICK_FAIL_OVERS if quick else FAIL_OVERS)
    tallies = (promotion, registration, random_kills)
    rows = [
        promotion.row(
            "one promotion, at every step" if not quick else f"one promotion, every {every}th step"
        ),
        registration.row(
            "one registration, at every step" if not quick else f"one registration, every {every}th step"
        ),
        random_kills.row("routes changing, at any moment"),
        leases,
    ]
    kills = sum(one.kills for one in tallies)
    return Report(
        rows,
        [
            zero("neither old nor new", sum(one.between for one in tallies), kills),
            zero("rows, chains or files that are not as written", sum(one.faults for one in tallies), kills),
            zero("acknowledged changes lost", random_kills.lost, random_kills.kills),
            zero("stale writes accepted", leases["stale writes accepted"], leases["fail-overs"]),
        ],
        [
            "kill -9 loses no page that was written; what survives a power cut is FULL's promise, not measured here"
        ],
    )


def zero(what: str, found: int, of: int) -> Aim:
    return Aim(what, found, None, None, f"0 of {of}", found == 0)


if __name__ == "__main__":
    run("failpoints", __doc__ or "", measure)
