"""Start a server for a benchmark or a test, wait until it answers, measure its processes, and end it for certain."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

START_LIMIT_S = 90.0
END_LIMIT_S = 40.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address, its first process, and the seconds until it first answered."""

    url: str
    process: psutil.Process
    start_seconds: float

    def processor_seconds(self) -> float:
        """Return the processor time used so far by the server and its children, user and system."""
        return sum(sum(times[:2]) for times in self._each(lambda one: one.cpu_times()))

    def resident_bytes(self) -> int:
        """Return the memory the server and its children hold (USS: pages nobody else shares)."""
        return sum(self._each(lambda one: one.memory_full_info().uss))

    def _each(self, read):
        found = []
        for one in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(read(one))
        return found


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    port: int,
    health: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    limit_s: float = START_LIMIT_S,
) -> Iterator[Server]:
    """Run `command` until the block ends; raises RuntimeError with its log's end if it never answers."""
    url = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    with log.open("wb") as output:
        started = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
    process = psutil.Process(started.pid)
    try:
        _wait_for(url + health, started, log, began + limit_s)
        yield Server(url, process, time.monotonic() - began)
    finally:
        _end(process, started)


def _wait_for(url: str, started: "subprocess.Popen[bytes]", log: Path, deadline: float) -> None:
    while time.monotonic() < deadline:
        if started.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{url} never answered; the log ends: {log.read_text(errors='replace')[-2000:]}")


def _end(process: psutil.Process, started: "subprocess.Popen[bytes]") -> None:
    children = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = process.children(recursive=True)
    started.terminate()
    try:
        started.wait(15)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait(15)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def studium_command(*arguments: str | Path) -> list[str | Path]:
    """Return the command line that runs this Python's Studium."""
    return [sys.executable, "-m", "studium.cli.main", *arguments]


@contextlib.contextmanager
def studium_process(
    folder: Path, *arguments: str, stderr: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[str]"]:
    """Run the command line in `folder`, as a user whose home it is would; ended as by Ctrl-C with the block."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STUDIUM_")}
    with subprocess.Popen(
        [str(part) for part in studium_command(*arguments)],
        cwd=folder,
        env=kept | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextlib.contextmanager
def studium_up(folder: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `studium up` in `folder` on a free port; yield its address and its process."""
    with studium_process(folder, "up", "--port", "0", *options) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Studium listens"), first
        yield first.split()[-1], process
