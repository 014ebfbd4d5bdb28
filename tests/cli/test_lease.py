"""`studium lease` beside `studium up`: real processes that hold real memory, and give way to a question."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from benchmarks.servers import studium_process, studium_up
from tests.cli.roster import studium

pytestmark = pytest.mark.slow

SCRIPT = "models: {adder: {resident_bytes: 60000000, default: 'Answer: 105'}}"
CONFIG = """
workspace: state
fleet: {{memory_budget: 100MB, lease_quiet: 500ms}}
server: {{heartbeat: 1s}}
models: [{{name: adder, engine: scripted, source: "{script}#adder"}}]
students: [{{name: adder}}]
"""
# Holds memory, goes on from the file it saves, and ends with status 7 once told so in a file.
HOG = """
import os, signal, sys, time
from pathlib import Path
state, done = Path("steps"), Path("done")
steps = int(state.read_text()) if state.exists() else 0
held = b"x" * 80_000_000

def save(*_):
    state.write_text(str(steps))
    print("saved", steps, os.getpid(), flush=True)
    sys.exit(0)

def free(*_):
    global held
    held = b""
    os.kill(os.getpid(), signal.SIGSTOP)
    held = b"x" * 80_000_000
    print("awake", os.getpid(), flush=True)

signal.signal(signal.SIGTERM, save)
if "frees" in sys.argv:
    signal.signal(signal.SIGTSTP, free)
print("begins", steps, os.getpid(), flush=True)
while not done.exists():
    steps += 1
    time.sleep(0.01)
sys.exit(7)
"""
BOUND_S = 120


@pytest.fixture
def place(tmp_path):
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "studium.yaml").write_text(CONFIG.format(script=tmp_path / "script.yaml"))
    (tmp_path / "hog.py").write_text(HOG)
    return tmp_path


@contextmanager
def leased(folder: Path, *options: str, hog: tuple[str, ...] = ()):
    command = ["lease", "sft", "--memory", "90MB", *options, "--", sys.executable, "hog.py", *hog]
    with studium_process(folder, *command) as lease:
        yield lease


def said(process: "subprocess.Popen[str]", word: str) -> tuple[int, int]:
    """Return the number and the process id in the next line; it must begin with `word`."""
    assert process.stdout is not None
    parts = process.stdout.readline().split()
    assert parts and parts[0] == word, parts
    return (int(parts[1]) if len(parts) > 2 else 0), int(parts[-1])


def leases(url: str) -> list[dict[str, object]]:
    with urlopen(url + "/api/leases", timeout=BOUND_S) as response:
        return json.load(response)["leases"]


def eventually(holds) -> None:
    until = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def ask(folder: Path) -> None:
    answered = studium("ask", "What is 47 + 58?", "--json", folder=folder)
    assert json.loads(answered.stdout)["text"] == "Answer: 105", answered.stderr


def test_a_command_gives_way_to_a_question_and_goes_on_from_what_it_saved(place):
    with studium_up(place) as (url, _), leased(place) as lease:
        steps, first = said(lease, "begins")
        assert steps == 0 and psutil.Process(first).memory_info().rss > 80_000_000
        assert [one["state"] for one in leases(url)] == ["granted"]
        ask(place)
        saved, pid = said(lease, "saved")
        assert pid == first and saved > 0 and not psutil.pid_exists(first)
        begun, second = said(lease, "begins")
        assert begun == saved and second != first
        (place / "done").touch()
        assert lease.wait(BOUND_S) == 7
        assert leases(url) == []


def test_a_command_that_frees_its_memory_is_paused_and_goes_on(place):
    with studium_up(place), leased(place, "--on-recall", "pause", hog=("frees",)) as lease:
        _, first = said(lease, "begins")
        ask(place)
        assert psutil.Process(first).status() == psutil.STATUS_STOPPED
        assert psutil.Process(first).memory_info().rss < 80_000_000
        assert said(lease, "awake")[1] == first
        (place / "done").touch()
        assert lease.wait(BOUND_S) == 7


def test_a_command_that_stops_without_freeing_anything_is_ended_after_all(place):
    with studium_up(place), leased(place, "--on-recall", "pause") as lease:
        _, first = said(lease, "begins")
        ask(place)
        assert said(lease, "saved")[1] == first
        assert said(lease, "begins")[1] != first


def test_kill_9_frees_the_memory_and_ends_the_command(place):
    with studium_up(place) as (url, _), leased(place) as lease:
        _, pid = said(lease, "begins")
        lease.kill()
        eventually(lambda: leases(url) == [])
        eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        ask(place)


def test_control_c_ends_both(place):
    with studium_up(place) as (url, _), leased(place) as lease:
        _, pid = said(lease, "begins")
        lease.send_signal(signal.SIGINT)
        assert lease.wait(BOUND_S) == 130
        assert not psutil.pid_exists(pid) and leases(url) == []


def test_without_a_server_a_command_begins_at_once_and_gives_way_to_one_that_comes(place):
    with leased(place) as lease:
        _, first = said(lease, "begins")
        with studium_up(place) as (url, _):
            eventually(lambda: [one["state"] for one in leases(url)] == ["granted"])
            assert psutil.pid_exists(first)
            ask(place)
            assert said(lease, "saved")[1] == first
            said(lease, "begins")


def test_a_command_outlives_the_server(place):
    with leased(place) as lease:
        with studium_up(place) as (url, _):
            _, first = said(lease, "begins")
            eventually(lambda: leases(url) != [])
        assert psutil.pid_exists(first) and lease.poll() is None
        with studium_up(place) as (url, _):
            eventually(lambda: [one["state"] for one in leases(url)] == ["granted"])
        (place / "done").touch()
        assert lease.wait(BOUND_S) == 7


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["sft", "--memory", "much", "--", "true"], 4, "512MiB"),
        (["sft", "--memory", "0", "--", "true"], 4, "more than no bytes"),
        (["sft", "--memory", "1MB", "--", "no-such-command"], 3, "cannot be run"),
        (["sft", "--memory", "1MB", "--on-gpu", "--on-recall", "pause", "--", "true"], 4, "on a GPU"),
        (["sft", "--memory", "1MB"], 2, "COMMAND"),
    ],
)
def test_what_cannot_be_run_is_told(place, arguments, status, told):
    refused = studium("lease", *arguments, folder=place)
    assert refused.returncode == status, refused.stderr
    assert told in refused.stderr


def test_a_lease_that_never_fits_is_refused_with_what_would(place):
    with studium_up(place):
        refused = studium("lease", "sft", "--memory", "1GB", "--", "true", folder=place)
    assert refused.returncode == 3
    assert "at most 95 MiB" in refused.stderr
