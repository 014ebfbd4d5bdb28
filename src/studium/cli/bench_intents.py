"""`studium bench intents`: many clients read one channel at frame rate while models come and go (TIER-1).

A real server in a workspace of its own, with memory for two or three of the embedded students and questions to all of
them one after the other; a channel that is told something new 60 times a second; clients in processes of their own. The
same reads are then done over HTTP, from the same server under the same load.
"""

import json as json_
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from studium.cli.options import JsonOption
from studium.cli.output import note, write_json, write_table
from studium.errors import EngineDied

NAME, OWN = "npc-1", "abacus"
BUDGET = "130MiB"
OBSERVED_HZ = 60
SLOW_NS = 1_000_000
START_S, END_S = 60.0, 30.0
WAYS = {
    "shared": "shared memory",
    "control": "control: a file of the client's own",
    "http": "HTTP, kept alive",
}
QUESTIONS = (
    "What is 47 + 58?",
    "Sort: 7, 3, 9, 1, 4",
    "How many minutes are 3 hours?",
    "What is 12 * 7?",
)


@dataclass(frozen=True, slots=True)
class Way:
    """Reads of one kind by all clients together. Times in microseconds.

    `above_1_ms` are slower than that; `disturbed` are those of them during which the kernel took the processor away or
    fetched a page from disk.
    """

    way: str
    reads: int
    reads_per_s_per_client: float
    p50_us: float
    p99_us: float
    p99_9_us: float
    max_us: float
    above_1_ms: int
    disturbed: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What went on meanwhile. `woke_late_p99_us`: how late the system woke a client that slept until its next read."""

    phase: str
    seconds: float
    loads: int
    unloads: int
    questions: int
    refreshed_hz: float
    age_p95_s: float | None
    stale_share: float
    woke_late_p99_us: float
    steal_s: float


@dataclass(slots=True)
class Load:
    """Questions to one student after the other, and what they moved in memory."""

    url: str
    students: Sequence[str]
    questions: int = 0
    failed: int = 0
    moves: dict[str, int] = field(default_factory=lambda: {"load": 0, "unload": 0})

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop."""
        from studium.cli.running import post
        from studium.errors import StudiumError

        while not stop.is_set():
            student = self.students[self.questions % len(self.students)]
            question = QUESTIONS[self.questions % len(QUESTIONS)]
            body = {"question": question, "model": student, "timeout_s": 30, "max_tokens": 32}
            self.questions += 1
            try:
                for move in post(self.url, "/api/ask", body)["moves"]:
                    self.moves[move["kind"]] += 1
            except StudiumError:
                self.failed += 1


