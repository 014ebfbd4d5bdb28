"""`studium improve` from a fresh workspace, several times over, with a Studium serving it: does it end as it says?

Each time: a new workspace, `studium up`, `studium improve --role ROLE --once`. Then, apart from what it reported: who
the registry says is champion, whom the endpoint hears answer, and before and after on 1,000 fresh problems of every
skill (problems of a seed that the loop never used). Lines on the screen that a library wrote are counted.

--runs N (default 3) repeats it; --role and --minutes choose what is improved. --quick: one turn of two minutes, with
fewer problems: it shows the road, not the gain. Runs of the same commit are kept in build/: stopped, it goes on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import BUILD, Aim, Report, commit, emit, say
from studium.config.running import running_server
from studium.evals.intervals import wilson
from studium.manage.improve.ending import EXIT, Ending
from studium.registry import EMBEDDED

ROLE, MINUTES, QUICK_MINUTES = "sprout", 10.0, 2.0
PROBLEMS, QUICK_PROBLEMS, SEED = 1000, 100, 7_000_001
RUNS = 3
START_S, SLACK_S = 60.0, 900.0
COMMANDS = (
    2  # make run's Studium is there already: `studium improve`, and to see it, `studium adapters state`
)
_LIBRARY_WORDS = ("Warning:", "warnings.warn", "Traceback", "it/s]", "FutureWarning", "UserWarning")

Json = dict[str, Any]


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.improve", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--role", default=ROLE)
    parser.add_argument("--minutes", type=float, default=0.0)
    given = parser.parse_args()
    runs = given.runs or (1 if given.quick else RUNS)
    minutes = given.minutes or (QUICK_MINUTES if given.quick else MINUTES)
    problems = QUICK_PROBLEMS if given.quick else PROBLEMS
    found = [_kept(number, given.role, minutes, problems) for number in range(1, runs + 1)]
    command = f"python -m benchmarks.improve --runs {runs} --role {given.role} --minutes {minutes:g}"
    emit("improve", _report(found), command=command + (" --quick" if given.quick else ""), as_json=given.json)


def _kept(number: int, role: str, minutes: float, problems: int) -> Json:
    """Return what a run measured, now or when this was begun at the same commit."""
    path = BUILD / "improve" / commit() / f"{role}-{minutes:g}-{problems}-{number}.json"
    if not path.exists():
        found = _once(number, role, minutes, problems)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())


def _once(number: int, role: str, minutes: float, problems: int) -> Json:
    folder = Path(tempfile.mkdtemp(prefix="studium-improve-"))
    server = _served(folder)
    try:
        say(f"run {number}: {role}, {minutes:g} minutes")
        began = time.monotonic()
        words = ["improve", "--role", role, "--once", "--minutes", str(minutes), "--seed", str(number)]
        told = _studium(folder, *words, limit_s=minutes * 60 + SLACK_S)
        seconds = time.monotonic() - began
        report = json.loads(told.stdout)
        champion = _champion(folder, role)
        heard = _heard(folder, role)
        size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
        row: Json = {
            "run": number,
            "ending": report["ending"],
            "exit": told.returncode,
            "as reported": _as_reported(report, told.returncode, champion, heard, role),
            "minutes": round(seconds / 60, 2),
            "library lines": sum(
                any(word in line for word in _LIBRARY_WORDS) for line in told.stderr.splitlines()
            ),
            "MB on disk": round(size / 1e6, 1),
        }
        return row | _gains(folder, role, report, problems)
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _as_reported(report: Json, status: int, champion: str, heard: str, role: str) -> bool:
    """Say whether what the loop said of itself is so: the registry and the endpoint are asked, not the loop."""
    promoted = report["ending"] == Ending.PROMOTED
    name = report["name"] if promoted else ""
    return (
        status == EXIT[Ending(report["ending"])]
        and (champion == name)
        and (heard == (f"{role}/{name}" if promoted else ""))
    )


def _gains(folder: Path, role: str, report: Json, problems: int) -> Json:
    """Return the paired change on problems the loop never saw: the student as it shipped against what was trained."""
    empty: Json = dict.fromkeys(("skill", "before", "after", "gain", "low", "high", "worst other", "its low"))
    if "compare" not in report["steps"]:
        return empty
    rows = [one for one in report["steps"]["compare"]["differences"] if one["level"] is None]
    domains = [one["domain"] for one in rows if one["domain"] != "all"]
    told = _studium(
        folder,
        *("compare", str(EMBEDDED / f"{role}.gguf"), str(folder / "runs" / f"improve-{report['name']}")),
        *(word for name in domains for word in ("--on", name)),
        *("--all", "--problems", str(problems), "--seed", str(SEED)),
        limit_s=SLACK_S,
    )
    found = {one["domain"]: one for one in json.loads(told.stdout)["differences"] if one["level"] is None}
    skill = found[domains[0]]
    others = sorted((found[name] for name in domains[1:]), key=lambda one: one["difference"])
    return {
        "skill": domains[0],
        "before": round(skill["baseline"], 4),
        "after": round(skill["tuned"], 4),
        "gain": round(skill["difference"], 4),
        "low": round(skill["low"], 4),
        "high": round(skill["high"], 4),
        "worst other": round(others[0]["difference"], 4) if others else None,
        "its low": round(others[0]["low"], 4) if others else None,
    }


def _report(found: list[Json]) -> Report:
    measured = [one for one in found if one["gain"] is not None]
    others = [one["worst other"] for one in measured if one["worst other"] is not None]
    ended = sum(one["as reported"] for one in found)
    minutes = [one["minutes"] for one in found]
    lines = max(one["library lines"] for one in found)
    promoted = sum(one["ending"] == Ending.PROMOTED for one in found)
    gains = [one["gain"] for one in measured]
    return Report(
        found,
        [
            Aim(
                "ends as reported",
                ended / len(found),
                *wilson(ended, len(found))[1:],
                "all",
                ended == len(found),
            ),
            Aim(
                "promoted",
                promoted / len(found),
                *wilson(promoted, len(found))[1:],
                "all",
                promoted == len(found),
            ),
            Aim("minutes, at most", max(minutes), min(minutes), max(minutes), "<= 10", max(minutes) <= 10),
            Aim(
                "gain in the trained skill, the least",
                min(gains, default=None),
                min((one["low"] for one in measured), default=None),
                max((one["high"] for one in measured), default=None),
                ">= 0.10",
                min(gains) >= 0.10 if gains else None,
            ),
            Aim(
                "change of another skill, the worst",
                min(others, default=None),
                min((one["its low"] for one in measured if one["its low"] is not None), default=None),
                max(others, default=None),
                ">= -0.02",
                min(others) >= -0.02 if others else None,
            ),
            Aim("commands after make run", COMMANDS, None, None, "<= 8", COMMANDS <= 8),
            Aim("lines of libraries on the screen", lines, None, None, "0", lines == 0),
        ],
        [
            "gain and change are paired differences in shares of 1, with Tango's interval, on problems of their own"
        ],
    )


def _served(folder: Path) -> subprocess.Popen[bytes]:
    """Start a Studium on the workspace and wait until it answers."""
    line = [sys.executable, "-m", "studium", "up", "--port", "0", "--workspace", str(folder)]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment())
    until = time.monotonic() + START_S
    while running_server(folder) is None:
        if time.monotonic() > until or server.poll() is not None:
            server.kill()
            raise RuntimeError(f"no Studium answered within {START_S:g} s")
        time.sleep(0.2)
    return server


def _studium(folder: Path, *words: str, limit_s: float) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "studium", *words, "--workspace", str(folder), "--json"]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=limit_s, check=False, env=_environment()
    )


def _champion(folder: Path, role: str) -> str:
    """Return the name of the adapter that the registry says serves, "" for the student itself."""
    told = json.loads(_studium(folder, "adapters", "list", "--role", role, limit_s=START_S).stdout)
    standing = json.loads(_studium(folder, "adapters", "state", limit_s=START_S).stdout)
    named = next(one["champion"] for one in standing if one["role"] == role)
    return named if named in {one["name"] for one in told} else ""


def _heard(folder: Path, role: str) -> str:
    """Return which adapter the running Studium says answered for a role."""
    told = _studium(folder, "ask", "What is 7 + 5?", "--student", role, "--no-cache", limit_s=START_S)
    answer = json.loads(told.stdout)
    return next((one["adapter"] for one in answer.get("members", ()) if one.get("adapter")), "")


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}


if __name__ == "__main__":
    main()
