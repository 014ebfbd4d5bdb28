"""`studium improve` beside a running Studium: killed, gone on with, and its word held against the facts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks.servers import studium_up

from studium.manage.improve.ending import EXIT, Ending

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

IMPROVE = ("improve", "--role", "sprout", "--on", "chains", "--once", "--minutes", "2", "--problems", "60")
LIMIT_S = 1200.0


def studium(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "studium", *words, "--workspace", str(folder), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told(folder: Path, *words: str) -> Any:
    out, _ = studium(folder, *words).communicate(timeout=LIMIT_S)
    return json.loads(out)


def kept(folder: Path) -> dict[str, Any]:
    file = folder / "improvements" / "sprout-1" / "improvement.json"
    return json.loads(file.read_text()) if file.exists() else {"steps": {}}


def test_an_improvement_that_was_killed_goes_on_and_ends_as_it_says(tmp_path: Path):
    workspace = tmp_path / "w"
    with studium_up(tmp_path, "--workspace", str(workspace)):
        first = studium(workspace, *IMPROVE)
        until = time.monotonic() + LIMIT_S
        while "rehearse" not in kept(workspace)["steps"]:
            assert time.monotonic() < until and first.poll() is None
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=60)
        before = kept(workspace)

        second = studium(workspace, "improve", "--resume", "sprout-1")
        out, err = second.communicate(timeout=LIMIT_S)
        report = json.loads(out)
        assert {name: report["steps"][name] for name in before["steps"]} == before["steps"]
        assert second.returncode == EXIT[Ending(report["ending"])], err
        assert "Traceback" not in err and "Warning" not in err

        promoted = report["ending"] == Ending.PROMOTED
        standing = {one["role"]: one for one in told(workspace, "adapters", "state")}
        assert (standing["sprout"]["champion"] == "sprout-1") == promoted
        heard = told(workspace, "ask", "What is 7 + 5?", "--student", "sprout", "--no-cache")
        assert ("sprout/sprout-1" in {one.get("adapter") for one in heard["members"]}) == promoted
        assert not told(workspace, "adapters", "verify")["faults"]
        # On a machine at rest there is time for the training; on a busy one it says that there was not.
        assert report["ending"] in (Ending.PROMOTED, Ending.HELD, Ending.ROLLED_BACK, Ending.NOT_TRAINED), err
        if promoted:
            undone = studium(workspace, "adapters", "rollback", "sprout")
            undone.communicate(timeout=60)
            assert undone.returncode == 0
            standing = {one["role"]: one for one in told(workspace, "adapters", "state")}
            assert standing["sprout"]["champion"] != "sprout-1"


def test_a_role_without_a_weakness_is_left_alone(tmp_path: Path):
    workspace = tmp_path / "w"
    process = studium(workspace, "improve", "--role", "critic", "--once")
    out, err = process.communicate(timeout=LIMIT_S)
    report = json.loads(out)
    assert (report["ending"], process.returncode) == (Ending.NOTHING_WEAK, EXIT[Ending.NOTHING_WEAK]), err
    assert list(report["steps"]) == ["measure"]
    assert told(workspace, "adapters", "list") == []
    assert [one["ending"] for one in told(workspace, "improve", "list")] == [Ending.NOTHING_WEAK]
