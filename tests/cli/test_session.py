"""Sessions from the command line: run, list, show, monitor, stop, resume, and what is refused."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.roster import studium, write_roster

pytestmark = pytest.mark.slow

SCRIPT = """
models:
  steady: {resident_bytes: 40000000, first_token_s: 0.15, default: "I cannot answer that."}
  large: {resident_bytes: 60000000, first_token_s: 0.15, default: "I cannot answer that."}
"""
CONFIG = """
workspace: state
fleet: {{memory_budget: 70MB}}
models:
  - {{name: steady, engine: scripted, source: "{script}#steady"}}
  - {{name: large, engine: scripted, source: "{script}#large"}}
students: [{{name: steady}}, {{name: large}}]
"""


@pytest.fixture
def slow_house(tmp_path):
    """Two students that take a moment and do not fit together."""
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    (tmp_path / "studium.yaml").write_text(CONFIG.format(script=script))
    return tmp_path


@contextmanager
def running(folder: Path, *arguments: str):
    """Run a session in the background until the block ends, and yield it once it is under way."""
    command = [sys.executable, "-m", "studium.cli.main", "session", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STUDIUM_")}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as session:
        try:
            assert session.stderr is not None
            first = session.stderr.readline()
            assert first.startswith("cycle"), first
            yield session
        finally:
            if session.poll() is None:
                session.kill()


def test_a_session_runs_and_tells_what_it_yielded(tmp_path):
    write_roster(tmp_path)
    done = studium("session", "run", "demo", "--topic", "arithmetic", "--cycles", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "demo finished: 2 cycles are done" in done.stdout
    assert "cycle 1: alpha, beta" in done.stderr
    report = (tmp_path / "state/sessions/demo/report.html").read_text()
    assert "<svg" in report and "http" not in report.replace("http-equiv", "")
    with sqlite3.connect(tmp_path / "state/sessions/demo/scheduler_history/student_profiles.db") as client:
        rows = client.execute(
            "SELECT student, avg(time_seconds), avg(vram_mb) FROM student_runs GROUP BY student"
        ).fetchall()
    assert [(row[0], row[2]) for row in rows] == [("alpha", 8.0), ("beta", 8.0)]


def test_programs_get_one_document(tmp_path):
    write_roster(tmp_path)
    arguments = ["run", "demo", "--topic", "arithmetic", "--cycles", "1", "--students", "beta"]
    done = studium("session", *arguments, "--json", folder=tmp_path)
    told = json.loads(done.stdout)
    assert (told["state"], told["runs"], told["plan"]["students"]) == ("finished", 1, ["beta"])
    assert told["resume"] == "studium session resume demo"
    listed = json.loads(studium("session", "list", "--json", folder=tmp_path).stdout)
    assert [(one["name"], one["state"], one["cycles"]) for one in listed] == [("demo", "finished", 1)]
    shown = json.loads(studium("session", "show", "demo", "--json", folder=tmp_path).stdout)
    assert shown["students"][0]["student"] == "beta"
    assert shown["cycle_reports"][0]["cycle"] == 1
    moment = json.loads(studium("session", "monitor", "demo", "--json", folder=tmp_path).stdout)
    assert moment["now"] is None and moment["cycles_shown"][0]["runs"] == 1


def test_a_session_is_replayed_and_its_trace_written(tmp_path):
    write_roster(tmp_path)
    studium("session", "run", "demo", "--topic", "arithmetic", "--cycles", "2", folder=tmp_path)
    arguments = ["replay", "demo", "--policy", "studium", "--policy", "fifo", "--export", "trace.jsonl"]
    told = json.loads(studium("session", *arguments, "--json", folder=tmp_path).stdout)
    assert told["asks"] == 4 and [row["policy"] for row in told["rows"]] == ["studium", "fifo"]
    assert len((tmp_path / "trace.jsonl").read_text().splitlines()) == 5
    refused = studium("session", "replay", "demo", "--policy", "lru", folder=tmp_path)
    assert refused.returncode == 2 and "byte-lru" in refused.stderr


def test_people_get_tables(tmp_path):
    write_roster(tmp_path)
    studium("session", "run", "demo", "--topic", "arithmetic", "--cycles", "1", folder=tmp_path)
    assert "demo" in studium("session", "list", folder=tmp_path).stdout
    shown = studium("session", "show", "demo", folder=tmp_path)
    assert "0 useful of 2 runs in 1 cycle," in shown.stdout and "alpha" in shown.stdout
    watched = studium("session", "monitor", "demo", "--once", folder=tmp_path)
    assert "useful 0 of 2 runs" in watched.stdout and "useful/hour" in watched.stdout


def test_a_session_is_watched_and_stopped_from_a_second_terminal(slow_house):
    with running(slow_house, "run", "long", "--topic", "arithmetic", "--duration", "5") as session:
        moment = _moment(slow_house, "long")
        assert moment["state"] == "running" and moment["owner_pid"] == session.pid
        assert moment["now"]["budget_bytes"] == 70_000_000
        names = {one["student"] for one in moment["now"]["running"] + moment["now"]["queue"]}
        assert names <= {"steady", "large"} and names
        watched = studium("session", "monitor", "long", "--once", folder=slow_house)
        assert "RAM" in watched.stdout and "models" in watched.stdout
        refused = studium("session", "resume", "long", folder=slow_house)
        assert refused.returncode == 3 and f"process {session.pid}" in refused.stderr
        stopped = studium("session", "stop", "long", "--json", folder=slow_house)
        assert json.loads(stopped.stdout)["stopped"] is True, stopped.stderr
        out, err = session.communicate(timeout=30)
        assert session.returncode == 0, err
        assert "long stopped: stopped" in out and "studium session resume long" in err
    resumed = studium("session", "resume", "long", "--cycles", "1", "--json", folder=slow_house)
    assert json.loads(resumed.stdout)["state"] == "finished", resumed.stderr
    assert _doubled(slow_house, "long") == []


def test_control_c_stops_after_the_run_at_work_and_prints_the_way_on(slow_house):
    with running(slow_house, "run", "long", "--topic", "arithmetic", "--duration", "5") as session:
        session.send_signal(signal.SIGINT)
        out, err = session.communicate(timeout=30)
    assert session.returncode == 130
    assert "long stopped" in out
    assert err.rstrip().endswith("go on with: studium session resume long")
    assert _count(slow_house, "long") >= 1


def test_a_session_killed_with_nobody_there_is_shown_as_interrupted(slow_house):
    with running(slow_house, "run", "long", "--topic", "arithmetic", "--duration", "5") as session:
        session.kill()
        session.wait(timeout=30)
    listed = json.loads(studium("session", "list", "--json", folder=slow_house).stdout)
    assert listed[0]["state"] == "interrupted"
    refused = studium("session", "stop", "long", folder=slow_house)
    assert refused.returncode == 4 and "nobody runs" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "../x", "--topic", "arithmetic"], 4, "cannot name a session"),
        (["run", "x", "--topic", "arithmetik"], 4, "did you mean 'arithmetic'"),
        (["run", "x", "--topic", "arithmetic", "--students", "alfa"], 4, "did you mean 'alpha'"),
        (["run", "x", "--topic", "arithmetic", "--duration", "0"], 4, "the duration is 0 minutes"),
        (["run", "x", "--topic", "arithmetic", "--tokens", "0"], 4, "tokens is 0"),
        (["run", "x", "--topic", "arithmetic", "--memory-budget", "1MiB"], 3, "needs 8 MiB"),
        (["show", "nobody"], 4, "studium session list"),
        (["resume", "nobody"], 4, "there is no session 'nobody'"),
        (["stop", "nobody"], 4, "there is no session 'nobody'"),
        (["monitor", "nobody"], 4, "there is no session 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_exit_status(tmp_path, arguments, status, told):
    write_roster(tmp_path)
    refused = studium("session", *arguments, folder=tmp_path)
    assert refused.returncode == status, refused.stderr
    assert told in refused.stderr


def test_a_name_that_exists_is_answered_with_resume(tmp_path):
    write_roster(tmp_path)
    for _ in range(2):
        done = studium("session", "run", "demo", "--topic", "arithmetic", "--cycles", "1", folder=tmp_path)
    assert done.returncode == 4
    assert "try: go on with it: studium session resume demo" in done.stderr


def test_a_broken_database_is_told_and_does_not_hide_the_other_sessions(tmp_path):
    write_roster(tmp_path)
    for name in ("broken", "whole"):
        studium("session", "run", name, "--topic", "arithmetic", "--cycles", "1", folder=tmp_path)
    for file in (tmp_path / "state/sessions/broken/scheduler_history").glob("student_profiles.db*"):
        file.write_bytes(b"no database" * 1000)
    listed = json.loads(studium("session", "list", "--json", folder=tmp_path).stdout)
    assert [(one["name"], one["state"]) for one in listed] == [
        ("broken", "unreadable"),
        ("whole", "finished"),
    ]
    shown = studium("session", "show", "broken", folder=tmp_path)
    assert shown.returncode == 3 and "cannot be read" in shown.stderr


@pytest.mark.parametrize("command", ["run", "resume", "stop", "list", "show", "monitor", "replay"])
def test_each_command_shows_an_example(tmp_path, command):
    shown = studium("session", command, "--help", folder=tmp_path)
    assert f"Example: studium session {command}" in shown.stdout


def _moment(folder: Path, name: str):
    """Return what the monitor sees once the session has told of itself, within 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        moment = json.loads(studium("session", "monitor", name, "--json", folder=folder).stdout)
        if moment["now"] and (moment["now"]["running"] or moment["now"]["queue"]):
            return moment
    raise AssertionError("the session told nothing of itself")


def _rows(folder: Path, name: str) -> list[tuple[int, str]]:
    with sqlite3.connect(folder / f"state/sessions/{name}/scheduler_history/student_profiles.db") as client:
        return client.execute("SELECT cycle, student FROM student_runs").fetchall()


def _count(folder: Path, name: str) -> int:
    return len(_rows(folder, name))


def _doubled(folder: Path, name: str) -> list[tuple[int, str]]:
    rows = _rows(folder, name)
    return [row for row in set(rows) if rows.count(row) > 1]
