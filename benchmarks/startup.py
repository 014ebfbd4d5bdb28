"""From `studium up` to ready with everything installed, and from `make run` in a fresh clone to the first answer.

Ready means that /readyz says so; the first answer is one to `What is 47 + 58?` over HTTP. The clone is of
the commit at hand, its environment is made anew from the package index, so the second figure depends on
the network and on what pip has in its cache (`--quick` leaves it out). The bound beside them is a bare
interpreter that imports nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

from benchmarks.report import BUILD, REPOSITORY, Aim, Report, run, say
from benchmarks.servers import free_port, running, studium_command

QUESTION = {"model": "auto", "messages": [{"role": "user", "content": "What is 47 + 58?"}]}
FRESH_LIMIT_S = 600.0


def _first_answer(url: str) -> str:
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(QUESTION).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def _up(folder: Path) -> tuple[float, float, str]:
    """Return seconds to ready, seconds from there to the first answer, and the answer."""
    port = free_port()
    command = studium_command("up", "--workspace", folder / "workspace", "--port", str(port))
    with running(command, port=port, health="/readyz", log=folder / "up.log") as server:
        began = time.monotonic()
        answer = _first_answer(server.url)
        return server.start_seconds, time.monotonic() - began, answer


def _bare_interpreter() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - began


def _fresh_clone(folder: Path) -> float:
    """Return seconds from `make run` in a fresh clone to the first answer."""
    clone, port = folder / "clone", free_port()
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
    command = ["make", "-C", clone, "run", f"PORT={port}", f"ARGS=--workspace {folder}/workspace"]
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS")
    }
    began = time.monotonic()
    with running(
        command, port=port, health="/readyz", log=folder / "make.log", environment=kept, limit_s=FRESH_LIMIT_S
    ) as server:
        _first_answer(server.url)
        return time.monotonic() - began


def _measure(quick: bool) -> Report:
    rounds = 3 if quick else 10
    BUILD.mkdir(parents=True, exist_ok=True)
    ready, first, bare, answer = [], [], [], ""
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        for number in range(rounds):
            say(f"start {number + 1} of {rounds}")
            folder = Path(name) / str(number)
            folder.mkdir()
            ready_s, answer_s, answer = _up(folder)
            ready.append(ready_s)
            first.append(answer_s)
            bare.append(_bare_interpreter())
        fresh = None if quick else _fresh_clone(Path(name))
    rows = [
        {"what": "`studium up` to ready, s", "median": median(ready), "low": min(ready), "high": max(ready)},
        {
            "what": "from there to the first answer, s",
            "median": median(first),
            "low": min(first),
            "high": max(first),
        },
        {"what": "a bare interpreter, s", "median": median(bare), "low": min(bare), "high": max(bare)},
        {"what": "`make run` in a fresh clone to the first answer, s (one run)", "median": fresh},
    ]
    up = median(ready)
    aim = Aim("`studium up` to ready, s", up, min(ready), max(ready), "< 2", up < 2)
    return Report(rows, [aim], [f"the answer was {answer!r}"])


def main() -> None:
    run("startup", __doc__ or "", _measure)


if __name__ == "__main__":
    main()
