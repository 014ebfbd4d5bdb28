"""A session killed at random moments and resumed: nothing lost, nothing doubled, and every file whole."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from tests.cli.roster import studium

SCRIPT = "models:\n" + "".join(
    f'  {name}: {{resident_bytes: {size}000000, first_token_s: 0.06, load_s: 0.02, default: "I cannot."}}\n'
    for name, size in (("a", 40), ("b", 45), ("c", 50))
)
CONFIG = """
workspace: state
fleet: {{memory_budget: 95MB}}
models:
  - {{name: a, engine: scripted, source: "{script}#a"}}
  - {{name: b, engine: scripted, source: "{script}#b"}}
  - {{name: c, engine: scripted, source: "{script}#c"}}
students: [{{name: a}}, {{name: b}}, {{name: c}}]
"""
CYCLES, KILLS = 12, 7
# Scripted students that decline everything: nothing is useful, so nobody is left out and the set is known.
EXPECTED = {(cycle, student) for cycle in range(1, CYCLES + 1) for student in "abc"}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path, seed):
    rng = Random(seed)
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    (tmp_path / "studium.yaml").write_text(CONFIG.format(script=script))
    arguments = ["run", "killed", "--topic", "arithmetic", "--cycles", str(CYCLES)]
    survived: set[tuple[int, str]] = set()
    kills = 0
    for _ in range(KILLS):
        ended = run_and_kill(tmp_path, arguments, after_s=rng.uniform(0.0, 0.5))
        if _database(tmp_path).exists() and _has_runs(tmp_path):
            arguments = ["resume", "killed"]
            done = rows(tmp_path)
            assert len(done) == len(set(done)), "a run was recorded twice"
            assert survived <= set(done), "a recorded run was lost"
            survived = set(done)
            assert_files_are_whole(tmp_path)
        if ended:
            break
        kills += 1
    assert kills >= 2, "the session was over before it could be killed"
    if len(survived) < len(EXPECTED):
        resumed = studium("session", *arguments, "--json", folder=tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        assert json.loads(resumed.stdout)["state"] == "finished"
    assert sorted(rows(tmp_path)) == sorted(EXPECTED)
    assert_files_match_the_database(tmp_path)


def run_and_kill(folder: Path, arguments: list[str], *, after_s: float) -> bool:
    """Start the command, kill it with SIGKILL `after_s` after its first word; True if it ended by itself."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STUDIUM_")}
    with subprocess.Popen(
        [sys.executable, "-m", "studium.cli.main", "session", *arguments],
        cwd=folder,
        env=environment | {"HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stderr is not None
        session.stderr.readline()
        time.sleep(after_s)
        ended = session.poll() is not None
        session.send_signal(signal.SIGKILL)
        session.communicate(timeout=30)
    return ended


def _root(folder: Path) -> Path:
    return folder / "state" / "sessions" / "killed"


def _database(folder: Path) -> Path:
    return _root(folder) / "scheduler_history" / "student_profiles.db"


def _has_runs(folder: Path) -> bool:
    with sqlite3.connect(_database(folder)) as client:
        tables = {row[0] for row in client.execute("SELECT name FROM sqlite_master")}
        return "session" in tables and client.execute("SELECT count(*) FROM session").fetchone() == (1,)


def rows(folder: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(_database(folder)) as client:
        assert client.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        paired = client.execute(
            "SELECT count(*) FROM student_runs LEFT JOIN session_runs ON run_id = id WHERE run_id IS NULL"
        )
        assert paired.fetchone() == (0,), "half of a run was written"
        return client.execute("SELECT cycle, student FROM student_runs").fetchall()


def assert_files_are_whole(folder: Path) -> None:
    for path in _root(folder).rglob("*.json"):
        json.loads(path.read_text())


def assert_files_match_the_database(folder: Path) -> None:
    root = _root(folder)
    with sqlite3.connect(_database(folder)) as client:
        recorded = client.execute(
            "SELECT student, vram_mb, time_seconds, tokens, tokens_per_sec, cycle, timestamp FROM student_runs"
        ).fetchall()
    for row in recorded:
        told = json.loads((root / f"scheduler_history/cycle_{row[5]}_{row[0]}.json").read_text())
        assert list(told.values())[:7] == list(row)
        assert (root / f"arithmetic_proposals/{row[0]}/cycle_{row[5]:03d}.md").is_file()
    assert len(list((root / "scheduler_history").glob("cycle_*.json"))) == len(EXPECTED)
    reports = [json.loads(path.read_text()) for path in sorted((root / "cycle_reports").glob("*.json"))]
    assert [(one["cycle"], one["runs"]) for one in reports] == [(n, 3) for n in range(1, CYCLES + 1)]
    assert not list(root.rglob("*.part"))
