"""Runs Studium's own commands, one process each, as a user would type them.

Each gives its memory back when it ends, shows its progress on stderr, and can be begun again with the same words. What
it found comes back as JSON; how it ended as its exit status.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
ENDING_S = 30.0


class Told(NamedTuple):
    """How a command ended. `data` is its JSON, {} where it told none; `error` its last words where it failed."""

    status: int
    data: Json
    error: str
    seconds: float


class OutOfTime(Exception):
    """A command did not end within its limit and was ended."""


@dataclass(slots=True)
class Commands:
    """Runs commands on one workspace. `say` is given every line they say on stderr."""

    workspace: Path
    config: str | None
    say: Callable[[str], None]
    ran: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    def run(self, *words: str, timeout_s: float, has_config: bool = True) -> Told:
        """Run `studium WORDS --json` to its end. Blocks.

        An interrupt reaches the command too (it is of the same group), which is given time to end as it does on one;
        then this raises KeyboardInterrupt. Raises OutOfTime.
        """
        given = ["--config", str(self.config)] if self.config is not None and has_config else []
        line = [*words, "--workspace", str(self.workspace), *given, "--json"]
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "studium", *line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            try:
                said, text = _heard(process, self.say, timeout_s)
            except KeyboardInterrupt:
                # Told again at once, it would take that for "now, and leave your work".
                with suppress(subprocess.TimeoutExpired):
                    process.wait(ENDING_S)
                _end(process)
                raise
            except BaseException:
                _end(process)
                raise
        seconds = time.monotonic() - began
        self.ran.append((" ".join(words), seconds))
        data = _parsed(text)
        return Told(process.returncode, data, _error(data, said), seconds)


def _heard(
    process: subprocess.Popen[str], say: Callable[[str], None], timeout_s: float
) -> tuple[list[str], str]:
    """Return what a process says on stderr, passed on line by line, and what it writes on stdout."""
    import selectors

    assert process.stdout is not None and process.stderr is not None
    pieces: dict[str, bytes] = {"out": b"", "err": b""}
    lines: list[str] = []
    until = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ, "out")
        ready.register(process.stderr, selectors.EVENT_READ, "err")
        while ready.get_map():
            if time.monotonic() > until:
                raise OutOfTime(f"not done within its {timeout_s:g} s")
            for key, _ in ready.select(timeout=1.0):
                piece = os.read(key.fd, 65536)
                if not piece:
                    ready.unregister(key.fileobj)
                    continue
                pieces[key.data] += piece
                if key.data == "err":
                    *whole, pieces["err"] = pieces["err"].split(b"\n")
                    for one in whole:
                        lines.append(one.decode("utf-8", "replace"))
                        say(lines[-1])
    process.wait(max(1.0, until - time.monotonic()))
    return lines, pieces["out"].decode("utf-8", "replace")


def _end(process: subprocess.Popen[str]) -> None:
    """End a process gently, then for good."""
    for how in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                continue


def _parsed(text: str) -> Json:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {"items": data}


def _error(data: Json, said: Sequence[str]) -> str:
    """Return what went wrong as one line: of the JSON where it tells, else the last words."""
    told = data.get("error")
    if isinstance(told, dict):
        parts = (str(told.get(part) or "") for part in ("message", "expected", "try_next"))
        return "; ".join(part for part in parts if part)
    starts = [at for at, line in enumerate(said) if line.startswith("error:")]
    last = said[starts[-1] : starts[-1] + 3] if starts else said[-1:]
    return "; ".join(line.strip() for line in last)
