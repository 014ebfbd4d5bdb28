"""Sessions in the Studium that serves the workspace: one budget, people first, and nothing lost when it goes."""

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from benchmarks.servers import studium_process, studium_up
from tests.cli.roster import studium

pytestmark = pytest.mark.slow

SCRIPT = """
models:
  steady: {resident_bytes: 40000000, first_token_s: 0.1, default: "I cannot answer that."}
  large: {resident_bytes: 60000000, first_token_s: 0.1, default: "I cannot answer that."}
"""
CONFIG = """
workspace: state
fleet: {{memory_budget: 70MB}}
server: {{heartbeat: 1s}}
models:
  - {{name: steady, engine: scripted, source: "{script}#steady"}}
  - {{name: large, engine: scripted, source: "{script}#large"}}
students: [{{name: steady}}, {{name: large}}]
"""
BOUND_S = 120


@pytest.fixture
def place(tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    (tmp_path / "studium.yaml").write_text(CONFIG.format(script=script))
    return tmp_path


@contextmanager
def session(folder: Path, *more: str):
    """Run a session that would last for minutes; yield it once it is under way."""
    command = ["session", "run", "long", "--topic", "arithmetic", "--duration", "5", *more]
    with studium_process(folder, *command, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert "runs in the Studium at http" in first, first
        assert running.stderr.readline().startswith("cycle")
        yield running


def shown(folder: Path):
    return json.loads(studium("session", "list", "--json", folder=folder).stdout)[0]


def runs(folder: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(folder / "state/sessions/long/scheduler_history/student_profiles.db") as client:
        return client.execute("SELECT cycle, student FROM student_runs").fetchall()


def eventually(holds) -> None:
    until = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_session_runs_in_the_server_and_is_told_as_always(place):
    with studium_up(place):
        done = studium("session", "run", "demo", "--topic", "arithmetic", "--cycles", "1", folder=place)
        assert done.returncode == 0, done.stderr
        assert "runs in the Studium at http" in done.stderr and "cycle 1: " in done.stderr
        assert "demo finished: 1 cycle is done." in done.stdout and " in 1 cycle, " in done.stdout
        again = studium("session", "resume", "demo", "--cycles", "1", "--json", folder=place)
        assert json.loads(again.stdout)["cycles"] == 2, again.stderr


def test_the_server_owns_the_session_and_a_persons_question_is_answered_meanwhile(place):
    with studium_up(place) as (_, server), session(place):
        assert shown(place)["owner_pid"] == server.pid
        for student in ("steady", "large"):
            asked = studium("ask", "What is 1 + 1?", "--student", student, "--json", folder=place)
            assert json.loads(asked.stdout)["text"] == "I cannot answer that.", asked.stderr
        before = len(runs(place))
        eventually(lambda: len(runs(place)) > before)
        refused = studium("session", "resume", "long", folder=place)
        assert refused.returncode == 3 and "runs here already" in refused.stderr


def test_control_c_stops_the_session_in_the_server(place):
    with studium_up(place), session(place) as running:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=BOUND_S)
        assert running.returncode == 130 and "long stopped" in out
        assert err.rstrip().endswith("go on with: studium session resume long")
        assert shown(place)["state"] == "stopped"


def test_a_session_goes_on_when_its_terminal_is_killed(place):
    with studium_up(place) as (_, server):
        with session(place) as running:
            running.kill()
            running.communicate(timeout=BOUND_S)
        before = len(runs(place))
        eventually(lambda: len(runs(place)) > before)
        assert shown(place)["owner_pid"] == server.pid
        stopped = studium("session", "stop", "long", "--json", folder=place)
        assert json.loads(stopped.stdout)["stopped"] is True, stopped.stderr
        assert shown(place)["state"] == "stopped" and psutil.pid_exists(server.pid)


def test_a_server_that_stops_puts_its_session_down_and_it_goes_on_later(place):
    with studium_up(place) as (_, server), session(place) as running:
        server.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=BOUND_S)
        assert "long stopped" in out and "server is stopping" in err
        assert server.wait(BOUND_S) == 0
    resumed = studium("session", "resume", "long", "--cycles", "1", "--json", folder=place)
    assert json.loads(resumed.stdout)["state"] == "finished", resumed.stderr
    assert len(runs(place)) == len(set(runs(place)))


def test_a_server_killed_loses_nothing_of_its_session(place):
    with studium_up(place) as (_, server), session(place) as running:
        server.kill()
        _, err = running.communicate(timeout=BOUND_S)
        assert running.returncode == 5 and "try: studium session resume long" in err
    assert shown(place)["state"] == "interrupted"
    with studium_up(place):
        resumed = studium("session", "resume", "long", "--cycles", "1", "--json", folder=place)
        assert json.loads(resumed.stdout)["state"] == "finished", resumed.stderr
    assert len(runs(place)) == len(set(runs(place)))


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "../x", "--topic", "arithmetic"], 4, "cannot name a session"),
        (["run", "x", "--topic", "arithmetik"], 4, "did you mean 'arithmetic'"),
        (["run", "x", "--topic", "arithmetic", "--students", "stedy"], 4, "did you mean 'steady'"),
        (["run", "x", "--topic", "arithmetic", "--duration", "0"], 4, "the duration is 0 minutes"),
        (["run", "x", "--topic", "arithmetic", "--tokens", "0"], 4, "tokens is 0"),
        (["resume", "nobody"], 4, "there is no session 'nobody'"),
        (["resume", "../x"], 4, "cannot name a session"),
    ],
)
def test_what_cannot_be_done_is_told_as_without_a_server(place, arguments, status, told):
    with studium_up(place):
        refused = studium("session", *arguments, folder=place)
    assert refused.returncode == status, refused.stderr
    assert told in refused.stderr


def test_a_budget_of_its_own_keeps_a_session_out_of_the_server(place):
    arguments = ["run", "x", "--topic", "arithmetic", "--cycles", "1", "--memory-budget", "64MB"]
    with studium_up(place):
        done = studium("session", *arguments, folder=place)
    assert done.returncode == 0 and "its models are counted apart" in done.stderr