def intents(
    clients: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Processes that read the channel.")
    ] = 4,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, max=600, help="How long each of the two phases is.")
    ] = 10.0,
    rate: Annotated[
        float, typer.Option(metavar="HZ", min=1, max=10_000, help="Reads a second and client.")
    ] = 300.0,
    json: JsonOption = False,
) -> None:
    """Read one intent at frame rate from many processes while models are swapped; beside it, over HTTP.

    Starts a server of its own with the embedded students. The control reads a file of the client's own with the same
    code: what is slow there too is this machine's scheduling.

    Example: studium bench intents --clients 4 --seconds 10
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="studium-bench-")))
        note(f"starting a server with {BUDGET} for models")
        url = stack.enter_context(_server(folder))
        load = Load(url, _make_channel(folder))
        stack.enter_context(_thread(load.run))
        stack.enter_context(_thread(lambda stop: _observe(folder, stop)))
        _await_first(folder)
        ways, phases = [], []
        for phase in ("shared memory", "http"):
            note(f"{clients} clients read by {phase}, {rate:g} times a second each, for {seconds:g} s")
            order = {
                "way": phase.split()[0],
                "workspace": str(folder),
                "url": url,
                "name": NAME,
                "rate": rate,
                "seconds": seconds,
            }
            found, went_on = _measure(phase, order, clients, load)
            ways += found
            phases.append(went_on)
    if json:
        write_json({"ways": [asdict(one) for one in ways], "phases": [asdict(one) for one in phases]})
    else:
        _show(ways, phases)


def summary(way: str, took_ns: Sequence[int], disturbed: Sequence[int], per_client_hz: float) -> Way:
    """Return the figures of reads, given as nanoseconds and disturbances of each."""
    ordered = sorted(took_ns)
    slow = [bool(there) for ns, there in zip(took_ns, disturbed, strict=True) if ns > SLOW_NS]
    p50, p99, p99_9 = (quantile(ordered, share) / 1e3 for share in (0.5, 0.99, 0.999))
    return Way(way, len(ordered), per_client_hz, p50, p99, p99_9, ordered[-1] / 1e3, len(slow), sum(slow))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of the sorted values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _measure(phase: str, order: Mapping[str, Any], clients: int, load: Load) -> tuple[list[Way], Phase]:
    import psutil

    with ExitStack() as stack:
        started = [
            stack.enter_context(_client({**order, "phase": number / clients})) for number in range(clients)
        ]
        for client in started:
            _line(client)
        before, moves, steal = _state(load.url), dict(load.moves), getattr(psutil.cpu_times(), "steal", 0.0)
        questions, began = load.questions, time.monotonic()
        for client in started:
            client.stdin.write("go\n")
            client.stdin.flush()
        found = [json_.loads(client.communicate()[0]) for client in started]
        elapsed_s, after = time.monotonic() - began, _state(load.url)
    ages_s = sorted(age for one in found for age in one["ages_s"] if age is not None)
    horizon_s = after["settings"]["horizon_s"]
    went_on = Phase(
        phase,
        elapsed_s,
        load.moves["load"] - moves["load"],
        load.moves["unload"] - moves["unload"],
        load.questions - questions,
        (after["refresh"]["published"] - before["refresh"]["published"]) / elapsed_s,
        quantile(ages_s, 0.95) if ages_s else None,
        1 - sum(age < horizon_s for age in ages_s) / sum(len(one["ages_s"]) for one in found),
        quantile(sorted(ns for one in found for ns in one["late_ns"]), 0.99) / 1e3,
        getattr(psutil.cpu_times(), "steal", 0.0) - steal,
    )
    return [_way(name, found) for name in WAYS if name in found[0]["took_ns"]], went_on


def _way(name: str, found: Sequence[Mapping[str, Any]]) -> Way:
    took_ns = [ns for one in found for ns in one["took_ns"][name]]
    disturbed = [count for one in found for count in one["disturbed"][name]]
    rates = [len(one["took_ns"][name]) / one["elapsed_s"] for one in found]
    return summary(WAYS[name], took_ns, disturbed, sum(rates) / len(rates))


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Serve a workspace until the block ends, and yield the URL."""
    command = ["up", "--port", "0", "--workspace", str(folder), "--memory-budget", BUDGET]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    # In the folder, where no studium.yaml lies: the embedded students are measured, not somebody's own.
    with subprocess.Popen(
        [sys.executable, "-m", "studium.cli.main", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            yield _line(server).split()[-1]
        finally:
            server.terminate()
            try:
                server.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _make_channel(folder: Path) -> Sequence[str]:
    """Make the channel, and return the students that are to come and go beside its own."""
    from studium.cli.intents import call

    body = {"question": "{observation}", "hz": 2, "horizon_s": 4, "fallback": "stay", "students": [OWN]}
    call(folder, "PUT", f"/{NAME}", body)
    return [name for name in _students() if name != OWN]


def _students() -> list[str]:
    from studium.config import load_config
    from studium.registry import build_roster

    return list(build_roster(load_config(None, environment={})).students)


def _observe(folder: Path, stop: threading.Event) -> None:
    from studium.intents import open_channel

    with open_channel(folder, NAME) as channel:
        number = 0
        while not stop.wait(1 / OBSERVED_HZ):
            number += 1
            channel.observe(f"What is {number % 90 + 10} + 47?")


def _await_first(folder: Path) -> None:
    """Wait until the channel has an intent. Raises EngineDied where none comes."""
    from studium.intents import IntentState, open_channel

    limit = time.monotonic() + START_S
    with open_channel(folder, NAME) as channel:
        while channel.read().state is not IntentState.FRESH:
            if time.monotonic() > limit:
                raise EngineDied(f"no intent came within {START_S:g} s", try_next="studium doctor")
            time.sleep(0.05)


@contextmanager
def _thread(work: Any) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(END_S)


@contextmanager
def _client(order: Mapping[str, Any]) -> Iterator[Any]:
    command = [sys.executable, "-m", "studium.cli.bench_intents_client", json_.dumps(order)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        try:
            yield client
        finally:
            if client.poll() is None:
                client.kill()


def _line(process: Any) -> str:
    line = process.stdout.readline()
    if not line:
        raise EngineDied("a process ended before it was ready", try_next="studium doctor")
    return line


def _state(url: str) -> Mapping[str, Any]:
    from urllib.request import Request, urlopen

    from studium.config.running import headers

    with urlopen(Request(f"{url}/api/intents/{NAME}", headers=headers()), timeout=END_S) as response:
        return json_.loads(response.read())


def _show(ways: Sequence[Way], phases: Sequence[Phase]) -> None:
    micro = ("p50_us", "p99_us", "p99_9_us", "max_us")
    write_table(
        ("way", "reads", "reads/s/client", "p50 us", "p99 us", "p99.9 us", "max us", "> 1 ms", "disturbed"),
        [
            (
                one.way,
                f"{one.reads:,}",
                f"{one.reads_per_s_per_client:.0f}",
                *(f"{getattr(one, name):,.1f}" for name in micro),
                str(one.above_1_ms),
                str(one.disturbed),
            )
            for one in ways
        ],
    )
    write_table(
        (
            "phase",
            "s",
            "loads",
            "unloads",
            "questions",
            "refreshed Hz",
            "age p95 s",
            "stale",
            "woke late p99 us",
        ),
        [
            (
                one.phase,
                f"{one.seconds:.1f}",
                *map(str, (one.loads, one.unloads, one.questions)),
                f"{one.refreshed_hz:.2f}",
                "-" if one.age_p95_s is None else f"{one.age_p95_s:.2f}",
                f"{one.stale_share:.1%}",
                f"{one.woke_late_p99_us:,.0f}",
            )
            for one in phases
        ],
    )
    note(
        "ages count from the observation; disturbed: of those above 1 ms, while the kernel took the processor away"
    )
