"""Calibrate real embedded students, then see one asked again where that tells more, and not where another one does."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from studium.cli.running import post

START_LIMIT_S = 60.0
COMMAND_LIMIT_S = 120.0
# Almanac knows nothing of arithmetic; clerk and abacus both do.
ALONE, MIXED = ("abacus", "almanac"), ("abacus", "clerk")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the workspace of a Studium that serves the embedded students, all of which fit into memory."""
    folder = tmp_path_factory.mktemp("asked-again")
    arguments = ["up", "--workspace", str(folder), "--port", "0", "--memory-budget", "1GiB"]
    started = subprocess.Popen(
        [sys.executable, "-m", "studium.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + START_LIMIT_S
    while not (folder / "server.json").exists():
        assert started.poll() is None and time.monotonic() < deadline, "studium up did not start"
        time.sleep(0.02)
    yield folder
    psutil.Process(started.pid).terminate()
    started.wait(30)


def told(workspace: Path, *arguments: str):
    """Run a command as a user would, and return what it says to programs."""
    done = subprocess.run(
        [sys.executable, "-m", "studium.cli.main", *arguments, "--workspace", str(workspace), "--json"],
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def heard(workspace: Path, students: tuple[str, ...], question: str) -> list[tuple[str, int, str]]:
    """Ask a committee over HTTP; return who said what, and which try of it that was."""
    url = orjson.loads((workspace / "server.json").read_bytes())["url"]
    body = {"question": question, "students": students, "strategy": "committee", "complexity": "medium"}
    answer = post(url, "/api/ask", {**body, "cache": False, "logprobs": True, "explain": True})
    return [
        (one["student"], one["sample"], one["answer"])
        for one in answer["members"]
        if one["fate"] == "answered"
    ]


@pytest.mark.slow
def test_a_student_is_asked_again_where_that_was_measured_and_nobody_else_tells_more(workspace: Path):
    question = "What is 7464 - 767?"
    assert {tries for _, tries, _ in heard(workspace, ALONE, question)} == {0}

    names = [one for name in dict.fromkeys(ALONE + MIXED) for one in ("--student", name)]
    done = told(workspace, "models", "calibrate", "--domain", "arithmetic", "--problems", "15", *names)
    shares = {row[0]: row[4] for row in done["results"]}
    assert shares["almanac"] == 0.0 < 0.6 < min(shares["abacus"], shares["clerk"])
    again = told(workspace, "models", "calibrate", "--domain", "arithmetic", "--problems", "15", *names)
    assert again["to_ask"] == 0

    learned = told(workspace, "models", "calibration")["together"]
    echoes = {one["student"]: one["echo"] for one in learned["echoes"]}
    assert set(echoes) == {"abacus", "clerk"}  # who declines is not asked again
    assert all(0.0 < one < 1.0 for one in echoes.values())
    why = {one["student"]: one for one in told(workspace, "models", "why", question)["students"]}
    assert why["abacus"]["echo"] == pytest.approx(echoes["abacus"])

    deadline = time.monotonic() + START_LIMIT_S
    while ("abacus", 1, "6697") not in heard(workspace, ALONE, question):
        assert time.monotonic() < deadline, "abacus was not asked again, alone as it is with arithmetic"
        time.sleep(0.5)  # what the command learned reaches the server within seconds
    assert sorted(heard(workspace, MIXED, question)) == [("abacus", 0, "6697"), ("clerk", 0, "6697")]
