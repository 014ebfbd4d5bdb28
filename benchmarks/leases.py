"""A run under a lease beside a person's questions: what giving way costs whom, and that memory is never held twice.

A real `studium up` with 100 MiB for models and the embedded students, and `studium lease` with 80 MiB for a real
process that fills them, saves its step on SIGTERM and goes on from it. Questions go to one student over HTTP:
with its model out of memory and nobody in the way, and while the run holds the memory. Every 10 ms this script
reads from the kernel what the workers and the run hold (RSS, shared pages in full, so on the high side). Last, the
lease's process is killed with SIGKILL.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks.report import Aim, Report, run, say
from benchmarks.servers import studium_process, studium_up

MIB = 2**20
BUDGET_MIB, LEASE_MIB = 100, 80
# The interpreter of the run is part of what it holds.
HELD_MIB = 64
QUIET_S = 1.0
STUDENT = "abacus"
SAMPLE_S = 0.01
BOUND_S = 60.0
CONFIG = f"""
workspace: state
cache: {{enabled: no}}
fleet: {{memory_budget: {BUDGET_MIB}MiB, lease_quiet: {QUIET_S:g}s}}
"""
PROGRAM = f"""
import signal, sys, time
from pathlib import Path
kept, began = Path("steps"), Path("began")
steps = int(kept.read_text()) if kept.exists() else 0
held = b"x" * ({HELD_MIB} << 20)

def save(*_):
    kept.write_text(str(steps))
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
began.write_text(str(steps))
while True:
    steps += 1
    time.sleep(0.005)
"""


class Meter:
    """Reads what all descendants but the server and the lease's own process hold, until the block ends."""

    def __init__(self, aside: set[int]) -> None:
        self.most_bytes = 0
        self._aside = aside
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(SAMPLE_S):
            held = 0
            for child in me.children(recursive=True):
                if child.pid not in self._aside:
                    with suppress(psutil.Error):
                        held += child.memory_info().rss
            self.most_bytes = max(self.most_bytes, held)


class House:
    """A served workspace, asked over HTTP."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def post(self, path: str, **body: Any) -> Any:
        request = Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=BOUND_S) as response:
            return json.load(response)

    def leases(self) -> list[Any]:
        with urlopen(self.url + "/api/leases", timeout=BOUND_S) as response:
            return json.load(response)["leases"]

    def ask(self) -> float:
        """Ask one question and return the seconds to its answer."""
        began = time.monotonic()
        answer = self.post("/api/ask", question="What is 47 + 58?", students=[STUDENT], complexity="simple")
        assert answer["text"], answer
        return time.monotonic() - began

    def unload(self) -> None:
        self.post("/api/generate", model=STUDENT, keep_alive=0)


def waited(holds: Callable[[], bool]) -> float:
    """Wait until something holds and return the seconds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > BOUND_S:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.002)
    return time.monotonic() - began


def _measure(quick: bool) -> Report:
    rounds = 4 if quick else 20
    with tempfile.TemporaryDirectory(prefix="studium-benchmark-") as name:
        folder = Path(name)
        (folder / "studium.yaml").write_text(CONFIG)
        (folder / "run.py").write_text(PROGRAM)
        with studium_up(folder) as (url, server):
            house = House(folder, url)
            alone = [_cold(house) for _ in range(rounds + 1)][1:]  # the first learns what the model needs
            house.unload()
            return _beside(house, server.pid, alone, rounds)


def _cold(house: House) -> float:
    house.unload()
    return house.ask()


def _beside(house: House, server: int, alone: list[float], rounds: int) -> Report:
    """Ask while a run holds the memory, then kill what holds the lease."""
    answered: list[float] = []
    back: list[float] = []
    lost, began = 0, house.folder / "began"
    command = ["lease", "run", "--memory", f"{LEASE_MIB}MiB", "--", sys.executable, "run.py"]
    with studium_process(house.folder, *command) as lease, Meter({server, lease.pid}) as meter:
        waited(began.exists)
        for number in range(rounds):
            say(f"question {number + 1} of {rounds}")
            before = int(began.read_text() or 0)
            began.unlink()
            answered.append(house.ask())
            back.append(waited(lambda: began.exists() and began.read_text() != ""))
            saved = int((house.folder / "steps").read_text())
            lost += int(began.read_text()) != saved or saved < before
        (holder,) = psutil.Process(lease.pid).children()
        lease.kill()
        freed = waited(lambda: not house.leases())
        gone = waited(lambda: not holder.is_running() or holder.status() == psutil.STATUS_ZOMBIE)
    budget = BUDGET_MIB * MIB
    rows = [
        {"what": "question, model out of memory, nobody in the way", **_row(alone)},
        {"what": "question, the run holds the memory", **_row(answered)},
        {"what": "from the answer until the run works again", **_row(back)},
        {"what": "SIGKILL of the lease: memory can be lent again", **_row([freed])},
        {"what": "SIGKILL of the lease: the run is gone", **_row([freed + gone])},
    ]
    added = median(answered) - median(alone)
    aims = [
        Aim("what giving way adds to a question, s", added, None, None, "<= 0.5", added <= 0.5),
        Aim(
            "until the run works again, s beyond the quiet it waits for",
            median(back) - QUIET_S,
            min(back) - QUIET_S,
            max(back) - QUIET_S,
            "<= 1",
            median(back) - QUIET_S <= 1,
        ),
        Aim("runs begun elsewhere than where they were saved", lost, None, None, "0", lost == 0),
        Aim(
            "most memory of models and run / budget",
            meter.most_bytes / budget,
            None,
            None,
            "<= 1",
            meter.most_bytes <= budget,
        ),
        Aim("seconds after SIGKILL until memory can be lent", freed, None, None, "<= 1", freed <= 1),
    ]
    return Report(rows, aims, [f"the run gets its memory back after {QUIET_S:g} s without a question"])


def _row(seconds: list[float]) -> dict[str, object]:
    ordered = sorted(seconds)
    return {
        "times": len(ordered),
        "median s": round(median(ordered), 3),
        "least s": round(ordered[0], 3),
        "most s": round(ordered[-1], 3),
    }


if __name__ == "__main__":
    run("leases", __doc__ or "", _measure)
